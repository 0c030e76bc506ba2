#include "policy.h"

#include "calls.h"

#include <errno.h>
#include <sys/syscall.h>

int myst_unhandled_action(const struct myst_application *application)
{
    if (application->allow_unhandled)
        return MYST_ALLOW;
    return application->unhandled_enosys ? ENOSYS : MYST_STOP;
}

int myst_call_action(const struct myst_application *application, unsigned number)
{
    switch (number)
    {
    case SYS_brk:
        return application->no_brk ? ENOTSUP : MYST_ALLOW;
    case SYS_fork:
        return application->fork_allowed ? MYST_ALLOW : ENOTSUP;
    case SYS_clone:
        return MYST_CLONE;
    case SYS_prlimit64:
        return MYST_LIMITS;
    case SYS_ioctl:
        return MYST_IOCTL;
    case SYS_sched_setaffinity:
        return application->limits_processors ? MYST_AFFINITY : MYST_ALLOW;
    case SYS_execve:
    case SYS_execveat:
        return application->thread_stack || application->exec_stack ? MYST_PROGRAM : MYST_ALLOW;
    case SYS_personality:
        return application->exec_stack ? MYST_PERSONA : myst_unhandled_action(application);
    }
    switch (myst_call_treatment(number))
    {
    case MYST_CALL_SERVED:
        return MYST_ALLOW;
    case MYST_CALL_ABSENT:
        return ENOSYS;
    default:
        return myst_unhandled_action(application);
    }
}

int myst_clone_action(const struct myst_application *application, unsigned flags)
{
    if (flags & MYST_CLONE_NAMESPACES)
        return EPERM;
    if (application->fork_allowed || (flags & MYST_CLONE_THREAD))
        return MYST_ALLOW;
    return (flags & MYST_CLONE_SPAWN) == MYST_CLONE_SPAWN ? MYST_ALLOW : ENOTSUP;
}

int myst_ioctl_action(unsigned request)
{
    return request == MYST_TIOCSTI || request == MYST_TIOCLINUX ? EPERM : MYST_ALLOW;
}
