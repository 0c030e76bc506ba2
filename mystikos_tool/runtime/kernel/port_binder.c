#include "port_binder.h"

#include "../common/error.h"
#include "../common/port_binder.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RIGHTS (1u << CAP_NET_BIND_SERVICE | 1u << CAP_NET_RAW)

static struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

/* Those of the rights that the caller has. */
static unsigned rights_of_caller(void)
{
    struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3];
    return syscall(SYS_capget, &header, rights) == 0 ? rights[0].effective & RIGHTS : 0;
}

static void keep_rights(unsigned kept)
{
    struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3];
    memset(rights, 0, sizeof rights);
    rights[0].effective = rights[0].permitted = kept;
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

static int make_it(const struct myst_bind_request *request, int *made)
{
    if (!myst_is_raw_socket(request->family, request->type))
        return EPERM;
    *made = socket(request->family, request->type | SOCK_CLOEXEC, request->protocol);
    return *made >= 0 ? 0 : errno;
}

/* `made`: -1, or a socket that goes with the answer. */
static bool answer(int channel, int result, int made)
{
    union
    {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof made)];
    } control;
    struct iovec content = {&result, sizeof result};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1};
    if (made >= 0)
    {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof made), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &made, sizeof made);
    }
    return sendmsg(channel, &message, MSG_NOSIGNAL) == sizeof result;
}

__attribute__((noreturn)) static void serve(int channel)
{
    struct myst_bind_request request;
    int given;
    while (receive(channel, &request, &given))
    {
        int made = -1;
        const int result = request.size == 0 ? make_it(&request, &made) : given < 0 ? EBADF : bind_it(given, &request);
        const bool answered = answer(channel, result, made);
        if (given >= 0)
            close(given);
        if (made >= 0)
            close(made);
        if (!answered)
            break;
    }
    _exit(0);
}

int myst_start_port_binder(void)
{
    int sockets[2];
    sigset_t all, before;
    const unsigned rights = rights_of_caller();
    if (!rights)
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        myst_refuse_errno("cannot make a pair of sockets");
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t outer = getpid(), pid = fork();
    if (pid < 0)
        myst_refuse_errno("cannot start a process");
    if (pid == 0)
    {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != outer || dup2(sockets[1], 0) != 0 ||
            syscall(SYS_close_range, 1u, ~0u, 0u) != 0 || chdir("/") != 0)
            _exit(MYST_EXIT_REFUSED);
        keep_rights(rights);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        serve(0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(sockets[1]);
    return sockets[0];
}
