#include "places.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Leaves of the path the directory that the place is in. */
static bool split(const struct myst_call *call, int path_argument, char path[PATH_MAX + 2], struct myst_place *place)
{
    if (myst_call_read_path(call, myst_call_argument(call, path_argument), path) != 0)
        return false;
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > NAME_MAX)
        return false;
    strcpy(place->name, name);
    strcpy(name, ".");
    return true;
}

bool myst_find_place(const struct myst_call *call, int directory, int path_argument, struct myst_place *place)
{
    static char path[PATH_MAX + 2];
    if (!split(call, path_argument, path, place))
        return false;
    const int64_t result = myst_call_open(call, directory, path, 0);
    place->directory = (int)result;
    return result >= 0;
}

bool myst_find_places(const struct myst_call *call, const int directories[2], const int path_arguments[2],
                      struct myst_place places[2])
{
    static char paths[2][PATH_MAX + 2];
    for (int i = 0; i < 2; i++)
        if (!split(call, path_arguments[i], paths[i], &places[i]))
            return false;
    const bool is_one = directories[0] == directories[1] && strcmp(paths[0], paths[1]) == 0;
    const int64_t first = myst_call_open(call, directories[0], paths[0], 0);
    if (first < 0)
        return false;
    const int64_t second =
        is_one ? fcntl((int)first, F_DUPFD_CLOEXEC, 0) : myst_call_open(call, directories[1], paths[1], 0);
    if (second < 0)
        close((int)first);
    places[0].directory = (int)first;
    places[1].directory = (int)second;
    return second >= 0;
}
