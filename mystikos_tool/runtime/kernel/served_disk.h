/* A disk served to the sandbox by a process of its own, through FUSE, under a layer in memory that takes what is
 * written: it takes as much time and memory as is read of it. */
#ifndef MYST_SERVED_DISK_H
#define MYST_SERVED_DISK_H

#include "disk.h"

/* Mounts the disk at `target`, a directory in the mount namespace of the sandbox. What is written may take `bytes` and
 * as many files as pages. The process that serves the disk ends with this one at the latest. Returns false where this
 * machine cannot do that: it has no /dev/fuse, or a kernel that mounts no such layers without privileges; nothing is
 * mounted then. Refuses to go on with a disk that holds no file system. */
bool myst_serve_disk(struct myst_disk *disk, const char *target, uint64_t bytes);

/* Ends the processes that serve disks. */
void myst_stop_serving(void);

#endif
