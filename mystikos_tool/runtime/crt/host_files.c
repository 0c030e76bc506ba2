#include "host_files.h"

#include "../common/sizes.h"
#include "disguise.h"
#include "own_files.h"
#include "ownership.h"
#include "positions.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SYS_FCHMODAT2 452

/* True of what the caller gave as one of `files`, by whatever number it is now. */
static bool is_one_of(const struct myst_file files[3], int file)
{
    struct stat status;
    if (fstat(file, &status) != 0)
        return false;
    for (size_t i = 0; i < 3; i++)
    {
        const struct myst_file *given = &files[i];
        if (given->inode && given->inode == status.st_ino && given->device == status.st_dev)
            return true;
    }
    return false;
}

static bool is_given(const struct myst_call *call, int file)
{
    return is_one_of(call->application->given_files, file);
}

bool myst_keeps_content(const struct myst_call *call, int file)
{
    return (fcntl(file, F_GETFL) & O_APPEND) && is_given(call, file);
}

static bool is_on_device_of(int file, const char *directory)
{
    struct stat status, own;
    return fstat(file, &status) == 0 && stat(directory, &own) == 0 && status.st_dev == own.st_dev;
}

bool myst_may_have_mode(int parent, unsigned mode)
{
    return !(mode & (S_ISUID | S_ISGID)) || is_on_device_of(parent, "/") || is_on_device_of(parent, "/dev/shm");
}

/* Where the machine lets nobody take a descriptor, as some containers do: a look at the file, and the system goes on.
 */
static int64_t look_at(const struct myst_call *call, int error)
{
    if (error != -EPERM && error != -ENOSYS)
        return error;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return file;
    const bool given = is_given(call, (int)file);
    close((int)file);
    return given ? -EPERM : MYST_CONTINUE;
}

/* Of a file in memory, flags are only ever added. */
static int flags_of(int file, int wanted)
{
    struct stat status;
    const bool adds = fstat(file, &status) == 0 && myst_is_in_memory(&status);
    return adds ? wanted | (fcntl(file, F_GETFL) & (O_APPEND | O_NONBLOCK)) : wanted;
}

/* Of the call's first descriptor, which `file` is. */
static bool is_console(const struct myst_call *call, int file)
{
    struct stat status;
    return !call->application->as_linux && fstat(file, &status) == 0 &&
           myst_is_console_at(call, (int)myst_call_argument(call, 0), &status);
}

/* What is done by this process is done to the file that was looked at, whatever the caller has by that number then. */
static int64_t change_flags(const struct myst_call *call)
{
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return look_at(call, file);
    const int flags = (int)myst_call_argument(call, 2);
    const int64_t result = is_console(call, file)           ? -ENOTSUP
                           : myst_keeps_content(call, file) ? -EPERM
                           : fcntl(file, F_SETFL, call->application->as_linux ? flags : flags_of(file, flags)) == 0
                               ? 0
                               : -errno;
    close(file);
    return result;
}

/* What the descriptor of what is no file says, or 0. */
static int64_t refuse_to_truncate(const struct myst_call *call, int file)
{
    struct stat status;
    if (call->application->as_linux || fstat(file, &status) != 0)
        return 0;
    return S_ISDIR(status.st_mode) ? -EISDIR : myst_is_in_file_system(call, &status) ? 0 : -EBADF;
}

static int64_t truncate_file(const struct myst_call *call)
{
    const int file = myst_call_take_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return look_at(call, file);
    const int64_t refused = refuse_to_truncate(call, file);
    const int64_t result = refused                                                               ? refused
                           : is_given(call, file)                                                ? -EPERM
                           : myst_is_too_large(call, file, (int64_t)myst_call_argument(call, 1)) ? -ENOMEM
                           : ftruncate(file, (off_t)myst_call_argument(call, 1)) == 0            ? 0
                                                                                                 : -errno;
    close(file);
    return result;
}

/* fchmodat2 takes what is not open to be read or written, and is much faster than a path; from Linux 6.6 on. */
int myst_set_mode(int file, unsigned mode)
{
    char path[MYST_OWN_PATH];
    return syscall(SYS_FCHMODAT2, file, "", mode, AT_EMPTY_PATH) == 0 ? 0 : chmod(myst_own_path(file, path), mode);
}

/* User 0, and the owner. */
static bool may_set_mode(const struct myst_call *call, int file)
{
    struct stat status;
    const uint32_t user = myst_caller_user(call).effective;
    if (user == 0 || call->application->as_linux)
        return true;
    if (fstat(file, &status) != 0)
        return false;
    myst_apply_owner(&status);
    return status.st_uid == user;
}

static int64_t set_mode(const struct myst_call *call, int64_t file, unsigned mode)
{
    if (file < 0)
        return file;
    const bool is_of_host = is_one_of(call->application->given_descriptors, (int)file);
    const bool allowed = !is_of_host && may_set_mode(call, (int)file) && myst_may_have_mode((int)file, mode);
    const int64_t result = !allowed ? -EPERM : myst_set_mode((int)file, mode) == 0 ? 0 : -errno;
    close((int)file);
    return result;
}

/* The file that a path leads to; -EPERM where it does over a descriptor in another way than by its number. */
static int64_t open_path(const struct myst_call *call, int directory, int path_argument, unsigned flags)
{
    static char path[PATH_MAX];
    const int64_t result = myst_call_read_path(call, myst_call_argument(call, path_argument), path);
    if (result != 0)
        return result;
    int descriptor;
    char end;
    if (sscanf(path, "/proc/self/fd/%d%c", &descriptor, &end) == 1)
        return myst_call_open_descriptor(call, descriptor);
    if (strncmp(path, "/proc", 5) == 0)
        return -EPERM; /* where the descriptors are */
    const int64_t file = myst_call_open(call, directory, path, flags);
    return file == MYST_CONTINUE ? -EPERM : file; /* a link to a descriptor */
}

/* Of what has no name in a file system, a socket alone has a mode. */
static bool has_mode(const struct myst_call *call, int file)
{
    struct stat status;
    return call->application->as_linux || fstat(file, &status) != 0 || S_ISSOCK(status.st_mode) ||
           myst_is_in_file_system(call, &status);
}

static int64_t set_mode_of_descriptor(const struct myst_call *call)
{
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0 || has_mode(call, (int)file))
        return set_mode(call, file, (unsigned)myst_call_argument(call, 1));
    close((int)file);
    return -ENOTSUP;
}

static int64_t set_mode_of_path(const struct myst_call *call, int directory, int path_argument)
{
    return set_mode(call, open_path(call, directory, path_argument, 0),
                    (unsigned)myst_call_argument(call, path_argument + 1));
}

/* 1 with both times, 0 where they are to be those of now; or a negative errno. utime has them in seconds, utimes and
 * futimesat in microseconds. */
static int64_t read_times(const struct myst_call *call, int argument, struct timespec times[2])
{
    int64_t given[4];
    const int number = call->notification.data.nr;
    const bool seconds = number == SYS_utime;
    const uint64_t address = myst_call_argument(call, argument);
    const int64_t result = address ? myst_call_read(call, address, given, seconds ? 16 : 32) : 0;
    if (!address || result != 0)
        return result;
    for (int i = 0; i < 2; i++)
        times[i] = seconds ? (struct timespec){.tv_sec = given[i]}
                           : (struct timespec){.tv_sec = given[2 * i], .tv_nsec = given[2 * i + 1]};
    for (int i = 0; i < 2 && !seconds && number != SYS_utimensat; i++)
    {
        if (times[i].tv_nsec < 0 || times[i].tv_nsec >= 1000000)
            return -EINVAL;
        times[i].tv_nsec *= 1000;
    }
    return 1;
}

/* Of a file in memory, the time of its last change is set to that of now alone; one that is told is the time of its
 * last use. */
static void change_times(const struct myst_call *call, int file, struct timespec times[2])
{
    struct stat status;
    const bool is_now = times[1].tv_nsec == UTIME_NOW, stays = times[1].tv_nsec == UTIME_OMIT;
    if (is_now || stays || call->application->as_linux || fstat(file, &status) != 0 || !myst_is_in_tmpfs(&status))
        return;
    times[0] = times[1];
    times[1].tv_nsec = UTIME_OMIT;
}

static int64_t set_times(const struct myst_call *call, int64_t file, int argument)
{
    struct timespec times[2];
    struct stat status;
    if (file < 0)
        return file == MYST_CONTINUE ? -EPERM : file;
    int64_t result = read_times(call, argument, times);
    if (result >= 0 && !call->application->as_linux && fstat((int)file, &status) == 0)
        result = S_ISLNK(status.st_mode)                  ? -ELOOP /* it is opened for that */
                 : !myst_is_in_file_system(call, &status) ? -EBADF
                                                          : result;
    if (result >= 0 && is_one_of(call->application->given_descriptors, (int)file))
        result = -EPERM;
    if (result == 1)
        change_times(call, (int)file, times);
    if (result >= 0)
        result = syscall(SYS_utimensat, (int)file, "", result ? times : NULL, AT_EMPTY_PATH) == 0 ? 0 : -errno;
    close((int)file);
    return result;
}

/* A path that is no pointer names the descriptor. */
static int64_t set_times_at(const struct myst_call *call, unsigned flags)
{
    const int directory = (int)myst_call_argument(call, 0);
    if (flags & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (myst_call_argument(call, 1))
        return set_times(call, open_path(call, directory, 1, flags), 2);
    return directory == AT_FDCWD ? -EFAULT : set_times(call, myst_call_open_descriptor(call, directory), 2);
}

int64_t myst_serve_host_files(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    if (!call->application->isolated)
        return MYST_CONTINUE; /* where all of the caller's files are in reach */
    switch (call->notification.data.nr)
    {
    case SYS_fcntl:
        return (int)a[1] == F_SETFL ? change_flags(call) : MYST_CONTINUE;
    case SYS_ftruncate:
        return truncate_file(call);
    case SYS_chmod:
        return set_mode_of_path(call, AT_FDCWD, 0);
    case SYS_fchmodat:
        return set_mode_of_path(call, (int)a[0], 1);
    case SYS_fchmod:
        return set_mode_of_descriptor(call);
    case SYS_utime:
    case SYS_utimes:
        return set_times(call, open_path(call, AT_FDCWD, 0, 0), 1);
    case SYS_utimensat:
        return set_times_at(call, (unsigned)a[3]);
    case SYS_futimesat:
        return set_times_at(call, 0);
    default:
        return MYST_CONTINUE;
    }
}
