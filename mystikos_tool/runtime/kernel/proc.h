/* /proc of the sandbox. */
#ifndef MYST_PROC_H
#define MYST_PROC_H

#include <stdbool.h>
#include <stdint.h>

/* Mounts it below the working directory, for the first process of the PID namespace. It tells of `memory` bytes. What
 * Mystikos has in its /proc is there, and nothing else; `as_linux`: what Linux has, without what is the machine's. */
void myst_mount_proc(uint64_t memory, bool as_linux);

#endif
