#include "policy.h"

#include "../common/sizes.h"
#include "calls.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

/* clang-format off */
const struct myst_rule myst_rules[] = {
    /* Mystikos has no process group 0; here it would be the caller's, outside. Process 1 is not seen. */
    {SYS_kill, 0, false, 0, ESRCH},
    {SYS_kill, 0, false, 1, ESRCH},
    {SYS_socket, 0, false, AF_NETLINK, EAFNOSUPPORT},
    {SYS_socket, 0, false, AF_VSOCK, EAFNOSUPPORT},
    /* nanosleep is what Mystikos' C library makes of it otherwise. */
    {SYS_clock_nanosleep, 0, true, CLOCK_REALTIME, MYST_UNHANDLED},
    {SYS_clock_nanosleep, 1, true, 0, MYST_UNHANDLED},
    /* select of glibc; pselect passes a sixth argument. */
    {SYS_pselect6, 5, true, 0, MYST_UNHANDLED},
};
/* clang-format on */
const size_t myst_rule_count = MYST_COUNT(myst_rules);

static bool is_ruled(unsigned number)
{
    for (size_t i = 0; i < myst_rule_count; i++)
        if (myst_rules[i].call == number)
            return true;
    return false;
}

int myst_flags_argument(unsigned number)
{
    return number == SYS_open ? 1 : number == SYS_openat ? 2 : -1;
}

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
    case SYS_creat:
    case SYS_mkdir:
    case SYS_mkdirat:
        return MYST_SERVE;
    case SYS_open:
    case SYS_openat:
        return MYST_CREATE;
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
    if (is_ruled(number))
        return MYST_RULED - (int)number;
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

int myst_ruled_action(const struct myst_application *application, unsigned number, const uint64_t *arguments)
{
    for (size_t i = 0; i < myst_rule_count; i++)
    {
        const struct myst_rule *rule = &myst_rules[i];
        if (rule->call == number && ((unsigned)arguments[rule->argument] != rule->value) == rule->differs)
            return rule->action == MYST_UNHANDLED ? myst_unhandled_action(application) : rule->action;
    }
    return MYST_ALLOW;
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
