/* RSA signatures by keys of any size up to 8192 bits and any exponent: PKCS#1 v1.5 with SHA-256 (RFC 8017 section
 * 8.2). SIGSTRUCT's, of one size and exponent, are common/rsa.h's. */
#ifndef MYST_RSA_KEY_H
#define MYST_RSA_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MYST_RSA_KEY_SIZE 1024 /* bytes, at most */

/* Numbers are big-endian and begin with a byte that is not zero. */
struct myst_rsa_key
{
    uint8_t modulus[MYST_RSA_KEY_SIZE], exponent[MYST_RSA_KEY_SIZE];
    size_t modulus_size, exponent_size;
};

/* True when the signature is the key's over a message with this SHA-256 digest. */
bool myst_rsa_key_verifies(const struct myst_rsa_key *key, const uint8_t *signature, size_t size,
                           const uint8_t digest[32]);

#endif
