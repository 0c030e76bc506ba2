/* What a program uses that works here and not under Mystikos, and that cannot be made equal: told once, at the end. */
#ifndef MYST_NOTES_H
#define MYST_NOTES_H

#include <stdbool.h>

enum myst_use
{
    MYST_USE_INOTIFY,
    MYST_USE_SHARED_FILE,
    MYST_USE_EDGE_TRIGGER,
    MYST_USE_SIGNAL,
    MYST_USE_UNIX_SOCKET,
    MYST_USE_FUTEX_MOMENT,
    MYST_USE_LIBRARY_PATH,
    MYST_USE_CONSOLE_FLAGS,
    MYST_USES,
};

void myst_note_use(enum myst_use use);

/* A line "<package>: mystikos: note: uses ..." for each kind that was noted. What fails here as well and hardly matters
 * is told where the program has `aborted`. */
void myst_tell_uses(bool aborted);

#endif
