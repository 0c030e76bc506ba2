#include "seccomp_notify.h"

#include "../common/error.h"
#include "../common/sizes.h"
#include "budget.h"
#include "call.h"
#include "callers.h"
#include "calls.h"
#include "descriptors.h"
#include "directories.h"
#include "futexes.h"
#include "host_files.h"
#include "listing.h"
#include "low_ports.h"
#include "machine.h"
#include "main_stack.h"
#include "mappings.h"
#include "naming.h"
#include "opening.h"
#include "owners.h"
#include "policy.h"
#include "positions.h"
#include "proc_files.h"
#include "processes.h"
#include "redirect.h"
#include "removal.h"
#include "rules.h"
#include "scripts.h"
#include "sockets.h"
#include "stacks.h"
#include "users.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* headers older than those of Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

struct name
{
    char text[32];
};

static struct name name_of(const struct myst_call *call)
{
    struct name name;
    const unsigned number = (unsigned)call->notification.data.nr;
    const char *known = myst_call_name(number);
    if (known)
        snprintf(name.text, sizeof name.text, "%s (%u)", known, number);
    else
        snprintf(name.text, sizeof name.text, "%u", number);
    return name;
}

static void answer(const struct myst_call *call, int error, int64_t value)
{
    struct seccomp_notif_resp response = {.id = call->notification.id, .error = -error, .val = value};
    /* Fails when the caller was killed meanwhile. */
    ioctl(call->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void tell_refused(const struct myst_call *call, int error)
{
    myst_note("strace", "thread %d: system call %s: %s", (int)call->notification.pid, name_of(call).text,
              strerror(error));
}

static void tell_stopped(const struct myst_call *call)
{
    myst_note("stopped",
              "thread %d: system call %s is not handled by Mystikos; where the program can do without "
              "it, set UnhandledSyscallEnosys in the configuration",
              (int)call->notification.pid, name_of(call).text);
}

static void tell_crash(const struct myst_call *call)
{
    myst_note("stopped", "thread %d: system call %s: Mystikos crashes upon these arguments",
              (int)call->notification.pid, name_of(call).text);
}

static void tell_hang(const struct myst_call *call)
{
    myst_note("stopped", "thread %d: system call %s: Mystikos hangs upon it in a thread other than the first",
              (int)call->notification.pid, name_of(call).text);
}

/* On behalf of the application, which cannot do it itself: what it passes can change after a look at it. As a
 * cpuset of Linux would, what is not allowed is left out. */
static int set_affinity(const struct myst_call *call)
{
    const __u64 *arguments = call->notification.data.args;
    pid_t target = (pid_t)arguments[0];
    size_t size = (size_t)arguments[1] < sizeof(cpu_set_t) ? (size_t)arguments[1] : sizeof(cpu_set_t);
    cpu_set_t wanted, allowed;
    struct iovec here = {&wanted, size}, there = {(void *)(uintptr_t)arguments[2], size};

    CPU_ZERO(&wanted);
    if (target < 0)
        return ESRCH;
    if (target == getpid() || target == gettid())
        return EPERM; /* whose mask is the limit */
    if (process_vm_readv((pid_t)call->notification.pid, &here, 1, &there, 1, 0) != (ssize_t)size)
        return errno == EPERM ? EPERM : EFAULT;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return errno;
    CPU_AND(&wanted, &wanted, &allowed);
    if (CPU_COUNT(&wanted) == 0)
        return EINVAL;
    return sched_setaffinity(target ? target : (pid_t)call->notification.pid, sizeof wanted, &wanted) == 0 ? 0 : errno;
}

/* Lets the system serve the call. Returns true where Linux cannot do it, before 5.5. */
static bool let_go_on(const struct myst_call *call)
{
    struct seccomp_notif_resp response = {.id = call->notification.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno != EINVAL)
        return false;
    myst_note("stopped", "the system calls cannot be watched, which needs Linux 5.5");
    return true;
}

static int let_execute(const struct myst_call *call)
{
    const bool is_watched = call->application->thread_stack || call->application->exec_stack;
    myst_forget_program(myst_call_thread(call));
    const int64_t prepared = call->application->as_linux ? MYST_CONTINUE : myst_prepare_program(call);
    if (prepared == MYST_NOT_STARTED)
        return MYST_EXIT_REFUSED;
    if (prepared == MYST_REDIRECTED)
        return 0;
    if (prepared == MYST_CRASHES || prepared == MYST_HANGS)
    {
        (prepared == MYST_CRASHES ? tell_crash : tell_hang)(call);
        return MYST_EXIT_CRASHED;
    }
    if (prepared != MYST_CONTINUE)
    {
        answer(call, (int)-prepared, 0);
        return 0;
    }
    myst_budget_note_program(call);
    if (is_watched && !myst_expect_program((pid_t)call->notification.pid))
    {
        /* As under a debugger, which must not be left without a program to debug. */
        myst_warn("ThreadStackSize and ExecStack have no effect on the program that thread %d starts: %s",
                  (int)call->notification.pid, strerror(errno));
    }
    return let_go_on(call) ? MYST_EXIT_STOPPED : 0;
}

/* The result of the call, a negative errno, or MYST_CONTINUE: the first that serves it decides. */
static int64_t serve(const struct myst_call *call)
{
    static int64_t (*const servers[])(const struct myst_call *call) = {
        myst_serve_budget,    myst_serve_host_files, myst_serve_listing,     myst_serve_proc_files,
        myst_serve_low_ports, myst_serve_users,      myst_serve_machine,     myst_serve_processes,
        myst_serve_opening,   myst_serve_removal,    myst_serve_descriptors, myst_serve_sockets,
        myst_serve_naming,    myst_serve_mappings,   myst_serve_main_stack,  myst_serve_directories,
        myst_serve_futexes,   myst_serve_positions,  myst_serve_owners};
    int64_t result = MYST_CONTINUE;
    for (size_t i = 0; result == MYST_CONTINUE && i < MYST_COUNT(servers); i++)
        result = servers[i](call);
    return result;
}

static int serve_and_answer(const struct myst_call *call)
{
    const int64_t result = serve(call);
    if (result == MYST_CONTINUE)
        return let_go_on(call) ? MYST_EXIT_STOPPED : 0;
    if (result == MYST_REDIRECTED || result == MYST_LATER)
        return 0;
    if (result == MYST_CRASHES)
    {
        tell_crash(call);
        return MYST_EXIT_CRASHED;
    }
    if (result < 0 && call->application->trace)
        tell_refused(call, (int)-result);
    answer(call, result < 0 ? (int)-result : 0, result < 0 ? 0 : result);
    return 0;
}

/* What is done about the call, with its arguments considered. */
static int action_of(const struct myst_call *call)
{
    const struct seccomp_data *data = &call->notification.data;
    const struct myst_rule *rule = myst_find_rule(call->application, (unsigned)data->nr, (const uint64_t *)data->args);
    if (rule)
        return rule->action == MYST_UNHANDLED ? myst_unhandled_action(call->application) : rule->action;
    int action = myst_call_action(call->application, (unsigned)data->nr);
    switch (action)
    {
    case MYST_PERSONA:
        return myst_unhandled_action(call->application);
    case MYST_CLONE:
        return myst_clone_action(call->application, (unsigned)data->args[0]);
    case MYST_IOCTL:
        return myst_ioctl_action((unsigned)data->args[1]);
    default:
        return action;
    }
}

void myst_seccomp_notify_begin(int listener)
{
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

enum myst_taken myst_seccomp_notify_take(struct myst_call *call)
{
    struct pollfd state = {.fd = call->listener};
    memset(&call->notification, 0, sizeof call->notification);
    if (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_RECV, &call->notification) == 0)
        return MYST_TAKEN;
    if (errno != ENOENT && errno != EINTR)
    {
        myst_note("stopped", "system calls cannot be watched: %s", strerror(errno));
        return MYST_UNWATCHED;
    }
    return poll(&state, 1, 0) == 1 && state.revents & POLLHUP ? MYST_NO_MORE : MYST_GONE;
}

int myst_seccomp_notify_answer(const struct myst_call *call, enum myst_taken taken)
{
    if (taken != MYST_TAKEN)
        return taken == MYST_UNWATCHED ? MYST_EXIT_STOPPED : 0;
    myst_budget_expect();
    int action = action_of(call);
    if (action == MYST_SERVE && myst_is_redirected(call))
        action = MYST_ALLOW;
    switch (action)
    {
    case MYST_STOP:
        tell_stopped(call);
        return MYST_EXIT_STOPPED;
    case MYST_CRASH:
        tell_crash(call);
        return MYST_EXIT_CRASHED;
    case MYST_PROGRAM:
        return let_execute(call);
    case MYST_SERVE:
        return serve_and_answer(call);
    case MYST_ALLOW:
        return let_go_on(call) ? MYST_EXIT_STOPPED : 0;
    case MYST_SUCCEED:
        action = 0;
        break;
    case MYST_AFFINITY:
        action = set_affinity(call);
        break;
    case MYST_GROUP:
        action = (int)-myst_signal_group(call);
        break;
    }
    if (action > 0 && call->application->trace)
        tell_refused(call, action);
    answer(call, action, 0);
    return 0;
}
