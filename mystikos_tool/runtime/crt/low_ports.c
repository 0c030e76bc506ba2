#include "low_ports.h"

#include "../common/port_binder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

union control
{
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static bool send_request(int binder, const struct myst_bind_request *request, int socket)
{
    union control control;
    struct iovec content = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1};
    if (socket >= 0)
    {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof socket), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &socket, sizeof socket);
    }
    return sendmsg(binder, &message, MSG_NOSIGNAL) == sizeof *request;
}

/* `socket`: one to bind, or -1. `made`: gets one that was made. */
static int64_t ask(int binder, const struct myst_bind_request *request, int socket, int *made)
{
    union control control;
    int result;
    struct iovec content = {&result, sizeof result};
    struct msghdr message = {
        .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (!send_request(binder, request, socket) || recvmsg(binder, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof result)
        return -EACCES;
    if (made && CMSG_FIRSTHDR(&message))
        memcpy(made, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *made);
    return -result;
}

static int64_t give(const struct myst_call *call, int made)
{
    struct seccomp_notif_addfd addition = {.id = call->notification.id,
                                           .srcfd = (uint32_t)made,
                                           .newfd_flags = myst_call_argument(call, 1) & SOCK_CLOEXEC ? O_CLOEXEC : 0};
    const int number = ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addition);
    return number < 0 ? -errno : number;
}

/* For a caller who may: the network is the machine's. */
static int64_t make_raw_socket(const struct myst_call *call)
{
    int made = -1;
    const struct myst_bind_request request = {.family = (int)myst_call_argument(call, 0),
                                              .type = (int)myst_call_argument(call, 1),
                                              .protocol = (int)myst_call_argument(call, 2)};
    if (!myst_is_raw_socket(request.family, request.type))
        return MYST_CONTINUE;
    const int64_t result = ask(call->application->port_binder, &request, -1, &made);
    if (made < 0)
        return result == 0 ? -EPERM : result;
    const int64_t number = give(call, made);
    close(made);
    return number;
}

int64_t myst_serve_low_ports(const struct myst_call *call)
{
    struct myst_bind_request request;
    const uint64_t size = myst_call_argument(call, 2);
    if (call->application->port_binder < 0)
        return MYST_CONTINUE;
    if (call->notification.data.nr == SYS_socket)
        return make_raw_socket(call);
    if (call->notification.data.nr != SYS_bind)
        return MYST_CONTINUE;
    memset(&request, 0, sizeof request);
    request.size = size < sizeof request.address ? (uint32_t)size : sizeof request.address;
    if (myst_call_read(call, myst_call_argument(call, 1), &request.address, request.size) != 0 ||
        myst_low_port(&request) == 0)
        return MYST_CONTINUE;
    const int socket = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (socket < 0)
        return socket;
    const int64_t result = ask(call->application->port_binder, &request, socket, NULL);
    close(socket);
    return result;
}
