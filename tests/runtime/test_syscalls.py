"""What becomes of the application's system calls: processes, threads, and what Mystikos does not handle."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, compile_dynamic, compile_static
from starting import Caller, MakePackage

from mystikos_tool.runtime.build import SOURCE_DIRECTORY

CLONE3, KEYCTL, STATX, MYST_OWN, MEMBARRIER, UNKNOWN = 435, 250, 332, 2014, 324, 4095
STOPPED = 128 + signal.SIGSYS
MakeCalls = Callable[..., Path]


@pytest.fixture(scope="module")
def calls(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> MakeCalls:
    """Packages of a program that makes processes and system calls."""
    program = compile_static(tmp_path_factory.mktemp("calls") / "calls", HERE / "calls.c")

    def calls(**settings: Any) -> Path:
        return package({"bin/calls": program}, ApplicationPath="/bin/calls", **settings)

    return calls


# ForkMode


def test_without_a_fork_mode_processes_come_from_posix_spawn_and_vfork_only(
    calls: MakeCalls, caller: Caller
) -> None:
    assert caller.output(calls(), "processes").splitlines() == [
        "fork: Not supported",
        "vfork: done",
        "clone: Not supported",
        "clone3: Function not implemented",
        "posix_spawn: done",
        "thread: done",
        "namespace: Operation not permitted",
    ]


def test_programs_of_glibc_work_alike(
    package: MakePackage, anyone: Caller, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = tmp_path_factory.mktemp("glibc") / "calls"
    files = {"bin/calls": program, **compile_dynamic(program, HERE / "calls.c")}
    made = package(files, ApplicationPath="/bin/calls")
    lines = dict(line.split(": ") for line in anyone.output(made, "processes").splitlines())
    refused = {"fork", "clone", "clone3", "namespace"}
    assert {name for name, result in lines.items() if result != "done"} == refused
    assert lines["fork"] == "Operation not supported"
    assert anyone.run(made, "call", str(KEYCTL)).returncode == STOPPED


@pytest.mark.parametrize("mode", ["pseudo", "pseudo_wait_for_exit_exec"])
def test_with_a_fork_mode_processes_come_from_fork_too(calls: MakeCalls, anyone: Caller, mode: str) -> None:
    assert anyone.output(calls(ForkMode=mode), "processes").splitlines() == [
        "fork: done",
        "vfork: done",
        "clone: done",
        "clone3: Function not implemented",
        "posix_spawn: done",
        "thread: done",
        "namespace: Operation not permitted",
    ]


# UnhandledSyscallEnosys


@pytest.mark.parametrize(("way", "thread"), [("call", 101), ("call-in-thread", 102)])
def test_a_call_that_mystikos_does_not_handle_stops_the_program_and_is_named(
    calls: MakeCalls, caller: Caller, way: str, thread: int
) -> None:
    done = caller.run(calls(), way, str(KEYCTL))
    assert (done.returncode, done.stdout) == (STOPPED, "")
    assert done.stderr == (
        f"package: mystikos: stopped: thread {thread}: system call keyctl (250) is not handled by Mystikos; "
        "where the program can do without it, set UnhandledSyscallEnosys in the configuration\n"
    )


def test_a_stopped_program_does_not_go_on_for_a_moment(calls: MakeCalls, anyone: Caller) -> None:
    made = calls()
    assert {anyone.run(made, "call", str(KEYCTL)).stdout for _ in range(20)} == {""}


@pytest.mark.parametrize("number", [UNKNOWN, 467, 468, 999, 3000, 0x3FFFFFFF])
def test_a_call_that_nobody_knows_stops_the_program_too(
    calls: MakeCalls, anyone: Caller, number: int
) -> None:
    done = anyone.run(calls(), "call", str(number))
    assert done.returncode == STOPPED
    assert f"{number}" in done.stderr
    assert "is not handled by Mystikos" in done.stderr


@pytest.mark.parametrize("number", [KEYCTL, STATX, UNKNOWN])
def test_such_calls_fail_where_the_configuration_says_so(
    calls: MakeCalls, caller: Caller, number: int
) -> None:
    made = calls(UnhandledSyscallEnosys=True)
    assert caller.output(made, "call", str(number)) == "call: Function not implemented\n"


@pytest.mark.parametrize("number", [CLONE3, MYST_OWN, MEMBARRIER, 0x40000000 + 39])
def test_calls_that_every_c_library_can_do_without_fail_either_way(
    calls: MakeCalls, anyone: Caller, number: int
) -> None:
    assert anyone.output(calls(), "call", str(number)) == "call: Function not implemented\n"


def test_no_call_that_mystikos_does_not_handle_reaches_the_system(calls: MakeCalls, anyone: Caller) -> None:
    table = (SOURCE_DIRECTORY / "crt" / "calls.c").read_text()
    numbers = {int(number) for number in re.findall(r"\b[UA]\((\d+), \w+\)", table)}
    numbers |= {*range(468, 640), 1000, 2022, 2999, 3000, 0x3FFFFFFF, 0x40000000, 0x40000001, 0x7FFFFFFF}
    numbers.remove(335)  # uretprobe, which no filter sees: it ends who calls it from where it does not belong
    assert {101, 250, 332} < numbers  # ptrace, keyctl, statx
    made = calls(UnhandledSyscallEnosys=True)
    assert anyone.output(made, "call-each", *map(str, sorted(numbers))) == ""


def test_a_stopped_program_leaves_no_process_behind(calls: MakeCalls, anyone: Caller) -> None:
    ends = os.pipe()
    done = anyone.run(calls(), "call", str(KEYCTL), stdout=ends[1], capture_output=False, stderr=ends[1])
    os.close(ends[1])
    with os.fdopen(ends[0]) as stream:  # which ends when nobody has the other end
        assert "keyctl" in stream.read()
    assert done.returncode == STOPPED


# MaxAffinityCPUs


def test_the_processors_are_no_more_than_the_configuration_says_whatever_the_program_asks_for(
    calls: MakeCalls, caller: Caller
) -> None:
    first = min(os.sched_getaffinity(0))
    assert caller.output(calls(MaxAffinityCPUs=1), "affinity").splitlines() == [
        "all: done",
        "1",
        f"alone on {first}: 1",
        "none: Invalid argument",
        "bad address: Bad address",
        "process 1: Operation not permitted",
    ]


def test_without_a_limit_a_program_has_the_hosts_processors(calls: MakeCalls, anyone: Caller) -> None:
    lines = anyone.output(calls(), "affinity").splitlines()
    assert lines[:2] == ["all: done", str(len(os.sched_getaffinity(0)))]
