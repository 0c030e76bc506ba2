#include "directories.h"

#include "disguise.h"
#include "own_files.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char deleted[] = " (deleted)"; /* behind what /proc says of a directory that is gone */

static int64_t path_of(const struct myst_call *call, char path[PATH_MAX])
{
    char link[32];
    snprintf(link, sizeof link, "%d/cwd", (int)myst_call_thread(call));
    const ssize_t length = readlinkat(call->application->proc, link, path, PATH_MAX - 1);
    if (length <= 0)
        return MYST_CONTINUE;
    path[length] = 0;
    const size_t kept = (size_t)length - (sizeof deleted - 1);
    if ((size_t)length > sizeof deleted && strcmp(path + kept, deleted) == 0)
        path[kept] = 0;
    return *path == '/' ? 0 : MYST_CONTINUE;
}

/* The whole path of a directory is bounded. */
static bool is_too_deep(const struct myst_call *call, size_t length)
{
    static char path[PATH_MAX];
    return path_of(call, path) == 0 && strlen(path) + 1 + length >= PATH_MAX;
}

/* Some process has gone elsewhere: until then the directory has the name that the configuration gives it. */
static bool has_changed;

/* What is no directory is not there. */
static int64_t change(const struct myst_call *call)
{
    static char path[PATH_MAX];
    struct stat status;
    if (myst_call_read_path(call, myst_call_argument(call, 0), path) != 0)
        return MYST_CONTINUE;
    if (*path != '/' && is_too_deep(call, strlen(path)))
        return -ENAMETOOLONG;
    const int64_t file = myst_call_open(call, AT_FDCWD, path, 0);
    if (file < 0)
        return MYST_CONTINUE;
    const bool is_directory = fstat((int)file, &status) != 0 || S_ISDIR(status.st_mode);
    close((int)file);
    has_changed |= is_directory;
    return is_directory ? MYST_CONTINUE : -ENOENT;
}

/* By a descriptor: of what is no file or directory, it is none. */
static int64_t change_to(const struct myst_call *call)
{
    struct stat status;
    const int64_t file = myst_call_open_descriptor(call, (int)myst_call_argument(call, 0));
    if (file < 0)
        return file;
    const bool is_known = fstat((int)file, &status) == 0, is_directory = is_known && S_ISDIR(status.st_mode);
    close((int)file);
    has_changed |= is_directory;
    return !is_known || is_directory ? MYST_CONTINUE : myst_is_in_file_system(call, &status) ? -ENOENT : -EBADF;
}

/* Process 1 stays there. */
static bool is_where_it_began(const char *path)
{
    char link[MYST_OWN_PATH], own[PATH_MAX];
    myst_own_path(0, link);
    strcpy(strstr(link, "fd/"), "cwd");
    const ssize_t length = readlink(link, own, sizeof own - 1);
    own[length > 0 ? length : 0] = 0;
    return strncmp(own, path, strlen(path)) == 0 &&
           (own[strlen(path)] == 0 || strcmp(own + strlen(path), deleted) == 0);
}

/* A directory that is gone keeps its name. The result is the address where Linux says the length: musl looks at the
 * sign alone. */
static int64_t tell(const struct myst_call *call)
{
    static char path[PATH_MAX];
    const uint64_t to = myst_call_argument(call, 0);
    const int64_t result = path_of(call, path);
    if (result != 0)
        return result;
    if (!has_changed && strcmp(path, call->application->working_directory) != 0 && is_where_it_began(path))
    {
        if (*call->application->working_directory != '/')
            return -ENOENT;
        snprintf(path, sizeof path, "%s", call->application->working_directory);
    }
    const size_t size = strlen(path) + 1;
    if (myst_call_argument(call, 1) < size)
        return myst_call_argument(call, 1) ? -ERANGE : -EINVAL;
    const int64_t written = myst_call_write(call, to, path, size);
    return written != 0 ? written : myst_uses_musl(call) ? (int64_t)to : (int64_t)size;
}

int64_t myst_serve_directories(const struct myst_call *call)
{
    if (call->application->proc < 0 || !call->application->isolated)
        return MYST_CONTINUE;
    switch (call->notification.data.nr)
    {
    case SYS_chdir:
        return change(call);
    case SYS_fchdir:
        return change_to(call);
    case SYS_getcwd:
        return tell(call);
    default:
        return MYST_CONTINUE;
    }
}
