/* Answers the tests' questions about SHA-256 and the signature check. Each request on standard input
 * is a letter and its operands; each answer goes to standard output.
 *
 *   'H' u32 size, u32 piece, data: the digest, taken piece by piece; then the digests that the portable
 *       and (where the CPU has the instructions, else zeros) the accelerated function make
 *   'R' modulus, signature, q1, q2 [384 each], digest [32]: one line, empty for a good signature */
#include "common/rsa.h"
#include "common/sha256.h"

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

int main(void)
{
    int request;
    while ((request = getchar()) != EOF)
    {
        if (request == 'H')
            hash();
        else if (request == 'R')
            rsa();
        else
            return 2;
        fflush(stdout);
    }
    return 0;
}
