#include "notes.h"

#include "../common/error.h"

static const char *const texts[MYST_USES] = {
    [MYST_USE_INOTIFY] = "inotify: under Mystikos no event ever comes",
    [MYST_USE_SHARED_FILE] = "shared mappings of files: under Mystikos each is a copy, which msync alone writes back",
    [MYST_USE_EDGE_TRIGGER] = "edge-triggered epoll: under Mystikos it reports a descriptor once only",
    [MYST_USE_UNIX_SOCKET] =
        ("Unix-domain sockets: under Mystikos they pass no descriptors, know few flags, connect and "
         "accept always wait, and poll sees no connection that comes"),
    [MYST_USE_FUTEX_MOMENT] = "FUTEX_WAIT_BITSET with a moment to wait until: under Mystikos that is a duration",
    [MYST_USE_LIBRARY_PATH] = "LD_LIBRARY_PATH: under Mystikos the dynamic linker does not look where it says",
    [MYST_USE_CONSOLE_FLAGS] = "fcntl F_GETFL of a console: under Mystikos it fails, upon which Node.js aborts; with "
                               "--myst-linux it does not",
    [MYST_USE_SIGNAL] = "a signal from outside: under Mystikos it ends the package at once, and no handler runs",
};

static bool used[MYST_USES];

void myst_note_use(enum myst_use use)
{
    used[use] = true;
}

void myst_tell_uses(bool aborted)
{
    used[MYST_USE_CONSOLE_FLAGS] = used[MYST_USE_CONSOLE_FLAGS] && aborted;
    for (int i = 0; i < MYST_USES; i++)
        if (used[i])
            myst_note("note", "uses %s", texts[i]);
}
