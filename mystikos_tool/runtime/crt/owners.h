/* Owners of files inside. Outside all of them belong to the caller: what chown sets is remembered here, by device and
 * inode, and shown by stat. A process that took another user id owns what it makes. */
#ifndef MYST_OWNERS_H
#define MYST_OWNERS_H

#include "call.h"

/* Serves chown, stat, creation and their kind: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_owners(const struct myst_call *call);

/* What the caller is about to execute: Mystikos starts programs whatever their mode, so it gets the x that Linux asks
 * for, and what scripts.h says. -ENOENT where it is no program to Mystikos, else as of myst_prepare_content. */
int64_t myst_prepare_program(const struct myst_call *call);

#endif
