#include "naming.h"

#include "disguise.h"
#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EMPTY_DIRECTORY 40 /* bytes that Linux says of one in memory */

static bool look_at(const struct myst_place *place, struct stat *status)
{
    return *place->name && fstatat(place->directory, place->name, status, AT_SYMLINK_NOFOLLOW) == 0;
}

/* True where a directory is to be moved below itself: on the way from there up to the root it is met. */
static bool is_below(const struct myst_place *place, const struct stat *directory)
{
    struct stat status, upper;
    int at = openat(place->directory, ".", O_PATH | O_CLOEXEC);
    bool is_met = false, is_at_end = at < 0 || fstat(at, &status) != 0;
    while (!is_at_end && !is_met)
    {
        is_met = status.st_dev == directory->st_dev && status.st_ino == directory->st_ino;
        const int above = openat(at, "..", O_PATH | O_CLOEXEC);
        is_at_end =
            above < 0 || fstat(above, &upper) != 0 || (upper.st_dev == status.st_dev && upper.st_ino == status.st_ino);
        status = upper;
        close(at);
        at = above;
    }
    if (at >= 0)
        close(at);
    return is_met;
}

/* A directory takes the place of a file, but not of an empty directory; one that is full keeps its place, whereas
 * Mystikos loses what is in it. */
static int64_t move_directory(const struct myst_place *from, const struct myst_place *to, const struct stat *replaced)
{
    if (S_ISDIR(replaced->st_mode))
        return replaced->st_size == EMPTY_DIRECTORY ? -ENOTEMPTY : MYST_CONTINUE;
    if (unlinkat(to->directory, to->name, 0) != 0)
        return MYST_CONTINUE;
    return renameat(from->directory, from->name, to->directory, to->name) == 0 ? 0 : -errno;
}

static int64_t move(const struct myst_place *from, const struct myst_place *to)
{
    struct stat moved, replaced;
    if (!look_at(from, &moved) || !myst_is_directory_in_memory(from->directory))
        return MYST_CONTINUE;
    if (S_ISDIR(moved.st_mode) && is_below(to, &moved))
        return MYST_CRASHES; /* later, when it looks for the end of such a way */
    if (!look_at(to, &replaced) || replaced.st_dev != moved.st_dev || replaced.st_ino == moved.st_ino)
        return MYST_CONTINUE;
    if (S_ISDIR(moved.st_mode))
        return move_directory(from, to, &replaced);
    return S_ISDIR(replaced.st_mode) ? -ENOTDIR : MYST_CONTINUE;
}

/* True for what is no directory; or is not there, which `result` tells then. */
static bool is_no_directory(const struct myst_call *call, int directory, int path_argument, int64_t *result)
{
    static char path[PATH_MAX];
    struct stat status;
    *result = myst_call_read_path(call, myst_call_argument(call, path_argument), path);
    if (*result == 0)
        *result = myst_call_look(call, directory, path, AT_SYMLINK_NOFOLLOW, &status);
    return *result == -ENOENT || (*result == 0 && !S_ISDIR(status.st_mode));
}

/* No directory is moved or replaced. */
static bool is_ordinary(const struct myst_call *call, const int directories[2], const int path_arguments[2])
{
    int64_t result;
    return is_no_directory(call, directories[0], path_arguments[0], &result) &&
           (result == -ENOENT || is_no_directory(call, directories[1], path_arguments[1], &result));
}

static int64_t serve_rename(const struct myst_call *call)
{
    const bool at = call->notification.data.nr == SYS_renameat;
    const int directories[] = {at ? (int)myst_call_argument(call, 0) : AT_FDCWD,
                               at ? (int)myst_call_argument(call, 2) : AT_FDCWD};
    const int path_arguments[] = {at ? 1 : 0, at ? 3 : 1};
    struct myst_place places[2];
    if (is_ordinary(call, directories, path_arguments) || !myst_find_places(call, directories, path_arguments, places))
        return MYST_CONTINUE;
    const int64_t result = move(&places[0], &places[1]);
    close(places[0].directory);
    close(places[1].directory);
    return result;
}

/* Where there is something already, Mystikos adds a second entry of the name, and finds the first. Of a target that is
 * longer than Linux takes, as much is kept as it does. */
static int64_t make_link(const struct myst_place *place, const char *target, bool is_long)
{
    struct stat status;
    if (!*place->name || !myst_is_directory_in_memory(place->directory))
        return MYST_CONTINUE;
    if (look_at(place, &status))
        return 0;
    return !is_long ? MYST_CONTINUE : symlinkat(target, place->directory, place->name) == 0 ? 0 : -errno;
}

static int64_t serve_symlink(const struct myst_call *call)
{
    static char target[PATH_MAX];
    const bool at = call->notification.data.nr == SYS_symlinkat;
    struct myst_place place;
    const int64_t read = myst_call_read_path(call, myst_call_argument(call, 0), target);
    if ((read != 0 && read != -ENAMETOOLONG) ||
        !myst_find_place(call, at ? (int)myst_call_argument(call, 1) : AT_FDCWD, at ? 2 : 1, &place))
        return MYST_CONTINUE;
    target[PATH_MAX - 1] = 0;
    const int64_t result = make_link(&place, target, read != 0);
    close(place.directory);
    return result;
}

static ssize_t target_of(const struct myst_call *call, char target[PATH_MAX])
{
    const bool at = call->notification.data.nr == SYS_readlinkat;
    struct myst_place place;
    if (!myst_find_place(call, at ? (int)myst_call_argument(call, 0) : AT_FDCWD, at, &place))
        return -1;
    const ssize_t size = *place.name && myst_is_directory_in_memory(place.directory)
                             ? readlinkat(place.directory, place.name, target, PATH_MAX)
                             : -1;
    close(place.directory);
    return size;
}

/* At less cost than target_of, and good for letting the system serve the call, as myst_call_look. */
static bool has_room(const struct myst_call *call, uint64_t room)
{
    static char path[PATH_MAX], target[PATH_MAX];
    const bool at = call->notification.data.nr == SYS_readlinkat;
    if (room >= PATH_MAX || myst_call_read_path(call, myst_call_argument(call, at), path) != 0)
        return true;
    const ssize_t size = *path == '/' ? readlink(path, target, sizeof target) : PATH_MAX;
    return size < 0 || (uint64_t)size < room;
}

/* Where there is too little room, the end of the text is told as well, and how long all of it is. */
static int64_t serve_readlink(const struct myst_call *call)
{
    static char target[PATH_MAX];
    const int room_argument = call->notification.data.nr == SYS_readlinkat ? 3 : 2;
    const uint64_t room = myst_call_argument(call, room_argument);
    const ssize_t size = room && !has_room(call, room) ? target_of(call, target) : -1;
    if (size < 0 || (uint64_t)size < room)
        return MYST_CONTINUE;
    target[room - 1] = 0;
    const int64_t result = myst_call_write(call, myst_call_argument(call, room_argument - 1), target, room);
    return result != 0 ? result : size;
}

int64_t myst_serve_naming(const struct myst_call *call)
{
    if (!call->application->isolated)
        return MYST_CONTINUE;
    switch (call->notification.data.nr)
    {
    case SYS_rename:
    case SYS_renameat:
        return serve_rename(call);
    case SYS_symlink:
    case SYS_symlinkat:
        return serve_symlink(call);
    case SYS_readlink:
    case SYS_readlinkat:
        return serve_readlink(call);
    default:
        return MYST_CONTINUE;
    }
}
