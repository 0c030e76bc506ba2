"""Whoever starts a package, in whatever way, and whoever else is on the machine: nothing gets in or out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starting import ORDINARY_USER, SECONDS, Caller, MakePackage, children, read_line

MakeInside = Callable[..., Path]
Kind = Callable[[Path], "contextlib.AbstractContextManager[int]"]


@contextlib.contextmanager
def closed_after(*descriptors: int) -> Iterator[int]:
    try:
        yield descriptors[0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def device(path: str, flags: int) -> Kind:
    return lambda _path: closed_after(os.open(path, flags))


def file(flags: int) -> Kind:
    """A file that its mode keeps from nobody."""

    def opened(path: Path) -> contextlib.AbstractContextManager[int]:
        (path / "file").write_text("given")
        (path / "file").chmod(0o666)
        return closed_after(os.open(path / "file", flags))

    return opened


def fifo(flags: int) -> Kind:
    def opened(path: Path) -> contextlib.AbstractContextManager[int]:
        os.mkfifo(path / "fifo")
        (path / "fifo").chmod(0o666)
        both_ends = os.open(path / "fifo", os.O_RDWR)
        return closed_after(os.open(path / "fifo", flags), both_ends)

    return opened


def memory(flags: int, seals: int = 0) -> Kind:
    def opened(_path: Path) -> contextlib.AbstractContextManager[int]:
        made = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
        os.write(made, b"given")
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
        return closed_after(os.open(f"/proc/self/fd/{made}", flags), made)

    return opened


def sockets(_path: Path) -> contextlib.AbstractContextManager[int]:
    return closed_after(*(one.detach() for one in socket.socketpair()))


def terminal(_path: Path) -> contextlib.AbstractContextManager[int]:
    ends = tuple(reversed(pty.openpty()))
    os.fchmod(ends[0], 0o666)
    return closed_after(*ends)


READ, WRITE, BOTH = ["read"], ["write"], ["read", "write", "read and write"]
# What each can be opened for by its number; None: the package does not start.
KINDS: dict[str, tuple[Kind, list[str] | None]] = {
    "a file to read": (file(os.O_RDONLY), READ),
    "a file to write": (file(os.O_WRONLY), WRITE),
    "a file for both": (file(os.O_RDWR), BOTH),
    "a file to append to": (file(os.O_WRONLY | os.O_APPEND), []),
    "a file to read and append to": (file(os.O_RDWR | os.O_APPEND), READ),
    "a path alone": (file(os.O_PATH), []),
    "a directory": (device("/", os.O_RDONLY), None),
    "the path of a directory": (device("/", os.O_PATH), None),
    "a named pipe to read": (fifo(os.O_RDONLY), READ),
    "a named pipe to write": (fifo(os.O_WRONLY), WRITE),
    "a socket": (sockets, []),
    "a terminal": (terminal, BOTH),
    "a device to read": (device("/dev/zero", os.O_RDONLY), READ),
    "a device for both": (device("/dev/zero", os.O_RDWR), BOTH),
    # It has no name any more, and what was removed is not opened to be read, as on Mystikos.
    "memory": (memory(os.O_RDWR), BOTH[1:]),
    "memory to read": (memory(os.O_RDONLY), None),
    "sealed memory to read": (memory(os.O_RDONLY, fcntl.F_SEAL_WRITE), []),
    "memory to append to": (memory(os.O_RDWR | os.O_APPEND), None),
    "a counter": (lambda _path: closed_after(os.eventfd(1)), []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_descriptor_of_any_kind_gives_what_the_caller_gave_and_no_more(
    inside: MakeInside, caller: Caller, tmp_path: Path, kind: str
) -> None:
    open_one, expected = KINDS[kind]
    made = inside()
    with open_one(tmp_path) as descriptor:
        mode = os.fstat(descriptor).st_mode
        for number, stream in enumerate(("stdin", "stdout", "stderr")):
            told = 2 if number == 1 else 1
            given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            command: list[str | Path] = [made, "--myst-quiet", "exceed", str(number), str(told)]
            done = subprocess.run(
                command, check=False, timeout=SECONDS, **{**given, stream: descriptor}, **caller.credentials
            )
            lines = (done.stderr if told == 2 else done.stdout).decode().splitlines()
            assert (done.returncode, lines) == ((125, lines) if expected is None else (0, expected)), stream
        assert os.fstat(descriptor).st_mode == mode
    if (tmp_path / "file").exists():
        assert "given" in (tmp_path / "file").read_text() or expected in (WRITE, BOTH)


@pytest.mark.parametrize("number", range(3))
def test_a_pipe_as_a_descriptor_is_taken(package: MakePackage, caller: Caller, number: int) -> None:
    ends = os.pipe()
    stream = ("stdin", "stdout", "stderr")[number]
    options = {"capture_output": False, stream: ends[number > 0]}
    assert caller.run(package(), "leave", "7", **options).returncode == 7
    for end in ends:
        os.close(end)


def test_a_hostile_environment_changes_nothing(
    package: MakePackage, caller: Caller, public_directory: Path
) -> None:
    library = public_directory / "evil.so"
    library.write_bytes(b"\x7fELF evil")
    names = [
        "LD_PRELOAD",
        "LD_AUDIT",
        "LD_LIBRARY_PATH",
        "GCONV_PATH",
        "MALLOC_TRACE",
        "TMPDIR",
        "BASH_ENV",
        "IFS",
    ]
    environment = {name: str(library) for name in names}
    environment |= {f"V{number}": "x" * 1000 for number in range(1000)}
    environment |= {"MYST_TARGET": "sgx", "\x1b[2J": "\n", "PATH": ""}
    done = caller.run(package(), "environment", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "MYST_TARGET=linux\n", "")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv(1)")
def test_no_capability_of_the_caller_reaches_the_application(package: MakePackage) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    made = package()
    user = [f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups"]
    for number in range(last + 1):
        given = [f"--inh-caps=+cap_{number}", f"--ambient-caps=+cap_{number}"]
        command: list[str | Path] = ["setpriv", *user, *given, made, "privileges"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        if "Operation not permitted" in done.stderr:
            continue  # the tests' own bounding set lacks it
        assert done.returncode == 0, done.stderr
        sets = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Cap")]
        assert set(sets) == {"0" * 16}, (number, done.stdout)


@pytest.mark.parametrize(("enosys", "status"), [(False, 128 + signal.SIGSYS), (True, 125)])
def test_a_package_does_not_start_in_a_package(
    package: MakePackage, caller: Caller, enosys: bool, status: int
) -> None:
    inner = package()
    settings = {"MemorySize": "512m", "UnhandledSyscallEnosys": enosys}
    made = package({"bin/inner": inner}, ApplicationPath="/bin/inner", **settings)
    done = caller.run(made, "leave", "7")
    assert done.returncode == status, done.stderr
    assert "is not handled by Mystikos" in done.stderr or "cannot make namespaces" in done.stderr


TRY = """
import os, sys
pid = sys.argv[1]
for name in ("mem", "environ", "root/", "cwd/", "fd/0", "maps", "exe", "auxv", "stack", "syscall"):
    try:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
        print(name)
    except OSError:
        pass
for number in (0, 9, 15):
    try:
        os.kill(int(pid), number)
        print("kill", number)
    except OSError:
        pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_user_of_the_machine_reaches_nothing_of_a_package(
    package: MakePackage, anyone: Caller
) -> None:
    with anyone.start(package(), "endure") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        init = children(process.pid)[-1]
        [application] = children(init)
        other = Caller(ORDINARY_USER + 1)
        python = shutil.which("python3", path="/usr/bin:/bin")
        if not python:
            pytest.skip("needs a Python that every user may start")
        for pid in (process.pid, init, application):
            assert other.output(Path(python), "-c", TRY, str(pid)) == "", sys.version
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM
