/* How process 1 asks the process that binds ports below 1024: the socket comes as a descriptor with this message. The
 * answer is an int, an errno or 0. */
#ifndef MYST_PORT_BINDER_H
#define MYST_PORT_BINDER_H

#include <netinet/in.h>
#include <stdint.h>

struct myst_bind_request
{
    uint32_t size; /* of the address in use */
    union
    {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } address;
};

/* Of an address of the internet, in 1 to 1023; else 0. */
static inline unsigned myst_low_port(const struct myst_bind_request *request)
{
    unsigned port = 0;
    if (request->size >= sizeof request->address.ipv4 && request->address.any.sa_family == AF_INET)
        port = ntohs(request->address.ipv4.sin_port);
    else if (request->size == sizeof request->address.ipv6 && request->address.any.sa_family == AF_INET6)
        port = ntohs(request->address.ipv6.sin6_port);
    return port < IPPORT_RESERVED ? port : 0;
}

#endif
