#include "seccomp_notify.h"

#include "../common/error.h"
#include "calls.h"
#include "policy.h"
#include "stacks.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct call
{
    const struct myst_application *application;
    struct seccomp_notif notification;
    char name[32];
};

static void name_call(struct call *call)
{
    unsigned number = (unsigned)call->notification.data.nr;
    const char *name = myst_call_name(number);
    if (name)
        snprintf(call->name, sizeof call->name, "%s (%u)", name, number);
    else
        snprintf(call->name, sizeof call->name, "%u", number);
}

static void answer(int listener, const struct call *call, int error, int64_t value)
{
    struct seccomp_notif_resp response = {.id = call->notification.id, .error = -error, .val = value};
    /* Fails when the caller was killed meanwhile. */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void tell_refused(const struct call *call, int error)
{
    myst_note("strace", "thread %d: system call %s: %s", (int)call->notification.pid, call->name, strerror(error));
}

static void tell_stopped(const struct call *call)
{
    myst_note("stopped",
              "thread %d: system call %s is not handled by Mystikos; where the program can do without "
              "it, set UnhandledSyscallEnosys in the configuration",
              (int)call->notification.pid, call->name);
}

/* On behalf of the application, which cannot do it itself: what it passes can change after a look at it. As a
 * cpuset of Linux would, what is not allowed is left out. */
static int set_affinity(const struct call *call)
{
    const __u64 *arguments = call->notification.data.args;
    pid_t target = (pid_t)arguments[0];
    size_t size = (size_t)arguments[1] < sizeof(cpu_set_t) ? (size_t)arguments[1] : sizeof(cpu_set_t);
    cpu_set_t wanted, allowed;
    struct iovec here = {&wanted, size}, there = {(void *)(uintptr_t)arguments[2], size};

    CPU_ZERO(&wanted);
    if (target < 0)
        return ESRCH;
    if (target == getpid())
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

/* Returns true where Linux cannot do it, before 5.5. */
static bool let_execute(int listener, const struct call *call)
{
    struct seccomp_notif_resp response = {.id = call->notification.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (!myst_expect_program((pid_t)call->notification.pid))
    {
        /* As under a debugger, which must not be left without a program to debug. */
        myst_warn("ThreadStackSize and ExecStack have no effect on the program that thread %d starts: %s",
                  (int)call->notification.pid, strerror(errno));
    }
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno != EINVAL)
        return false;
    myst_note("stopped", "ThreadStackSize and ExecStack in the configuration need Linux 5.5");
    return true;
}

/* What is done about the call, with its arguments considered. */
static int action_of(const struct call *call)
{
    const struct seccomp_data *data = &call->notification.data;
    int action = myst_call_action(call->application, (unsigned)data->nr);
    switch (action)
    {
    case MYST_PERSONA:
        return myst_unhandled_action(call->application);
    case MYST_CLONE:
        return myst_clone_action(call->application, (unsigned)data->args[0]);
    case MYST_LIMITS:
        return (unsigned)data->args[0] == 1 ? EPERM : MYST_ALLOW;
    case MYST_IOCTL:
        return myst_ioctl_action((unsigned)data->args[1]);
    default:
        return action;
    }
}

bool myst_seccomp_notify_answer(const struct myst_application *application, int listener)
{
    struct call call = {.application = application};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call.notification) != 0)
    {
        if (errno == ENOENT || errno == EINTR)
            return false; /* the caller was killed meanwhile */
        myst_note("stopped", "system calls cannot be watched: %s", strerror(errno));
        return true;
    }
    name_call(&call);

    int action = action_of(&call);
    switch (action)
    {
    case MYST_STOP:
        tell_stopped(&call);
        return true;
    case MYST_PROGRAM:
        return let_execute(listener, &call);
    case MYST_AFFINITY:
        action = set_affinity(&call);
        break;
    }
    if (action > 0 && application->trace)
        tell_refused(&call, action);
    answer(listener, &call, action, 0);
    return false;
}
