/* connect of Unix-domain sockets, which under Mystikos returns when the other side has accepted. */
#ifndef MYST_CONNECTING_H
#define MYST_CONNECTING_H

#include "call.h"

#include <sys/socket.h>
#include <sys/un.h>

/* Connects the caller's socket, of which `socket` is a descriptor of this process that it closes. The result of the
 * call, a negative errno, or MYST_LATER: then the call is answered by myst_look_at_connections. */
int64_t myst_connect(const struct myst_call *call, int socket, const struct sockaddr_un *address, socklen_t size);

/* Milliseconds until the next look, for poll; -1 where nobody waits. */
int myst_connections_timeout(void);

/* Answers those whose connection was accepted. */
void myst_look_at_connections(const struct myst_application *application);

#endif
