/* Answers what Linux asks of a FUSE file system (Linux: include/uapi/linux/fuse.h) from an ext2 file system, which
 * nothing is written to. */
#ifndef MYST_FUSE_H
#define MYST_FUSE_H

#include "../common/sizes.h"
#include "ext2.h"

#define MYST_FUSE_REQUEST_MAX (64u << 10)
#define MYST_FUSE_REPLY_MAX ((1u << 20) + MYST_PAGE)

/* Reads a request of `size` bytes and makes the reply, of up to MYST_FUSE_REPLY_MAX bytes. Returns its size, 0 where
 * none is wanted. Both are aligned to 8 bytes. */
size_t myst_fuse_answer(struct myst_ext2 *fs, const void *request, size_t size, void *reply);

#endif
