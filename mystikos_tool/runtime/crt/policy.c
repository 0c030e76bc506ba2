#include "policy.h"

#include "calls.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

int myst_unhandled_action(const struct myst_application *application)
{
    if (application->allow_unhandled || application->as_linux)
        return MYST_ALLOW;
    return application->unhandled_enosys ? ENOSYS : MYST_STOP;
}

/* Of calls that process 1 serves as Mystikos would. */
static bool is_served(unsigned number)
{
    switch (number)
    {
    case SYS_chdir:
    case SYS_getcwd:
    case SYS_getppid:
    case SYS_getpgrp:
    case SYS_getpgid:
    case SYS_getsid:
    case SYS_getrlimit:
    case SYS_prlimit64:
    case SYS_sysinfo:
    case SYS_uname:
    case SYS_sethostname:
    case SYS_statfs:
    case SYS_fstatfs:
    case SYS_getuid:
    case SYS_geteuid:
    case SYS_getgid:
    case SYS_getegid:
    case SYS_getresuid:
    case SYS_getresgid:
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setfsuid:
    case SYS_setfsgid:
    case SYS_getgroups:
    case SYS_setgroups:
    case SYS_chown:
    case SYS_lchown:
    case SYS_fchown:
    case SYS_fchownat:
    case SYS_stat:
    case SYS_lstat:
    case SYS_fstat:
    case SYS_newfstatat:
    case SYS_open:
    case SYS_openat:
    case SYS_creat:
    case SYS_mkdir:
    case SYS_mkdirat:
        return true;
    default:
        return false;
    }
}

/* Of calls that process 1 serves for files of the host. */
static bool is_guarded(unsigned number)
{
    switch (number)
    {
    case SYS_ftruncate:
    case SYS_chmod:
    case SYS_fchmod:
    case SYS_fchmodat:
    case SYS_utime:
    case SYS_utimes:
    case SYS_utimensat:
    case SYS_futimesat:
        return true;
    default:
        return false;
    }
}

int myst_call_action(const struct myst_application *application, unsigned number)
{
    if (is_guarded(number))
        return MYST_SERVE;
    if (is_served(number))
        return application->as_linux ? MYST_ALLOW : MYST_SERVE;
    switch (number)
    {
    case SYS_brk:
        return application->no_brk ? ENOTSUP : MYST_ALLOW;
    case SYS_fork:
        return myst_clone_action(application, 0);
    case SYS_bind:
    case SYS_connect:
    case SYS_accept:
    case SYS_accept4:
        return application->host_sockets && !application->as_linux ? MYST_SERVE : MYST_ALLOW;
    case SYS_readlink:
    case SYS_readlinkat:
    case SYS_getdents64:
        return application->isolated && !application->as_linux ? MYST_SERVE : MYST_ALLOW;
    case SYS_clone:
        return MYST_CLONE;
    case SYS_ioctl:
        return MYST_IOCTL;
    case SYS_sched_setaffinity:
        return application->limits_processors ? MYST_AFFINITY : MYST_ALLOW;
    case SYS_execve:
    case SYS_execveat:
        return MYST_PROGRAM;
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
    if ((flags & MYST_CLONE_THREAD) || (flags & MYST_CLONE_SPAWN) == MYST_CLONE_SPAWN || application->as_linux)
        return MYST_ALLOW;
    return application->fork_allowed ? MYST_SERVE : ENOTSUP;
}

const unsigned myst_refused_requests[] = {TIOCSTI, TIOCLINUX, TIOCSETD, TIOCEXCL};
const unsigned myst_refused_kinds[] = {'f' << 8, 'v' << 8, 'X' << 8}; /* as FS_IOC_SETFLAGS, SETVERSION, FSSETXATTR */

int myst_ioctl_action(unsigned request)
{
    for (size_t i = 0; i < MYST_REFUSED_REQUESTS; i++)
        if (request == myst_refused_requests[i])
            return EPERM;
    for (size_t i = 0; i < MYST_REFUSED_KINDS; i++)
        if ((request & MYST_KIND_OF_REQUEST) == myst_refused_kinds[i])
            return ENOTTY;
    return MYST_ALLOW;
}
