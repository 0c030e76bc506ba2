/* Removing files and directories, as Mystikos judges it. */
#ifndef MYST_REMOVAL_H
#define MYST_REMOVAL_H

#include "call.h"

/* Serves unlink and rmdir: the result, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_removal(const struct myst_call *call);

#endif
