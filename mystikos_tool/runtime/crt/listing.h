/* Listing of directories in the enclave's memory, where a position is a number of entries: what is removed while a
 * directory is read moves all behind it, and entries are left out. */
#ifndef MYST_LISTING_H
#define MYST_LISTING_H

#include "call.h"

/* Serves getdents64: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_listing(const struct myst_call *call);

#endif
