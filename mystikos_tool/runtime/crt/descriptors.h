/* What Mystikos does otherwise with certain kinds of descriptors, and tells of random numbers. */
#ifndef MYST_DESCRIPTORS_H
#define MYST_DESCRIPTORS_H

#include "call.h"

#define MYST_FIRST_WATCH 2048 /* the number that Mystikos gives to what inotify watches */

/* Serves what rules.c gives it: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_descriptors(const struct myst_call *call);

#endif
