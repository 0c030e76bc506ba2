/* Ports below 1024 for a caller who may bind them: in the sandbox nobody may, so a process outside of it does. It has
 * no other right, no file and no namespace of the sandbox, and ends with the package. */
#ifndef MYST_KERNEL_PORT_BINDER_H
#define MYST_KERNEL_PORT_BINDER_H

/* Starts it, before the namespaces are entered. Returns the socket that requests go through (port_binder.h), or -1 for
 * a caller who may not bind such ports. */
int myst_start_port_binder(void);

#endif
