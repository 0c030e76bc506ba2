/* Paths of what this process has open. */
#ifndef MYST_OWN_FILES_H
#define MYST_OWN_FILES_H

#define MYST_OWN_PATH 48

/* Writes the path by which `file` can be opened or changed again; returns `path`. The application cannot put something
 * else there: the first call is made before it runs, and decides which /proc there is. */
const char *myst_own_path(int file, char path[MYST_OWN_PATH]);

#endif
