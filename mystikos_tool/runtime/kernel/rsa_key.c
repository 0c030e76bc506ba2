#include "rsa_key.h"

#include <string.h>

#define LIMBS (MYST_RSA_KEY_SIZE / 8)
#define MIN_SIZE 62 /* bytes: the padding has eight at least */

typedef unsigned __int128 wide;

/* Numbers below the modulus, least significant limb first, in Montgomery's form: times 2^(64 count), modulo it. */
struct field
{
    size_t count; /* of limbs in use */
    uint64_t modulus[LIMBS];
    uint64_t inverse;      /* -1 / modulus, modulo 2^64 */
    uint64_t one[LIMBS];   /* 1 */
    uint64_t shift[LIMBS]; /* 2^(64 count) */
};

static void read_number(uint64_t limbs[LIMBS], const uint8_t *bytes, size_t size)
{
    memset(limbs, 0, LIMBS * sizeof *limbs);
    for (size_t i = 0; i < size; i++)
        limbs[i / 8] |= (uint64_t)bytes[size - 1 - i] << (8 * (i % 8));
}

static bool is_below(const uint64_t *a, const uint64_t *b, size_t count)
{
    while (count-- > 0)
        if (a[count] != b[count])
            return a[count] < b[count];
    return false;
}

/* Takes the modulus off once where the number, with `carry` above its limbs, is not below it. */
static void reduce_once(const struct field *field, uint64_t *number, uint64_t carry)
{
    uint64_t borrow = 0;
    if (carry == 0 && is_below(number, field->modulus, field->count))
        return;
    for (size_t i = 0; i < field->count; i++)
    {
        const wide difference = (wide)number[i] - field->modulus[i] - borrow;
        number[i] = (uint64_t)difference;
        borrow = (uint64_t)(difference >> 64) & 1;
    }
}

static void double_it(const struct field *field, uint64_t *number)
{
    uint64_t carry = 0;
    for (size_t i = 0; i < field->count; i++)
    {
        const uint64_t high = number[i] >> 63;
        number[i] = number[i] << 1 | carry;
        carry = high;
    }
    reduce_once(field, number, carry);
}

/* Adds `factor` times `number` to `sum`; returns what goes beyond its limbs. */
static uint64_t add_product(uint64_t *sum, const uint64_t *number, uint64_t factor, size_t count)
{
    uint64_t carry = 0;
    for (size_t i = 0; i < count; i++)
    {
        const wide product = (wide)number[i] * factor + sum[i] + carry;
        sum[i] = (uint64_t)product;
        carry = (uint64_t)(product >> 64);
    }
    return carry;
}

/* result = a b / 2^(64 count), modulo the modulus. `result` may be a or b. */
static void multiply(const struct field *field, uint64_t *result, const uint64_t *a, const uint64_t *b)
{
    const size_t count = field->count;
    uint64_t sum[2 * LIMBS] = {0}, top = 0;
    for (size_t i = 0; i < count; i++)
    {
        sum[count + i] = add_product(sum + i, b, a[i], count);
    }
    for (size_t i = 0; i < count; i++)
    {
        const uint64_t carry = add_product(sum + i, field->modulus, sum[i] * field->inverse, count);
        const wide above = (wide)sum[count + i] + carry + top;
        sum[count + i] = (uint64_t)above;
        top = (uint64_t)(above >> 64);
    }
    memcpy(result, sum + count, count * sizeof *result);
    reduce_once(field, result, top);
}

/* The modulus is odd and above 1. */
static void make_field(struct field *field, const struct myst_rsa_key *key)
{
    memset(field, 0, sizeof *field);
    field->count = (key->modulus_size + 7) / 8;
    read_number(field->modulus, key->modulus, key->modulus_size);
    uint64_t inverse = 1;
    for (int bits = 1; bits < 64; bits *= 2)
        inverse *= 2 - field->modulus[0] * inverse;
    field->inverse = -inverse;
    field->one[0] = 1;
    for (size_t i = 0; i < 64 * field->count; i++)
        double_it(field, field->one);
    memcpy(field->shift, field->one, sizeof field->shift);
    for (size_t i = 0; i < 64 * field->count; i++)
        double_it(field, field->shift);
}

/* number = number ^ exponent, both as they are, not in Montgomery's form. */
static void raise(const struct field *field, uint64_t *number, const uint8_t *exponent, size_t size)
{
    static const uint64_t plain_one[LIMBS] = {1};
    uint64_t power[LIMBS];
    multiply(field, number, number, field->shift);
    memcpy(power, field->one, sizeof power);
    for (size_t i = 0; i < 8 * size; i++)
    {
        multiply(field, power, power, power);
        if (exponent[i / 8] >> (7 - i % 8) & 1)
            multiply(field, power, power, number);
    }
    multiply(field, number, power, plain_one);
}

/* EMSA-PKCS1-v1_5 (RFC 8017 section 9.2). */
static void encode(uint8_t *message, size_t size, const uint8_t digest[32])
{
    static const uint8_t digest_info[] = {
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
    };
    memset(message, 0xff, size);
    message[0] = 0;
    message[1] = 1;
    memcpy(message + size - 32, digest, 32);
    memcpy(message + size - 32 - sizeof digest_info, digest_info, sizeof digest_info);
    message[size - 32 - sizeof digest_info - 1] = 0;
}

static bool is_usable(const struct myst_rsa_key *key)
{
    return key->modulus_size >= MIN_SIZE && key->modulus_size <= MYST_RSA_KEY_SIZE && key->modulus[0] != 0 &&
           (key->modulus[key->modulus_size - 1] & 1) && key->exponent_size <= MYST_RSA_KEY_SIZE;
}

bool myst_rsa_key_verifies(const struct myst_rsa_key *key, const uint8_t *signature, size_t size,
                           const uint8_t digest[32])
{
    static struct field field; /* too large for small stacks */
    static uint64_t number[LIMBS], expected[LIMBS];
    uint8_t message[MYST_RSA_KEY_SIZE];
    if (!is_usable(key) || size != key->modulus_size)
        return false;
    make_field(&field, key);
    read_number(number, signature, size);
    if (!is_below(number, field.modulus, field.count))
        return false;
    raise(&field, number, key->exponent, key->exponent_size);
    encode(message, size, digest);
    read_number(expected, message, size);
    return memcmp(number, expected, sizeof number) == 0;
}
