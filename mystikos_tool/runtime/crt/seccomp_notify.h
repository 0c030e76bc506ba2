/* Decides the system calls that the filter leaves open. */
#ifndef MYST_SECCOMP_NOTIFY_H
#define MYST_SECCOMP_NOTIFY_H

#include "call.h"

/* The exit status of a package that was stopped for a call that Mystikos does not handle: as of a program that
 * SIGSYS kills. */
#define MYST_EXIT_STOPPED (128 + 31)

/* Of one that was stopped where Mystikos crashes, which ends in SIGSEGV there. */
#define MYST_EXIT_CRASHED (128 + 11)

/* The caller and this process run on one processor in turn, where the system knows how, from Linux 6.6 on: neither is
 * woken on another one, which takes longer than most answers. */
void myst_seccomp_notify_begin(int listener);

enum myst_taken
{
    MYST_TAKEN,
    MYST_GONE,      /* the caller was killed meanwhile */
    MYST_NO_MORE,   /* nobody is left under the filter */
    MYST_UNWATCHED, /* the application must be stopped, for a reason that was told */
};

/* Waits for a call, and takes it from the listener that it names, of myst_set_filter. */
enum myst_taken myst_seccomp_notify_take(struct myst_call *call);

/* Answers what was taken. The exit status when the application must be stopped, for a reason that was told then; else
 * 0. */
int myst_seccomp_notify_answer(const struct myst_call *call, enum myst_taken taken);

#endif
