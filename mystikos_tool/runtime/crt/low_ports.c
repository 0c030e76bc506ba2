#include "low_ports.h"

#include "../common/port_binder.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int64_t ask(int binder, const struct myst_bind_request *request, int socket)
{
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof socket)];
    } control;
    struct iovec content = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int result;
    memset(&control, 0, sizeof control);
    control.header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof socket), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &socket, sizeof socket);
    if (sendmsg(binder, &message, MSG_NOSIGNAL) != sizeof *request ||
        recv(binder, &result, sizeof result, 0) != sizeof result)
        return -EACCES;
    return -result;
}

int64_t myst_serve_low_ports(const struct myst_call *call)
{
    struct myst_bind_request request;
    const uint64_t size = myst_call_argument(call, 2);
    if (call->notification.data.nr != SYS_bind || call->application->port_binder < 0)
        return MYST_CONTINUE;
    memset(&request, 0, sizeof request);
    request.size = size < sizeof request.address ? (uint32_t)size : sizeof request.address;
    if (myst_call_read(call, myst_call_argument(call, 1), &request.address, request.size) != 0 ||
        myst_low_port(&request) == 0)
        return MYST_CONTINUE;
    const int socket = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (socket < 0)
        return socket;
    const int64_t result = ask(call->application->port_binder, &request, socket);
    close(socket);
    return result;
}
