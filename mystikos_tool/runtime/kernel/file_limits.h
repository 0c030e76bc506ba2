/* One budget for files and processes: a process outside of the sandbox lets the file systems in memory grow as far as
 * the processes leave room. It can do nothing else. */
#ifndef MYST_FILE_LIMITS_H
#define MYST_FILE_LIMITS_H

#include <stdint.h>

/* The file system in memory that is mounted at `path` is one of those that are limited. */
void myst_limit_files_at(const char *path);

/* Starts the process that limits them to `bytes` more than they hold, less what the processes take. Returns the socket
 * that it is asked through (common/file_limits.h). To be called by a privileged process of the sandbox' namespaces,
 * outside of its process namespace; the process ends with this one at the latest. */
int myst_start_file_limits(uint64_t bytes);

#endif
