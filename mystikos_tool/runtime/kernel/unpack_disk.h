/* Unpacks the file system of a disk into a directory: where none can be served from the disk itself. */
#ifndef MYST_UNPACK_DISK_H
#define MYST_UNPACK_DISK_H

#include "disk.h"

/* Unpacks into the directory that is open as `root`, then checks the blocks that no file has. The disk is hostile: only
 * what is new is written to, no symbolic link is followed, and no block is read for more files than there are. Refuses
 * to go on when anything is wrong. `without_set_id`: files lose their set-id bits. */
void myst_unpack_disk(struct myst_disk *disk, int root, bool without_set_id);

#endif
