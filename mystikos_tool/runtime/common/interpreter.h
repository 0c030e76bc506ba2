#ifndef MYST_INTERPRETER_H
#define MYST_INTERPRETER_H

#include <limits.h>
#include <stdbool.h>

/* Reads the interpreter (PT_INTERP) of an open ELF program; false for a file without one. */
bool myst_elf_interpreter(int file, char interpreter[PATH_MAX]);

#endif
