/* The rules of EINIT for a SIGSTRUCT and the record that it lies in. The input: a byte that says what is
 * made right, the record. The signature check's answer counts only where the byte says so: no fuzzer makes a
 * signature. */
#include "common/rsa.h"
#include "fuzz.h"
#include "loader/einit.h"

#include <string.h>

enum
{
    TRUST_SIGNATURE = 1,
    SAME_MRENCLAVE = 2
};

static unsigned trusted;

int __real_myst_rsa_check(const uint8_t *modulus, const uint8_t *signature, const uint8_t *q1, const uint8_t *q2,
                          const uint8_t *digest, struct myst_error *error);
int __wrap_myst_rsa_check(const uint8_t *modulus, const uint8_t *signature, const uint8_t *q1, const uint8_t *q2,
                          const uint8_t *digest, struct myst_error *error);

int __wrap_myst_rsa_check(const uint8_t *modulus, const uint8_t *signature, const uint8_t *q1, const uint8_t *q2,
                          const uint8_t *digest, struct myst_error *error)
{
    const int result = __real_myst_rsa_check(modulus, signature, q1, q2, digest, error);
    return trusted & TRUST_SIGNATURE ? 0 : result;
}

static void check_accepted(const struct sgx_sigstruct *s, const struct myst_secs *secs,
                           const struct myst_oeinfo *record)
{
    const uint64_t open = ~s->attributes_mask.flags;
    PROMISE(s->type == 0 && s->exponent == 3 && s->reserved1[83] == 0 && s->reserved4[0] == 0);
    PROMISE(memcmp(s->mrenclave, secs->mrenclave, 32) == 0);
    PROMISE(((s->attributes.flags ^ secs->attributes.flags) & ~open) == 0);
    PROMISE(!(secs->attributes.flags & SGX_ATTRIBUTE_DEBUG) || (s->attributes.flags & SGX_ATTRIBUTE_DEBUG));
    PROMISE(s->product_id == record->product_id && s->security_version == record->security_version);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct myst_oeinfo record;
    struct myst_error error;
    uint8_t mrsigner[32];
    if (size != 1 + sizeof record)
        return 0;
    memcpy(&record, data + 1, sizeof record);
    trusted = data[0];
    struct myst_secs secs = myst_secs_of(&record);
    if (trusted & SAME_MRENCLAVE)
        memcpy(secs.mrenclave, record.sigstruct.mrenclave, sizeof secs.mrenclave);
    if (myst_einit(&record.sigstruct, &secs, &record, &error) == 0)
        check_accepted(&record.sigstruct, &secs, &record);
    else
        PROMISE(error.text[0] && !strchr(error.text, '\n'));
    myst_mrsigner(&record.sigstruct, mrsigner);
    return 0;
}
