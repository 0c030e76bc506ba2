/* The root file system of the sandbox. */
#ifndef MYST_ROOT_H
#define MYST_ROOT_H

#include <stdbool.h>
#include <stdint.h>

/* A directory of the machine that the root can be mounted on for as long as it is being made. */
const char *myst_root_mount_point(void);

/* Makes the root that is mounted there the working directory, where it stays until myst_change_root. */
void myst_enter_root_mount(void);

/* Mounts an empty file system in memory and makes its root the working directory, where it stays until
 * myst_change_root. It holds `bytes` and `files` at most. */
void myst_make_root(uint64_t bytes, uint64_t files);

/* The same with a directory of the host, which is made unless it is there, and empty, and which stays. It may grow as
 * long as the host has room. */
void myst_keep_root(const char *directory);

/* Adds what Mystikos adds to the archive's content: /dev, /tmp, /usr/local/etc, and the host's /etc/hosts and
 * /etc/resolv.conf. /dev/shm holds `bytes` at most. `as_linux`: and what else Linux has in /dev. */
void myst_complete_root(uint64_t bytes, bool as_linux);

/* The same as far as it can be done without mounts. */
void myst_complete_root_without_mounts(void);

/* Makes the directory that --myst-root names unless it is there; refuses one with something in it. */
void myst_need_empty_directory(const char *directory);

/* To be called by the first process of the PID namespace: mounts /proc, then makes the working
 * directory the root and lets go of the host's. For the arguments see myst_mount_proc. */
void myst_change_root(uint64_t memory, bool as_linux);

#endif
