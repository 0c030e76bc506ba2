/* Decides the system calls that the filter leaves open. */
#ifndef MYST_SECCOMP_NOTIFY_H
#define MYST_SECCOMP_NOTIFY_H

#include "../common/application.h"

#include <sys/types.h>

/* The exit status of a package that was stopped for a call that Mystikos does not handle: as of a program that
 * SIGSYS kills. */
#define MYST_EXIT_STOPPED (128 + 31)

/* Of one that was stopped where Mystikos crashes, which ends in SIGSEGV there. */
#define MYST_EXIT_CRASHED (128 + 11)

/* Takes one call from `listener`, of myst_set_filter, and answers it. The exit status when the application must be
 * stopped, for a reason that was told then; else 0. */
int myst_seccomp_notify_answer(const struct myst_application *application, int listener);

#endif
