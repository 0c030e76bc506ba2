#include "places.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool myst_find_place(const struct myst_call *call, int directory, int path_argument, struct myst_place *place)
{
    static char path[PATH_MAX], parent[PATH_MAX + 2];
    if (myst_call_read_path(call, myst_call_argument(call, path_argument), path) != 0)
        return false;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const size_t length = (size_t)(name - path);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > NAME_MAX)
        return false;
    strcpy(place->name, name);
    memcpy(parent, path, length);
    strcpy(parent + length, ".");
    const int64_t result = myst_call_open(call, directory, parent, 0);
    place->directory = (int)result;
    return result >= 0;
}
