#include "removal.h"

#include "disguise.h"
#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* True for what another file system lies on, which Linux lets nobody remove. */
static bool is_mounted_on(const struct myst_place *place, const struct stat *status)
{
    struct stat parent;
    return fstat(place->directory, &parent) == 0 && parent.st_dev != status->st_dev;
}

/* A full one of the host is judged by the system. */
static int64_t remove_empty_directory(const struct myst_place *place, const struct stat *status)
{
    if (unlinkat(place->directory, place->name, AT_REMOVEDIR) == 0)
        return 0;
    return errno == ENOTEMPTY && myst_is_in_memory(status) ? -EPERM : MYST_CONTINUE;
}

/* A directory goes as well; what the runtime has mounted stays, and is said to have gone. */
static int64_t remove_file(const struct myst_place *place)
{
    struct stat status;
    if (!*place->name || fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return MYST_CONTINUE;
    if (S_ISDIR(status.st_mode))
        return remove_empty_directory(place, &status);
    return is_mounted_on(place, &status) ? 0 : MYST_CONTINUE;
}

/* The root, and what something is mounted on, is never empty. */
static int64_t remove_directory(const struct myst_place *place)
{
    struct stat status;
    if (!*place->name)
        return -ENOTEMPTY;
    const bool is_directory =
        fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
    return is_directory && is_mounted_on(place, &status) ? -ENOTEMPTY : MYST_CONTINUE;
}

/* Of a file or directory that the root itself has. */
static bool is_ordinary(const struct myst_call *call, int directory, int path_argument, bool of_directory)
{
    static char path[PATH_MAX];
    struct stat status;
    if (myst_call_read_path(call, myst_call_argument(call, path_argument), path) != 0 ||
        myst_call_look(call, directory, path, AT_SYMLINK_NOFOLLOW, &status) != 0)
        return false;
    const bool is_directory = S_ISDIR(status.st_mode), ends_in_slash = path[strlen(path) - 1] == '/';
    return is_directory == of_directory && !ends_in_slash && myst_is_in_root(&status);
}

int64_t myst_serve_removal(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    const int number = call->notification.data.nr;
    const bool at = number == SYS_unlinkat;
    const bool of_directory = number == SYS_rmdir || (at && (a[2] & AT_REMOVEDIR));
    const int directory = at ? (int)a[0] : AT_FDCWD;
    struct myst_place place;
    if (number != SYS_unlink && number != SYS_unlinkat && number != SYS_rmdir)
        return MYST_CONTINUE;
    if (!call->application->isolated || is_ordinary(call, directory, at, of_directory) ||
        !myst_find_place(call, directory, at, &place))
        return MYST_CONTINUE;
    const int64_t result = of_directory ? remove_directory(&place) : remove_file(&place);
    close(place.directory);
    return result;
}
