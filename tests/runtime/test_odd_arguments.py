"""System calls with arguments that Mystikos' kernel judges otherwise than Linux.

What is expected is read from the kernel's source: its syscall.c, fdtable.c, ramfs.c, pipedev.c, udsdev.c,
sockdev.c, epolldev.c, ttydev.c, inotifydev.c, futex.c, uid_gid.c and thread.c.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from compiling import HERE, compile_static
from starting import Caller, MakePackage

CRASHED = 139
ACCOUNTS = "root:x:0:0:::\none:x:1000:1000:::\nother:x:1001:1001:::\n"

EXPECTED = {
    "descriptors": """\
dup of 5000: EINVAL
dup2 of -1: EINVAL
dup3 of 5000: EINVAL
F_DUPFD of 5000: EINVAL
F_DUPFD from itself on: 0
F_GETFD of 5000: EBADF
F_GETFL: 1026
F_SETFL adds: 1026
F_GETPIPE_SZ of a file: ENOTSUP
F_GETPIPE_SZ of a pipe: 65536
F_ADD_SEALS: ENOTSUP
command 12: ENOTSUP
flock of nothing: 0
fallocate of nothing: 0
fallocate: 0
ftruncate of a directory: EISDIR
ftruncate of a pipe: EBADF
fchdir to a file: ENOENT
fchdir to a pipe: EBADF
fchown of a pipe: EBADF
fchown of -1: EINVAL
fstatfs of a pipe: EBADF
fstatfs to nowhere: EINVAL
FIONREAD of a file: ENOTSUP
TCGETS of a file: ENOTTY
TIOCGWINSZ of a file: EINVAL
TIOCGWINSZ of a pipe: EINVAL
FIGETBSZ of a file: ENOTSUP
FIOCLEX of a file: 1
FIONBIO of a counter: ENOTSUP
sendfile to -1: EINVAL
copy to -1: EINVAL
nothing from nowhere: 0
something from nowhere: EINVAL
something from below: EFAULT
read from nowhere: EFAULT
write from nowhere: EFAULT
random for nowhere: EINVAL
random with flags that exclude each other: 8
reading with a flag: 0
writing with a flag: 1
position of a console: ENOENT
""",
    "consoles": """\
flags: ENOTSUP
flags of a duplicate: ENOTSUP
setting flags: ENOTSUP
closing on exec: 0
a lock: ENOTSUP
a mode: ENOTSUP
a mode of a pipe: ENOTSUP
times: EBADF
times of a pipe: EBADF
epoll: EINVAL
entries: EBADF
entries of a pipe: EBADF
flags of a device with a name: 2
window of a device with a name: EINVAL
fsync of a device with a name: 0
fsync of a console: EROFS
""",
    "watches": """\
first: 2048
second: 2049
first again: 2048
of another: 2050
remove: 0
remove again: EINVAL
by a file: EBADF
remove by a file: EBADF
by nothing: EBADF
epoll: EINVAL
""",
    "paths": """\
mkdir of nowhere: EINVAL
mkdirat of nowhere: EINVAL
symlink to nowhere: EINVAL
unlinkat of nowhere: EINVAL
unlinkat with a flag: EINVAL
stat to nowhere: EINVAL
stat of none to nowhere: ENOENT
statfs of an empty path: EINVAL
statfs to nowhere: EINVAL
fstatat with AT_EMPTY_PATH and a path: 1
fstatat with AT_EMPTY_PATH and none: 0
link to a descriptor: EINVAL
symlink in place of a file: 0
which stays: 1
mknod of a file: ENOTSUP
mknod of every kind: ENOTSUP
unlink of a full directory: EPERM
unlink of an empty one: 0
readlink to nowhere: EINVAL
entries for nowhere: EINVAL
entries of an empty file: 0
futimens: 0
last use: 2000
last change stays: 1
chown: 0
mode: 755
""",
    "processes": """\
wait4 with __WALL: EINVAL
waitid of a pidfd: EINVAL
waitid with another flag: EINVAL
getpgid of the parent: EPERM
getpgid: 1
signal 100: 0
what SIGKILL does: EINVAL
what SIGSTOP does: EINVAL
wake none: ENOSYS
wake -1: ENOSYS
usage to nowhere: EFAULT
setitimer of nothing: EINVAL
no name: EINVAL
signal of the parent's death: 0
arch_prctl to nowhere: EFAULT
ARCH_SET_GS: EINVAL
affinity of nowhere: EFAULT
parameters for nowhere: EFAULT
parameters of -1: EINVAL
select of -1: EINVAL
madvise of nowhere: EINVAL
mlock of what is not there: 0
msync of nothing: EINVAL
msync of what is not there: EINVAL
mmap at an odd hint: EINVAL
mmap of shared memory in place: EINVAL
robust list: 0
robust list of none: ESRCH
host name: another
threads: 2
""",
    "sockets": """\
Bluetooth: EAFNOSUPPORT
cryptography: EAFNOSUPPORT
no type: ENOTSUP
Unix, reliable datagrams: ENOTSUP
Unix, protocol 1: ENOTSUP
pair of no domain: EAFNOSUPPORT
listen without a name: ENOTSUP
peer of nobody: 0
peer of an Internet socket: ENOTCONN
SO_KEEPALIVE: ENOTSUP
SO_RCVTIMEO: ENOTSUP
SO_SNDTIMEO: 0
SO_DOMAIN: ENOTSUP
SO_KEEPALIVE of an Internet socket: 0
a large message: EMSGSIZE
a message from nowhere: EFAULT
an address of -1 bytes: EINVAL
receive to nowhere: EFAULT
SIOCATMARK: ENOTSUP
epoll_ctl without an event: EBADF
epoll_ctl of a file: EBADF
epoll_wait to nowhere: EINVAL
one more that listens: ERANGE
before: 64
""",
    "users": """\
setuid 4242: EINVAL, now 0 0 0
setresuid -1 1000 -1: ok, now 0 1000 0
setuid 4242: EINVAL, now 0 1000 0
setuid 1000: EPERM, now 0 1000 0
setreuid 1000 0: ok, now 1000 0 0
setreuid 4242 -1: EPERM, now 1000 0 0
setreuid -1 1000: ok, now 1000 1000 0
setresuid 1000 1001 1000: EPERM, now 1000 1000 0
setresuid 0 -1 -1: ok, now 0 1000 0
setuid 0: ok, now 0 0 0
""",
    "modes": """\
chmod: EPERM
fchmod: EPERM
fchmodat: EPERM
of a directory: EPERM
of its own: 0
by user 0: 0
""",
    "signals": """\
others of the group: ESRCH
  came: 0
all: 0
  came: 1
the group by its number: 0
  came: 1
a group that is not there: ESRCH
  came: 0
no signal to the others: 0
no signal to the group apart: 0
signal to the others: 0
other: ended by 15
others: ESRCH
signal to the group apart: 0
apart: ended by 2
""",
    "programs": """\
/bin/odd and 0 more, none
/bin/odd and 90 more, more
/tmp/link and 0 more, none
/bin/../bin/odd and 0 more, none
/bin/odd and 1 more, more
/tmp/link and 0 more, none
none: ENOENT
/bin/odd and 2 more, /tmp/script
""",
    "executables": """\
/tmp/other
/bin/odd
/bin/odd
""",
    "groups": """\
child: group 101, session: EPERM
limit of the parent: 0
grandchild: group 101, session: 1
limit of the parent: 0
""",
}


@pytest.fixture(scope="module")
def odd(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a program that makes such calls."""
    directory = tmp_path_factory.mktemp("odd")
    program = compile_static(directory / "program", HERE / "odd_arguments.c")
    accounts = directory / "passwd"
    accounts.write_text(ACCOUNTS)
    files = {"bin/odd": program, "etc/passwd": accounts}
    return package(files, ApplicationPath="/bin/odd", ForkMode="pseudo")


@pytest.mark.parametrize("subject", EXPECTED)
def test_arguments_are_judged_as_by_the_kernel_of_mystikos(odd: Path, caller: Caller, subject: str) -> None:
    assert caller.output(odd, "--myst-quiet", subject).splitlines() == EXPECTED[subject].splitlines()


@pytest.mark.parametrize("subject", ["crash", "entries"])
def test_the_program_is_stopped_where_the_kernel_crashes(odd: Path, anyone: Caller, subject: str) -> None:
    done = anyone.run(odd, subject)
    assert done.returncode == CRASHED
    assert "Mystikos crashes upon these arguments" in done.stderr
