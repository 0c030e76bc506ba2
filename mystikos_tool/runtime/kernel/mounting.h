/* What is mounted on, and what becomes of a mount. */
#ifndef MYST_MOUNTING_H
#define MYST_MOUNTING_H

#include <stdbool.h>

/* Makes sure that there is a directory to mount on; the archive may have put something else there. */
void myst_need_directory(const char *path, unsigned mode);

bool myst_is_empty_directory(const char *directory);

/* Of a mount that is there already. `flags`: MS_... to keep. */
void myst_make_read_only(const char *path, unsigned long flags);

#endif
