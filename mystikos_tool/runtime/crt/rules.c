#include "rules.h"

#include "../common/sizes.h"
#include "budget.h"
#include "calls.h"
#include "descriptors.h"
#include "machine.h"
#include "policy.h"
#include "positions.h"
#include "processes.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NONE ~0u          /* -1 */
#define TMPFILE 0x400000u /* O_TMPFILE without O_DIRECTORY */
#define CLOCK_SGI_CYCLE 10
#define FIRST_NEGATIVE 0x80000000u /* of an int */
#define LONGEST_MESSAGE (75 << 10) /* bytes, of sendto */
#define RWF_NOAPPEND 0x20u         /* include/uapi/linux/fs.h: written where the caller says, not at the end */
#define IO_PRIORITY_OF_GROUP 2     /* include/uapi/linux/ioprio.h */

/* clang-format off */
#define ALWAYS {{0, MYST_ANYTHING, 0}}

/* Process 1 and its threads are not seen. */
static const struct myst_rule safety[] = {
    {SYS_kill, {{0, MYST_IS, 1}}, ESRCH},
    {SYS_kill, {{0, MYST_IS, MYST_STARTER}}, ESRCH},
    {SYS_kill, {{0, MYST_IS, NONE}, {1, MYST_IS, 0}}, MYST_SUCCEED},
    {SYS_tkill, {{0, MYST_IS, 0}}, ESRCH},
    {SYS_tkill, {{0, MYST_IS, NONE}}, ESRCH},
    {SYS_tkill, {{0, MYST_IS, MYST_STARTER}}, ESRCH},
    {SYS_tgkill, {{0, MYST_IS, 0}}, ESRCH},
    {SYS_tgkill, {{0, MYST_IS, NONE}}, ESRCH},
    {SYS_tgkill, {{1, MYST_IS, MYST_STARTER}}, ESRCH},
    /* A file of the host that is appended to stays so, and keeps its content. */
    {SYS_fcntl, {{1, MYST_IS, F_SETFL}, {0, MYST_IS_NOT, NONE}}, MYST_SERVE},
    {SYS_pwritev2, {{2, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL}, /* no number of parts */
    {SYS_pwritev2, {{5, MYST_HAS, RWF_NOAPPEND}}, EOPNOTSUPP},
};

/* Without isolation: all processes would be those of the machine that are the caller's. */
static const struct myst_rule of_machine[] = {
    {SYS_kill, {{0, MYST_IS, NONE}}, EPERM},
};

/* Where the application may make calls that Mystikos does not handle: what reaches the caller's process group, keys that
 * the caller has, and what is done without this filter. */
static const struct myst_rule of_more_calls[] = {
    {SYS_setpriority, {{0, MYST_IS, PRIO_PGRP}, {1, MYST_IS, 0}}, EPERM},
    {SYS_ioprio_set, {{0, MYST_IS, IO_PRIORITY_OF_GROUP}, {1, MYST_IS, 0}}, EPERM},
    {SYS_add_key, ALWAYS, ENOSYS},
    {SYS_request_key, ALWAYS, ENOSYS},
    {SYS_keyctl, ALWAYS, ENOSYS},
    {425 /* io_uring_setup */, ALWAYS, ENOSYS},
    {426 /* io_uring_enter */, ALWAYS, ENOSYS},
    {427 /* io_uring_register */, ALWAYS, ENOSYS},
    {437 /* openat2 */, ALWAYS, ENOSYS},
};

/* Where the application has Linux as it is. */
static const struct myst_rule of_linux[] = {
    {SYS_kill, {{0, MYST_IS, 0}}, ESRCH}, /* the caller's group, outside */
    {SYS_fallocate, {{1, MYST_IS_NOT, 0}, {0, MYST_IS_NOT, NONE}}, EOPNOTSUPP}, /* as a file of the host keeps its content */
    /* No set-id file is left in a directory of the host. */
    {SYS_open, {{1, MYST_HAS, O_CREAT | TMPFILE}, {2, MYST_HAS, S_ISUID | S_ISGID}}, EPERM},
    {SYS_openat, {{2, MYST_HAS, O_CREAT | TMPFILE}, {3, MYST_HAS, S_ISUID | S_ISGID}}, EPERM},
    {SYS_creat, {{1, MYST_HAS, S_ISUID | S_ISGID}}, EPERM},
    {SYS_mknod, {{1, MYST_HAS, S_ISUID | S_ISGID}}, EPERM},
    {SYS_mknodat, {{2, MYST_HAS, S_ISUID | S_ISGID}}, EPERM},
};

/* A name leads to a socket of the host where its directories are mounted. The sizes of other addresses do not help: what
 * is behind the name is not looked at. */
static const struct myst_rule of_host_directories[] = {
    {SYS_sendto, {{5, MYST_IS_NOT, 0}, {0, MYST_IS_NOT, NONE}}, MYST_SERVE},
    {SYS_sendmmsg, {{0, MYST_IS_NOT, NONE}}, MYST_SERVE},
};

static const struct myst_rule rules[] = {
    {SYS_socket, {{0, MYST_IS, AF_UNIX}, {1, MYST_LACKS, SOCK_STREAM | SOCK_DGRAM}}, ENOTSUP},
    {SYS_socket, {{0, MYST_IS, AF_INET}, {1, MYST_LACKS, SOCK_STREAM | SOCK_DGRAM}}, ENOTSUP},
    {SYS_socket, {{0, MYST_IS, AF_INET6}, {1, MYST_LACKS, SOCK_STREAM | SOCK_DGRAM}}, ENOTSUP},
    {SYS_socket, {{0, MYST_IS, AF_PACKET}, {1, MYST_LACKS, SOCK_STREAM | SOCK_DGRAM}}, ENOTSUP},
    {SYS_socket, {{0, MYST_IS, AF_UNIX}, {2, MYST_IS_NOT, 0}}, ENOTSUP},
    {SYS_socket, {{0, MYST_IS, AF_UNIX}}, MYST_ALLOW},
    {SYS_socket, {{0, MYST_IS, AF_INET}}, MYST_ALLOW},
    {SYS_socket, {{0, MYST_IS, AF_INET6}}, MYST_ALLOW},
    {SYS_socket, {{0, MYST_IS, AF_PACKET}}, MYST_ALLOW},
    {SYS_socket, ALWAYS, EAFNOSUPPORT},
    {SYS_socketpair, {{0, MYST_IS, AF_UNIX}, {1, MYST_LACKS, SOCK_STREAM | SOCK_DGRAM}}, ENOTSUP},
    {SYS_socketpair, {{0, MYST_IS, AF_UNIX}}, MYST_SERVE},
    {SYS_socketpair, {{0, MYST_IS, AF_INET}}, MYST_ALLOW},
    {SYS_socketpair, {{0, MYST_IS, AF_INET6}}, MYST_ALLOW},
    {SYS_socketpair, {{0, MYST_IS, AF_PACKET}}, MYST_ALLOW},
    {SYS_socketpair, ALWAYS, EAFNOSUPPORT},
    {SYS_listen, ALWAYS, MYST_SERVE},
    {SYS_getpeername, ALWAYS, MYST_SERVE},
    {SYS_recvfrom, {{1, MYST_IS_NULL, 0}, {2, MYST_IS_NOT, 0}}, EFAULT},
    {SYS_recvfrom, {{3, MYST_HAS, ~(unsigned)MSG_NOSIGNAL}}, MYST_SERVE},
    {SYS_sendmsg, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_recvmsg, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_sendmsg, {{2, MYST_IS, MYST_HAND_OVER}, {3, MYST_IS_SECRET, 0}}, MYST_ALLOW},
    {SYS_sendmsg, ALWAYS, MYST_SERVE},
    {SYS_recvmsg, ALWAYS, MYST_SERVE},
    {SYS_sendto, {{1, MYST_IS_NULL, 0}, {2, MYST_IS_NOT, 0}}, EFAULT},
    {SYS_sendto, {{5, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_sendto, {{2, MYST_AT_LEAST, LONGEST_MESSAGE}}, EMSGSIZE},
    {SYS_sendto, {{3, MYST_IS_NOT, 0}}, MYST_SERVE},
    /* To a Unix-domain socket, by the size of the address. */
    {SYS_sendto, {{5, MYST_IS, sizeof(struct sockaddr_in6)}}, MYST_ALLOW},
    {SYS_sendto, {{5, MYST_AT_LEAST, sizeof(sa_family_t) + 1}, {5, MYST_IS_NOT, sizeof(struct sockaddr_in)}}, MYST_SERVE},
    /* Those that a Unix-domain socket knows; others have to be told apart by their sockets. */
    {SYS_getsockopt, {{1, MYST_IS_NOT, SOL_SOCKET}}, MYST_ALLOW},
    {SYS_getsockopt, {{2, MYST_IS, SO_REUSEADDR}}, MYST_ALLOW},
    {SYS_getsockopt, {{2, MYST_IS, SO_SNDBUF}}, MYST_ALLOW},
    {SYS_getsockopt, {{2, MYST_IS, SO_RCVBUF}}, MYST_ALLOW},
    {SYS_getsockopt, {{2, MYST_IS, SO_TYPE}}, MYST_ALLOW},
    {SYS_getsockopt, {{2, MYST_IS, SO_SNDTIMEO}}, MYST_ALLOW},
    {SYS_getsockopt, ALWAYS, MYST_SERVE},
    {SYS_setsockopt, {{1, MYST_IS_NOT, SOL_SOCKET}}, MYST_ALLOW},
    {SYS_setsockopt, {{2, MYST_IS, SO_REUSEADDR}}, MYST_ALLOW},
    {SYS_setsockopt, {{2, MYST_IS, SO_SNDBUF}}, MYST_ALLOW},
    {SYS_setsockopt, {{2, MYST_IS, SO_RCVBUF}}, MYST_ALLOW},
    {SYS_setsockopt, {{2, MYST_IS, SO_SNDTIMEO}}, MYST_ALLOW},
    {SYS_setsockopt, ALWAYS, MYST_SERVE},
    {SYS_ioctl, {{1, MYST_IS, 0x8933 /* SIOCGIFINDEX */}}, ENOTSUP},
    {SYS_ioctl, ALWAYS, MYST_SERVE},
    {SYS_bind, ALWAYS, MYST_SERVE},
    {SYS_connect, ALWAYS, MYST_SERVE},

    /* nanosleep is what Mystikos' C library makes of it otherwise. */
    {SYS_clock_nanosleep, {{0, MYST_IS_NOT, CLOCK_REALTIME}}, MYST_UNHANDLED},
    {SYS_clock_nanosleep, {{1, MYST_IS_NOT, 0}}, MYST_UNHANDLED},
    {SYS_clock_nanosleep, {{2, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    /* select of glibc; pselect passes a sixth argument. */
    {SYS_pselect6, {{5, MYST_IS_NOT, 0}}, MYST_UNHANDLED},
    /* No C library makes these so; the calls behind them are not handled. */
    {SYS_clone, {{0, MYST_IS, 0}}, MYST_UNHANDLED},
    {SYS_clone, {{0, MYST_IS, SIGCHLD}, {1, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {SYS_utime, {{0, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {SYS_utimes, {{0, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {SYS_mknodat, {{1, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {334 /* rseq */, {{0, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {435 /* clone3 */, {{0, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {436 /* close_range */, {{0, MYST_IS, 0}, {1, MYST_IS, 0}}, MYST_UNHANDLED},
    {439 /* faccessat2 */, {{1, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {452 /* fchmodat2 */, {{1, MYST_IS_NULL, 0}}, MYST_UNHANDLED},
    {462 /* mseal */, {{0, MYST_IS_NULL, 0}}, MYST_UNHANDLED},

    /* There is one policy, and no log; locks keep nobody off, and advice changes nothing. */
    {SYS_sched_getparam, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_sched_getparam, {{1, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_sched_setaffinity, {{2, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_sched_setaffinity, {{2, MYST_IS_WILD, 0}}, EFAULT},
    {SYS_sched_setscheduler, ALWAYS, MYST_SUCCEED},
    {SYS_sched_setparam, ALWAYS, MYST_SUCCEED},
    {SYS_sched_getscheduler, ALWAYS, MYST_SUCCEED},
    {SYS_sched_get_priority_max, ALWAYS, MYST_SUCCEED},
    {SYS_sched_get_priority_min, ALWAYS, MYST_SUCCEED},
    {SYS_syslog, ALWAYS, MYST_SUCCEED},
    {SYS_mbind, ALWAYS, MYST_SUCCEED},
    {SYS_fadvise64, ALWAYS, MYST_SUCCEED},
    {SYS_flock, ALWAYS, MYST_SUCCEED},
    {SYS_get_robust_list, {{0, MYST_IS, NONE}}, EINVAL},
    {SYS_get_robust_list, ALWAYS, MYST_SERVE},
    {SYS_clock_settime, {{1, MYST_IS_NULL, 0}}, MYST_CRASH},
    {SYS_clock_settime, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_clock_settime, ALWAYS, EPERM},
    {SYS_setsid, ALWAYS, MYST_SERVE},
    {SYS_set_thread_area, ALWAYS, MYST_CRASH},
    {SYS_mknod, {{1, MYST_HAS, S_IFIFO}, {1, MYST_LACKS, S_IFMT & ~S_IFIFO}}, MYST_SUCCEED}, /* there is none afterwards */
    {SYS_mknod, ALWAYS, ENOTSUP},
    {SYS_mknodat, {{2, MYST_HAS, S_IFIFO}, {2, MYST_LACKS, S_IFMT & ~S_IFIFO}}, MYST_SUCCEED},
    {SYS_mknodat, ALWAYS, ENOTSUP},

    {SYS_fcntl, {{1, MYST_IS, F_DUPFD}, {0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_fcntl, {{1, MYST_IS, F_DUPFD_CLOEXEC}, {0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_fcntl, {{0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EBADF},
    {SYS_fcntl, {{1, MYST_IS, F_SETLK}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_IS, F_SETLKW}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_IS, F_GETLK}}, ENOTSUP},
    {SYS_fcntl, {{1, MYST_IS, F_DUPFD}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_IS, F_DUPFD_CLOEXEC}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_IS, F_SETPIPE_SZ}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_IS, F_GETPIPE_SZ}}, MYST_SERVE},
    {SYS_fcntl, {{1, MYST_AT_LEAST, F_SETLKW + 1}}, ENOTSUP},
    {SYS_pipe2, ALWAYS, MYST_SERVE},
    {SYS_dup, {{0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_dup2, {{0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_dup2, {{1, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_dup3, {{0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},
    {SYS_dup3, {{1, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EINVAL},

    {SYS_getrusage, {{1, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_getrusage, {{0, MYST_IS, RUSAGE_THREAD}}, EINVAL},
    {SYS_getrusage, {{0, MYST_IS, RUSAGE_SELF}}, MYST_SERVE},
    {SYS_getrusage, {{0, MYST_IS, NONE /* RUSAGE_CHILDREN */}}, MYST_SERVE},
    {SYS_clock_gettime, {{0, MYST_IS, CLOCK_THREAD_CPUTIME_ID}}, MYST_SERVE},
    {SYS_clock_gettime, {{0, MYST_IS, CLOCK_REALTIME_ALARM}}, EPERM},
    {SYS_clock_gettime, {{0, MYST_IS, CLOCK_BOOTTIME_ALARM}}, EPERM},
    {SYS_clock_gettime, {{0, MYST_IS, CLOCK_SGI_CYCLE}}, EPERM},
    {SYS_clock_getres, {{0, MYST_IS, CLOCK_REALTIME_ALARM}}, EPERM},
    {SYS_clock_getres, {{0, MYST_IS, CLOCK_BOOTTIME_ALARM}}, EPERM},
    {SYS_clock_getres, {{0, MYST_IS, CLOCK_SGI_CYCLE}}, EPERM},
    {SYS_setitimer, {{0, MYST_IS_NOT, 0}}, EINVAL}, /* ITIMER_REAL alone */
    {SYS_setitimer, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_getitimer, {{0, MYST_IS_NOT, 0}}, EINVAL},
    {SYS_getrandom, {{0, MYST_IS_WILD, 0}}, EINVAL},
    {SYS_getrandom, {{0, MYST_IS_NULL, 0}, {1, MYST_IS_NOT, 0}}, EINVAL},
    {SYS_getrandom, {{2, MYST_AT_LEAST, GRND_RANDOM | GRND_INSECURE}}, MYST_SERVE}, /* no flags to Linux */
    {SYS_arch_prctl, {{1, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_arch_prctl, {{0, MYST_IS, ARCH_SET_FS}}, MYST_ALLOW},
    {SYS_arch_prctl, {{0, MYST_IS, ARCH_GET_FS}}, MYST_ALLOW},
    {SYS_arch_prctl, {{0, MYST_IS, ARCH_GET_GS}}, MYST_ALLOW},
    {SYS_arch_prctl, ALWAYS, EINVAL},
    {SYS_prctl, {{0, MYST_IS_NOT, PR_SET_PDEATHSIG}, {1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_prctl, {{0, MYST_IS, PR_SET_NAME}}, MYST_ALLOW},
    {SYS_prctl, {{0, MYST_IS, PR_GET_NAME}}, MYST_ALLOW},
    {SYS_prctl, {{0, MYST_IS, PR_SET_PDEATHSIG}}, MYST_SUCCEED}, /* and no signal comes */
    {SYS_prctl, ALWAYS, EINVAL},
    {SYS_getpgid, {{0, MYST_IS, NONE}}, EPERM},
    {SYS_wait4, {{2, MYST_HAS, ~(unsigned)(WNOHANG | WUNTRACED | WCONTINUED)}}, EINVAL},
    {SYS_waitid, {{3, MYST_HAS, ~(unsigned)(WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT)}}, EINVAL},
    {SYS_waitid, {{0, MYST_AT_LEAST, P_PGID + 1}}, EINVAL},
    {SYS_waitid, {{3, MYST_IS, 0}}, ECHILD},
    /* The signal is not looked at, and nothing is sent. */
    {SYS_tkill, {{1, MYST_AT_LEAST, _NSIG}}, MYST_SUCCEED},
    {SYS_tgkill, {{2, MYST_AT_LEAST, _NSIG}}, MYST_SUCCEED},
    {SYS_rt_sigpending, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_rt_sigprocmask, {{1, MYST_IS_NULL, 0}, {3, MYST_IS, 0}}, MYST_SUCCEED},
    {SYS_rt_sigaction, {{0, MYST_IS, SIGCHLD}, {1, MYST_IS_NOT, 0}}, MYST_SERVE},
    {SYS_rt_sigaction, {{0, MYST_IS, SIGKILL}}, EINVAL}, /* whether it is to be changed or not */
    {SYS_rt_sigaction, {{0, MYST_IS, SIGSTOP}}, EINVAL},
    {SYS_kill, {{0, MYST_IS, 0}}, MYST_GROUP},
    {SYS_kill, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, MYST_SERVE},
    {SYS_kill, {{1, MYST_IS, SIGTSTP}}, MYST_SERVE},
    {SYS_kill, {{1, MYST_IS, SIGTTIN}}, MYST_SERVE},
    {SYS_kill, {{1, MYST_IS, SIGTTOU}}, MYST_SERVE},
    {SYS_tkill, {{1, MYST_IS, 0}}, MYST_CRASH},
    {SYS_tkill, {{1, MYST_IS, SIGSTOP}}, MYST_SERVE},
    {SYS_tkill, {{1, MYST_IS, SIGTSTP}}, MYST_SERVE},
    {SYS_tkill, {{1, MYST_IS, SIGTTIN}}, MYST_SERVE},
    {SYS_tkill, {{1, MYST_IS, SIGTTOU}}, MYST_SERVE},
    {SYS_tgkill, {{2, MYST_IS, SIGSTOP}}, MYST_SERVE},
    {SYS_tgkill, {{2, MYST_IS, SIGTSTP}}, MYST_SERVE},
    {SYS_tgkill, {{2, MYST_IS, SIGTTIN}}, MYST_SERVE},
    {SYS_tgkill, {{2, MYST_IS, SIGTTOU}}, MYST_SERVE},
    {SYS_futex, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_futex, {{1, MYST_AT_LEAST, FUTEX_WAIT_REQUEUE_PI}, {1, MYST_LACKS, FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAIT_BITSET}, {3, MYST_IS_NOT, 0}}, MYST_SERVE},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAIT_BITSET_PRIVATE}, {3, MYST_IS_NOT, 0}}, MYST_SERVE},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE}, {2, MYST_IS, 0}}, ENOSYS},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE}, {2, MYST_AT_LEAST, FIRST_NEGATIVE}}, ENOSYS},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE_PRIVATE}, {2, MYST_IS, 0}}, ENOSYS},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE_PRIVATE}, {2, MYST_AT_LEAST, FIRST_NEGATIVE}}, ENOSYS},
    {SYS_futex, {{1, MYST_IS, FUTEX_CMP_REQUEUE}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_CMP_REQUEUE_PRIVATE}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE_OP}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_WAKE_OP_PRIVATE}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_LOCK_PI}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_LOCK_PI_PRIVATE}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_UNLOCK_PI}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_UNLOCK_PI_PRIVATE}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_TRYLOCK_PI}}, ENOTSUP},
    {SYS_futex, {{1, MYST_IS, FUTEX_TRYLOCK_PI_PRIVATE}}, ENOTSUP},

    /* Memory: what lies nowhere is no memory; a mapping is not made smaller or put elsewhere. */
    {SYS_mprotect, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_mprotect, {{0, MYST_IS_LOW, 0}}, EINVAL},
    {SYS_munmap, {{0, MYST_IS_LOW, 0}}, EINVAL},
    {SYS_msync, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_msync, {{0, MYST_IS_LOW, 0}}, EINVAL},
    {SYS_msync, ALWAYS, MYST_SERVE},
    {SYS_mlock, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_mlock, ALWAYS, MYST_SUCCEED}, /* and nothing is done */
    {SYS_madvise, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_madvise, {{0, MYST_IS_WILD, 0}}, EINVAL},
    {SYS_madvise, ALWAYS, MYST_SUCCEED},
    {SYS_mremap, {{0, MYST_IS_NULL, 0}}, MYST_CRASH},
    {SYS_mremap, {{3, MYST_HAS, MREMAP_FIXED}}, EINVAL},
    {SYS_mremap, {{2, MYST_IS_LESS, 1}}, EINVAL},
    {SYS_mremap, {{1, MYST_IS, MYST_PAGE}, {3, MYST_IS, 0}}, MYST_SERVE},
    {SYS_mmap, {{0, MYST_HAS, MYST_PAGE - 1}}, EINVAL},
    {SYS_mmap, {{3, MYST_HAS, MAP_SHARED}, {3, MYST_HAS, MAP_FIXED}}, EINVAL},
    {SYS_mmap, {{3, MYST_HAS, MAP_SHARED}, {4, MYST_IS_NOT, NONE}}, MYST_SERVE},
    {SYS_mmap, {{3, MYST_HAS, MAP_SHARED}, {3, MYST_HAS, MAP_ANONYMOUS}}, MYST_SERVE}, /* counts once */
    {SYS_mmap, {{3, MYST_LACKS, MAP_SHARED | MAP_PRIVATE}}, MYST_SERVE},
    {SYS_mmap, {{2, MYST_IS, PROT_NONE}, {3, MYST_LACKS, MAP_FIXED}}, MYST_SERVE}, /* as a thread's stack begins */
    {SYS_mmap, {{3, MYST_HAS, MAP_32BIT | MAP_HUGETLB | MAP_FIXED_NOREPLACE}}, MYST_SERVE},
    {SYS_mmap, {{0, MYST_IS_BELOW_4G, 0}}, MYST_SERVE},
    {SYS_mmap, {{1, MYST_AT_LEAST, MYST_LARGE_MAPPING}}, MYST_SERVE},
    {SYS_mmap, {{2, MYST_IS, PROT_READ}, {4, MYST_IS_NOT, NONE}}, MYST_SERVE}, /* of what may be a directory */
    {SYS_mmap, {{2, MYST_IS, PROT_READ | PROT_WRITE}, {3, MYST_IS, MAP_PRIVATE}}, MYST_SERVE}, /* of what may be shorter */

    /* Files. */
    {SYS_open, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_open, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_openat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_openat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_open, {{1, MYST_HAS, TMPFILE}}, EISDIR},
    {SYS_openat, {{2, MYST_HAS, TMPFILE}}, EISDIR},
    {SYS_fcntl, {{1, MYST_IS, F_GETFL}}, MYST_SERVE},

    /* Positions: none lies behind the end of a file, which has no holes. */
    {SYS_lseek, {{2, MYST_IS, SEEK_DATA}}, EINVAL},
    {SYS_lseek, {{2, MYST_IS, SEEK_HOLE}}, EINVAL},
    {SYS_lseek, {{2, MYST_IS, SEEK_END}}, MYST_SERVE},
    {SYS_lseek, {{1, MYST_AT_LEAST, MYST_FAR}}, MYST_SERVE},
    {SYS_copy_file_range, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_copy_file_range, {{2, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_copy_file_range, ALWAYS, MYST_SERVE},
    {SYS_write, {{2, MYST_AT_LEAST, MYST_LARGE_WRITE}}, MYST_SERVE},
    {SYS_pwrite64, {{1, MYST_IS_NULL, 0}, {2, MYST_IS_NOT, 0}}, EFAULT},
    {SYS_pwrite64, {{2, MYST_AT_LEAST, MYST_LARGE_WRITE}}, MYST_SERVE},

    /* Descriptors: 0 is a console, of which these know nothing. */
    {SYS_fsync, {{0, MYST_IS, 0}}, EROFS},
    {SYS_fdatasync, {{0, MYST_IS, 0}}, EROFS},
    {SYS_fsync, ALWAYS, MYST_SERVE},
    {SYS_fdatasync, ALWAYS, MYST_SERVE},
    {SYS_ftruncate, {{0, MYST_IS, 0}}, EBADF},
    {SYS_ftruncate, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_fchown, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_fchdir, {{0, MYST_IS, 0}}, EBADF},
    {SYS_fchdir, ALWAYS, MYST_SERVE},
    {SYS_getdents64, {{0, MYST_IS, 0}}, EBADF},
    {SYS_getdents64, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_readlink, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_readlinkat, {{2, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_fchmod, {{0, MYST_IS, 0}}, ENOTSUP},
    {SYS_inotify_add_watch, {{0, MYST_IS, 0}}, EBADF},
    {SYS_inotify_rm_watch, {{0, MYST_IS, 0}}, EBADF},
    {SYS_inotify_add_watch, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_inotify_rm_watch, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_inotify_init, ALWAYS, MYST_SERVE},
    {SYS_inotify_init1, ALWAYS, MYST_SERVE},
    {SYS_inotify_add_watch, ALWAYS, MYST_SERVE},
    {SYS_inotify_rm_watch, ALWAYS, MYST_SERVE},
    {SYS_epoll_wait, {{1, MYST_IS_NULL, 0}, {0, MYST_IS_NOT, NONE}}, EINVAL},
    {SYS_epoll_pwait, {{1, MYST_IS_NULL, 0}, {0, MYST_IS_NOT, NONE}}, EINVAL},
    {SYS_epoll_wait, {{2, MYST_IS, 0}, {0, MYST_IS_NOT, 0}}, MYST_SUCCEED},
    {SYS_epoll_pwait, {{2, MYST_IS, 0}, {0, MYST_IS_NOT, 0}}, MYST_SUCCEED},
    {SYS_epoll_ctl, {{3, MYST_IS_NULL, 0}}, EBADF},
    {SYS_epoll_ctl, {{0, MYST_AT_LEAST, MYST_MAX_DESCRIPTORS}}, EBADF},
    {SYS_epoll_ctl, {{1, MYST_IS, EPOLL_CTL_ADD}}, MYST_SERVE},
    {SYS_sendfile, {{3, MYST_IS_NULL, 0}}, MYST_SUCCEED},
    {SYS_sendfile, {{2, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_sendfile, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_sendfile, {{1, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},
    {SYS_fallocate, ALWAYS, MYST_SUCCEED}, /* and nothing is done */
    {SYS_preadv, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_preadv, {{0, MYST_IS, NONE}}, MYST_SUCCEED},
    {SYS_pwritev, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_pwritev2, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_preadv2, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_preadv2, {{0, MYST_IS, NONE}}, MYST_SUCCEED},
    {SYS_preadv2, {{5, MYST_IS_NOT, 0}}, MYST_SERVE},
    {SYS_pwritev2, {{5, MYST_IS_NOT, 0}}, MYST_SERVE},
    {SYS_recvmmsg, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_sendmmsg, {{0, MYST_IS, NONE}}, EBADF},
    {SYS_utimensat, {{0, MYST_IS, 0}, {1, MYST_IS_NULL, 0}}, EBADF},
    {SYS_futimesat, {{0, MYST_IS, 0}, {1, MYST_IS_NULL, 0}}, EBADF},

    /* No pointer. */
    {SYS_stat, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_lstat, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_access, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_nanosleep, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_execve, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_truncate, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_chdir, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_rename, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_rmdir, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_mkdir, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_mkdirat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_symlink, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_unlinkat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_fchmodat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_creat, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_link, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_unlink, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_chmod, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_chown, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_lchown, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_sysinfo, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_statfs, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_mount, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_umount2, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_symlinkat, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_getcwd, {{0, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_fstat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_fchownat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_renameat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_linkat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_linkat, {{4, MYST_HAS, ~(unsigned)AT_SYMLINK_FOLLOW}}, EINVAL},
    {SYS_faccessat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_execveat, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_getitimer, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_clock_getres, {{1, MYST_IS_NULL, 0}}, EINVAL},
    {SYS_clock_getres, {{1, MYST_IS_WILD, 0}}, EFAULT},
    {SYS_newfstatat, {{1, MYST_IS_NULL, 0}, {3, MYST_LACKS, AT_EMPTY_PATH}}, ENOENT},
    {SYS_sched_getaffinity, {{2, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_sched_getaffinity, {{2, MYST_IS_WILD, 0}}, EFAULT},
    {SYS_getsockname, {{1, MYST_IS_NULL, 0}}, EFAULT},
    {SYS_getsockname, {{1, MYST_IS_WILD, 0}}, EFAULT},
    {SYS_getresuid, {{0, MYST_IS_NULL, 0}}, MYST_CRASH},
    {SYS_getresgid, {{0, MYST_IS_NULL, 0}}, MYST_CRASH},
    {SYS_uname, {{0, MYST_IS_NULL, 0}}, MYST_CRASH},
    {SYS_sethostname, {{0, MYST_IS_NULL, 0}}, MYST_CRASH},

    /* Pointers to nowhere, which the kernel of Mystikos follows. */
    {SYS_read, {{0, MYST_IS_NOT, NONE}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_stat, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_stat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_lstat, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_lstat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_fstat, {{0, MYST_IS_NOT, NONE}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_newfstatat, {{2, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_fstatfs, {{0, MYST_IS_NOT, NONE}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_getdents64, {{0, MYST_IS_NOT, NONE}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_rt_sigaction, {{0, MYST_AT_LEAST, _NSIG}}, EINVAL},
    {SYS_rt_sigaction, {{0, MYST_IS_NOT, 0}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_rt_sigprocmask, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_rt_sigprocmask, {{0, MYST_AT_LEAST, SIG_SETMASK + 1}}, EINVAL},
    {SYS_access, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_pipe, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_truncate, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_getcwd, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_rename, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_rmdir, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_mkdir, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_mkdirat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_symlink, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_unlinkat, {{2, MYST_LACKS, ~(unsigned)AT_REMOVEDIR}, {1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_fchmodat, {{1, MYST_IS_WILD, 0}, {3, MYST_HAS, AT_SYMLINK_NOFOLLOW}}, ENOTSUP},
    {SYS_fchmodat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_creat, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_link, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_unlink, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_readlink, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_readlink, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_chmod, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_gettimeofday, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_clock_gettime, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_sysinfo, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_getresuid, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_getresgid, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_uname, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_sigaltstack, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_statfs, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_statfs, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_mount, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_sethostname, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_time, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_futimesat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_newfstatat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_renameat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_symlinkat, {{0, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_readlinkat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_faccessat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_utimensat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},
    {SYS_execveat, {{1, MYST_IS_WILD, 0}}, MYST_CRASH},

    {SYS_write, {{1, MYST_IS_NULL, 0}, {2, MYST_IS_NOT, 0}}, EINVAL},
    {SYS_write, {{1, MYST_IS_WILD, 0}}, EFAULT},
    {SYS_write, {{0, MYST_IS, 0}, {2, MYST_IS, 0}}, MYST_SUCCEED},
    {SYS_writev, {{0, MYST_IS, 0}, {2, MYST_IS, 0}}, MYST_SUCCEED},
    {SYS_pread64, {{1, MYST_IS_NULL, 0}, {2, MYST_IS_NOT, 0}}, EFAULT},
    {SYS_pread64, {{0, MYST_IS, 0}}, MYST_SERVE},
    {SYS_pread64, {{0, MYST_IS, 1}}, MYST_SERVE},
    {SYS_pread64, {{0, MYST_IS, 2}}, MYST_SERVE},
    {SYS_pwrite64, {{0, MYST_IS, 0}}, MYST_SERVE},
    {SYS_pwrite64, {{0, MYST_IS, 1}}, MYST_SERVE},
    {SYS_pwrite64, {{0, MYST_IS, 2}}, MYST_SERVE},
    {SYS_select, {{0, MYST_AT_LEAST, FIRST_NEGATIVE}}, EINVAL},

    {SYS_rename, ALWAYS, MYST_SERVE},
    {SYS_renameat, ALWAYS, MYST_SERVE},
    {SYS_symlink, ALWAYS, MYST_SERVE},
    {SYS_symlinkat, ALWAYS, MYST_SERVE},
    {SYS_pipe, ALWAYS, MYST_SERVE},
    {SYS_truncate, ALWAYS, MYST_SERVE},
    {SYS_unlink, ALWAYS, MYST_SERVE},
    {SYS_unlinkat, ALWAYS, MYST_SERVE},
    {SYS_rmdir, ALWAYS, MYST_SERVE},
};
/* clang-format on */

bool myst_guards_sockets(const struct myst_application *application)
{
    return application->host_directories && !application->host_sockets && !application->as_linux;
}

#define TABLES 6

static const struct
{
    const struct myst_rule *rules;
    size_t count;
} tables[TABLES] = {{safety, MYST_COUNT(safety)},
                    {of_machine, MYST_COUNT(of_machine)},
                    {of_more_calls, MYST_COUNT(of_more_calls)},
                    {of_host_directories, MYST_COUNT(of_host_directories)},
                    {of_linux, MYST_COUNT(of_linux)},
                    {rules, MYST_COUNT(rules)}};

static bool applies(const struct myst_application *application, unsigned table)
{
    switch (table)
    {
    case 1:
        return !application->isolated;
    case 2:
        return application->as_linux || application->allow_unhandled;
    case 3:
        return myst_guards_sockets(application);
    case 4:
        return application->as_linux;
    case 5:
        return !application->as_linux;
    default:
        return true;
    }
}

/* The rules of all tables, each with the next one about its call. Number 0 is none. */
static struct entry
{
    const struct myst_rule *rule;
    unsigned char table;
    unsigned short next;
} entries[1 + MYST_COUNT(safety) + MYST_COUNT(of_machine) + MYST_COUNT(of_more_calls) +
          MYST_COUNT(of_host_directories) + MYST_COUNT(of_linux) + MYST_COUNT(rules)];
static unsigned short firsts[MYST_CALL_COUNT];

/* From the last to the first, so that each is put before those that were behind it. */
static void find_all(void)
{
    unsigned short number = MYST_COUNT(entries);
    for (unsigned table = TABLES; table-- > 0;)
        for (size_t i = tables[table].count; i-- > 0;)
        {
            const struct myst_rule *rule = &tables[table].rules[i];
            entries[--number] = (struct entry){rule, (unsigned char)table, firsts[rule->call]};
            firsts[rule->call] = number;
        }
}

const struct myst_rule *myst_next_rule(const struct myst_application *application, unsigned call, unsigned *at)
{
    if (!entries[1].rule)
        find_all();
    *at = *at ? entries[*at].next : call < MYST_CALL_COUNT ? firsts[call] : 0;
    while (*at && !applies(application, entries[*at].table))
        *at = entries[*at].next;
    return entries[*at].rule;
}

static bool is_low(uint64_t address)
{
    return address != 0 && address < MYST_LOWEST_ADDRESS;
}

static bool holds(const struct myst_application *application, const struct myst_condition *condition,
                  const uint64_t *arguments)
{
    const uint64_t argument = arguments[condition->argument];
    const unsigned low = (unsigned)argument, value = condition->value;
    switch (condition->test)
    {
    case MYST_IS:
        return low == value;
    case MYST_IS_NOT:
        return low != value;
    case MYST_HAS:
        return low & value;
    case MYST_LACKS:
        return !(low & value);
    case MYST_AT_LEAST:
        return low >= value;
    case MYST_IS_NULL:
        return argument == 0;
    case MYST_IS_LOW:
        return is_low(argument);
    case MYST_IS_WILD:
        return is_low(argument) || argument >> 32 >= MYST_USER_SPACE_UPPER;
    case MYST_IS_BELOW_4G:
        return argument != 0 && argument >> 32 == 0;
    case MYST_IS_LESS:
        return argument >> 32 == arguments[value] >> 32 && low < (unsigned)arguments[value];
    case MYST_IS_SECRET:
        return argument == application->secret;
    default:
        return true;
    }
}

const struct myst_rule *myst_find_rule(const struct myst_application *application, unsigned number,
                                       const uint64_t *arguments)
{
    const struct myst_rule *rule;
    unsigned at = 0;
    while ((rule = myst_next_rule(application, number, &at)))
    {
        bool fits = true;
        for (size_t c = 0; fits && c < MYST_CONDITIONS; c++)
            fits = holds(application, &rule->when[c], arguments);
        if (fits)
            return rule;
    }
    return NULL;
}
