#include "port_binder.h"

#include "../common/error.h"
#include "../common/port_binder.h"
#include "helper.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHANNEL 0 /* the process's one descriptor */
#define RIGHT (1u << CAP_NET_BIND_SERVICE)

static struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

static bool may_bind(void)
{
    struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3];
    return syscall(SYS_capget, &header, rights) == 0 && (rights[0].effective & RIGHT);
}

static void keep_one_right(void)
{
    struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3];
    memset(rights, 0, sizeof rights);
    rights[0].effective = rights[0].permitted = RIGHT;
    if (syscall(SYS_capset, &header, rights) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        _exit(MYST_EXIT_REFUSED);
}

/* The request, and the socket that came with it or -1. False at the end. */
static bool receive(int channel, struct myst_bind_request *request, int *socket)
{
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec content = {request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const ssize_t size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    *socket = -1;
    if (size == sizeof *request && CMSG_FIRSTHDR(&message))
        memcpy(socket, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *socket);
    return size == sizeof *request;
}

static int bind_it(int socket, const struct myst_bind_request *request)
{
    if (myst_low_port(request) == 0)
        return EACCES;
    return bind(socket, &request->address.any, request->size) == 0 ? 0 : errno;
}

static void become_binder(int channel, void *nothing)
{
    struct myst_bind_request request;
    int socket;
    (void)nothing;
    myst_keep_descriptors(&channel, 1);
    if (chdir("/") != 0)
        return;
    keep_one_right();
    while (receive(CHANNEL, &request, &socket))
    {
        const int result = socket < 0 ? EBADF : bind_it(socket, &request);
        if (socket >= 0)
            close(socket);
        if (send(CHANNEL, &result, sizeof result, MSG_NOSIGNAL) != sizeof result)
            break;
    }
    _exit(0);
}

int myst_start_port_binder(void)
{
    return may_bind() ? myst_start_helper_with_socket(SOCK_SEQPACKET, become_binder, NULL) : -1;
}
