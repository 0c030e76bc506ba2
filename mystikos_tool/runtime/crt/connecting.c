#include "connecting.h"

#include "../common/error.h"
#include "../common/sizes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 2
#define TOLD_AFTER_MS 1000
#define FORGOTTEN_AFTER_MS 1000

/* A thread whose connect has not returned. */
static struct waiting
{
    int socket; /* -1: free */
    int listener;
    uint64_t call, inode;
    pid_t thread;
    struct sockaddr_un address;
    socklen_t size;
    bool is_connected;   /* else the other side has no room yet for one more that waits */
    int64_t since, seen; /* milliseconds: when it began, and was last known to wait */
} waiting[MYST_MAX_THREADS];

static size_t used; /* entries from here on are free */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* What the system says of the socket (sock_diag(7)); false where it does not. */
static bool ask(uint64_t inode, char *reply, size_t room)
{
    struct
    {
        struct nlmsghdr header;
        struct unix_diag_req request;
    } question = {
        .header = {.nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_UNIX,
                    .udiag_states = UINT32_MAX,
                    .udiag_ino = (uint32_t)inode,
                    .udiag_show = UDIAG_SHOW_PEER,
                    .udiag_cookie = {UINT32_MAX, UINT32_MAX}}};
    const int diagnosis = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diagnosis < 0)
        return false;
    const bool answered = send(diagnosis, &question, sizeof question, 0) == sizeof question &&
                          recv(diagnosis, reply, room, 0) >= (ssize_t)NLMSG_SPACE(sizeof(struct unix_diag_msg));
    close(diagnosis);
    return answered && ((struct nlmsghdr *)(void *)reply)->nlmsg_type == SOCK_DIAG_BY_FAMILY;
}

/* The other side's socket has no inode before it is accepted. True as well where the system does not tell. */
static bool peer_has_inode(uint64_t inode)
{
    char reply[512] __attribute__((aligned(8)));
    if (!ask(inode, reply, sizeof reply))
        return true;
    const struct nlmsghdr *header = (const struct nlmsghdr *)(void *)reply;
    int size = (int)(header->nlmsg_len - NLMSG_SPACE(sizeof(struct unix_diag_msg)));
    struct rtattr *attribute = (struct rtattr *)(void *)(reply + NLMSG_SPACE(sizeof(struct unix_diag_msg)));
    for (; RTA_OK(attribute, size); attribute = RTA_NEXT(attribute, size))
        if (attribute->rta_type == UNIX_DIAG_PEER)
            return *(uint32_t *)RTA_DATA(attribute) != 0;
    return true;
}

/* One that was accepted and closed has hung up. */
static bool is_accepted(const struct waiting *entry)
{
    struct pollfd state = {.fd = entry->socket};
    return (poll(&state, 1, 0) == 1 && state.revents & POLLHUP) || peer_has_inode(entry->inode);
}

/* Without waiting: the flag is the caller's as well, and set for this moment only. 0 or an errno. */
static int connect_now(const struct waiting *entry)
{
    const int flags = fcntl(entry->socket, F_GETFL);
    fcntl(entry->socket, F_SETFL, flags | O_NONBLOCK);
    const int error = connect(entry->socket, (const struct sockaddr *)&entry->address, entry->size) == 0 ? 0 : errno;
    fcntl(entry->socket, F_SETFL, flags);
    return error;
}

/* True when the call has its result. */
static bool advance(struct waiting *entry, int *error)
{
    *error = entry->is_connected ? 0 : connect_now(entry);
    entry->is_connected = *error == 0;
    return *error != EAGAIN && (*error != 0 || is_accepted(entry));
}

/* A thread that was interrupted makes the same call anew. */
static struct waiting *find(pid_t thread, uint64_t inode)
{
    for (size_t i = 0; i < used; i++)
        if (waiting[i].socket >= 0 && waiting[i].thread == thread && waiting[i].inode == inode)
            return &waiting[i];
    return NULL;
}

static struct waiting *find_free(void)
{
    for (size_t i = 0; i < used; i++)
        if (waiting[i].socket < 0)
            return &waiting[i];
    return used < MYST_COUNT(waiting) ? &waiting[used++] : NULL;
}

static void release(struct waiting *entry)
{
    close(entry->socket);
    entry->socket = -1;
    while (used > 0 && waiting[used - 1].socket < 0)
        used--;
}

int64_t myst_connect(const struct myst_call *call, int socket, const struct sockaddr_un *address, socklen_t size)
{
    struct stat status;
    int error = EAGAIN;
    const pid_t thread = myst_call_thread(call);
    struct waiting *entry = fstat(socket, &status) == 0 ? find(thread, status.st_ino) : NULL;
    if (entry)
        close(socket);
    else if ((entry = find_free()))
        *entry = (struct waiting){.socket = socket,
                                  .inode = status.st_ino,
                                  .thread = thread,
                                  .address = *address,
                                  .size = size,
                                  .since = now(),
                                  .seen = now()};
    if (!entry)
    {
        close(socket);
        return -EAGAIN;
    }
    entry->listener = call->listener;
    entry->call = call->notification.id;
    if (!advance(entry, &error))
        return MYST_LATER;
    release(entry);
    return -error;
}

int myst_connections_timeout(void)
{
    return used > 0 ? LOOK_MS : -1;
}

static void tell(const struct waiting *entry)
{
    static bool is_told;
    if (!is_told)
        myst_note("note", "thread %d: connect of a Unix-domain socket waits until it is accepted, as under Mystikos",
                  (int)entry->thread);
    is_told = true;
}

/* A call that is not valid any more was interrupted, and comes again soon or never. */
static void look_at(const struct myst_application *application, struct waiting *entry)
{
    int error;
    if (ioctl(entry->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &entry->call) != 0)
    {
        if (now() - entry->seen > FORGOTTEN_AFTER_MS)
            release(entry);
        return;
    }
    entry->seen = now();
    if (advance(entry, &error))
    {
        struct seccomp_notif_resp response = {.id = entry->call, .error = -error};
        ioctl(entry->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
        release(entry);
    }
    else if (entry->seen - entry->since > TOLD_AFTER_MS && !application->quiet)
        tell(entry);
}

void myst_look_at_connections(const struct myst_application *application)
{
    for (size_t i = 0; i < used; i++)
        if (waiting[i].socket >= 0)
            look_at(application, &waiting[i]);
}
