#include "mounting.h"

#include "../common/error.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

void myst_need_directory(const char *path, unsigned mode)
{
    struct stat status;
    if (mkdir(path, mode) == 0)
        return;
    if (errno != EEXIST || lstat(path, &status) != 0)
        myst_refuse_errno("cannot make /%s", path);
    if (!S_ISDIR(status.st_mode))
        myst_refuse("/%s in the root file system must be a directory", path);
}

bool myst_is_empty_directory(const char *directory)
{
    bool empty = true;
    struct dirent *entry;
    DIR *stream = opendir(directory);
    if (!stream)
        myst_refuse_errno("cannot read the directory %s", directory);
    while ((entry = readdir(stream)))
        empty &= strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(stream);
    return empty;
}

void myst_make_read_only(const char *path, unsigned long flags)
{
    if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) != 0)
        myst_refuse_errno("cannot protect /%s", path);
}
