/* The first argument of a program that another one executes: Mystikos gives it the program's path, whatever the caller
 * passes. */
#ifndef MYST_FIRST_ARGUMENT_H
#define MYST_FIRST_ARGUMENT_H

#include "call.h"

#include <limits.h>

/* For a call of execve: MYST_CONTINUE where the first argument is the path already, or MYST_REDIRECTED to a call where
 * it is. */
int64_t myst_set_first_argument(const struct myst_call *call);

/* A path of less than PATH_MAX bytes from the root on, without `.` and `..`, by its letters alone: what is a link does
 * not matter. `to` has as much room. */
void myst_normalize_path(const char *path, char *to);

#endif
