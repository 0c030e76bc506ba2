/* File systems in memory for what is unpacked. */
#ifndef MYST_TMPFS_H
#define MYST_TMPFS_H

#include <stdint.h>

/* Mounts an empty one at `target`, with tmpfs' own options. Returns -1, with errno, where that fails. */
int myst_mount_tmpfs(const char *target, const char *options);

/* Lets the one at `path` hold so many bytes more than it does now. Returns -1, with errno, where that fails. */
int myst_tmpfs_leave_room(const char *path, uint64_t bytes);

#endif
