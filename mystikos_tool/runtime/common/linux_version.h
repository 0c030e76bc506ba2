/* What the running Linux can do that it does not tell by itself. */
#ifndef MYST_LINUX_VERSION_H
#define MYST_LINUX_VERSION_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>

static inline bool myst_linux_is_at_least(unsigned major, unsigned minor)
{
    struct utsname names;
    unsigned is_major, is_minor;
    if (uname(&names) != 0 || sscanf(names.release, "%u.%u", &is_major, &is_minor) != 2)
        return false;
    return is_major > major || (is_major == major && is_minor >= minor);
}

#endif
