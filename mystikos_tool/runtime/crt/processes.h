/* Numbers of processes, groups and sessions as Mystikos gives them, where the caller's outside would show through. */
#ifndef MYST_PROCESSES_H
#define MYST_PROCESSES_H

#include "call.h"

/* Serves getppid, getpgrp, getpgid and getsid: the result of the call, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_processes(const struct myst_call *call);

#endif
