"""What Mystikos makes of the functions of a C library, as runs under its kernel and C library have shown.

A program names the functions that it takes from its libraries, and so it can be told before it runs
which of them stop it in the enclave or do something else there. The arguments of a call are not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Literal, NamedTuple

from mystikos_tool.config import Config

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Behaviour(NamedTuple):
    """What becomes of functions; ``kind`` is one word for programs, the rest is for people."""

    kind: str
    severity: Severity
    functions: frozenset[str]
    problem: str
    remedy: str


# Functions that make the system call of their name, which the Mystikos kernel does not handle.
_CALLS = """
    acct adjtimex capget capset chroot clock_adjtime fanotify_init fanotify_mark fgetxattr flistxattr
    fremovexattr getpriority getxattr ioperm iopl lgetxattr listxattr llistxattr lremovexattr lsetxattr
    memfd_create mincore mlockall mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
    msgrcv msgsnd munlock munlockall name_to_handle_at open_by_handle_at personality pivot_root
    process_vm_readv process_vm_writev ptrace quotactl readahead reboot remap_file_pages removexattr
    renameat2 sched_rr_get_interval semctl semget semop semtimedop setdomainname setns setpriority setxattr
    shmat shmctl shmdt shmget splice statx swapoff swapon sync_file_range syncfs tee timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
    unshare vhangup vmsplice
"""
# The system call that a function makes and that the Mystikos kernel does not handle.
UNHANDLED = {name: name for name in _CALLS.split()} | {
    "mq_getattr": "mq_getsetattr",
    "mq_receive": "mq_timedreceive",
    "mq_send": "mq_timedsend",
    "mq_setattr": "mq_getsetattr",
    "nice": "setpriority",
    "pselect": "pselect6",
    "signalfd": "signalfd4",
    "sigqueue": "rt_sigqueueinfo",
    "sigsuspend": "rt_sigsuspend",
    "sigtimedwait": "rt_sigtimedwait",
    "sigwait": "rt_sigtimedwait",
    "sigwaitinfo": "rt_sigtimedwait",
}

_INOTIFY = frozenset({"inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch"})

# Whatever the configuration says.
_ALWAYS = (
    Behaviour(
        "nothing",
        "warning",
        _INOTIFY,
        "no event ever comes, and reading gives the end of the file",
        "look at the files from time to time instead",
    ),
    Behaviour(
        "fails",
        "warning",
        frozenset({"mkfifo", "mkfifoat"}),
        "it succeeds and no FIFO is there",
        "use pipe or a socket",
    ),
    Behaviour("fails", "warning", frozenset({"daemon"}), "it fails in every ForkMode", "stay in front"),
    Behaviour(
        "fails",
        "warning",
        frozenset({"getifaddrs", "if_nameindex", "if_nametoindex"}),
        "there are no netlink sockets, so that it fails",
        "name addresses in the configuration of the program",
    ),
    Behaviour(
        "stops",
        "note",
        frozenset({"clock_nanosleep"}),
        "any but a relative sleep on CLOCK_REALTIME is a system call that Mystikos does not handle",
        "use nanosleep, or a wait with a timeout",
    ),
    Behaviour(
        "nothing",
        "note",
        frozenset({"flock"}),
        "it succeeds and locks nothing",
        "let one process have the file",
    ),
    Behaviour(
        "nothing",
        "note",
        frozenset({"setrlimit", "setrlimit64", "prlimit", "prlimit64"}),
        "it succeeds and limits nothing",
        "let the program bound itself",
    ),
    Behaviour(
        "fails",
        "note",
        frozenset({"pthread_mutexattr_setprotocol"}),
        "priority inheritance is not supported",
        "do without PTHREAD_PRIO_INHERIT",
    ),
    Behaviour(
        "differs",
        "note",
        frozenset({"shm_open", "sem_open"}),
        "a shared mapping of a file is a copy, which other processes do not see",
        "share by threads, pipes or sockets",
    ),
)


def behaviours(config: Config | None) -> tuple[Behaviour, ...]:
    """Return what becomes of functions under a configuration, None for one that asks for nothing."""
    return (*_ALWAYS, _unhandled(config), _fork(config))


def _unhandled(config: Config | None) -> Behaviour:
    functions = frozenset(UNHANDLED)
    if config and config.unhandled_syscall_enosys:
        problem, remedy = "it fails with ENOSYS", "see that the program does without"
        return Behaviour("fails", "warning", functions, problem, remedy)
    return Behaviour(
        "stops",
        "warning",
        functions,
        "Mystikos does not handle the system call and stops the program",
        "do without it; with UnhandledSyscallEnosys it fails with ENOSYS",
    )


def _fork(config: Config | None) -> Behaviour:
    functions = frozenset({"fork", "_Fork", "forkpty"})
    if config and config.fork_mode != "none":
        problem = f"with ForkMode {config.fork_mode} the child shares the memory of its parent"
        return Behaviour("differs", "note", functions, problem, "let the child do no more than exec")
    problem = "it fails with ENOTSUP where ForkMode is none"
    return Behaviour("fails", "warning", functions, problem, "set ForkMode, or use posix_spawn")


def used(imports: Set[bytes], known: tuple[Behaviour, ...]) -> Iterator[tuple[Behaviour, list[str]]]:
    """Yield what becomes of functions that are among ``imports``, with their names in order."""
    names = {name.decode(errors="replace") for name in imports}
    for behaviour in known:
        if taken := sorted(names & behaviour.functions):
            yield behaviour, taken
