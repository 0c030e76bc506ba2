/* connect of Unix-domain sockets, which under Mystikos returns when the other side has accepted. */
#ifndef MYST_CONNECTING_H
#define MYST_CONNECTING_H

#include "call.h"

#include <sys/socket.h>
#include <sys/un.h>

/* What a caller connects to what: descriptors of this process, and an address that is the same for it. */
struct myst_connection
{
    int socket;
    int file; /* that the address leads to by /proc, or -1 */
    struct sockaddr_un address;
    socklen_t size;
};

/* Takes the descriptors over. The result of the call, a negative errno, or MYST_LATER: then the call is answered by
 * myst_look_at_connections. */
int64_t myst_connect(const struct myst_call *call, const struct myst_connection *connection);

/* Milliseconds until the next look, for poll; -1 where nobody waits. */
int myst_connections_timeout(void);

/* Answers those whose connection was accepted. */
void myst_look_at_connections(const struct myst_application *application);

#endif
