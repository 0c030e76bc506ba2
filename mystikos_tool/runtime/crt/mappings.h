/* Mappings of files and at places that a program asks for. */
#ifndef MYST_MAPPINGS_H
#define MYST_MAPPINGS_H

#include "call.h"

/* Serves mmap and msync: the result, a negative errno, MYST_CONTINUE or MYST_REDIRECTED. */
int64_t myst_serve_mappings(const struct myst_call *call);

#endif
