#include "verity.h"

#include "../common/sha256.h"
#include "read.h"

#include <stdlib.h>
#include <string.h>

#define PER_BLOCK (MYST_VERITY_BLOCK / MYST_VERITY_DIGEST)
#define MAX_LEVELS 6 /* of 2^33 blocks, which is all that ext2 can have */
#define MAX_DATA_BLOCKS (1ull << 33)
#define CHUNK 64 /* blocks of the tree that are read at once */

/* As veritysetup writes it; little-endian. */
struct superblock
{
    uint8_t signature[8];
    uint32_t version, hash_type;
    uint8_t uuid[16];
    char algorithm[32];
    uint32_t data_block_size, hash_block_size;
    uint64_t data_blocks;
    uint16_t salt_size;
    uint8_t padding[6];
    uint8_t salt[256];
    uint8_t zeros[168];
};

_Static_assert(sizeof(struct superblock) == 512, "superblock");
_Static_assert(offsetof(struct superblock, salt) == 88, "superblock");

/* The levels, leaf first; the top has one block. */
struct shape
{
    uint64_t blocks[MAX_LEVELS], offsets[MAX_LEVELS], end; /* offsets in bytes */
    int levels;
};

static struct shape shape_of(uint64_t data_blocks, uint64_t offset)
{
    struct shape shape = {.levels = 0};
    uint64_t blocks = data_blocks;
    do
    {
        blocks = (blocks + PER_BLOCK - 1) / PER_BLOCK;
        shape.blocks[shape.levels++] = blocks;
    } while (blocks > 1);
    for (int level = shape.levels; level-- > 0;)
    {
        shape.offsets[level] = offset;
        offset += shape.blocks[level] * MYST_VERITY_BLOCK;
    }
    shape.end = offset;
    return shape;
}

static void hash_block(const struct myst_verity *verity, const uint8_t block[MYST_VERITY_BLOCK],
                       uint8_t digest[MYST_VERITY_DIGEST])
{
    struct myst_sha256 hash;
    myst_sha256_init(&hash);
    myst_sha256_update(&hash, verity->salt, sizeof verity->salt);
    myst_sha256_update(&hash, block, MYST_VERITY_BLOCK);
    myst_sha256_final(&hash, digest);
}

static bool is_right(const struct myst_verity *verity, const uint8_t block[MYST_VERITY_BLOCK],
                     const uint8_t digest[MYST_VERITY_DIGEST])
{
    uint8_t is[MYST_VERITY_DIGEST];
    hash_block(verity, block, is);
    return memcmp(is, digest, sizeof is) == 0;
}

/* What is behind the last of `count` hashes in the last block of a level. */
static bool is_padded(const uint8_t block[MYST_VERITY_BLOCK], uint64_t count)
{
    const uint64_t used = count % PER_BLOCK ? count % PER_BLOCK * MYST_VERITY_DIGEST : MYST_VERITY_BLOCK;
    for (uint64_t i = used; i < MYST_VERITY_BLOCK; i++)
        if (block[i] != 0)
            return false;
    return true;
}

/* Reads a level whose blocks have the hashes `digests`, `hashes` of which are in use, into `to` unless that is NULL. */
static int read_level(const struct myst_verity *verity, uint64_t offset, uint64_t blocks, uint64_t hashes,
                      const uint8_t *digests, uint8_t *to)
{
    static uint8_t chunk[CHUNK * MYST_VERITY_BLOCK];
    for (uint64_t first = 0; first < blocks; first += CHUNK)
    {
        const uint64_t count = blocks - first < CHUNK ? blocks - first : CHUNK;
        if (myst_read_at(verity->file, chunk, count * MYST_VERITY_BLOCK, offset + first * MYST_VERITY_BLOCK) != 0)
            return -1;
        for (uint64_t i = 0; i < count; i++)
            if (!is_right(verity, chunk + i * MYST_VERITY_BLOCK, digests + (first + i) * MYST_VERITY_DIGEST))
                return -1;
        if (first + count == blocks && !is_padded(chunk + (count - 1) * MYST_VERITY_BLOCK, hashes))
            return -1;
        if (to)
            memcpy(to + first * MYST_VERITY_BLOCK, chunk, count * MYST_VERITY_BLOCK);
    }
    return 0;
}

/* From the top down: what a level holds is what the next one's blocks must hash to. A level takes memory only once the
 * one above it was found right, so that a disk that names a wrong size does not take more than it has. */
static int read_tree(struct myst_verity *verity, const struct shape *shape, const struct myst_fssig *fssig,
                     const char *name, struct myst_error *error)
{
    uint8_t *digests = myst_allocated(malloc(MYST_VERITY_DIGEST));
    memcpy(digests, fssig->root_hash, MYST_VERITY_DIGEST);
    for (int level = shape->levels; level-- > 0;)
    {
        const uint64_t hashes = level > 0 ? shape->blocks[level - 1] : verity->data_blocks;
        uint8_t *content = level > 0 ? myst_allocated(malloc(shape->blocks[level] * MYST_VERITY_BLOCK)) : NULL;
        if (read_level(verity, shape->offsets[level], shape->blocks[level], hashes, digests, content) != 0)
        {
            free(content);
            free(digests);
            return myst_fail(error, "%s: its hash tree does not lead to its root hash", name);
        }
        if (!content)
            break;
        free(digests);
        digests = content;
    }
    verity->leaf_digests = digests;
    return 0;
}

static int read_superblock(struct myst_verity *verity, uint64_t offset, const char *name, struct myst_error *error)
{
    static const uint8_t signature[8] = "verity\0";
    static const char algorithm[32] = "sha256";
    struct superblock superblock;
    if (myst_read_at(verity->file, &superblock, sizeof superblock, offset) != 0)
        return myst_fail(error, "%s: ends before its dm-verity superblock", name);
    if (memcmp(superblock.signature, signature, sizeof signature) != 0 || superblock.version != 1 ||
        superblock.hash_type != 1 || memcmp(superblock.algorithm, algorithm, sizeof algorithm) != 0 ||
        superblock.data_block_size != MYST_VERITY_BLOCK || superblock.hash_block_size != MYST_VERITY_BLOCK ||
        superblock.salt_size != sizeof verity->salt)
        return myst_fail(error, "%s: its dm-verity superblock is not one that Mystikos takes", name);
    if (superblock.data_blocks != verity->data_blocks)
        return myst_fail(error, "%s: its dm-verity superblock names another number of blocks than its FSSIG", name);
    memcpy(verity->salt, superblock.salt, sizeof verity->salt);
    return 0;
}

int myst_verity_open(struct myst_verity *verity, int file, uint64_t size, const struct myst_fssig *fssig,
                     const char *name, struct myst_error *error)
{
    *verity = (struct myst_verity){.file = file, .data_blocks = fssig->hash_offset / MYST_VERITY_BLOCK};
    if (verity->data_blocks > MAX_DATA_BLOCKS)
        return myst_fail(error, "%s: is larger than an ext2 file system can be", name);
    const struct shape shape = shape_of(verity->data_blocks, fssig->hash_offset + MYST_VERITY_BLOCK);
    if (read_superblock(verity, fssig->hash_offset, name, error) != 0)
        return -1;
    if (shape.end + MYST_FSSIG_SIZE != size)
        return myst_fail(error, "%s: its hash tree has another size than its data demands", name);
    verity->leaf_offset = shape.offsets[0];
    verity->leaf_blocks = shape.blocks[0];
    if (read_tree(verity, &shape, fssig, name, error) != 0)
        return -1;
    verity->seen = myst_allocated(calloc(verity->data_blocks / 8 + 1, 1));
    verity->cache = myst_allocated(calloc(MYST_VERITY_CACHE, sizeof *verity->cache));
    return 0;
}

/* The hash of a data block, from a leaf that is checked again: the file may have changed since. */
static const uint8_t *find_digest(struct myst_verity *verity, uint64_t block)
{
    const uint64_t leaf = block / PER_BLOCK;
    uint8_t *hashes = verity->cache[leaf % MYST_VERITY_CACHE].hashes;
    uint64_t *number = &verity->cache[leaf % MYST_VERITY_CACHE].number;
    if (*number != leaf + 1)
    {
        *number = 0;
        if (myst_read_at(verity->file, hashes, MYST_VERITY_BLOCK, verity->leaf_offset + leaf * MYST_VERITY_BLOCK) !=
                0 ||
            !is_right(verity, hashes, verity->leaf_digests + leaf * MYST_VERITY_DIGEST))
            return NULL;
        *number = leaf + 1;
    }
    return hashes + block % PER_BLOCK * MYST_VERITY_DIGEST;
}

int myst_verity_read(struct myst_verity *verity, uint64_t block, uint8_t data[MYST_VERITY_BLOCK])
{
    const uint8_t *digest = block < verity->data_blocks ? find_digest(verity, block) : NULL;
    if (digest && myst_read_at(verity->file, data, MYST_VERITY_BLOCK, block * MYST_VERITY_BLOCK) == 0 &&
        is_right(verity, data, digest))
    {
        verity->seen[block / 8] |= (uint8_t)(1 << block % 8);
        return 0;
    }
    verity->wrong_block = block;
    verity->has_wrong_block = true;
    return -1;
}

void myst_verity_close(struct myst_verity *verity)
{
    free(verity->leaf_digests);
    free(verity->seen);
    free(verity->cache);
}

int myst_verity_read_rest(struct myst_verity *verity)
{
    static uint8_t data[MYST_VERITY_BLOCK];
    for (uint64_t block = 0; block < verity->data_blocks; block++)
        if (!(verity->seen[block / 8] >> block % 8 & 1) && myst_verity_read(verity, block, data) != 0)
            return -1;
    return 0;
}
