#include "owners.h"

#include "disguise.h"
#include "executables.h"
#include "first_argument.h"
#include "host_files.h"
#include "own_files.h"
#include "ownership.h"
#include "processes.h"
#include "program.h"
#include "redirect.h"
#include "scripts.h"
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NO_CHANGE UINT32_MAX

/* For every new file of a process that is another user: tells whether it has to be remembered. */
static void remember_as_callers(const struct myst_call *call, const struct stat *status)
{
    myst_remember_owner(status, myst_caller_user(call).file_system, myst_caller_group(call).file_system);
}

/* What stat of the system says, with the owner inside. */
static int64_t look_at(int file, struct stat *status)
{
    if (syscall(SYS_newfstatat, file, "", status, AT_EMPTY_PATH) != 0)
        return -errno;
    myst_apply_owner(status);
    return 0;
}

static int64_t examine(int64_t file, struct stat *status)
{
    if (file < 0)
        return file;
    const int64_t result = look_at((int)file, status);
    close((int)file);
    return result;
}

/* A file as a call names it. */
struct named
{
    int directory;
    char path[PATH_MAX];
};

static int64_t name(const struct myst_call *call, int directory, int path_argument, struct named *named)
{
    named->directory = directory;
    const int64_t result = myst_call_read_path(call, myst_call_argument(call, path_argument), named->path);
    return result == -EPERM ? MYST_CONTINUE : result;
}

static int64_t open_named(const struct myst_call *call, int directory, int path_argument, unsigned flags)
{
    static struct named named;
    const int64_t result = name(call, directory, path_argument, &named);
    return result != 0 ? result : myst_call_open(call, named.directory, named.path, flags);
}

static int64_t show(const struct myst_call *call, int64_t file, int to_argument)
{
    struct stat status;
    const int64_t result = examine(file, &status);
    if (result == 0)
        myst_disguise(call, &status);
    if (result == 0 && !myst_call_argument(call, to_argument))
        return -EINVAL;
    return result != 0 ? result : myst_call_write(call, myst_call_argument(call, to_argument), &status, sizeof status);
}

/* A caller who is not root outside cannot set the mode that Mystikos gives /proc. */
static int64_t show_proc(const struct myst_call *call, int to_argument)
{
    struct stat status;
    if (stat("/proc", &status) != 0)
        return MYST_CONTINUE;
    status.st_mode |= 0777;
    return myst_call_write(call, myst_call_argument(call, to_argument), &status, sizeof status);
}

static bool names_proc(const struct myst_call *call, int path_argument)
{
    static struct named named;
    return call->application->isolated && name(call, AT_FDCWD, path_argument, &named) == 0 &&
           strcmp(named.path, "/proc") == 0;
}

/* With AT_EMPTY_PATH, a path from a descriptor on is not looked at. */
static int64_t open_at(const struct myst_call *call)
{
    static struct named named;
    const int directory = (int)myst_call_argument(call, 0);
    const unsigned flags = (unsigned)myst_call_argument(call, 3);
    const int64_t result = myst_call_argument(call, 1) ? name(call, directory, 1, &named) : 0;
    if (result != 0)
        return result;
    if (!myst_call_argument(call, 1))
        return myst_call_open_descriptor(call, directory);
    if ((flags & AT_EMPTY_PATH) && *named.path != '/' && directory != AT_FDCWD)
        return myst_call_open_descriptor(call, directory);
    return myst_call_open(call, directory, named.path, flags);
}

static int64_t serve_stat(const struct myst_call *call)
{
    const int path_argument = call->notification.data.nr == SYS_newfstatat;
    if (call->notification.data.nr != SYS_fstat && names_proc(call, path_argument))
        return show_proc(call, path_argument + 1);
    switch (call->notification.data.nr)
    {
    case SYS_stat:
        return show(call, open_named(call, AT_FDCWD, 0, 0), 1);
    case SYS_lstat:
        return show(call, open_named(call, AT_FDCWD, 0, AT_SYMLINK_NOFOLLOW), 1);
    case SYS_fstat:
        return show(call, myst_call_open_descriptor(call, (int)myst_call_argument(call, 0)), 1);
    default:
        return show(call, open_at(call), 2);
    }
}

/* As in Mystikos: user 0 sets both ids as it likes; an owner may give the file to a group of its own. */
static bool may_change(const struct myst_call *call, const struct stat *status, uint32_t user, uint32_t group)
{
    const struct myst_user caller = myst_caller_user(call);
    if (caller.effective == 0)
        return true;
    return status->st_uid == caller.effective && (user == NO_CHANGE || user == status->st_uid) &&
           (group == NO_CHANGE || myst_caller_is_in_group(call, group));
}

/* A program that is given away loses its set-id bits. */
static void take_set_id_away(int file, mode_t mode)
{
    mode_t kept = mode & 07777;
    if (mode & 0111)
        kept &= ~(mode_t)(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
    if (kept != (mode & 07777))
        myst_set_mode(file, kept);
}

static int64_t change_owner(const struct myst_call *call, int file, int first_argument)
{
    struct stat status;
    const int64_t result = look_at(file, &status);
    const uint32_t user = (uint32_t)myst_call_argument(call, first_argument),
                   group = (uint32_t)myst_call_argument(call, first_argument + 1);
    if (result != 0)
        return result;
    if (call->notification.data.nr == SYS_fchown && !myst_is_in_file_system(call, &status))
        return -EBADF;
    if (!may_change(call, &status, user, group))
        return -EPERM;
    const uint32_t new_user = user == NO_CHANGE ? status.st_uid : user,
                   new_group = group == NO_CHANGE ? status.st_gid : group;
    if (myst_is_in_tmpfs(&status))
        take_set_id_away(file, status.st_mode);
    return new_user == status.st_uid && new_group == status.st_gid ? 0
                                                                   : myst_remember_owner(&status, new_user, new_group);
}

static int64_t change(const struct myst_call *call, int64_t file, int first_argument)
{
    if (file < 0)
        return file;
    const int64_t result = change_owner(call, (int)file, first_argument);
    close((int)file);
    return result;
}

static int64_t serve_chown(const struct myst_call *call)
{
    if (call->notification.data.nr == SYS_fchownat &&
        ((unsigned)myst_call_argument(call, 4) & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
        return -EINVAL;
    switch (call->notification.data.nr)
    {
    case SYS_chown:
        return change(call, open_named(call, AT_FDCWD, 0, 0), 1);
    case SYS_lchown:
        return change(call, open_named(call, AT_FDCWD, 0, AT_SYMLINK_NOFOLLOW), 1);
    case SYS_fchown:
        return change(call, myst_call_open_descriptor(call, (int)myst_call_argument(call, 0)), 1);
    default:
        return change(call,
                      open_named(call, (int)myst_call_argument(call, 0), 1, (unsigned)myst_call_argument(call, 4)), 2);
    }
}

/* A new file or directory that the caller asks for. */
struct creation
{
    struct named named;
    int flags;
    mode_t mode;
    const char *last; /* component of the path */
    int parent;
    bool is_directory;
};

/* Splits the path: leaves out what ends a directory's, and returns that of the directory that the file shall be in.
 * False where the path names no new file. */
static bool split(struct creation *creation, char directory[PATH_MAX])
{
    char *path = creation->named.path, *slash;
    size_t length = strlen(path);
    while (creation->is_directory && length > 1 && path[length - 1] == '/')
        path[--length] = 0;
    slash = strrchr(path, '/');
    creation->last = slash ? slash + 1 : path;
    if (!*creation->last || strcmp(creation->last, ".") == 0 || strcmp(creation->last, "..") == 0)
        return false;
    const size_t size = slash ? (size_t)(slash - path) + 1 : 0;
    memcpy(directory, path, size);
    memcpy(directory + size, ".", 2);
    return true;
}

static bool is_first_user(const struct myst_call *call)
{
    return myst_caller_user(call).file_system == 0 && myst_caller_group(call).file_system == 0;
}

/* As most are: in a directory with w, by the user that all files are of. */
static bool needs_nothing(const struct myst_call *call, const struct creation *creation, const char *directory)
{
    struct stat status;
    return !(creation->mode & (S_ISUID | S_ISGID)) && is_first_user(call) &&
           myst_call_look(call, creation->named.directory, directory, 0, &status) == 0 && (status.st_mode & S_IWUSR);
}

/* Makes it with the system's rights of this process, as the owner of all files; a directory without w is no obstacle
 * to user 0 there. */
static int make(const struct creation *creation)
{
    struct stat parent;
    const bool opened = fstatat(creation->parent, ".", &parent, 0) == 0 && !(parent.st_mode & S_IWUSR) &&
                        fchmodat(creation->parent, ".", (parent.st_mode & 07777) | S_IWUSR, 0) == 0;
    const int result = creation->is_directory
                           ? mkdirat(creation->parent, creation->last, creation->mode)
                           : openat(creation->parent, creation->last,
                                    (creation->flags & ~O_PATH) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
                                    creation->mode);
    const int error = errno;
    if (opened)
        fchmodat(creation->parent, ".", parent.st_mode & 07777, 0);
    errno = error;
    return result;
}

/* True when the system can do it for the caller as well as this process. */
static bool is_ordinary(const struct myst_call *call, const struct creation *creation)
{
    struct stat status;
    if (fstatat(creation->parent, creation->last, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    const bool writable = fstatat(creation->parent, ".", &status, 0) == 0 && (status.st_mode & S_IWUSR);
    return writable && !(creation->mode & (S_ISUID | S_ISGID)) && is_first_user(call);
}

static int64_t create(const struct myst_call *call, struct creation *creation)
{
    struct stat status;
    const long mask = myst_call_status(call, "Umask:", 8);
    if (mask < 0)
        return MYST_CONTINUE;
    creation->mode &= ~(mode_t)mask;
    const int result = make(creation);
    if (result < 0)
        return errno == EEXIST || errno == EACCES ? MYST_CONTINUE : -errno;
    if (creation->is_directory)
    {
        if (fstatat(creation->parent, creation->last, &status, AT_SYMLINK_NOFOLLOW) == 0)
            remember_as_callers(call, &status);
        return 0;
    }
    if (fstat(result, &status) == 0)
        remember_as_callers(call, &status);
    return myst_call_give(call, result, creation->flags & O_CLOEXEC);
}

static int64_t serve_creation(const struct myst_call *call, int directory, int path_argument, int flags, mode_t mode,
                              bool is_directory)
{
    static struct creation creation;
    static char directory_path[PATH_MAX];
    creation.flags = flags;
    creation.mode = mode & 07777;
    creation.is_directory = is_directory;
    const int64_t named = name(call, directory, path_argument, &creation.named);
    if (named != 0 || !split(&creation, directory_path) || needs_nothing(call, &creation, directory_path))
        return MYST_CONTINUE;
    const int64_t parent = myst_call_open(call, directory, directory_path, 0);
    if (parent < 0)
        return MYST_CONTINUE; /* which fails in the system as well */
    creation.parent = (int)parent;
    const int64_t result = !myst_may_have_mode(creation.parent, mode) ? -EPERM
                           : is_ordinary(call, &creation)             ? MYST_CONTINUE
                                                                      : create(call, &creation);
    close(creation.parent);
    return result;
}

/* The system may serve a call that makes a file. With set-id bits it may not: the path could be another by then, in a
 * directory of the host. */
static int64_t create_file(const struct myst_call *call, int directory, int path_argument, int flags, int mode_argument)
{
    const mode_t mode = (mode_t)myst_call_argument(call, mode_argument);
    uint64_t arguments[6];
    if (!(flags & O_CREAT))
        return MYST_CONTINUE;
    const int64_t result = serve_creation(call, directory, path_argument, flags, mode, false);
    if (result != MYST_CONTINUE || !call->application->isolated || !(mode & (S_ISUID | S_ISGID)))
        return result;
    memcpy(arguments, call->notification.data.args, sizeof arguments);
    arguments[mode_argument] &= ~(uint64_t)(S_ISUID | S_ISGID);
    const int64_t redirected = myst_redirect(call, call->notification.data.nr, arguments);
    return redirected == MYST_CONTINUE ? -EPERM : redirected;
}

int64_t myst_serve_owners(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    switch (call->notification.data.nr)
    {
    case SYS_stat:
    case SYS_lstat:
    case SYS_fstat:
    case SYS_newfstatat:
        return serve_stat(call);
    case SYS_chown:
    case SYS_lchown:
    case SYS_fchown:
    case SYS_fchownat:
        return serve_chown(call);
    case SYS_open:
        return create_file(call, AT_FDCWD, 0, (int)a[1], 2);
    case SYS_creat:
        return create_file(call, AT_FDCWD, 0, O_CREAT | O_WRONLY | O_TRUNC, 1);
    case SYS_openat:
        return create_file(call, (int)a[0], 1, (int)a[2], 3);
    case SYS_mkdir:
        return serve_creation(call, AT_FDCWD, 0, 0, (mode_t)a[1], true);
    case SYS_mkdirat:
        return serve_creation(call, (int)a[0], 1, 0, (mode_t)a[2], true);
    default:
        return MYST_CONTINUE;
    }
}

int64_t myst_prepare_program(const struct myst_call *call)
{
    const bool at = call->notification.data.nr == SYS_execveat;
    struct stat status;
    char path[MYST_OWN_PATH];
    const int64_t file =
        at ? open_named(call, (int)myst_call_argument(call, 0), 1, (unsigned)myst_call_argument(call, 4))
           : open_named(call, AT_FDCWD, 0, 0);
    if (file == -ENOTDIR)
        return MYST_CRASHES; /* what lies below a file */
    if (file < 0)
        return MYST_CONTINUE;
    const bool is_program = !call->application->isolated || myst_is_program_file((int)file);
    myst_own_path((int)file, path);
    if (is_program && fstat((int)file, &status) == 0 && S_ISREG(status.st_mode) && !(status.st_mode & 0111))
        chmod(path, (status.st_mode & 07777) | S_IXUSR); /* refused where the application could not either */
    const bool hangs = call->application->isolated && myst_call_process(call) != myst_call_thread(call);
    int64_t result = !is_program ? -ENOENT : hangs ? MYST_HANGS : myst_prepare_content(call, (int)file);
    close((int)file);
    if (result == MYST_CONTINUE)
        result = myst_reset_ignored_signals(call);
    /* Last: the arguments may lie below the stack then, where the signals were reset. */
    if (result == MYST_CONTINUE)
        result = myst_set_first_argument(call);
    if (result == MYST_CONTINUE)
        myst_note_executable(call);
    return result;
}
