/* What --myst-info and --myst-verify print of a package that passed the checks. */
#ifndef MYST_IDENTITY_H
#define MYST_IDENTITY_H

#include "layout.h"

/* `key: value` lines on standard output. Returns 0, or -1 when they could not be written. */
int myst_print_identity(const struct myst_layout *layout, const uint8_t mrsigner[32]);

/* One line on standard output. */
int myst_print_verified(const char *name, const struct myst_layout *layout, const uint8_t mrsigner[32]);

/* 32 bytes as 64 hexadecimal digits and a NUL. */
void myst_hex(const uint8_t bytes[32], char hex[65]);

#endif
