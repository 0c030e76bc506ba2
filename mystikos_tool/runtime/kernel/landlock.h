/* Keeps the sandbox from what descriptors of the host lead to: files are opened by path only where they lie in the
 * root, so that /proc/self/fd/1 gives no more than descriptor 1 has, and the host's abstract sockets are out of reach.
 * Needs Linux 5.19, for sockets 6.12; does nothing on an earlier one. */
#ifndef MYST_LANDLOCK_H
#define MYST_LANDLOCK_H

#include <stdbool.h>

/* In the root, with no way to more privileges. `host_sockets`: abstract sockets of the host may be connected to. */
void myst_restrict_paths(bool host_sockets);

#endif
