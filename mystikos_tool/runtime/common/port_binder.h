/* How process 1 asks the process that binds ports below 1024 and makes raw sockets. A socket to bind comes as a
 * descriptor with this message, one that was made goes back with the answer: an int, an errno or 0. */
#ifndef MYST_PORT_BINDER_H
#define MYST_PORT_BINDER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct myst_bind_request
{
    uint32_t size;                  /* of the address in use; 0: a socket is to be made */
    int32_t family, type, protocol; /* of that */
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

/* What takes CAP_NET_RAW; flags of `type` aside. */
static inline bool myst_is_raw_socket(int family, int type)
{
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    return ((family == AF_INET || family == AF_INET6) && kind == SOCK_RAW) ||
           (family == AF_PACKET && (kind == SOCK_RAW || kind == SOCK_DGRAM));
}

#endif
