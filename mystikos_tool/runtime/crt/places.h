/* Where a file lies that a call names: its directory, and its name there. */
#ifndef MYST_PLACES_H
#define MYST_PLACES_H

#include "call.h"

#include <limits.h>

struct myst_place
{
    int directory; /* open, without a right to read or write it */
    char name[NAME_MAX + 1];
};

/* Finds the place that the path of the argument names, from the caller's descriptor `directory` on, and opens the
 * directory; false for what the system says no to as well, and for `.` and `..`. The name is empty where the path ends
 * with a slash. */
bool myst_find_place(const struct myst_call *call, int directory, int path_argument, struct myst_place *place);

/* Two of them, as rename names. */
bool myst_find_places(const struct myst_call *call, const int directories[2], const int path_arguments[2],
                      struct myst_place places[2]);

#endif
