"""What the application is told and may do is what Mystikos tells and lets it do, whoever starts it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, compile_static
from starting import SECONDS, Caller, MakePackage, refusal

from mystikos_tool.errors import UserError

PASSWD = b"root:x:0:0::/:/bin/sh\na:x:1000:1000::/:/bin/sh\n"
GROUP = b"root:x:0:\na:x:1000:\n"
ACCOUNTS = {"etc/passwd": PASSWD, "etc/group": GROUP}
MakeInside = Callable[..., Path]


@pytest.fixture(scope="module")
def inside(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> MakeInside:
    """Packages of a program that tells what it is told."""
    program = compile_static(tmp_path_factory.mktemp("inside") / "program", HERE / "inside.c")

    def inside(files: dict[str, bytes] | None = None, **settings: Any) -> Path:
        return package({"bin/inside": program, **(files or {})}, ApplicationPath="/bin/inside", **settings)

    return inside


# Users and owners


def test_a_server_drops_its_privileges_and_owns_what_it_makes(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(ACCOUNTS), "drop").splitlines() == [
        "setgroups: done",
        "setgid: done",
        "setuid: done",
        "1000 1000 1000, 1000 1000 1000, 2 groups",
        "back: Operation not permitted",
        "/tmp/own 1000 1000 644",
        "/tmp/directory 1000 1000 755",
        "chown: Operation not permitted",
        "unknown: Operation not permitted",
    ]


def test_children_and_their_programs_are_the_same_user(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(ACCOUNTS), "inherit") == "1000 1000 1000, 1000 1000 1000, 0 groups\n"


def test_a_user_without_an_account_cannot_be_become(inside: MakeInside, anyone: Caller) -> None:
    assert anyone.output(inside(), "unknown").splitlines() == [
        "setuid: Invalid argument",
        "setgid: Invalid argument",
        "setreuid: Operation not permitted",
        "setresuid: Invalid argument",
        "0 0 0, 0 0 0, 0 groups",
    ]


def test_files_are_given_to_any_user_and_stat_shows_it(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "owners").splitlines() == [
        "chown: done",
        "/tmp/file 1000 2000 644",
        "fchown: done",
        "/tmp/file 7 2000 644",
        "fstat 7 2000",
        "lchown: done",
        "link 5 6 777",
        "through the link: done",
        "file 8 9 644",
        "missing: No such file or directory",
    ]


def test_user_0_creates_where_no_w_is_and_runs_what_has_no_x(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "modes").splitlines() == [
        "create in a directory without w: done",
        "mkdir in it: done",
        "/tmp/closed 0 0 555",
        "/tmp/closed/file 0 0 644",
        "0 0 0, 0 0 0, 0 groups",
    ]


# Limits and the machine


def test_the_limits_are_the_enclaves_and_setting_them_changes_nothing(
    inside: MakeInside, caller: Caller
) -> None:
    lines = caller.output(inside(MemorySize="256m"), "limits").splitlines()
    assert lines[:16] == [
        "0 -1 -1",
        "1 -1 -1",
        "2 187904819 187904819",
        "3 1605632 1605632",
        "4 0 -1",
        "5 -1 -1",
        "6 1024 1024",
        "7 2048 2048",
        "8 67108864 67108864",
        "9 -1 -1",
        "10 -1 -1",
        "11 128319 128319",
        "12 819200 819200",
        "13 0 0",
        "14 0 0",
        "15 -1 -1",
    ]
    assert lines[16:] == ["setrlimit: done", "2048 descriptors: No file descriptors available"]


def test_the_machine_is_the_enclave(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(MemorySize="256m"), "machine").splitlines() == [
        f"{256 << 20} of 1, free 1, 256 MiB by sysconf",
        "TEE 5.4.0 Mystikos 1.0.0",
        "858458f6 512 0",
        "sethostname: done",
        "other",
        "netlink: Address family not supported by protocol",
        "vsock: Address family not supported by protocol",
    ]


def test_proc_tells_the_memory_of_the_enclave(package: MakePackage, caller: Caller) -> None:
    lines = caller.output(package(MemorySize="256m"), "show", "/proc/meminfo").splitlines()
    assert [line.split()[0] for line in lines] == ["MemTotal:", "MemFree:", "Cached:"]
    assert lines[0].split()[1:] == [str(256 << 20)]


def test_names_are_the_hosts_whatever_the_root_says(package: MakePackage, caller: Caller) -> None:
    made = package({"etc/hosts": b"own\n", "etc/resolv.conf": b"own\n"})
    for path in (Path("/etc/hosts"), Path("/etc/resolv.conf")):
        assert caller.output(made, "show", str(path)) == path.read_text()


def test_a_dangling_link_in_place_of_the_names_refuses_the_start(
    package: MakePackage, anyone: Caller
) -> None:
    made = package({"etc/x": b""}, links={"etc/resolv.conf": "../run/resolv.conf"})
    assert "/etc/resolv.conf in the root file system is a symbolic link" in refusal(
        anyone.run(made, "leave", "0")
    )


def test_a_clock_that_mystikos_does_not_sleep_on_stops_the_program(
    inside: MakeInside, anyone: Caller
) -> None:
    assert anyone.output(inside(), "sleep", "real") == "sleep: done\n"
    done = anyone.run(inside(), "sleep", "monotonic")
    assert done.returncode == 128 + signal.SIGSYS
    assert "clock_nanosleep (230) is not handled" in done.stderr
    made = inside(UnhandledSyscallEnosys=True)
    assert anyone.output(made, "sleep", "monotonic") == "sleep: Function not implemented\n"


@pytest.mark.parametrize(("size", "problem"), [("16k", "32 KiB"), ("64m", "not smaller than MemorySize")])
def test_a_main_stack_that_mystikos_cannot_have_is_refused(
    package: MakePackage, anyone: Caller, size: str, problem: str
) -> None:
    done = anyone.run(package(MemorySize="64m", MainStackSize=size), "leave", "0")
    assert problem in refusal(done)


# Arguments and environment


def test_arguments_take_more_than_a_quarter_of_the_stack(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "arguments", *["x" * 100_000] * 13) == "15 arguments\n"
    done = caller.run(inside(), "arguments", *["x" * 100_000] * 18)
    assert refusal(done).endswith("too large for MainStackSize")


def test_the_roots_variables_come_behind_the_others(inside: MakeInside, caller: Caller) -> None:
    root = {"appenv.json": b'{"Env": ["PATH=/app", "LD_LIBRARY_PATH=/lib", "A=2", "B=3"]}'}
    made = inside(root, EnvironmentVariables=["A=1", "PATH=/bin"])
    assert caller.output(made, "environment").splitlines() == [
        "A=1",
        "PATH=/bin:/app",
        "MYST_TARGET=linux",
        "LD_LIBRARY_PATH=/lib",
        "A=2",
        "B=3",
    ]
    first = inside(root, EnvironmentVariables=["PATH=/bin"])
    assert caller.output(first, "environment").splitlines()[:3] == [
        "PATH=/bin",
        "MYST_TARGET=linux",
        "PATH=/app",
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no",
        b"{}",
        b'{"Env": []}',
        b'{"Env": ["A"]}',
        b'{"Env": [1]}',
        b'{"Env": ["A=1"]} x',
        b'{"X": []}',
    ],
)
def test_broken_variables_of_the_root_refuse_the_start(
    inside: MakeInside, anyone: Caller, text: bytes
) -> None:
    with pytest.raises(UserError, match=r"/appenv\.json"):
        inside({"appenv.json": text})
    made = inside({"appenv.json": text}, checked=False)
    assert refusal(anyone.run(made, "environment")).startswith("/appenv.json: ")


# Nothing gets out


def test_processes_that_make_processes_end_at_a_number(inside: MakeInside, caller: Caller) -> None:
    count, reason = caller.output(inside(ForkMode="pseudo"), "bomb").rstrip().split(": ")
    assert 900 < int(count) < 1400
    assert reason == "Resource temporarily unavailable"


def test_a_signal_to_group_0_does_not_reach_the_callers_group(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "signal-group").splitlines() == [
        "kill(0, SIGTERM): No such process",
        "kill(0, 0): No such process",
    ]


def test_a_directory_of_the_host_is_no_standard_input(package: MakePackage, caller: Caller) -> None:
    directory = os.open("/", os.O_RDONLY)
    done = caller.run(package(), "leave", "0", stdin=directory)
    os.close(directory)
    assert refusal(done).startswith("descriptor 0 is a directory of the host")


def test_a_caller_who_ignores_its_children_gets_the_status(package: MakePackage, caller: Caller) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    command = [package(), "leave", "7"]
    done = subprocess.run(command, check=False, preexec_fn=ignore, timeout=SECONDS, **caller.credentials)
    assert done.returncode == 7


def test_a_full_pipe_does_not_hold_a_refusal_up(package: MakePackage, anyone: Caller) -> None:
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    while True:
        try:
            os.write(ends[1], b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(ends[1], True)
    done = anyone.run(package(), "--myst-unknown", capture_output=False, stdout=ends[1], stderr=ends[1])
    assert done.returncode == 125
    for end in ends:
        os.close(end)


def test_a_limit_of_file_sizes_is_told(package: MakePackage, anyone: Caller) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command: list[str | Path] = [package(), "leave", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=limit, **anyone.credentials
    )
    assert refusal(done).endswith("File too large")


def test_two_dashes_end_the_loaders_options(package: MakePackage, caller: Caller) -> None:
    made = package()
    assert caller.output(made, "--", "arguments", "--myst-no-isolation", "--").splitlines()[1:] == [
        "arguments",
        "--myst-no-isolation",
        "--",
    ]


def test_a_deployment_forbids_the_loaders_options(package: MakePackage, anyone: Caller) -> None:
    made, forbidden = package(), {"MYST_OPTIONS": "none"}
    assert refusal(anyone.run(made, "--myst-no-isolation", "leave", "0", env=forbidden)) == (
        "options: --myst-no-isolation is refused, since MYST_OPTIONS is none"
    )
    assert anyone.run(made, "leave", "3", env=forbidden).returncode == 3
    assert "none is all that it can be" in refusal(
        anyone.run(made, "leave", "0", env={"MYST_OPTIONS": "some"})
    )
