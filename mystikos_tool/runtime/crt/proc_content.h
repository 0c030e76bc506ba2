/* What Mystikos tells of a process in the files status, stat and maps of /proc. */
#ifndef MYST_PROC_CONTENT_H
#define MYST_PROC_CONTENT_H

#include "call.h"

/* A descriptor of this process for a file with that content, open to be read; -1 for a file of another name, or where
 * there is none. */
int myst_proc_content(const struct myst_call *call, pid_t process, const char *name);

#endif
