#include "removal.h"

#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* True for what another file system lies on, which Linux lets nobody remove. */
static bool is_mounted_on(const struct myst_place *place, const struct stat *status)
{
    struct stat parent;
    return fstat(place->directory, &parent) == 0 && parent.st_dev != status->st_dev;
}

/* A directory goes as well; what the runtime has mounted stays, and is said to have gone. */
static int64_t remove_file(const struct myst_place *place)
{
    struct stat status;
    if (!*place->name || fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return MYST_CONTINUE;
    if (S_ISDIR(status.st_mode))
        return unlinkat(place->directory, place->name, AT_REMOVEDIR) == 0 ? 0 : MYST_CONTINUE;
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

int64_t myst_serve_removal(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    const int number = call->notification.data.nr;
    const bool at = number == SYS_unlinkat;
    const bool of_directory = number == SYS_rmdir || (at && (a[2] & AT_REMOVEDIR));
    struct myst_place place;
    if (number != SYS_unlink && number != SYS_unlinkat && number != SYS_rmdir)
        return MYST_CONTINUE;
    if (!call->application->isolated || !myst_find_place(call, at ? (int)a[0] : AT_FDCWD, at, &place))
        return MYST_CONTINUE;
    const int64_t result = of_directory ? remove_directory(&place) : remove_file(&place);
    close(place.directory);
    return result;
}
