/* Opening files to write to them, opening directories, and making files shorter, as Mystikos judges it. */
#ifndef MYST_OPENING_H
#define MYST_OPENING_H

#include "call.h"

/* Serves open and its kind, truncate and F_GETFL: the result, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_opening(const struct myst_call *call);

#endif
