/* Ports below 1024, which a process outside of the sandbox binds (port_binder.h). */
#ifndef MYST_LOW_PORTS_H
#define MYST_LOW_PORTS_H

#include "call.h"

/* Serves bind to such a port: 0, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_low_ports(const struct myst_call *call);

#endif
