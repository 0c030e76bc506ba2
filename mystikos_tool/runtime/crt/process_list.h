/* The processes of the sandbox. */
#ifndef MYST_PROCESS_LIST_H
#define MYST_PROCESS_LIST_H

#include "../common/application.h"

#include <stddef.h>

/* Fills in the numbers of up to `room` of them, this one left out, and returns how many these are; -1 where nobody
 * knows. */
int myst_list_processes(const struct myst_application *application, pid_t *processes, size_t room);

/* As they were a moment ago, or as they are where one was made since: a pointer to their numbers, which are this
 * module's, and how many they are; those that have ended may be among them. */
int myst_known_processes(const struct myst_application *application, const pid_t **processes);

/* A process is about to begin. */
void myst_forget_processes(void);

#endif
