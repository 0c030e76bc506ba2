/* Unpacks the measured root file system into a directory. */
#ifndef MYST_UNPACK_H
#define MYST_UNPACK_H

#include "archive.h"

/* Makes every entry below the directory that `root` is open on, which must be empty and ours alone;
 * the umask must be 0. Nothing is created outside of it whatever the archive says. The archive's pages are
 * given back to the system on the way: its content is gone afterwards. Refuses to go on when an entry
 * cannot be made. */
void myst_unpack(struct myst_archive archive, int root);

#endif
