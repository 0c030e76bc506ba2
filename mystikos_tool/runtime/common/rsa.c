#include "rsa.h"

#include <string.h>

#define LIMBS (MYST_RSA_SIZE / 8)

typedef unsigned __int128 wide;

struct number
{
    uint64_t limb[LIMBS]; /* least significant first, as x86-64 stores them */
};

struct product
{
    uint64_t limb[2 * LIMBS];
};

static struct number number_from(const uint8_t bytes[MYST_RSA_SIZE])
{
    struct number n;
    memcpy(n.limb, bytes, sizeof n.limb);
    return n;
}

static int less(const struct number *a, const struct number *b)
{
    for (int i = LIMBS; i-- > 0;)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i];
    return 0;
}

static struct product multiply(const struct number *a, const struct number *b)
{
    struct product p = {{0}};
    for (int i = 0; i < LIMBS; i++)
    {
        uint64_t carry = 0;
        for (int j = 0; j < LIMBS; j++)
        {
            wide t = (wide)a->limb[i] * b->limb[j] + p.limb[i + j] + carry;
            p.limb[i + j] = (uint64_t)t;
            carry = (uint64_t)(t >> 64);
        }
        p.limb[i + LIMBS] = carry;
    }
    return p;
}

/* Sets `rest` to a * b - q * m, which a right q leaves between 0 and m - 1. Returns 0 when it is. */
static int reduce(struct number *rest, const struct number *a, const struct number *b, const struct number *q,
                  const struct number *m)
{
    const struct product ab = multiply(a, b);
    const struct product qm = multiply(q, m);
    uint64_t borrow = 0, high = 0;
    for (int i = 0; i < 2 * LIMBS; i++)
    {
        wide t = (wide)ab.limb[i] - qm.limb[i] - borrow;
        borrow = (uint64_t)(t >> 64) & 1;
        if (i < LIMBS)
            rest->limb[i] = (uint64_t)t;
        else
            high |= (uint64_t)t;
    }
    return borrow == 0 && high == 0 && less(rest, m) ? 0 : -1;
}

/* EMSA-PKCS1-v1_5 (RFC 8017 section 9.2), least significant byte first. */
static struct number encoded(const uint8_t digest[32])
{
    static const uint8_t digest_info[] = {
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
    };
    uint8_t message[MYST_RSA_SIZE], reversed[MYST_RSA_SIZE];
    memset(message, 0xff, sizeof message);
    message[0] = 0;
    message[1] = 1;
    uint8_t *info = message + sizeof message - 32 - sizeof digest_info;
    info[-1] = 0;
    memcpy(info, digest_info, sizeof digest_info);
    memcpy(info + sizeof digest_info, digest, 32);
    for (int i = 0; i < MYST_RSA_SIZE; i++)
        reversed[i] = message[MYST_RSA_SIZE - 1 - i];
    return number_from(reversed);
}

int myst_rsa_check(const uint8_t modulus[MYST_RSA_SIZE], const uint8_t signature[MYST_RSA_SIZE],
                   const uint8_t q1[MYST_RSA_SIZE], const uint8_t q2[MYST_RSA_SIZE], const uint8_t digest[32],
                   struct myst_error *error)
{
    const struct number m = number_from(modulus), s = number_from(signature);
    const struct number quotient1 = number_from(q1), quotient2 = number_from(q2);
    const struct number expected = encoded(digest);
    struct number square, cube;
    if (m.limb[LIMBS - 1] >> 63 == 0 || (m.limb[0] & 1) == 0)
        return myst_fail(error, "signature: the modulus is not that of an RSA key of 3072 bits");
    if (!less(&s, &m))
        return myst_fail(error, "signature: the signature is not below the modulus");
    if (reduce(&square, &s, &s, &quotient1, &m) != 0)
        return myst_fail(error, "signature: q1 does not belong to the signature");
    if (reduce(&cube, &s, &square, &quotient2, &m) != 0)
        return myst_fail(error, "signature: q2 does not belong to the signature");
    if (memcmp(&cube, &expected, sizeof cube) != 0)
        return myst_fail(error, "signature: the signature is not that of this SIGSTRUCT");
    return 0;
}
