#include "calls.h"

#include <stddef.h>

/* S: served by Mystikos' kernel. L: not in its kernel, but what the C library makes for functions that work on
 * Mystikos, whose own C library gets along without the call: clone and fork for threads and processes; clock_nanosleep,
 * pselect6, alarm, utime, utimes and mknodat, which glibc makes for nanosleep, select, alarm, utime, utimes and mkfifo.
 * A and U: see the header. membarrier and fsetxattr Mystikos itself answers with ENOSYS. */
/* clang-format off */
#define CALLS                                                                                                  \
    S(0, read) S(1, write) S(2, open) S(3, close) S(4, stat) S(5, fstat) S(6, lstat) S(7, poll) S(8, lseek)    \
    S(9, mmap) S(10, mprotect) S(11, munmap) S(12, brk) S(13, rt_sigaction) S(14, rt_sigprocmask)              \
    L(15, rt_sigreturn) S(16, ioctl) S(17, pread64) S(18, pwrite64) S(19, readv) S(20, writev) S(21, access)   \
    S(22, pipe) S(23, select) S(24, sched_yield) S(25, mremap) S(26, msync) U(27, mincore) S(28, madvise)      \
    U(29, shmget) U(30, shmat) U(31, shmctl) S(32, dup) S(33, dup2) S(34, pause) S(35, nanosleep)              \
    S(36, getitimer) L(37, alarm) S(38, setitimer) S(39, getpid) S(40, sendfile) S(41, socket)                 \
    S(42, connect) S(43, accept) S(44, sendto) S(45, recvfrom) S(46, sendmsg) S(47, recvmsg) S(48, shutdown)   \
    S(49, bind) S(50, listen) S(51, getsockname) S(52, getpeername) S(53, socketpair) S(54, setsockopt)        \
    S(55, getsockopt) L(56, clone) L(57, fork) L(58, vfork) S(59, execve) S(60, exit) S(61, wait4)             \
    S(62, kill) S(63, uname) U(64, semget) U(65, semop) U(66, semctl) U(67, shmdt) U(68, msgget)               \
    U(69, msgsnd) U(70, msgrcv) U(71, msgctl) S(72, fcntl) S(73, flock) S(74, fsync) S(75, fdatasync)          \
    S(76, truncate) S(77, ftruncate) U(78, getdents) S(79, getcwd) S(80, chdir) S(81, fchdir) S(82, rename)    \
    S(83, mkdir) S(84, rmdir) S(85, creat) S(86, link) S(87, unlink) S(88, symlink) S(89, readlink)            \
    S(90, chmod) S(91, fchmod) S(92, chown) S(93, fchown) S(94, lchown) S(95, umask) S(96, gettimeofday)       \
    S(97, getrlimit) S(98, getrusage) S(99, sysinfo) S(100, times) U(101, ptrace) S(102, getuid)               \
    S(103, syslog) S(104, getgid) S(105, setuid) S(106, setgid) S(107, geteuid) S(108, getegid)                \
    S(109, setpgid) S(110, getppid) S(111, getpgrp) S(112, setsid) S(113, setreuid) S(114, setregid)           \
    S(115, getgroups) S(116, setgroups) S(117, setresuid) S(118, getresuid) S(119, setresgid)                  \
    S(120, getresgid) S(121, getpgid) S(122, setfsuid) S(123, setfsgid) S(124, getsid) U(125, capget)          \
    U(126, capset) S(127, rt_sigpending) U(128, rt_sigtimedwait) U(129, rt_sigqueueinfo)                       \
    U(130, rt_sigsuspend) S(131, sigaltstack) L(132, utime) S(133, mknod) U(134, uselib) U(135, personality)   \
    U(136, ustat) S(137, statfs) S(138, fstatfs) U(139, sysfs) U(140, getpriority) U(141, setpriority)         \
    S(142, sched_setparam) S(143, sched_getparam) S(144, sched_setscheduler) S(145, sched_getscheduler)        \
    S(146, sched_get_priority_max) S(147, sched_get_priority_min) U(148, sched_rr_get_interval)                \
    S(149, mlock) U(150, munlock) U(151, mlockall) U(152, munlockall) U(153, vhangup) U(154, modify_ldt)       \
    U(155, pivot_root) U(156, _sysctl) S(157, prctl) L(158, arch_prctl) U(159, adjtimex) U(160, setrlimit)     \
    U(161, chroot) S(162, sync) U(163, acct) U(164, settimeofday) S(165, mount) S(166, umount2)                \
    U(167, swapon) U(168, swapoff) U(169, reboot) S(170, sethostname) U(171, setdomainname) U(172, iopl)       \
    U(173, ioperm) U(174, create_module) U(175, init_module) U(176, delete_module) U(177, get_kernel_syms)     \
    U(178, query_module) U(179, quotactl) U(180, nfsservctl) U(181, getpmsg) U(182, putpmsg)                   \
    U(183, afs_syscall) U(184, tuxcall) U(185, security) S(186, gettid) U(187, readahead) U(188, setxattr)     \
    U(189, lsetxattr) A(190, fsetxattr) U(191, getxattr) U(192, lgetxattr) U(193, fgetxattr)                   \
    U(194, listxattr) U(195, llistxattr) U(196, flistxattr) U(197, removexattr) U(198, lremovexattr)           \
    U(199, fremovexattr) S(200, tkill) S(201, time) S(202, futex) S(203, sched_setaffinity)                    \
    S(204, sched_getaffinity) S(205, set_thread_area) U(206, io_setup) U(207, io_destroy)                      \
    U(208, io_getevents) U(209, io_submit) U(210, io_cancel) U(211, get_thread_area) U(212, lookup_dcookie)    \
    S(213, epoll_create) U(214, epoll_ctl_old) U(215, epoll_wait_old) U(216, remap_file_pages)                 \
    S(217, getdents64) S(218, set_tid_address) L(219, restart_syscall) U(220, semtimedop) S(221, fadvise64)    \
    U(222, timer_create) U(223, timer_settime) U(224, timer_gettime) U(225, timer_getoverrun)                  \
    U(226, timer_delete) S(227, clock_settime) L(228, clock_gettime) S(229, clock_getres)                      \
    L(230, clock_nanosleep) S(231, exit_group) S(232, epoll_wait) S(233, epoll_ctl) S(234, tgkill)             \
    L(235, utimes) U(236, vserver) S(237, mbind) U(238, set_mempolicy) U(239, get_mempolicy) U(240, mq_open)   \
    U(241, mq_unlink) U(242, mq_timedsend) U(243, mq_timedreceive) U(244, mq_notify) U(245, mq_getsetattr)     \
    U(246, kexec_load) S(247, waitid) U(248, add_key) U(249, request_key) U(250, keyctl) U(251, ioprio_set)    \
    U(252, ioprio_get) S(253, inotify_init) S(254, inotify_add_watch) S(255, inotify_rm_watch)                 \
    U(256, migrate_pages) S(257, openat) S(258, mkdirat) L(259, mknodat) S(260, fchownat) S(261, futimesat)    \
    S(262, newfstatat) S(263, unlinkat) S(264, renameat) S(265, linkat) S(266, symlinkat) S(267, readlinkat)   \
    S(268, fchmodat) S(269, faccessat) L(270, pselect6) S(271, ppoll) U(272, unshare)                          \
    S(273, set_robust_list) S(274, get_robust_list) U(275, splice) U(276, tee) U(277, sync_file_range)         \
    U(278, vmsplice) U(279, move_pages) S(280, utimensat) S(281, epoll_pwait) U(282, signalfd)                 \
    U(283, timerfd_create) U(284, eventfd) S(285, fallocate) U(286, timerfd_settime) U(287, timerfd_gettime)   \
    S(288, accept4) U(289, signalfd4) S(290, eventfd2) S(291, epoll_create1) S(292, dup3) S(293, pipe2)        \
    S(294, inotify_init1) S(295, preadv) S(296, pwritev) U(297, rt_tgsigqueueinfo) U(298, perf_event_open)     \
    S(299, recvmmsg) U(300, fanotify_init) U(301, fanotify_mark) S(302, prlimit64) U(303, name_to_handle_at)   \
    U(304, open_by_handle_at) U(305, clock_adjtime) U(306, syncfs) S(307, sendmmsg) U(308, setns)              \
    S(309, getcpu) U(310, process_vm_readv) U(311, process_vm_writev) U(312, kcmp) U(313, finit_module)        \
    U(314, sched_setattr) U(315, sched_getattr) U(316, renameat2) U(317, seccomp) S(318, getrandom)            \
    U(319, memfd_create) U(320, kexec_file_load) U(321, bpf) S(322, execveat) U(323, userfaultfd)              \
    A(324, membarrier) U(325, mlock2) S(326, copy_file_range) S(327, preadv2) S(328, pwritev2)                 \
    U(329, pkey_mprotect) U(330, pkey_alloc) U(331, pkey_free) U(332, statx) U(333, io_pgetevents)             \
    A(334, rseq) U(335, uretprobe) U(424, pidfd_send_signal) U(425, io_uring_setup) U(426, io_uring_enter)     \
    U(427, io_uring_register) U(428, open_tree) U(429, move_mount) U(430, fsopen) U(431, fsconfig)             \
    U(432, fsmount) U(433, fspick) U(434, pidfd_open) A(435, clone3) A(436, close_range) U(437, openat2)       \
    U(438, pidfd_getfd) A(439, faccessat2) U(440, process_madvise) U(441, epoll_pwait2)                        \
    U(442, mount_setattr) U(443, quotactl_fd) U(444, landlock_create_ruleset) U(445, landlock_add_rule)        \
    U(446, landlock_restrict_self) U(447, memfd_secret) U(448, process_mrelease) U(449, futex_waitv)           \
    U(450, set_mempolicy_home_node) U(451, cachestat) A(452, fchmodat2) U(453, map_shadow_stack)               \
    U(454, futex_wake) U(455, futex_wait) U(456, futex_requeue) U(457, statmount) U(458, listmount)            \
    U(459, lsm_get_self_attr) U(460, lsm_set_self_attr) U(461, lsm_list_modules) A(462, mseal)                 \
    U(463, setxattrat) U(464, getxattrat) U(465, listxattrat) U(466, removexattrat) U(467, open_tree_attr)
/* clang-format on */

#define S(number, name) [number] = {#name, MYST_CALL_SERVED},
#define L(number, name) [number] = {#name, MYST_CALL_SERVED},
#define A(number, name) [number] = {#name, MYST_CALL_ABSENT},
#define U(number, name) [number] = {#name, MYST_CALL_UNHANDLED},
static const struct
{
    const char *name;
    enum myst_treatment treatment;
} calls[MYST_CALL_COUNT] = {CALLS};

enum myst_treatment myst_call_treatment(unsigned number)
{
    if (number >= MYST_OWN_CALLS_FIRST && number < MYST_OWN_CALLS_END)
        return MYST_CALL_ABSENT;
    return number < MYST_CALL_COUNT && calls[number].name ? calls[number].treatment : MYST_CALL_UNHANDLED;
}

const char *myst_call_name(unsigned number)
{
    return number < MYST_CALL_COUNT ? calls[number].name : NULL;
}
