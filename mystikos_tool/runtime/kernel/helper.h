/* Processes beside the application, each for one task that the application must not have the rights for. */
#ifndef MYST_HELPER_H
#define MYST_HELPER_H

#include <stddef.h>
#include <sys/types.h>

/* Starts one, which serves until it ends itself, or this process ends. All signals are blocked for it, those from the
 * terminal among them. Returns its number, or -1 with errno. */
pid_t myst_start_helper(void (*serve)(void *what), void *what);

/* The same with a pair of sockets of a `type`: `serve` is given the one end, this returns the other. */
int myst_start_helper_with_socket(int type, void (*serve)(int channel, void *what), void *what);

/* In a helper: the descriptors become 0, 1 and so on, and all others are closed: somebody may wait for the other end of
 * a pipe. From the second on they are in ascending order and above 0. */
void myst_keep_descriptors(const int *descriptors, size_t count);

/* In a helper: any other call than these few ends it. */
void myst_allow_calls_only(const unsigned *numbers, size_t count);

#endif
