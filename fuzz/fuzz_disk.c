/* What a disk is held to: its FSSIG, the package's public keys, the hash tree. The input is a byte that says how many
 * times 16 bytes of keys follow, these, and the file. Its root hash is made right, so that what is below is reached. */
#include "common/sha256.h"
#include "fuzz.h"
#include "kernel/public_key.h"
#include "kernel/read.h"
#include "kernel/verity.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int file = -1;

/* As for a tree of one block. */
static void make_right(struct myst_fssig *fssig)
{
    uint8_t salted[32 + MYST_VERITY_BLOCK];
    if (myst_read_at(file, salted, 32, fssig->hash_offset + 88) == 0 &&
        myst_read_at(file, salted + 32, MYST_VERITY_BLOCK, fssig->hash_offset + MYST_VERITY_BLOCK) == 0)
        myst_sha256(salted, sizeof salted, fssig->root_hash);
}

static void read_blocks(const struct myst_fssig *fssig, size_t size)
{
    static uint8_t block[MYST_VERITY_BLOCK];
    struct myst_verity verity;
    struct myst_error error;
    if (myst_verity_open(&verity, file, size, fssig, "disk", &error) != 0)
    {
        PROMISE(strncmp(error.text, "disk: ", 6) == 0);
        return;
    }
    PROMISE(verity.data_blocks * MYST_VERITY_BLOCK < size);
    PROMISE(myst_verity_read(&verity, verity.data_blocks, block) != 0);
    const int all = myst_verity_read_rest(&verity);
    PROMISE(all == 0 || verity.wrong_block < verity.data_blocks);
    PROMISE(all != 0 || myst_verity_read(&verity, 0, block) == 0);
    myst_verity_close(&verity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct myst_fssig fssig;
    static struct myst_rsa_key key;
    struct myst_error error;
    if (size == 0 || size - 1 < (size_t)data[0] * 16)
        return 0;
    const struct myst_span keys = {data + 1, (uint64_t)data[0] * 16}, hashes = {fssig.root_hash, 32}, none = {"", 0};
    data += 1 + keys.size;
    size -= 1 + keys.size;
    if (myst_public_key_read(keys.data, keys.size, &key))
        PROMISE(key.modulus_size >= 1 && key.modulus_size <= MYST_RSA_KEY_SIZE && key.modulus[0] != 0);
    if (file < 0)
        PROMISE((file = memfd_create("disk", 0)) >= 0);
    PROMISE(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    if (size < sizeof fssig)
        return 0;
    memcpy(&fssig, data + size - sizeof fssig, sizeof fssig);
    if (myst_fssig_check(&fssig, size, "disk", &error) != 0)
        return 0;
    const int trusted = myst_fssig_is_trusted(&fssig, &keys, &none, &error);
    PROMISE(trusted >= -1 && trusted <= 1);
    make_right(&fssig);
    PROMISE(myst_fssig_is_trusted(&fssig, &keys, &hashes, &error) == 1);
    read_blocks(&fssig, size);
    return 0;
}
