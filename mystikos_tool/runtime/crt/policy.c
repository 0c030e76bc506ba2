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
    {SYS_kill, 0, MYST_IS, 0, ESRCH},
    {SYS_kill, 0, MYST_IS, 1, ESRCH},
    {SYS_tkill, 0, MYST_IS, 0, ESRCH},
    {SYS_tgkill, 0, MYST_IS, 0, ESRCH},
    {SYS_socket, 0, MYST_IS, AF_NETLINK, EAFNOSUPPORT},
    {SYS_socket, 0, MYST_IS, AF_VSOCK, EAFNOSUPPORT},
    {SYS_socket, 0, MYST_IS, ~0u, EAFNOSUPPORT},
    /* nanosleep is what Mystikos' C library makes of it otherwise. */
    {SYS_clock_nanosleep, 0, MYST_IS_NOT, CLOCK_REALTIME, MYST_UNHANDLED},
    {SYS_clock_nanosleep, 1, MYST_IS_NOT, 0, MYST_UNHANDLED},
    /* select of glibc; pselect passes a sixth argument. */
    {SYS_pselect6, 5, MYST_IS_NOT, 0, MYST_UNHANDLED},
    /* There is one policy, and no log. */
    {SYS_sched_setscheduler, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_sched_setparam, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_sched_getscheduler, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_sched_get_priority_max, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_sched_get_priority_min, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_syslog, 0, MYST_ALWAYS, 0, MYST_SUCCEED},
    {SYS_mlock, 0, MYST_IS, ~0u, MYST_SUCCEED},
    /* Descriptor 0 is a console, of which these know nothing. */
    {SYS_fsync, 0, MYST_IS, 0, EROFS},
    {SYS_fdatasync, 0, MYST_IS, 0, EROFS},
    {SYS_ftruncate, 0, MYST_IS, 0, EBADF},
    {SYS_ftruncate, 0, MYST_IS, ~0u, EBADF},
    {SYS_fchdir, 0, MYST_IS, 0, EBADF},
    {SYS_getdents64, 0, MYST_IS, 0, EBADF},
    {SYS_fchmod, 0, MYST_IS, 0, ENOTSUP},
    {SYS_inotify_add_watch, 0, MYST_IS, 0, EBADF},
    {SYS_inotify_rm_watch, 0, MYST_IS, 0, EBADF},
    {SYS_inotify_add_watch, 0, MYST_IS, ~0u, EBADF},
    {SYS_inotify_rm_watch, 0, MYST_IS, ~0u, EBADF},
    /* No pointer. */
    {SYS_open, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_stat, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_lstat, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_access, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_nanosleep, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_execve, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_truncate, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_chdir, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_rename, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_rmdir, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_creat, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_link, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_unlink, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_chmod, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_chown, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_lchown, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_sysinfo, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_statfs, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_mount, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_umount2, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_symlinkat, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_getcwd, 0, MYST_IS_NULL, 0, EINVAL},
    {SYS_fstat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_getitimer, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_openat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_fchownat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_renameat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_linkat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_faccessat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_execveat, 1, MYST_IS_NULL, 0, EINVAL},
    {SYS_newfstatat, 1, MYST_IS_NULL, 0, ENOENT},
};
/* clang-format on */
const size_t myst_rule_count = MYST_COUNT(myst_rules);

bool myst_is_ruled(unsigned number)
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

static bool fits(const struct myst_rule *rule, uint64_t argument)
{
    switch (rule->condition)
    {
    case MYST_ALWAYS:
        return true;
    case MYST_IS:
        return (unsigned)argument == rule->value;
    case MYST_IS_NOT:
        return (unsigned)argument != rule->value;
    default:
        return argument == 0;
    }
}

int myst_rule_action(const struct myst_application *application, const struct myst_rule *rule)
{
    return rule->action == MYST_UNHANDLED ? myst_unhandled_action(application) : rule->action;
}

int myst_ruled_action(const struct myst_application *application, unsigned number, const uint64_t *arguments)
{
    for (size_t i = 0; i < myst_rule_count; i++)
        if (myst_rules[i].call == number && fits(&myst_rules[i], arguments[myst_rules[i].argument]))
            return myst_rule_action(application, &myst_rules[i]);
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
