#include "fssig.h"

#include "../common/sha256.h"
#include "public_key.h"

#include <string.h>

_Static_assert(sizeof(struct myst_fssig) == MYST_FSSIG_SIZE, "FSSIG");
_Static_assert(offsetof(struct myst_fssig, signature) == 88, "FSSIG");
_Static_assert(offsetof(struct myst_fssig, signature_size) == 1112, "FSSIG");

int myst_fssig_check(const struct myst_fssig *fssig, uint64_t size, const char *name, struct myst_error *error)
{
    if (fssig->magic != MYST_FSSIG_MAGIC)
        return myst_fail(error, "%s: has no FSSIG in its last 4096 bytes; make it with 'mystikos-tool mkext2'", name);
    if (fssig->version != 1)
        return myst_fail(error, "%s: its FSSIG has the version %llu", name, (unsigned long long)fssig->version);
    if (fssig->hash_offset % MYST_PAGE || fssig->hash_offset == 0 || fssig->hash_offset >= size)
        return myst_fail(error, "%s: its FSSIG names %llu as offset of the hash tree", name,
                         (unsigned long long)fssig->hash_offset);
    if (fssig->signature_size > MYST_FSSIG_MAX_SIGNATURE)
        return myst_fail(error, "%s: its FSSIG has a signature of %llu bytes", name,
                         (unsigned long long)fssig->signature_size);
    return 0;
}

/* As on Mystikos a list with a part of a hash in it counts for nothing. */
static bool is_listed(const uint8_t root_hash[32], const struct myst_span *hashes)
{
    const uint8_t *list = hashes->data;
    for (uint64_t at = 0; hashes->size % 32 == 0 && at < hashes->size; at += 32)
        if (memcmp(list + at, root_hash, 32) == 0)
            return true;
    return false;
}

static bool is_signed_by(const struct myst_fssig *fssig, const struct myst_rsa_key *key)
{
    uint8_t signer[MYST_SHA256_SIZE];
    myst_sha256(key->modulus, key->modulus_size, signer);
    return memcmp(signer, fssig->signer, sizeof signer) == 0 &&
           myst_rsa_key_verifies(key, fssig->signature, fssig->signature_size, fssig->root_hash);
}

int myst_fssig_is_trusted(const struct myst_fssig *fssig, const struct myst_span *keys, const struct myst_span *hashes,
                          struct myst_error *error)
{
    static struct myst_rsa_key key;
    const char *text = keys->data, *end = text + keys->size;
    int number = 1;
    if (is_listed(fssig->root_hash, hashes))
        return 1;
    /* Each key is a text that ends with a NUL. */
    for (size_t size; text < end; text += size < (size_t)(end - text) ? size + 1 : size, number++)
    {
        size = strnlen(text, (size_t)(end - text));
        if (!myst_public_key_read(text, size, &key))
            return myst_fail(error, "package: its public key %d is no RSA key of up to 8192 bits in PEM", number);
        if (is_signed_by(fssig, &key))
            return 1;
    }
    return 0;
}
