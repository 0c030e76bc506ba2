/* The processes of the sandbox. */
#ifndef MYST_PROCESS_LIST_H
#define MYST_PROCESS_LIST_H

#include "../common/application.h"

#include <stddef.h>

/* Fills in the numbers of up to `room` of them, this one left out, and returns how many these are; -1 where nobody
 * knows. */
int myst_list_processes(const struct myst_application *application, pid_t *processes, size_t room);

#endif
