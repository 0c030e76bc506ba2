#include "remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not even its owner may change a directory without its w. The way over the descriptor follows no link. */
static int open_directory(int parent, const char *name)
{
    char path[32];
    const int handle = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (handle < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
    chmod(path, 0700);
    const int directory = openat(handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(handle);
    return directory;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Moves a directory to where it is no deeper than the first level. */
static bool lift(int from, const char *name, int top, unsigned long *number)
{
    char unique[32];
    const int moved = open_directory(from, name);
    if (moved >= 0)
        close(moved);
    snprintf(unique, sizeof unique, ".removed-%lu", ++*number);
    return renameat(from, name, top, unique) == 0;
}

/* Empties a directory below `top`: files are removed, directories lifted. */
static bool empty(int top, const char *name, unsigned long *number)
{
    bool changed = false;
    struct dirent *entry;
    const int descriptor = open_directory(top, name);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    while (directory && (entry = readdir(directory)))
        if (!is_dots(entry->d_name))
            changed |= unlinkat(descriptor, entry->d_name, 0) == 0 || lift(descriptor, entry->d_name, top, number);
    if (directory)
        closedir(directory);
    return unlinkat(top, name, AT_REMOVEDIR) == 0 || changed;
}

void myst_remove_directory(const char *path)
{
    unsigned long number = 0;
    const int top = open_directory(AT_FDCWD, path);
    for (bool changed = top >= 0; changed;)
    {
        struct dirent *entry;
        DIR *directory = fdopendir(openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        changed = false;
        while (directory && (entry = readdir(directory)))
            if (!is_dots(entry->d_name))
                changed |= unlinkat(top, entry->d_name, 0) == 0 || empty(top, entry->d_name, &number);
        if (directory)
            closedir(directory);
    }
    if (top >= 0)
        close(top);
    rmdir(path);
}
