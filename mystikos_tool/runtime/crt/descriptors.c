#include "descriptors.h"

#include "disguise.h"
#include "notes.h"
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
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

/* What the application was given, and is no terminal, is a console all the same, of 24 lines with 80 columns. */
static int64_t control_console(const struct myst_call *call, unsigned request)
{
    static const struct winsize size = {.ws_row = 24, .ws_col = 80};
    return request == TIOCGWINSZ ? myst_call_write(call, myst_call_argument(call, 2), &size, sizeof size) : -ENOTSUP;
}

static bool is_unix_socket(int file)
{
    int domain;
    socklen_t size = sizeof domain;
    return getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* True of the devices of /dev, which are files there. */
static bool is_file(const struct stat *status)
{
    return S_ISREG(status->st_mode) || S_ISDIR(status->st_mode) ||
           (S_ISCHR(status->st_mode) && major(status->st_rdev) == 1);
}

/* What each kind knows; all others are not supported. */
static int64_t control_kind(const struct myst_call *call, int file, const struct stat *status, unsigned request)
{
    if (S_ISSOCK(status->st_mode))
    {
        const bool is_known = request == FIONBIO || request == FIONREAD;
        return is_known || call->application->host_sockets || !is_unix_socket(file) ? MYST_CONTINUE : -ENOTSUP;
    }
    if (!is_file(status) && !S_ISFIFO(status->st_mode) && (status->st_mode & S_IFMT) != 0)
        return MYST_CONTINUE; /* a terminal */
    switch (request)
    {
    case FIONBIO:
    case FIOCLEX:
    case FIONCLEX:
        return (status->st_mode & S_IFMT) != 0 ? MYST_CONTINUE : -ENOTSUP;
    case TIOCGWINSZ:
        return -EINVAL;
    case TIOCSPTLCK:
    case TIOCGPTN:
    case TCGETS:
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return is_file(status) ? -ENOTTY : -ENOTSUP;
    default:
        return -ENOTSUP;
    }
}

static int64_t control(const struct myst_call *call)
{
    const unsigned request = (unsigned)myst_call_argument(call, 1);
    struct stat status;
    const int action = myst_ioctl_action(request);
    if (action == EPERM)
        return -EPERM;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return file == MYST_CONTINUE && action != MYST_ALLOW ? -action : file;
    int64_t result = MYST_CONTINUE;
    if (fstat((int)file, &status) == 0)
        result = myst_is_console(call, &status) ? control_console(call, request)
                                                : control_kind(call, (int)file, &status, request);
    close((int)file);
    return result == MYST_CONTINUE && action != MYST_ALLOW ? -action : result;
}

/* A lock keeps nobody off, another descriptor of the same process included. */
static int64_t lock(const struct myst_call *call)
{
    const int64_t type = type_of(call, (int)myst_call_argument(call, 0));
    return type < 0 ? type : 0;
}

static int64_t size_pipe(const struct myst_call *call)
{
    const int64_t type = type_of(call, (int)myst_call_argument(call, 0));
    return type == S_IFREG || type == S_IFDIR ? -ENOTSUP : MYST_CONTINUE;
}

/* Of a descriptor that has the least number that is asked for, it is that one. */
static int64_t duplicate(const struct myst_call *call)
{
    const int64_t descriptor = (int64_t)myst_call_argument(call, 0);
    if (descriptor != (int64_t)myst_call_argument(call, 2))
        return MYST_CONTINUE;
    const int64_t type = type_of(call, (int)descriptor);
    return type < 0 ? type : descriptor;
}

/* A console has no positions. */
static int64_t use_position(const struct myst_call *call)
{
    struct stat status;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return MYST_CONTINUE;
    const bool is_console = fstat((int)file, &status) == 0 && myst_is_console(call, &status);
    close((int)file);
    return is_console ? (int64_t)myst_call_argument(call, 3) < 0 ? -EINVAL : -ENOENT : MYST_CONTINUE;
}

static int64_t control_descriptor(const struct myst_call *call)
{
    const int command = (int)myst_call_argument(call, 1);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        return duplicate(call);
    return command == F_SETPIPE_SZ || command == F_GETPIPE_SZ ? size_pipe(call) : lock(call);
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
    if (!is_epoll(call, (int)myst_call_argument(call, 0)))
        return -EBADF;
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
    const int last = myst_call_take_descriptor(call, LAST_OF_PIPES);
    if (last < 0)
        return MYST_CONTINUE;
    close(last);
    return -EMFILE;
}

static int64_t add_watch(void)
{
    myst_note_use(MYST_USE_INOTIFY);
    return MYST_FIRST_WATCH;
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
    case SYS_fcntl:
        return control_descriptor(call);
    case SYS_pread64:
    case SYS_pwrite64:
        return use_position(call);
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
    case SYS_getrandom:
        return give_random(call);
    default:
        return MYST_CONTINUE;
    }
}
