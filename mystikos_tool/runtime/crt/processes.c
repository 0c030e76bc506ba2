#include "processes.h"

#include "../common/sizes.h"
#include "process_list.h"
#include "redirect.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Group 0 is one outside; inside, it is that of the application, which all others are in until they join another. */
static pid_t group_of(const struct myst_call *call, pid_t process)
{
    const pid_t group = getpgid(process);
    return group > 0 ? group : call->application->process;
}

int64_t myst_group_of(const struct myst_call *call, pid_t process)
{
    const pid_t asked = process ? process : myst_call_process(call);
    if (asked != myst_call_process(call))
        return -EPERM; /* of another, whether it is there or not */
    return group_of(call, asked);
}

int64_t myst_session_of(pid_t process)
{
    const pid_t session = getsid(process);
    return session > 0 ? session : MYST_STARTER;
}

/* The leader of a group, and a child of it there, cannot begin a session. */
static int64_t begin_session(const struct myst_call *call)
{
    const int64_t group = myst_group_of(call, 0);
    return group == myst_call_process(call) || group == myst_parent_of(call) ? -EPERM : MYST_CONTINUE;
}

pid_t myst_parent_of(const struct myst_call *call)
{
    const bool is_first = myst_call_process(call) == call->application->process;
    return is_first ? MYST_STARTER : (pid_t)myst_call_status(call, "\nPPid:", 10);
}

/* Of SIGCHLD. Children can be waited for although it is ignored: as by default, the system then does no more than that.
 * It comes again and again to a shell that starts a pipeline, whose other calls, fork(2) above all, know no EINTR and
 * must not have one because they wait here for process 1 (signal(7) lists what is interrupted nevertheless). */
static int64_t set_action(const struct myst_call *call)
{
    struct
    {
        uint64_t handler, flags;
    } action;
    const uint64_t place = myst_call_argument(call, 1);
    if (!place || myst_call_read(call, place, &action, sizeof action) != 0)
        return MYST_CONTINUE;
    if (action.handler == (uint64_t)SIG_IGN)
        action.handler = (uint64_t)SIG_DFL;
    action.flags |= SA_RESTART;
    myst_call_write(call, place, &action, sizeof action);
    return MYST_CONTINUE;
}

static bool is_to_itself(const struct myst_call *call)
{
    const pid_t target = (pid_t)myst_call_argument(call, call->notification.data.nr == SYS_tgkill);
    return target == myst_call_thread(call) || target == myst_call_process(call);
}

static bool has_default_action(const struct myst_call *call, int signal)
{
    const unsigned long bit = 1ul << (signal - 1);
    return !((unsigned long)myst_call_status(call, "\nSigCgt:", 16) & bit) &&
           !((unsigned long)myst_call_status(call, "\nSigIgn:", 16) & bit);
}

/* Signals that would stop a program end it, and SIGSTOP to itself is more than Mystikos takes. Those from outside, by
 * the keys of a terminal, stop it. */
static int64_t stop_itself(const struct myst_call *call)
{
    const int signal = (int)myst_call_argument(call, call->notification.data.nr == SYS_tgkill ? 2 : 1);
    if (!is_to_itself(call) || !has_default_action(call, signal))
        return MYST_CONTINUE;
    return signal == SIGSTOP ? MYST_CRASHES : myst_redirect_to_exit(call, 128 + signal);
}

/* Whether kill with the argument `target`, which is no number of a process, means the process: 0 the others of the
 * caller's group, -1 all, itself among them. */
static bool is_meant(const struct myst_call *call, pid_t target, pid_t process)
{
    const pid_t caller = myst_call_process(call);
    if (target == 0)
        return process != caller && group_of(call, process) == group_of(call, caller);
    return target == -1 || group_of(call, process) == -(int64_t)target;
}

int64_t myst_signal_group(const struct myst_call *call)
{
    static pid_t processes[2 * MYST_MAX_THREADS];
    const pid_t target = (pid_t)myst_call_argument(call, 0);
    const int signal = (int)myst_call_argument(call, 1);
    const int count =
        call->application->isolated ? myst_list_processes(call->application, processes, MYST_COUNT(processes)) : 0;
    int64_t result = -ESRCH;
    for (int i = 0; i < count; i++)
    {
        if (!is_meant(call, target, processes[i]))
            continue;
        if (kill(processes[i], signal) == 0)
            result = 0;
        else if (errno != ESRCH)
            return -errno;
    }
    return result;
}

/* With pseudo_wait_for_exit_exec the parent waits until the child executes a program or ends. A process that begins in
 * a function of its own, on a stack of its own, is not made; what tells so is no errno, but -1 to a C library that
 * takes an int for the result. */
static int64_t make_process(const struct myst_call *call)
{
    const __u64 *a = call->notification.data.args;
    if (a[1])
        return (int64_t)UINT32_MAX;
    if (!call->application->fork_waits)
        return MYST_CONTINUE;
    return myst_redirect(call, SYS_clone, (const uint64_t[6]){a[0] | CLONE_VFORK, a[1], a[2], a[3], a[4], a[5]});
}

static int64_t fork_process(const struct myst_call *call)
{
    if (!call->application->fork_waits)
        return MYST_CONTINUE;
    return myst_redirect(call, SYS_clone, (const uint64_t[6]){SIGCHLD | CLONE_VFORK});
}

/* SIGCHLD never is ignored: see set_action. The kernel of Linux resets those that are caught. */
int64_t myst_reset_ignored_signals(const struct myst_call *call)
{
    const long status = call->application->isolated ? myst_call_status(call, "\nSigIgn:", 16) : 0;
    const uint64_t ignored = status == -1 ? 0 : (uint64_t)status & ~(1ull << (SIGCHLD - 1));
    return ignored ? myst_redirect_without_actions(call, ignored) : MYST_CONTINUE;
}

int64_t myst_serve_processes(const struct myst_call *call)
{
    const pid_t process = (pid_t)myst_call_argument(call, 0);
    if (!call->application->isolated)
        return MYST_CONTINUE;
    switch (call->notification.data.nr)
    {
    case SYS_clone:
        return make_process(call);
    case SYS_fork:
        return fork_process(call);
    case SYS_rt_sigaction:
        return set_action(call);
    case SYS_kill:
        return process < 0 ? myst_signal_group(call) : stop_itself(call);
    case SYS_tkill:
    case SYS_tgkill:
        return stop_itself(call);
    case SYS_getppid:
        return myst_call_process(call) == call->application->process ? MYST_STARTER : MYST_CONTINUE;
    case SYS_getpgrp:
        return myst_group_of(call, 0);
    case SYS_getpgid:
        return myst_group_of(call, process);
    case SYS_setsid:
        return begin_session(call);
    case SYS_getsid:
        return myst_session_of(process ? process : myst_call_thread(call));
    default:
        return MYST_CONTINUE;
    }
}
