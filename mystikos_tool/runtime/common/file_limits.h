/* How process 1 asks the process that limits the file systems in memory, again and again: it tells what the processes
 * take, and is told what the files take that were added since the first request. */
#ifndef MYST_FILE_LIMITS_MESSAGE_H
#define MYST_FILE_LIMITS_MESSAGE_H

#include <stdint.h>

typedef uint64_t myst_bytes_of_processes;
typedef uint64_t myst_bytes_of_files;

#endif
