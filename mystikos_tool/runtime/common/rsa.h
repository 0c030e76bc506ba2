/* The signature of a SIGSTRUCT, checked as EINIT does: RSA-3072 with exponent 3, PKCS#1 v1.5 with
 * SHA-256 (RFC 8017 section 8.2), by q1 and q2 in place of divisions (SDM volume 3D, EINIT). */
#ifndef MYST_RSA_H
#define MYST_RSA_H

#include "error.h"

#include <stdint.h>

#define MYST_RSA_SIZE 384 /* bytes; numbers are little-endian */

/* Returns 0 when `signature` is that of a message with this SHA-256 digest, else -1 with the error. */
int myst_rsa_check(const uint8_t modulus[MYST_RSA_SIZE], const uint8_t signature[MYST_RSA_SIZE],
                   const uint8_t q1[MYST_RSA_SIZE], const uint8_t q2[MYST_RSA_SIZE], const uint8_t digest[32],
                   struct myst_error *error);

#endif
