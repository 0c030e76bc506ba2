"""Whoever starts a package, in whatever way, and whoever else is on the machine: nothing gets in or out."""

from __future__ import annotations

import contextlib
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

Kind = Callable[[Path], "contextlib.AbstractContextManager[int]"]


@contextlib.contextmanager
def closed_after(*descriptors: int) -> Iterator[int]:
    try:
        yield descriptors[0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def regular(path: Path) -> contextlib.AbstractContextManager[int]:
    return closed_after(os.open(path / "file", os.O_RDWR | os.O_CREAT))


def fifo(path: Path) -> contextlib.AbstractContextManager[int]:
    os.mkfifo(path / "fifo")
    return closed_after(os.open(path / "fifo", os.O_RDWR))


def sockets(_path: Path) -> contextlib.AbstractContextManager[int]:
    return closed_after(*(one.detach() for one in socket.socketpair()))


KINDS: dict[str, Kind] = {
    "a file": regular,
    "a named pipe": fifo,
    "a pipe": lambda _path: closed_after(*os.pipe()),
    "a socket": sockets,
    "a terminal": lambda _path: closed_after(*reversed(pty.openpty())),
    "a device": lambda _path: closed_after(os.open("/dev/zero", os.O_RDWR)),
    "memory": lambda _path: closed_after(os.memfd_create("memory")),
    "a counter": lambda _path: closed_after(os.eventfd(1)),
    "a path alone": lambda path: closed_after(os.open(path, os.O_PATH | os.O_NOFOLLOW)),
    "an unreadable file": lambda path: closed_after(
        os.open(path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_of_every_kind_are_taken_or_refused(
    package: MakePackage, caller: Caller, tmp_path: Path, kind: str
) -> None:
    made = package()
    with KINDS[kind](tmp_path) as descriptor:
        for place in ("stdin", "stdout"):
            options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, place: descriptor}
            command: list[str | Path] = [made, "leave", "7"]
            done = subprocess.run(
                command, check=False, stderr=subprocess.PIPE, timeout=SECONDS, **options, **caller.credentials
            )
            refused = done.returncode == 125 and b"is a directory of the host" in done.stderr
            assert done.returncode == 7 or (kind == "a path alone" and refused), done.stderr


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
