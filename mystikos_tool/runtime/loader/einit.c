#include "einit.h"

#include "../common/rsa.h"
#include "../common/sha256.h"

#include <string.h>

#define VENDOR_INTEL 0x8086
#define EXPONENT 3

static int is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return 0;
    return 1;
}

static int check_format(const struct sgx_sigstruct *s, struct myst_error *error)
{
    static const uint8_t header[12] = {0x06, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 0x01, 0};
    static const uint8_t header2[16] = {0x01, 0x01, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 0x01, 0, 0, 0};
    if (memcmp(s->header, header, sizeof header) != 0 || s->type != 0)
        return myst_fail(error, "SIGSTRUCT: HEADER is wrong; the package is not signed");
    if (memcmp(s->header2, header2, sizeof header2) != 0)
        return myst_fail(error, "SIGSTRUCT: HEADER2 is wrong");
    if (s->vendor != 0 && s->vendor != VENDOR_INTEL)
        return myst_fail(error, "SIGSTRUCT: VENDOR is 0x%x", s->vendor);
    if (!is_zero(s->reserved1, sizeof s->reserved1) || !is_zero(s->reserved2, sizeof s->reserved2) ||
        !is_zero(s->reserved3, sizeof s->reserved3) || !is_zero(s->reserved4, sizeof s->reserved4))
        return myst_fail(error, "SIGSTRUCT: a reserved field is not zero");
    if (s->exponent != EXPONENT)
        return myst_fail(error, "SIGSTRUCT: EXPONENT is %u, not 3", s->exponent);
    return 0;
}

static int check_signature(const struct sgx_sigstruct *s, struct myst_error *error)
{
    struct myst_sha256 hash;
    uint8_t digest[MYST_SHA256_SIZE];
    myst_sha256_init(&hash);
    myst_sha256_update(&hash, s, SGX_SIGNED_HEAD_SIZE);
    myst_sha256_update(&hash, (const uint8_t *)s + SGX_SIGNED_BODY_OFFSET, SGX_SIGNED_BODY_SIZE);
    myst_sha256_final(&hash, digest);
    return myst_rsa_check(s->modulus, s->signature, s->q1, s->q2, digest, error);
}

static int check_attributes(const struct sgx_sigstruct *s, const struct myst_secs *secs, struct myst_error *error)
{
    const struct sgx_attributes *mask = &s->attributes_mask;
    const struct sgx_attributes *is = &secs->attributes;
    if (!(is->flags & SGX_ATTRIBUTE_MODE64BIT))
        return myst_fail(error, "ATTRIBUTES: MODE64BIT is not set");
    if ((is->flags & mask->flags) != (s->attributes.flags & mask->flags))
        return myst_fail(error, "ATTRIBUTES: the enclave's are 0x%llx, the signed ones 0x%llx",
                         (unsigned long long)is->flags, (unsigned long long)s->attributes.flags);
    if ((is->xfrm & mask->xfrm) != (s->attributes.xfrm & mask->xfrm))
        return myst_fail(error, "ATTRIBUTES: the enclave's XFRM is 0x%llx, the signed one 0x%llx",
                         (unsigned long long)is->xfrm, (unsigned long long)s->attributes.xfrm);
    /* The mask of a debug enclave leaves DEBUG open; it must not make one of a signed release. */
    if (is->flags & ~s->attributes.flags & SGX_ATTRIBUTE_DEBUG)
        return myst_fail(error, "ATTRIBUTES: DEBUG is set but not signed");
    if ((secs->miscselect & s->miscmask) != (s->miscselect & s->miscmask))
        return myst_fail(error, "MISCSELECT: the enclave's is 0x%x, the signed one 0x%x", secs->miscselect,
                         s->miscselect);
    return 0;
}

static int check_identity(const struct sgx_sigstruct *s, const struct myst_oeinfo *record, struct myst_error *error)
{
    if (s->product_id != record->product_id)
        return myst_fail(error, "ISVPRODID: the enclave's is %u, the signed one %u", record->product_id, s->product_id);
    if (s->security_version != record->security_version)
        return myst_fail(error, "ISVSVN: the enclave's is %u, the signed one %u", record->security_version,
                         s->security_version);
    if (memcmp(s->family_id, record->family_id, sizeof s->family_id) != 0 ||
        memcmp(s->extended_product_id, record->extended_product_id, sizeof s->extended_product_id) != 0)
        return myst_fail(error, "ISVFAMILYID: family or extended product id is not the signed one");
    return 0;
}

struct myst_secs myst_secs_of(const struct myst_oeinfo *record)
{
    struct myst_secs secs;
    memset(&secs, 0, sizeof secs);
    secs.attributes = record->attributes;
    secs.attributes.xfrm |= SGX_XFRM_LEGACY;
    return secs;
}

int myst_check_signature(const struct sgx_sigstruct *sigstruct, struct myst_error *error)
{
    return check_format(sigstruct, error) != 0 ? -1 : check_signature(sigstruct, error);
}

int myst_einit(const struct sgx_sigstruct *sigstruct, const struct myst_secs *secs, const struct myst_oeinfo *record,
               struct myst_error *error)
{
    if (myst_check_signature(sigstruct, error) != 0)
        return -1;
    if (memcmp(sigstruct->mrenclave, secs->mrenclave, sizeof secs->mrenclave) != 0)
        return myst_fail(error, "MRENCLAVE: what is in the package is not what was signed");
    if (check_attributes(sigstruct, secs, error) != 0)
        return -1;
    return check_identity(sigstruct, record, error);
}

void myst_mrsigner(const struct sgx_sigstruct *sigstruct, uint8_t mrsigner[32])
{
    myst_sha256(sigstruct->modulus, sizeof sigstruct->modulus, mrsigner);
}
