/* What the application is told of the machine that it runs on: the one that Mystikos shows, not the host. */
#ifndef MYST_MACHINE_H
#define MYST_MACHINE_H

#include "call.h"

/* As many descriptors as a process may have. */
#define MYST_MAX_DESCRIPTORS 2048

/* Serves getrlimit, sysinfo, uname, statfs and their kind: the result of the call, a negative errno, or
 * MYST_CONTINUE. */
int64_t myst_serve_machine(const struct myst_call *call);

#endif
