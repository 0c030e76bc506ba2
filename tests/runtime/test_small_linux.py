"""A complete small Linux is inside: devices, terminals, the host's network; and no more than on Mystikos."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, compile_static
from starting import SECONDS, Caller, MakePackage, Terminal, execute, refusal

MakeLinux = Callable[..., Path]


@pytest.fixture(scope="module")
def linux(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> MakeLinux:
    """Packages of a program that uses what a Linux has."""
    program = compile_static(tmp_path_factory.mktemp("linux") / "program", HERE / "small_linux.c")

    def linux(**settings: Any) -> Path:
        return package({"bin/linux": program}, ApplicationPath="/bin/linux", **settings)

    return linux


def test_devices_work(linux: MakeLinux, caller: Caller) -> None:
    lines = caller.output(linux(), "--myst-quiet", "devices", start_new_session=True).splitlines()
    assert lines[-1] == "control terminal: No such file or directory"
    assert [line for line in lines[:-1] if not line.endswith(": works")] == []
    assert len(lines) == 10


_TIOCGPTN = 0x80045430


def name_of(terminal: int) -> str:
    """Return the path of the other end of a pseudo-terminal (TIOCGPTN)."""
    [number] = struct.unpack("I", fcntl.ioctl(terminal, _TIOCGPTN, bytes(4)))
    return f"/dev/pts/{number}"


def test_the_terminal_its_name_and_its_window_are_the_callers(linux: MakeLinux, caller: Caller) -> None:
    terminal = Terminal(caller, execute, linux(), "window")
    terminal.expect("0 0")
    for rows, columns in ((24, 80), (50, 132)):
        fcntl.ioctl(terminal.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        terminal.expect(f"{rows} {columns}")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    terminal = Terminal(caller, execute, linux(), "terminal")
    terminal.expect(name_of(terminal.descriptor))
    assert terminal.end() == 0


def test_the_network_is_the_hosts(linux: MakeLinux, caller: Caller) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, caller.start(linux(), "network", str(server.getsockname()[1])) as process:
        server.settimeout(SECONDS)
        connection, _ = server.accept()
        connection.sendall(b"from the host\n")
        connection.close()
        output, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "from the host\n")


def test_there_is_no_sys_as_in_mystikos(package: MakePackage, caller: Caller) -> None:
    assert caller.output(package(), "status", "/sys") == "No such file or directory /sys\n"


@pytest.mark.parametrize("name", ["passwd", "group", "hostname"])
def test_what_the_root_has_of_etc_stays(package: MakePackage, anyone: Caller, name: str) -> None:
    made = package({f"etc/{name}": b"own\n"})
    assert anyone.output(made, "show", f"/etc/{name}") == "own\n"


def test_host_limits_below_the_configurations_are_told(package: MakePackage, anyone: Caller) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))

    command: list[str | Path] = [package(MainStackSize="4m"), "leave", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lower, **anyone.credentials
    )
    assert refusal(done) == "configuration: MainStackSize: cannot set the limit: Operation not permitted"
