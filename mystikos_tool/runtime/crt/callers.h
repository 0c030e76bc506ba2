/* The process that a thread which calls belongs to. Asking the system takes longer than most answers, so what it said
 * is kept for a moment, in which no number of a thread that has ended comes again. */
#ifndef MYST_CALLERS_H
#define MYST_CALLERS_H

#include "../common/application.h"

/* Its number, or -1. */
pid_t myst_process_of_thread(const struct myst_application *application, pid_t thread);

/* A descriptor for it (pidfd_open(2)), which stays this module's; or a negative errno. */
int myst_descriptor_of_process(const struct myst_application *application, pid_t thread);

/* What program.c has found out about the thread's program, 0 where that is nothing yet. */
int *myst_note_of_program(const struct myst_application *application, pid_t thread);

/* The thread is about to execute another one. */
void myst_forget_program(pid_t thread);

/* The number behind `key` in the thread's /proc status, or -1. */
long myst_thread_status(const struct myst_application *application, pid_t thread, const char *key, int base);

#endif
