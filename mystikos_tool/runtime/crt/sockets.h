/* What Mystikos does otherwise with Unix-domain sockets. */
#ifndef MYST_SOCKETS_H
#define MYST_SOCKETS_H

#include "call.h"

/* Serves what rules.c gives it: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_sockets(const struct myst_call *call);

#endif
