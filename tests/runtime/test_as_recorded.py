"""What was recorded of Mystikos where Linux does otherwise: files, processes and configurations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, compile_static
from starting import Caller, MakePackage

CRASHED = 139
MakeRecorded = Callable[..., Path]


@pytest.fixture(scope="module")
def recorded(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> MakeRecorded:
    """Packages of a program that looks at what was recorded."""
    program = compile_static(tmp_path_factory.mktemp("recorded") / "program", HERE / "recorded.c")

    def recorded(**settings: Any) -> Path:
        return package({"bin/recorded": program}, **{"ApplicationPath": "/bin/recorded", **settings})

    return recorded


# Configurations


@pytest.mark.parametrize(
    ("name", "told"),
    [("", ""), ("bad name!", "bad name!"), ("x" * 65, "x" * 64), ("\u00e4" * 40, "\u00e4" * 32)],
)
def test_every_host_name_is_taken_up_to_64_bytes(
    recorded: MakeRecorded, anyone: Caller, name: str, told: str
) -> None:
    assert anyone.output(recorded(Hostname=name), "names").splitlines()[0] == f"host <{told}>"


@pytest.mark.parametrize("path", ["", "tmp"])
def test_a_working_directory_that_is_not_absolute_is_none(
    recorded: MakeRecorded, anyone: Caller, path: str
) -> None:
    made = recorded(CurrentWorkingDirectory=path)
    assert anyone.output(made, "names").splitlines()[1] == "directory No such file or directory"


def test_what_sets_no_variable_is_passed_on_as_it_is(recorded: MakeRecorded, anyone: Caller) -> None:
    made = recorded(EnvironmentVariables=["A=1", "NOEQ", "=x"], HostEnvironmentVariables=["PATH=/bin", ""])
    variables = anyone.output(made, "names").splitlines()[2:]
    assert variables == ["<A=1>", "<NOEQ>", "<=x>", "<MYST_TARGET=linux>"]


# Files


def test_a_file_has_no_holes_and_no_position_behind_its_end(recorded: MakeRecorded, caller: Caller) -> None:
    assert caller.output(recorded(), "positions").splitlines() == [
        "behind the end: Invalid argument",
        "far behind it: Invalid argument",
        "the end: 10",
        "data: Invalid argument",
        "a hole: Invalid argument",
        "end of a directory: 0",
        "a file of 1 TiB: Out of memory",
        "making a hole: 0",
        "copy over itself: 5",
        "content: 10",
        "0101234789, 5, 7",
        "mapping of a directory: Bad file descriptor",
    ]


@pytest.mark.parametrize(("memory", "size"), [("64m", 16), ("128m", 32)])
def test_a_file_grows_to_a_quarter_of_the_memory(
    recorded: MakeRecorded, anyone: Caller, memory: str, size: int
) -> None:
    assert anyone.output(recorded(MemorySize=memory), "grow") == f"{size} MiB, Out of memory\n"


def test_what_is_removed_while_a_directory_is_read_hides_other_files(
    recorded: MakeRecorded, caller: Caller
) -> None:
    assert caller.output(recorded(), "listing").splitlines() == [
        "302 entries, the last 299",
        "152 removed",
        "150 entries left",
        "directory: Directory not empty",
    ]


def test_a_directory_replaces_a_file_and_no_empty_directory(recorded: MakeRecorded, caller: Caller) -> None:
    assert caller.output(recorded(), "renaming").splitlines() == [
        "directory to empty directory: Directory not empty",
        "directory to file: 0",
        "file to directory: Not a directory",
        "file to file: 0",
        "directory to nothing: 0",
        "moved: 0",
    ]


def test_links_have_targets_of_any_length_and_tell_all_of_it(recorded: MakeRecorded, caller: Caller) -> None:
    assert caller.output(recorded(), "links").splitlines() == [
        "5000 bytes: 0",
        "made: 0",
        "room for all: 6",
        "abcdef-",
        "room for a part: 6",
        "abc",
    ]


def test_memory_goes_on_behind_the_end_of_a_mapped_file(recorded: MakeRecorded, caller: Caller) -> None:
    told = caller.output(recorded(), "mappings").splitlines()
    assert told == 2 * ["text, behind the end 0", "all behind the end 0"]


def test_nothing_that_is_watched_ever_happens(recorded: MakeRecorded, caller: Caller) -> None:
    assert caller.output(recorded(), "--myst-quiet", "watch").splitlines() == [
        "watch: 2048",
        "poll: 0",
        "read: 0",
        "closed on exec: 1",
        "remove: 0",
        "remove another: Invalid argument",
    ]


def test_pipes_end_before_other_descriptors(recorded: MakeRecorded, anyone: Caller) -> None:
    assert anyone.output(recorded(), "pipes") == "1019 pipes, No file descriptors available\n"


def test_the_error_of_a_unix_domain_socket_cannot_be_asked_for(
    recorded: MakeRecorded, anyone: Caller
) -> None:
    assert anyone.output(recorded(), "--myst-quiet", "sockets").splitlines() == [
        "error: Not supported",
        "type: 0",
    ]


def test_unix_domain_sockets_pass_data_alone_and_know_one_flag(
    recorded: MakeRecorded, anyone: Caller
) -> None:
    assert anyone.output(recorded(), "--myst-quiet", "messages").splitlines() == [
        "send: 1",
        "receive: 1",
        "send without a signal: 1",
        "send at once: Not supported",
        "receive all: Not supported",
        "send a descriptor: Not supported",
        "receive a descriptor: Not supported",
        "send to nobody: Invalid argument",
    ]


def test_connect_to_a_unix_domain_socket_waits_until_it_is_accepted(
    recorded: MakeRecorded, anyone: Caller
) -> None:
    told = anyone.output(recorded(), "--myst-quiet", "connecting").splitlines()
    assert told == 4 * ["bind: 0", "before accept 0, then 0"]


def test_a_removed_file_cannot_be_opened_again(recorded: MakeRecorded, anyone: Caller) -> None:
    assert anyone.output(recorded(), "reopen").splitlines() == [
        "removed: No such file or directory",
        "there: 0",
    ]


# Processes


def test_proc_tells_of_a_process_what_mystikos_tells(recorded: MakeRecorded, caller: Caller) -> None:
    made = recorded()
    assert caller.output(made, "show", "/proc/self/status").splitlines() == [
        "Name:\tmain",
        "Umask:\t0022",
        "Tgid:\t101",
        "Pid:\t101",
        "PPid:\t100",
        "TracerPid:\t0",
        "Uid:\t0\t0\t0\t0",
        "Gid:\t0\t0\t0\t0",
    ]
    stat = caller.output(made, "show", "/proc/101/stat")
    assert stat == f"101 (main) R 100 101 100{' 0' * 46}\n"


def test_the_maps_of_a_process_name_its_files_alone(recorded: MakeRecorded, caller: Caller) -> None:
    lines = caller.output(recorded(), "show", "/proc/self/maps").splitlines()
    assert {name for line in lines for name in line.split()[5:]} == {"/bin/recorded"}
    assert all(re.match(r"[0-9a-f]+-[0-9a-f]+ [-r][-w][-x]p ", line) for line in lines)


def test_what_is_told_of_a_process_counts_with_the_application_s_memory(
    recorded: MakeRecorded, anyone: Caller
) -> None:
    assert anyone.output(recorded(), "maps") == "counts\n"


@pytest.mark.parametrize(("mode", "told"), [("pseudo_wait_for_exit_exec", "1"), ("pseudo", "Try again")])
def test_a_parent_waits_for_its_child_where_the_fork_mode_says_so(
    recorded: MakeRecorded, anyone: Caller, mode: str, told: str
) -> None:
    made = recorded(ForkMode=mode)
    assert anyone.output(made, "fork").replace("Resource temporarily unavailable", "Try again") == (
        f"child: {told}\n"
    )


def test_a_program_begins_with_no_signal_ignored(recorded: MakeRecorded, caller: Caller) -> None:
    assert caller.output(recorded(), "ignoring").splitlines() == [
        "missing: No such file or directory",
        "still ignored: 1",
        "ignored: 0 0",
    ]


@pytest.mark.parametrize(
    "arguments", [("open", "/bin/recorded/x"), ("open", "/bin/recorded/"), ("link",), ("below",)]
)
def test_the_program_is_stopped_where_mystikos_crashes(
    recorded: MakeRecorded, caller: Caller, arguments: tuple[str, ...]
) -> None:
    done = caller.run(recorded(), *arguments)
    assert done.returncode == CRASHED
    assert "Mystikos crashes upon these arguments" in done.stderr


def test_the_program_is_stopped_where_mystikos_hangs(recorded: MakeRecorded, anyone: Caller) -> None:
    done = anyone.run(recorded(), "threaded")
    assert (done.returncode, done.stdout) == (CRASHED, "missing\n")
    assert "Mystikos hangs upon it in a thread other than the first" in done.stderr
