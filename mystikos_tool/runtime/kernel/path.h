/* Paths in the root, taken apart as text or followed. */
#ifndef MYST_PATH_H
#define MYST_PATH_H

#include <stddef.h>

/* Writes the components of a path, with one / between them and none at the ends; empty for the root itself. Returns -1
 * where a component is "..", which could lead out or through a link, or where `size` bytes are not enough. */
int myst_path_components(const char *path, char *components, size_t size);

/* Follows links as they would lead if the working directory were the root. Returns a path below it without links, which
 * is allocated, or NULL where they lead nowhere. */
char *myst_path_resolve(const char *path);

#endif
