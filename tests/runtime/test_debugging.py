"""Looking into a package: what the filter refused, a shell, the unpacked root, a debugger."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from starting import SECONDS, Caller, MakePackage, children, read_line, refusal


@pytest.fixture
def place(public_directory: Path) -> Iterator[Path]:
    """A directory in which anyone may make others."""
    directory = public_directory / "place"
    directory.mkdir()
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("option", ["--myst-strace", "--myst-shell", "--myst-root=/tmp/missing/root"])
def test_what_looks_inside_is_refused_where_debug_is_off(
    package: MakePackage, anyone: Caller, option: str
) -> None:
    name = option.split("=")[0]
    assert refusal(anyone.run(package(), option, "leave", "0")) == (
        f"options: {name} is for debug enclaves, and Debug is not set in the configuration"
    )


def test_refused_system_calls_are_told(package: MakePackage, caller: Caller) -> None:
    made = package(Debug=True, NoBrk=True)
    done = caller.run(made, "--myst-strace", "program-break")
    assert (done.returncode, done.stdout) == (0, "ENOTSUP\n")
    told = "package: mystikos: strace: thread 101: system call brk (12): Not supported"
    assert told in done.stderr.splitlines()
    assert caller.run(made, "program-break").stderr == ""


def test_a_call_that_stops_the_program_does_so_under_strace_too(package: MakePackage, anyone: Caller) -> None:
    done = anyone.run(package(Debug=True), "--myst-strace", "attack")
    assert done.returncode == 128 + 31
    assert "stopped: thread 101: system call" in done.stderr


def test_a_shell_starts_in_place_of_the_application(
    package: MakePackage, caller: Caller, probe: Path
) -> None:
    made = package({"bin/sh": probe}, Debug=True, HostApplicationParameters=False)
    done = caller.run(made, "--myst-shell", "arguments", "-c", "x y")
    assert (done.returncode, done.stdout, done.stderr) == (0, "sh\narguments\n-c\nx y\n", "")


def test_a_shell_may_fork_and_make_calls_that_mystikos_does_not_handle(
    package: MakePackage, anyone: Caller, probe: Path
) -> None:
    made = package({"bin/sh": probe}, Debug=True)
    assert anyone.output(made, "--myst-shell", "orphan") == "reaped\n"
    assert "ptrace of process 1: refused" in anyone.output(made, "--myst-shell", "attack").splitlines()


def test_a_root_without_a_shell_is_told(package: MakePackage, anyone: Caller) -> None:
    done = anyone.run(package(Debug=True), "--myst-shell")
    assert refusal(done) == "cannot start /bin/sh: No such file or directory"


@pytest.mark.parametrize("exists", [False, True])
def test_the_unpacked_root_is_kept_with_what_the_application_made_of_it(
    package: MakePackage, caller: Caller, place: Path, probe: Path, exists: bool
) -> None:
    kept = place / "kept"
    if exists:
        kept.mkdir()
        if caller.user is not None:
            os.chown(kept, caller.user, caller.user)
    made = package(Debug=True)
    assert caller.output(made, f"--myst-root={kept}", "fill", "/tmp/new", "5") == "written\n"
    assert (kept / "tmp" / "new").stat().st_size == 5
    assert (kept / "bin" / "probe").read_bytes() == probe.read_bytes()
    done = caller.run(made, f"--myst-root={kept}", "leave", "0")
    assert refusal(done) == f"options: --myst-root: {kept} is not empty"


def test_a_root_is_kept_where_the_caller_is(package: MakePackage, anyone: Caller, place: Path) -> None:
    assert anyone.output(package(Debug=True), "--myst-root=here", "fill", "/x", "1", cwd=place) == "written\n"
    assert (place / "here" / "x").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--myst-root="], "takes the name of a directory"),
        (["--myst-root=/tmp/a", "--myst-root=/tmp/b"], "--myst-root is given twice"),
        (["--myst-root=/proc/none"], "cannot make /proc/none"),
        (["--myst-info", "--myst-shell"], "exclude those that do not run it"),
        (["--myst-strace", "--myst-verify"], "exclude those that do not run it"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    package: MakePackage, anyone: Caller, options: list[str], problem: str
) -> None:
    done = anyone.run(package(Debug=True), *options)
    assert done.returncode == 125
    assert problem in done.stderr


def test_a_debugger_attaches_to_the_application(package: MakePackage, caller: Caller) -> None:
    gdb = shutil.which("gdb")
    if not gdb:
        pytest.skip("needs gdb")
    visible = package(Debug=True).parent / "appdir" / "bin" / "probe"
    with caller.start(package(Debug=True), "endure") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        init = children(process.pid)[-1]  # behind what binds ports for root
        [application] = children(init)
        command = [gdb, "-nx", "-batch", "-p", str(application), "-ex", "backtrace", str(visible)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, **caller.credentials
        )
        process.terminate()
        assert process.wait(SECONDS) == 128 + 15
    assert " endure (" in done.stdout, done.stderr
