#include "path.h"

#include "../common/error.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as Linux follows in one path */

int myst_path_components(const char *path, char *components, size_t size)
{
    char *out = components;
    if (strlen(path) >= size)
        return -1;
    while (*path)
    {
        const size_t length = strcspn(path, "/");
        if (length == 2 && path[0] == '.' && path[1] == '.')
            return -1;
        if (length > 0 && !(length == 1 && *path == '.'))
        {
            if (out != components)
                *out++ = '/';
            memcpy(out, path, length);
            out += length;
        }
        path += length;
        path += *path == '/';
    }
    *out = 0;
    return 0;
}

char *myst_path_resolve(const char *path)
{
    char done[PATH_MAX] = "", left[PATH_MAX], link[PATH_MAX], next[PATH_MAX];
    if (strlen(path) >= sizeof left)
        return NULL;
    strcpy(left, path);
    for (int links = 0; *left;)
    {
        size_t slashes = strspn(left, "/"), length = strcspn(left + slashes, "/");
        char name[PATH_MAX];
        memcpy(name, left + slashes, length);
        name[length] = 0;
        memmove(left, left + slashes + length, strlen(left + slashes + length) + 1);
        if (length == 0 || strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0)
        {
            char *slash = strrchr(done, '/');
            *(slash ? slash : done) = 0;
            continue;
        }
        if ((size_t)snprintf(next, sizeof next, "%s%s%s", done, *done ? "/" : "", name) >= sizeof next)
            return NULL;
        ssize_t size = readlink(next, link, sizeof link - 1);
        if (size < 0)
        {
            strcpy(done, next);
            continue;
        }
        link[size] = 0;
        if (++links > MAX_LINKS || strlen(link) + strlen(left) + 2 > sizeof left)
            return NULL;
        if (*link == '/')
            *done = 0;
        strcat(strcat(link, "/"), left);
        strcpy(left, link);
    }
    return myst_allocated(strdup(done));
}
