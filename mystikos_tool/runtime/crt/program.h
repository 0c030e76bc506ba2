/* What Mystikos takes for a program. */
#ifndef MYST_PROGRAM_H
#define MYST_PROGRAM_H

#include <stdbool.h>

/* False for what is no program to Mystikos, which says ENOENT then: a directory, a text without #!, a shared library.
 * True for what Linux decides about, and for what cannot be read. */
bool myst_is_program_file(int file);

#endif
