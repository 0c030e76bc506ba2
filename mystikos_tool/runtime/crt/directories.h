/* The working directory as Mystikos tells it. */
#ifndef MYST_DIRECTORIES_H
#define MYST_DIRECTORIES_H

#include "call.h"

/* Serves chdir and getcwd: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_directories(const struct myst_call *call);

#endif
