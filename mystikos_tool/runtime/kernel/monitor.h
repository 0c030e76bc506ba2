/* The outer process: what the caller sees of the application. */
#ifndef MYST_MONITOR_H
#define MYST_MONITOR_H

#include <sys/types.h>

/* Waits for the sandbox's first process and returns its exit status, or 128 + n when signal n killed it.
 * Signals that were sent to this process go on to the application, by their number as a byte through `control`. All
 * signals must be blocked. */
int myst_monitor(pid_t init, int control);

#endif
