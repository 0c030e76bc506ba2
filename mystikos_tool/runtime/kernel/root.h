/* The root file system of the sandbox. */
#ifndef MYST_ROOT_H
#define MYST_ROOT_H

#include <stdint.h>

/* Mounts an empty file system in memory and makes its root the working directory, where it stays until
 * myst_change_root. It holds `bytes` and `files` at most. */
void myst_make_root(uint64_t bytes, uint64_t files);

/* Adds what a program expects beside the archive's content: /dev, /tmp, and in /etc what it lacks.
 * /dev/shm holds `bytes` at most. */
void myst_complete_root(uint64_t bytes);

/* To be called by the first process of the PID namespace: mounts /proc, then makes the working
 * directory the root and lets go of the host's. */
void myst_change_root(void);

#endif
