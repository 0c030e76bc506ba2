/* RSA public keys in PEM: "PUBLIC KEY" (RFC 5280, SubjectPublicKeyInfo) and "RSA PUBLIC KEY" (RFC 8017, A.1.1). */
#ifndef MYST_PUBLIC_KEY_H
#define MYST_PUBLIC_KEY_H

#include "rsa_key.h"

/* Reads the first key of `size` bytes of text. False when there is none, or it is not of RSA up to 8192 bits. */
bool myst_public_key_read(const char *text, size_t size, struct myst_rsa_key *key);

#endif
