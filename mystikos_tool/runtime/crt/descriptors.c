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
#include <sys/sysmacros.h>
#include <unistd.h>

#define NO_EVENTS "/proc/.events" /* a FIFO that nobody writes to, for a moment */
#define LAST_OF_PIPES 2040        /* as recorded: with this descriptor open, there are no more pipes */
#define MAX_WATCHES 4096          /* of all processes */

/* 0 with what fstat says of the caller's descriptor; a negative errno, or MYST_CONTINUE. */
static int64_t examine(const struct myst_call *call, int descriptor, struct stat *status)
{
    const int64_t file = myst_call_open_descriptor(call, descriptor);
    if (file < 0)
        return file;
    const int64_t result = fstat((int)file, status) == 0 ? 0 : MYST_CONTINUE;
    close((int)file);
    return result;
}

/* True of the devices of /dev, which are files there. */
static bool is_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && major(status->st_rdev) == 1;
}

static bool is_file(const struct stat *status)
{
    return S_ISREG(status->st_mode) || S_ISDIR(status->st_mode) || is_device(status);
}

static int64_t synchronize(const struct myst_call *call)
{
    struct stat status;
    const int descriptor = (int)myst_call_argument(call, 0);
    if (examine(call, descriptor, &status) != 0 || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        return MYST_CONTINUE;
    return is_device(&status) && !myst_is_console_at(call, descriptor, &status) ? 0 : -EROFS;
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
        result = myst_is_console_at(call, (int)myst_call_argument(call, 0), &status)
                     ? control_console(call, request)
                     : control_kind(call, (int)file, &status, request);
    close((int)file);
    return result == MYST_CONTINUE && action != MYST_ALLOW ? -action : result;
}

/* A lock keeps nobody off, another descriptor of the same process included. A console has none. */
static int64_t lock(const struct myst_call *call)
{
    struct stat status;
    const int descriptor = (int)myst_call_argument(call, 0);
    const int64_t result = examine(call, descriptor, &status);
    return result == 0 && myst_is_console_at(call, descriptor, &status) ? -ENOTSUP : result;
}

static int64_t size_pipe(const struct myst_call *call)
{
    struct stat status;
    const int descriptor = (int)myst_call_argument(call, 0);
    if (examine(call, descriptor, &status) != 0)
        return MYST_CONTINUE;
    return is_file(&status) || myst_is_console_at(call, descriptor, &status) ? -ENOTSUP : MYST_CONTINUE;
}

/* Of a descriptor that has the least number that is asked for, it is that one. */
static int64_t duplicate(const struct myst_call *call)
{
    const int64_t descriptor = (int64_t)myst_call_argument(call, 0);
    if (descriptor != (int64_t)myst_call_argument(call, 2))
        return MYST_CONTINUE;
    struct stat status;
    const int64_t result = examine(call, (int)descriptor, &status);
    return result != 0 ? result : descriptor;
}

/* A console has no positions. */
static int64_t use_position(const struct myst_call *call)
{
    struct stat status;
    const int descriptor = (int)myst_call_argument(call, 0);
    if (examine(call, descriptor, &status) != 0 || !myst_is_console_at(call, descriptor, &status))
        return MYST_CONTINUE;
    return (int64_t)myst_call_argument(call, 3) < 0 ? -EINVAL : -ENOENT;
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

/* What watch_files gives: the application itself makes no FIFO that has a name. */
static bool is_inotify(const struct stat *status)
{
    struct stat proc;
    return S_ISFIFO(status->st_mode) && stat("/proc", &proc) == 0 && status->st_dev == proc.st_dev;
}

/* True of what has nothing on the host that could be waited for. Standard input is waited for, as it is read. */
static bool never_happens(const struct myst_call *call, int descriptor)
{
    struct stat status;
    if (is_epoll(call, descriptor))
        return true;
    if (examine(call, descriptor, &status) != 0)
        return false;
    const struct myst_file *input = &call->application->given_descriptors[0];
    const bool is_input = input->inode == status.st_ino && input->device == status.st_dev;
    return is_inotify(&status) || (!is_input && myst_is_console_at(call, descriptor, &status));
}

static int64_t add_to_epoll(const struct myst_call *call)
{
    struct epoll_event event;
    if (!is_epoll(call, (int)myst_call_argument(call, 0)))
        return -EBADF;
    if (never_happens(call, (int)myst_call_argument(call, 2)))
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
    const int last = myst_call_take_descriptor(call, LAST_OF_PIPES);
    if (last < 0)
        return MYST_CONTINUE;
    close(last);
    return -EMFILE;
}

/* The paths that are watched, by the descriptor's file. */
static struct watch
{
    uint64_t inode, path; /* a hash; inode 0: free */
} watches[MAX_WATCHES];

static uint64_t hash(const char *text)
{
    uint64_t result = 0xcbf29ce484222325ull; /* FNV-1a */
    for (; *text; text++)
        result = (result ^ (unsigned char)*text) * 0x100000001b3ull;
    return result;
}

/* The watch of the descriptor's that has the path, else the first that is free; or -1. */
static int find_watch(uint64_t inode, uint64_t path)
{
    int found = -1;
    for (int i = MAX_WATCHES; i-- > 0;)
        if (watches[i].inode == inode && watches[i].path == path)
            return i;
        else if (!watches[i].inode)
            found = i;
    return found;
}

/* The inode of the call's first descriptor, or 0 where that is none of inotify's. Without isolation it is the system's,
 * and watches nothing either. */
static uint64_t watching_inode(const struct myst_call *call)
{
    struct stat status;
    if (examine(call, (int)myst_call_argument(call, 0), &status) != 0)
        return 0;
    return !call->application->isolated || is_inotify(&status) ? status.st_ino : 0;
}

/* Whether there is something at the path is not looked at. */
static int64_t add_watch(const struct myst_call *call)
{
    static char path[PATH_MAX];
    const uint64_t inode = watching_inode(call);
    if (!inode)
        return -EBADF;
    if (myst_call_read_path(call, myst_call_argument(call, 1), path) != 0)
        return -EINVAL;
    const uint64_t name = hash(path);
    const int number = find_watch(inode, name);
    if (number < 0)
        return -ENOMEM;
    watches[number] = (struct watch){inode, name};
    myst_note_use(MYST_USE_INOTIFY);
    return MYST_FIRST_WATCH + number;
}

static int64_t remove_watch(const struct myst_call *call)
{
    const int64_t number = (int64_t)(int)myst_call_argument(call, 1) - MYST_FIRST_WATCH;
    if (!watching_inode(call))
        return -EBADF;
    if (number < 0 || number >= MAX_WATCHES || !watches[number].inode)
        return -EINVAL;
    watches[number].inode = 0;
    return 0;
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
        return add_watch(call);
    case SYS_inotify_rm_watch:
        return remove_watch(call);
    case SYS_pipe:
    case SYS_pipe2:
        return make_pipe(call);
    case SYS_getrandom:
        return give_random(call);
    default:
        return MYST_CONTINUE;
    }
}
