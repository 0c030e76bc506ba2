/* /proc as Mystikos has it: a directory for each process, and what stat, readlink and listings tell there. */
#ifndef MYST_PROC_FILES_SERVER_H
#define MYST_PROC_FILES_SERVER_H

#include "call.h"

/* Makes the directory of a process that has begun, and removes that of one that has ended. */
void myst_show_process(pid_t process);
void myst_hide_process(pid_t process);

/* Opens a file of a process that Mystikos has other content for, by its path, for reading: the descriptor, a negative
 * errno, or MYST_CONTINUE. */
int64_t myst_open_proc_file(const struct myst_call *call, const char *path, int flags);

/* Serves stat, readlink and their kind, and getdents64: the result, a negative errno, or MYST_CONTINUE. */
int64_t myst_serve_proc_files(const struct myst_call *call);

#endif
