/* The first argument of a program that another one executes: Mystikos gives it the program's path, whatever the caller
 * passes. */
#ifndef MYST_FIRST_ARGUMENT_H
#define MYST_FIRST_ARGUMENT_H

#include "call.h"

#include <limits.h>

/* For a call of execve: MYST_CONTINUE where the first argument is the path already, or MYST_REDIRECTED to a call where
 * it is. */
int64_t myst_set_first_argument(const struct myst_call *call);

/* The path as Mystikos passes it on: one that is not absolute begins at the caller's working directory, and loses its
 * parts `.` and `..`. False where there is no such path. */
bool myst_absolute_path(const struct myst_call *call, const char *path, char absolute[PATH_MAX]);

#endif
