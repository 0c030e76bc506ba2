/* A disk, a file of the host that holds an ext2 file system: opened, held against what the package trusts, and read
 * block by block. */
#ifndef MYST_DISK_H
#define MYST_DISK_H

#include "../common/handoff.h"
#include "verity.h"

#define MYST_DISK_CACHE 256 /* blocks */

struct myst_disk
{
    int file;
    const char *name; /* that errors begin with */
    uint64_t size;    /* bytes of the data area */
    bool verified;    /* false: a debug enclave takes the blocks as they are */
    struct myst_verity verity;
    struct
    {
        uint64_t number; /* 1 and up; 0: nothing */
        uint8_t data[MYST_VERITY_BLOCK];
    } *cache;
};

/* Opens the disk at `path` of the host, which the caller gave by `option`. Where the enclave is a debug one and does
 * not trust the disk, the disk is taken unverified, after a warning. Refuses to go on with what the package must not
 * read. */
void myst_disk_open(struct myst_disk *disk, const char *path, const char *option, const struct myst_handoff *handoff);

/* Read [offset, offset + size) of the data area; -1 outside of it, and for a block that is not what its hash says.
 * The first keeps the blocks for the next time. */
int myst_disk_read(struct myst_disk *disk, uint64_t offset, size_t size, void *to);
int myst_disk_read_content(struct myst_disk *disk, uint64_t offset, size_t size, void *to);

/* Gives back what reading takes. */
void myst_disk_close(struct myst_disk *disk);

/* Refuses to go on unless every block of a verified disk is right. */
void myst_disk_check_rest(struct myst_disk *disk);

/* The block that a read failed for since the disk was opened, or -1. */
int64_t myst_disk_wrong_block(const struct myst_disk *disk);

#endif
