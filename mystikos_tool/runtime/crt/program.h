/* What Mystikos takes for a program. */
#ifndef MYST_PROGRAM_H
#define MYST_PROGRAM_H

#include "call.h"

#include <stdbool.h>

/* False for what is no program to Mystikos, which says ENOENT then: a directory, a text without #!, a shared library.
 * True for what Linux decides about, and for what cannot be read. */
bool myst_is_program_file(int file);

/* True where musl's dynamic linker loaded the caller's program, as Mystikos' own C library loads all that it starts. */
bool myst_uses_musl(const struct myst_call *call);

#endif
