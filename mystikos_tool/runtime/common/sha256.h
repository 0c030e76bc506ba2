/* SHA-256 (FIPS 180-4). */
#ifndef MYST_SHA256_H
#define MYST_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define MYST_SHA256_SIZE 32
#define MYST_SHA256_BLOCK 64

struct myst_sha256
{
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t partial[MYST_SHA256_BLOCK];
};

void myst_sha256_init(struct myst_sha256 *hash);
void myst_sha256_update(struct myst_sha256 *hash, const void *data, size_t size);
void myst_sha256_final(struct myst_sha256 *hash, uint8_t digest[MYST_SHA256_SIZE]);
void myst_sha256(const void *data, size_t size, uint8_t digest[MYST_SHA256_SIZE]);

/* The compression function on `count` blocks: with the SHA instructions where the CPU has them. */
typedef void myst_sha256_blocks_fn(uint32_t state[8], const void *data, size_t count);
myst_sha256_blocks_fn myst_sha256_blocks;

/* The two that it chooses from; the second only where myst_sha256_has_instructions. */
myst_sha256_blocks_fn myst_sha256_blocks_portable;
myst_sha256_blocks_fn myst_sha256_blocks_instructions;
int myst_sha256_has_instructions(void);

#endif
