/* What stat tells of files in memory and of devices, as Mystikos has them. */
#ifndef MYST_DISGUISE_H
#define MYST_DISGUISE_H

#include "call.h"

#include <sys/stat.h>

void myst_disguise(const struct myst_call *call, struct stat *status);

/* True of a file in memory that came with the package or was made inside. */
bool myst_is_in_memory(const struct stat *status);

/* True where that is in a file system of memory alone, without a disk below it. */
bool myst_is_in_tmpfs(const struct stat *status);

/* True of what the root's own file system has. */
bool myst_is_in_root(const struct stat *status);

/* True of an open directory, where such files are so. */
bool myst_is_directory_in_memory(int directory);

/* True of what has a name in a file system, as pipes, sockets and a console do not. */
bool myst_is_in_file_system(const struct myst_call *call, const struct stat *status);

/* True for a descriptor that the application was given and that is no terminal: a console to it. */
bool myst_is_console(const struct myst_call *call, const struct stat *status);

/* The same of the caller's descriptor with this number. A device that the application opens by its name is a file,
 * though it was given the same one: the system has one /dev/null. */
bool myst_is_console_at(const struct myst_call *call, int descriptor, const struct stat *status);

#endif
