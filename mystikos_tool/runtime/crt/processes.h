/* Numbers of processes, groups and sessions as Mystikos gives them, where the caller's outside would show through. */
#ifndef MYST_PROCESSES_H
#define MYST_PROCESSES_H

#include "call.h"

/* The process that started the application, which nobody sees: a thread of process 1 has its number. */
#define MYST_STARTER 100

/* As getppid, getpgid and getsid tell them: the parent of the process that makes the call, and the group (or a negative
 * errno) and session of another. */
pid_t myst_parent_of(const struct myst_call *call);
int64_t myst_group_of(const struct myst_call *call, pid_t process);
int64_t myst_session_of(pid_t process);

/* For a caller that is about to execute a program: signals that it ignores are not ignored by the program.
 * MYST_CONTINUE where it ignores none, or MYST_REDIRECTED to the same call. */
int64_t myst_reset_ignored_signals(const struct myst_call *call);

/* Serves kill for more than one process: sends the signal to the processes of the sandbox that it names. 0, or -ESRCH
 * where there is none, without isolation above all. */
int64_t myst_signal_group(const struct myst_call *call);

/* Serves getppid, getpgrp, getpgid, getsid, kill, fork and their kind: the result of the call, a negative errno, or
 * MYST_CONTINUE. */
int64_t myst_serve_processes(const struct myst_call *call);

#endif
