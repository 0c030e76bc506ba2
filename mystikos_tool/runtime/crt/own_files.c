#include "own_files.h"

#include "../common/proc_files.h"

#include <stdio.h>
#include <unistd.h>

const char *myst_own_path(int file, char path[MYST_OWN_PATH])
{
    static const char *proc;
    if (!proc)
        proc = access("/proc/" MYST_LINUX_PROC "/self", F_OK) == 0 ? "/proc/" MYST_LINUX_PROC : "/proc";
    snprintf(path, MYST_OWN_PATH, "%s/self/fd/%d", proc, file);
    return path;
}
