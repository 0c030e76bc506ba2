#include "opening.h"

#include "disguise.h"
#include "notes.h"
#include "own_files.h"
#include "proc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What F_GETFL tells; other flags are not kept. */
#define TOLD_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK)

/* A directory may be opened to be written to, and is open to be read then. */
static int64_t give_directory(const struct myst_call *call, int directory, int flags)
{
    const int file = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return errno == EACCES ? -EPERM : -errno;
    return myst_call_give(call, file, flags & O_CLOEXEC);
}

/* The rights of the owner, who is user 0. Others' files are judged by the system. */
static bool is_forbidden(const struct stat *status, int flags)
{
    static uid_t own = (uid_t)-1;
    const int access = flags & O_ACCMODE;
    own = own == (uid_t)-1 ? geteuid() : own;
    mode_t needed = access != O_WRONLY ? S_IRUSR : 0;
    if (access != O_RDONLY || (flags & O_TRUNC))
        needed |= S_IWUSR;
    return status->st_uid == own && (status->st_mode & needed) != needed;
}

enum judgement
{
    SYSTEM_OPENS,
    IS_FORBIDDEN,
    DIRECTORY_OPENS,
};

static enum judgement judge(const struct stat *status, int flags)
{
    if ((flags & O_PATH) || ((flags & O_CREAT) && (flags & O_EXCL)))
        return SYSTEM_OPENS;
    if (S_ISDIR(status->st_mode) && (flags & (O_ACCMODE | O_CREAT)))
        return DIRECTORY_OPENS;
    const bool has_rights = S_ISDIR(status->st_mode) || S_ISREG(status->st_mode);
    return has_rights && is_forbidden(status, flags) ? IS_FORBIDDEN : SYSTEM_OPENS;
}

static int64_t open_as_judged(const struct myst_call *call, int file, int flags)
{
    struct stat status;
    const enum judgement judgement = fstat(file, &status) == 0 ? judge(&status, flags) : SYSTEM_OPENS;
    return judgement == DIRECTORY_OPENS ? give_directory(call, file, flags)
           : judgement == IS_FORBIDDEN  ? -EPERM
                                        : MYST_CONTINUE;
}

/* As most files are. */
static bool is_ordinary(const struct myst_call *call, int directory, const char *path, int flags)
{
    struct stat status;
    const int64_t result = myst_call_look(call, directory, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, &status);
    return result == 0 ? judge(&status, flags) == SYSTEM_OPENS : result == -ENOENT && !(flags & O_CREAT);
}

static int64_t open_file(const struct myst_call *call, int directory, int path_argument, int flags)
{
    static char path[PATH_MAX];
    if (myst_call_read_path(call, myst_call_argument(call, path_argument), path) != 0)
        return MYST_CONTINUE;
    const int64_t content = myst_open_proc_file(call, path, flags);
    if (content != MYST_CONTINUE)
        return content;
    if (is_ordinary(call, directory, path, flags))
        return MYST_CONTINUE;
    const int64_t file = myst_call_open(call, directory, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
    const size_t length = strlen(path);
    if (call->application->isolated && (*path == '/' || directory == AT_FDCWD) &&
        (file == -ENOTDIR || (file == MYST_CONTINUE && myst_call_loops(call, directory, path))))
        return MYST_CRASHES; /* below a file, or where links lead in a circle */
    if (file == -ENOENT && (flags & O_CREAT) && length && path[length - 1] == '/')
        return -ENOENT;
    if (file < 0)
        return MYST_CONTINUE;
    const int64_t result = open_as_judged(call, (int)file, flags);
    close((int)file);
    return result;
}

/* User 0 makes a file shorter whatever its mode is. */
static int64_t truncate_file(const struct myst_call *call)
{
    static char path[PATH_MAX];
    char link[MYST_OWN_PATH];
    struct stat status;
    if (myst_call_read_path(call, myst_call_argument(call, 0), path) != 0)
        return MYST_CONTINUE;
    const int64_t file = myst_call_open(call, AT_FDCWD, path, 0);
    if (file < 0)
        return MYST_CONTINUE;
    myst_own_path((int)file, link);
    int64_t result = MYST_CONTINUE;
    if (fstat((int)file, &status) == 0 && S_ISREG(status.st_mode) && !(status.st_mode & S_IWUSR) &&
        chmod(link, (status.st_mode & 07777) | S_IWUSR) == 0)
    {
        result = truncate(link, (off_t)myst_call_argument(call, 1)) == 0 ? 0 : -errno;
        chmod(link, status.st_mode & 07777);
    }
    close((int)file);
    return result;
}

static int64_t tell_flags(const struct myst_call *call)
{
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return MYST_CONTINUE;
    struct stat status;
    const int flags = fcntl(file, F_GETFL);
    const bool is_console =
        fstat(file, &status) == 0 && myst_is_console_at(call, (int)myst_call_argument(call, 0), &status);
    close(file);
    if (is_console)
        myst_note_use(MYST_USE_CONSOLE_FLAGS);
    return is_console ? -ENOTSUP : flags & O_PATH ? MYST_CONTINUE : flags & TOLD_FLAGS;
}

int64_t myst_serve_opening(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    switch (call->notification.data.nr)
    {
    case SYS_open:
        return open_file(call, AT_FDCWD, 0, (int)a[1]);
    case SYS_openat:
        return open_file(call, (int)a[0], 1, (int)a[2]);
    case SYS_creat:
        return open_file(call, AT_FDCWD, 0, O_CREAT | O_WRONLY | O_TRUNC);
    case SYS_truncate:
        return truncate_file(call);
    case SYS_fcntl:
        return (int)a[1] == F_GETFL ? tell_flags(call) : MYST_CONTINUE;
    default:
        return MYST_CONTINUE;
    }
}
