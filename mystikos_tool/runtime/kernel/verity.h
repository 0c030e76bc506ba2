/* dm-verity: the hash tree of a disk (docs/disks.md). All of the tree is checked when it is opened, each data block
 * whenever it is read. */
#ifndef MYST_VERITY_H
#define MYST_VERITY_H

#include "../common/error.h"
#include "fssig.h"

#include <stdbool.h>
#include <stdint.h>

#define MYST_VERITY_BLOCK 4096
#define MYST_VERITY_DIGEST 32
#define MYST_VERITY_CACHE 64 /* blocks of hashes */

struct myst_verity
{
    int file;
    uint64_t data_blocks;
    uint8_t salt[32];
    uint64_t leaf_offset, leaf_blocks; /* of the lowest level, in bytes */
    uint8_t *leaf_digests;             /* of each of its blocks */
    uint8_t *seen;                     /* a bit for each data block that was found right */
    uint64_t wrong_block;              /* the last that was found wrong */
    bool has_wrong_block;
    struct
    {
        uint64_t number; /* 1 and up; 0: nothing */
        uint8_t hashes[MYST_VERITY_BLOCK];
    } *cache;
};

/* Reads the superblock and the tree of an open disk of `size` bytes, and holds them against its FSSIG. `name` is what
 * errors begin with. */
int myst_verity_open(struct myst_verity *verity, int file, uint64_t size, const struct myst_fssig *fssig,
                     const char *name, struct myst_error *error);

/* Reads a data block; -1 for one that is not what its hash says or cannot be read. */
int myst_verity_read(struct myst_verity *verity, uint64_t block, uint8_t data[MYST_VERITY_BLOCK]);

void myst_verity_close(struct myst_verity *verity);

/* Reads every block that was not read yet; -1 at the first that is wrong. */
int myst_verity_read_rest(struct myst_verity *verity);

#endif
