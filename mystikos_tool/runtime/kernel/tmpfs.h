/* File systems in memory for what is unpacked. */
#ifndef MYST_TMPFS_H
#define MYST_TMPFS_H

/* Mounts an empty one at `target`, with tmpfs' own options. Returns -1, with errno, where that fails. */
int myst_mount_tmpfs(const char *target, const char *options);

#endif
