"""An application that means harm: what it tries to reach outside of the sandbox, or to leave behind there."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compiling import HERE, compile_static
from starting import Caller, MakePackage, Terminal, execute

MakeReaching = Callable[..., Path]
MOUNT = {"Mount": [{"Target": "/mnt", "Type": "hostfs"}]}
FORKS = {"ForkMode": "pseudo"}


@pytest.fixture(scope="module")
def reaching(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> MakeReaching:
    program = compile_static(tmp_path_factory.mktemp("reaching") / "program", HERE / "reach_out.c")

    def reaching(files: dict[str, bytes] | None = None, **settings: object) -> Path:
        content: dict[str, bytes | Path] = {"bin/reach": program, "mnt/x": b"", **(files or {})}
        return package(content, ApplicationPath="/bin/reach", MemorySize="64m", **settings)

    return reaching


@pytest.fixture
def shared(public_directory: Path, caller: Caller) -> Iterator[Path]:
    """A directory of the host that both callers may write to."""
    directory = public_directory / "reached"
    directory.mkdir()
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def give(caller: Caller, path: Path, text: str) -> Path:
    path.write_text(text)
    if caller.user is not None:
        os.chown(path, caller.user, caller.user)
    os.utime(path, (1_000_000, 2_000_000))
    return path


@pytest.mark.parametrize("as_linux", [False, True])
def test_files_that_are_given_keep_content_times_and_attributes(
    reaching: MakeReaching, caller: Caller, shared: Path, as_linux: bool
) -> None:
    given, log = give(caller, shared / "given", "given"), give(caller, shared / "log", "kept\n")
    command = ["--myst-linux", "files"] if as_linux else ["files"]
    with given.open() as stdin, log.open("a") as stdout:
        files = {"stdin": stdin, "stdout": stdout, "capture_output": False, "stderr": -1}
        done = caller.run(reaching(Debug=as_linux), *command, **files)
    assert done.returncode == 0
    [first, *others] = done.stderr.splitlines()
    assert first == "write before the end: Not supported"
    assert [line for line in others if line.endswith("done")] == []
    assert log.read_text() == "kept\n"
    assert (given.stat().st_mtime, log.stat().st_mtime) == (2_000_000, 2_000_000)


def test_a_file_that_is_read_and_appended_to_is_not_changed_through_memory(
    reaching: MakeReaching, caller: Caller, shared: Path
) -> None:
    log = give(caller, shared / "log", "kept\n")
    with log.open("a+") as stdout:
        caller.run(reaching(), "map", stdout=stdout, capture_output=False, stderr=-1)
    assert log.read_text() == "kept\n"


def test_times_of_own_files_are_set_in_every_way(reaching: MakeReaching, caller: Caller) -> None:
    assert caller.output(reaching(), "own-times").splitlines() == [
        "utimensat: done",
        "2.7, now",
        "utimes: done",
        "5.6000, now",
        "wrong: Invalid argument",
        "utime: done",
        "8.0, now",
        "a link: Symbolic link loop",
        "one of them: done",
        "now: done",
        "0.0, now",
        "missing: No such file or directory",
        "no descriptor: Bad file descriptor",
    ]


def test_sockets_of_the_host_in_a_mounted_directory_are_out_of_reach(
    reaching: MakeReaching, caller: Caller, shared: Path
) -> None:
    paths = [shared / "stream", shared / "datagrams"]
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        for one, path in zip((stream, other), paths, strict=True):
            one.bind(str(path))
            one.setblocking(False)
            path.chmod(0o777)
        stream.listen()
        words = [f"--myst-mount={shared}=/mnt", "--myst-quiet", "sockets", "/mnt/stream", "/mnt/datagrams"]
        *told, within, read = caller.output(reaching(**MOUNT), *words).splitlines()
        assert [line for line in told if line.endswith("done")] == []
        assert len(told) == 8
        assert (within, read) == ("within a pair: done", "from a pair: done")
        with pytest.raises(BlockingIOError):
            stream.accept()
        with pytest.raises(BlockingIOError):
            other.recv(1)
        lines = caller.output(reaching(HostUDS=True, **MOUNT), *words).splitlines()
        assert lines[:4] == [f"{way}: done" for way in ("connect", "connect for datagrams", "sendto")] + [
            "sendto as to IPv4: done"
        ]


@pytest.mark.parametrize(
    ("options", "directory"), [(("--myst-quiet",), "/proc/.linux"), (("--myst-linux",), "/proc")]
)
def test_nothing_that_tells_of_processes_can_be_written(
    reaching: MakeReaching, caller: Caller, options: tuple[str, ...], directory: str
) -> None:
    assert caller.output(reaching(Debug=True), *options, "processes", directory) == "tried\n"


def test_the_callers_control_groups_are_not_shown(package: MakePackage, caller: Caller) -> None:
    lines = caller.output(package(), "show", "/proc/.linux/self/cgroup").splitlines()
    assert [line for line in lines if not line.endswith(":/")] == []


def test_file_systems_in_memory_hold_a_bounded_number_of_files(package: MakePackage, caller: Caller) -> None:
    mounts = caller.output(package(), "show", "/proc/.linux/self/mountinfo").splitlines()
    in_memory = [line for line in mounts if " - tmpfs " in line]
    assert [line.split()[4] for line in in_memory] == ["/", "/dev", "/dev/shm", "/proc"]
    assert [line for line in in_memory if "nr_inodes=" not in line] == []


def test_no_set_id_file_is_left_by_a_path_that_changes(
    reaching: MakeReaching, caller: Caller, shared: Path
) -> None:
    words = ["change-while-opened", "/tmp/file", "/mnt/file", "300"]
    assert caller.output(reaching(**MOUNT), f"--myst-mount={shared}=/mnt", *words) == "tried\n"
    assert [path for path in shared.iterdir() if path.stat().st_mode & 0o6000] == []


def test_with_linux_as_it_is_nothing_leads_around_the_filter(
    reaching: MakeReaching, caller: Caller, shared: Path
) -> None:
    made = reaching(Debug=True, **MOUNT)
    words = ["--myst-linux", f"--myst-mount={shared}=/mnt", "more-calls", "/mnt/file", "/mnt"]
    before = os.getpriority(os.PRIO_PGRP, 0)
    lines = caller.output(made, *words, start_new_session=True).splitlines()
    assert [line for line in lines if line.endswith("done")] == ["own priority: done"]
    assert os.getpriority(os.PRIO_PGRP, 0) == before
    assert list(shared.iterdir()) == []


def test_without_isolation_not_all_processes_of_the_caller_are_reached(
    reaching: MakeReaching, caller: Caller
) -> None:
    # In a process namespace: where the signal gets out, it must not reach the tests.
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("needs unshare(1)")
    command = [unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child", reaching()]
    done = caller.run(command, "--myst-no-isolation", "kill-all")
    assert done.stdout == "kill(-1, SIGKILL): Operation not permitted\n", done.stderr


def test_a_terminal_takes_no_request_that_outlasts_the_application(
    reaching: MakeReaching, caller: Caller
) -> None:
    terminal = Terminal(caller, execute, reaching(), "terminal")
    for way in ("type", "another discipline", "for nobody else"):
        terminal.expect(f"{way}: Operation not permitted")
    assert terminal.end() == 0


def test_memory_that_processes_share_counts_as_all_other(reaching: MakeReaching, caller: Caller) -> None:
    made = reaching(**FORKS)
    assert caller.output(made, "share", "1", "40") == "1 of 1\n"
    count, of = caller.output(made, "share", "12", "8").split(" of ")
    assert (6 <= int(count) <= 8, of) == (True, "12\n")


def test_process_1_has_no_capability_either(package: MakePackage, caller: Caller) -> None:
    status = caller.output(package(), "show", "/proc/.linux/1/status").splitlines()
    sets = {line.split()[0]: line.split()[1] for line in status if line.startswith(("Cap", "NoNewPrivs"))}
    capabilities = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert sets == {**{f"{name}:": "0" * 16 for name in capabilities}, "NoNewPrivs:": "1"}
