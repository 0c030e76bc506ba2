/* FSSIG, the last 4096 bytes of a disk: where its hash tree begins, the root hash, and who signed that (docs/disks.md).
 */
#ifndef MYST_FSSIG_H
#define MYST_FSSIG_H

#include "../common/error.h"
#include "../common/handoff.h"

#include <stdbool.h>

#define MYST_FSSIG_SIZE 4096
#define MYST_FSSIG_MAGIC 0xf55198a153624d38ull
#define MYST_FSSIG_MAX_SIGNATURE 1024

struct myst_fssig
{
    uint64_t magic, version, hash_offset;
    uint8_t root_hash[32], signer[32];
    uint8_t signature[MYST_FSSIG_MAX_SIGNATURE];
    uint64_t signature_size;
    uint8_t zeros[MYST_FSSIG_SIZE - 1120];
};

/* Checks the form, of a disk of `size` bytes. `name` is what errors begin with. */
int myst_fssig_check(const struct myst_fssig *fssig, uint64_t size, const char *name, struct myst_error *error);

/* 1 where the package trusts the disk: its root hash is one of `hashes`, or one of `keys` signed it; 0 where it does
 * not; -1 with an error for a key that cannot be read. */
int myst_fssig_is_trusted(const struct myst_fssig *fssig, const struct myst_span *keys, const struct myst_span *hashes,
                          struct myst_error *error);

#endif
