#include "descriptors.h"

#include "disguise.h"
#include "notes.h"
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define NO_EVENTS "/proc/.events" /* a FIFO that nobody writes to, for a moment */
#define LAST_OF_PIPES 2040        /* as recorded: with this descriptor open, there are no more pipes */

/* The type of the caller's descriptor, as in st_mode; a negative errno, or MYST_CONTINUE. */
static int64_t type_of(const struct myst_call *call, int descriptor)
{
    struct stat status;
    const int64_t file = myst_call_open_descriptor(call, descriptor);
    if (file < 0)
        return file;
    const int64_t result = fstat((int)file, &status) == 0 ? (int64_t)(status.st_mode & S_IFMT) : MYST_CONTINUE;
    close((int)file);
    return result;
}

static int64_t synchronize(const struct myst_call *call)
{
    const int64_t type = type_of(call, (int)myst_call_argument(call, 0));
    if (type < 0 || type == S_IFREG || type == S_IFDIR)
        return MYST_CONTINUE;
    return -EROFS;
}

static int64_t count_readable(const struct myst_call *call)
{
    return type_of(call, (int)myst_call_argument(call, 0)) == S_IFIFO ? -ENOTSUP : MYST_CONTINUE;
}

/* What the application was given, and is no terminal, is a console all the same, of 24 lines with 80 columns. */
static int64_t control(const struct myst_call *call)
{
    static const struct winsize size = {.ws_row = 24, .ws_col = 80};
    const int descriptor = (int)myst_call_argument(call, 0);
    const unsigned request = (unsigned)myst_call_argument(call, 1);
    struct stat status;
    if (myst_ioctl_action(request) != MYST_ALLOW)
        return -myst_ioctl_action(request);
    const int64_t file = descriptor <= 2 ? myst_call_open_descriptor(call, descriptor) : MYST_CONTINUE;
    const bool is_console = file >= 0 && fstat((int)file, &status) == 0 && myst_is_console(call, &status);
    if (file >= 0)
        close((int)file);
    if (is_console)
        return request == TIOCGWINSZ ? myst_call_write(call, myst_call_argument(call, 2), &size, sizeof size)
                                     : -ENOTSUP;
    return request == FIONREAD ? count_readable(call) : MYST_CONTINUE;
}

/* A lock keeps nobody off, another descriptor of the same process included. */
static int64_t lock(const struct myst_call *call)
{
    const int64_t type = type_of(call, (int)myst_call_argument(call, 0));
    return type < 0 ? type : 0;
}

static bool is_epoll(const struct myst_call *call, int descriptor)
{
    static const char name[] = "anon_inode:[eventpoll]";
    char path[64], target[sizeof name];
    if (call->application->proc < 0)
        return false;
    snprintf(path, sizeof path, "%d/fd/%d", (int)myst_call_thread(call), descriptor);
    return readlinkat(call->application->proc, path, target, sizeof target) == sizeof name - 1 &&
           memcmp(target, name, sizeof name - 1) == 0;
}

static int64_t add_to_epoll(const struct myst_call *call)
{
    struct epoll_event event;
    if (is_epoll(call, (int)myst_call_argument(call, 2)))
        return -EINVAL;
    if (myst_call_read(call, myst_call_argument(call, 3), &event, sizeof event) == 0 && (event.events & EPOLLET))
        myst_note_use(MYST_USE_EDGE_TRIGGER);
    return MYST_CONTINUE;
}

/* What no event is ever read from: reading finds the end, and poll nothing. */
static int64_t watch_files(const struct myst_call *call)
{
    const uint64_t flags = call->notification.data.nr == SYS_inotify_init1 ? myst_call_argument(call, 0) : 0;
    if (!call->application->isolated || (flags & ~(uint64_t)(IN_CLOEXEC | IN_NONBLOCK)) || mkfifo(NO_EVENTS, 0600) != 0)
        return MYST_CONTINUE;
    const int events = open(NO_EVENTS, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    unlink(NO_EVENTS);
    return events < 0 ? MYST_CONTINUE : myst_call_give(call, events, flags & IN_CLOEXEC);
}

static int64_t make_pipe(const struct myst_call *call)
{
    char path[32];
    snprintf(path, sizeof path, "%d/fd/%d", (int)myst_call_thread(call), LAST_OF_PIPES);
    return faccessat(call->application->proc, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -EMFILE : MYST_CONTINUE;
}

static int64_t add_watch(void)
{
    myst_note_use(MYST_USE_INOTIFY);
    return MYST_FIRST_WATCH;
}

static bool is_unix_socket(const struct myst_call *call, int *socket)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    *socket = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    return *socket >= 0 && getsockopt(*socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* True of a path in memory: what is of the host is on a device, or in memory of its own. */
static bool is_in_enclave(const struct myst_call *call, char *path)
{
    struct stat status;
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, ".");
    const int64_t directory = myst_call_open(call, AT_FDCWD, path, 0);
    if (directory < 0)
        return true;
    const bool result = fstat((int)directory, &status) == 0 && myst_is_in_memory(&status);
    close((int)directory);
    return result;
}

/* A socket that is not there refuses. With HostUDS, all that have a path are the host's. */
static int64_t reach(const struct myst_call *call)
{
    struct sockaddr_un address;
    char path[sizeof address.sun_path + 2] = "";
    const uint64_t size = myst_call_argument(call, 2);
    const bool connects = call->notification.data.nr == SYS_connect;
    memset(&address, 0, sizeof address);
    if (myst_call_read(call, myst_call_argument(call, 1), &address, size < sizeof address ? size : sizeof address) !=
            0 ||
        address.sun_family != AF_UNIX)
        return MYST_CONTINUE;
    if (!connects)
        myst_note_use(MYST_USE_UNIX_SOCKET);
    if (!address.sun_path[0])
        return MYST_CONTINUE;
    memcpy(path, address.sun_path, sizeof address.sun_path);
    const int64_t file = connects ? myst_call_open(call, AT_FDCWD, path, 0) : 0;
    if (connects && file >= 0)
        close((int)file);
    if (call->application->host_sockets && is_in_enclave(call, path))
        return -ENOTSUP;
    return file == -ENOENT ? -ECONNREFUSED : MYST_CONTINUE;
}

/* A socket that does not listen: -1 to a C library that takes an int for the result, and no errno. */
static int64_t accept_from(const struct myst_call *call)
{
    int socket, listens = 1;
    socklen_t size = sizeof listens;
    const bool is_unix = is_unix_socket(call, &socket);
    if (socket >= 0)
    {
        getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
        close(socket);
    }
    return is_unix && !listens ? (int64_t)UINT32_MAX : MYST_CONTINUE;
}

/* No flag is known for Unix-domain sockets, and an address is not taken where it could be connected to. */
static int64_t transfer(const struct myst_call *call, int error)
{
    int socket;
    const bool is_unix = is_unix_socket(call, &socket);
    if (socket >= 0)
        close(socket);
    return is_unix ? -error : MYST_CONTINUE;
}

static int64_t tell_peer(const struct myst_call *call)
{
    if ((int)myst_call_argument(call, 0) < 0)
        return -EBADF;
    if (call->application->host_sockets)
        return MYST_CONTINUE;
    return (int)myst_call_argument(call, 2) == SO_PEERCRED ? -ENOTSUP : transfer(call, ENOTSUP);
}

static int64_t make_pair(const struct myst_call *call)
{
    if ((int)myst_call_argument(call, 0) == AF_UNIX)
        myst_note_use(MYST_USE_UNIX_SOCKET);
    return MYST_CONTINUE;
}

/* With flags that Linux does not know. */
static int64_t give_random(const struct myst_call *call)
{
    char bytes[256];
    const uint64_t asked = myst_call_argument(call, 1), size = asked < sizeof bytes ? asked : sizeof bytes;
    if (getrandom(bytes, size, 0) != (ssize_t)size)
        return -EAGAIN;
    const int64_t result = myst_call_write(call, myst_call_argument(call, 0), bytes, size);
    return result != 0 ? result : (int64_t)size;
}

int64_t myst_serve_descriptors(const struct myst_call *call)
{
    switch (call->notification.data.nr)
    {
    case SYS_fsync:
    case SYS_fdatasync:
        return synchronize(call);
    case SYS_ioctl:
        return control(call);
    case SYS_flock:
    case SYS_fcntl:
        return lock(call);
    case SYS_epoll_ctl:
        return add_to_epoll(call);
    case SYS_inotify_init:
    case SYS_inotify_init1:
        return watch_files(call);
    case SYS_inotify_add_watch:
        return add_watch();
    case SYS_pipe:
    case SYS_pipe2:
        return make_pipe(call);
    case SYS_bind:
    case SYS_connect:
        return reach(call);
    case SYS_accept:
    case SYS_accept4:
        return accept_from(call);
    case SYS_recvfrom:
        return call->application->host_sockets ? MYST_CONTINUE : transfer(call, ENOTSUP);
    case SYS_sendto:
        return transfer(call, ENOTCONN);
    case SYS_getsockopt:
        return tell_peer(call);
    case SYS_socketpair:
        return make_pair(call);
    case SYS_getrandom:
        return give_random(call);
    default:
        return MYST_CONTINUE;
    }
}
