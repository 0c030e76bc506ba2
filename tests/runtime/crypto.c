/* Answers the tests' questions about SHA-256 and the signature check. Each request on standard input
 * is a letter and its operands; each answer goes to standard output.
 *
 *   'H' u32 size, u32 piece, data: the digest, taken piece by piece; then the digests that the portable
 *       and (where the CPU has the instructions, else zeros) the accelerated function make
 *   'V' u32 sizes of modulus, exponent and signature, these, digest [32]: one line, 1 for a good signature
 *   'K' u32 size, text: one line, modulus and exponent of the public key in hexadecimal, or nothing
 *   'R' modulus, signature, q1, q2 [384 each], digest [32]: one line, empty for a good signature */
#include "common/rsa.h"
#include "common/sha256.h"
#include "kernel/public_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size)
        exit(2);
}

/* One-shot SHA-256 by a given compression function: pads here, so that nothing is shared. */
static void digest_with(myst_sha256_blocks_fn *blocks, const unsigned char *data, size_t size)
{
    struct myst_sha256 start;
    const size_t padded = (size + 9 + 63) / 64 * 64;
    unsigned char *copy = calloc(1, padded);
    memcpy(copy, data, size);
    copy[size] = 0x80;
    for (int i = 0; i < 8; i++)
        copy[padded - 1 - (size_t)i] = (unsigned char)((unsigned long long)size * 8 >> 8 * i);
    myst_sha256_init(&start);
    blocks(start.state, copy, padded / 64);
    for (int i = 0; i < 32; i++)
        putchar((int)(start.state[i / 4] >> (24 - 8 * (i % 4)) & 0xff));
    free(copy);
}

static void hash(void)
{
    static const unsigned char zeros[32];
    unsigned size, piece;
    unsigned char digest[32];
    struct myst_sha256 sha256;
    take(&size, sizeof size);
    take(&piece, sizeof piece);
    unsigned char *data = malloc(size ? size : 1);
    take(data, size);
    myst_sha256_init(&sha256);
    for (unsigned at = 0; at < size; at += piece)
        myst_sha256_update(&sha256, data + at, size - at < piece ? size - at : piece);
    myst_sha256_final(&sha256, digest);
    fwrite(digest, 1, sizeof digest, stdout);
    digest_with(myst_sha256_blocks_portable, data, size);
    if (myst_sha256_has_instructions())
        digest_with(myst_sha256_blocks_instructions, data, size);
    else
        fwrite(zeros, 1, sizeof zeros, stdout);
    free(data);
}

static void rsa(void)
{
    unsigned char numbers[4][MYST_RSA_SIZE], digest[32];
    take(numbers, sizeof numbers);
    take(digest, sizeof digest);
    struct myst_error error = {""};
    myst_rsa_check(numbers[0], numbers[1], numbers[2], numbers[3], digest, &error);
    puts(error.text);
}

static void any_rsa(void)
{
    static struct myst_rsa_key key;
    static unsigned char signature[2 * MYST_RSA_KEY_SIZE];
    unsigned char digest[32];
    unsigned sizes[3];
    take(sizes, sizeof sizes);
    key.modulus_size = sizes[0];
    key.exponent_size = sizes[1];
    take(key.modulus, sizes[0]);
    take(key.exponent, sizes[1]);
    take(signature, sizes[2]);
    take(digest, sizeof digest);
    printf("%d\n", myst_rsa_key_verifies(&key, signature, sizes[2], digest));
}

static void print_hex(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
}

static void public_key(void)
{
    static struct myst_rsa_key key;
    unsigned size;
    take(&size, sizeof size);
    char *text = malloc(size ? size : 1);
    take(text, size);
    if (myst_public_key_read(text, size, &key))
    {
        print_hex(key.modulus, key.modulus_size);
        putchar(' ');
        print_hex(key.exponent, key.exponent_size);
    }
    putchar('\n');
    free(text);
}

int main(void)
{
    int request;
    while ((request = getchar()) != EOF)
    {
        if (request == 'H')
            hash();
        else if (request == 'R')
            rsa();
        else if (request == 'V')
            any_rsa();
        else if (request == 'K')
            public_key();
        else
            return 2;
        fflush(stdout);
    }
    return 0;
}
