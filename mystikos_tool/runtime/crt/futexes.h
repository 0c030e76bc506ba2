/* Futexes: Mystikos takes the moment that a thread waits until for a duration, unless it is one of the real-time clock.
 */
#ifndef MYST_FUTEXES_H
#define MYST_FUTEXES_H

#include "call.h"

/* Serves FUTEX_WAIT_BITSET with a moment of the monotonic clock: MYST_CONTINUE or MYST_REDIRECTED. */
int64_t myst_serve_futexes(const struct myst_call *call);

#endif
