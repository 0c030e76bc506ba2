/* Renaming, and symbolic links, as Mystikos has them in the enclave's memory. */
#ifndef MYST_NAMING_H
#define MYST_NAMING_H

#include "call.h"

/* Serves rename, symlink and readlink: the result, a negative errno, MYST_CONTINUE or MYST_CRASHES. */
int64_t myst_serve_naming(const struct myst_call *call);

#endif
