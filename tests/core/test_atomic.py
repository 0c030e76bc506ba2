from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.io import abandoned, atomic
from mystikos_tool.io.atomic import _exchange, make_directory, read_input, rewriting, scratch, write, writing


@pytest.fixture(autouse=True, params=["small", "large"])
def _as_large_files_are(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds as well for how large files take the place of earlier ones."""
    if request.param == "large":
        monkeypatch.setattr("mystikos_tool.io.atomic._LARGE", 0)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_written_file_has_the_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with writing(tmp_path / "target") as file:
        file.write(b"content")
    assert (tmp_path / "target").read_bytes() == b"content"
    assert names(tmp_path) == {"target"}


@pytest.mark.parametrize("mask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_the_mode_is_the_one_asked_for_as_far_as_the_umask_lets_it(
    tmp_path: Path, mask: int, mode: int
) -> None:
    (tmp_path / "target").write_bytes(b"earlier, and readable by all")
    before = os.umask(mask)
    try:
        write(tmp_path / "target", b"", mode)
        with rewriting(tmp_path / "target", mode) as file:
            assert file
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == mode & ~mask


def test_nothing_is_seen_of_the_target_before_the_end(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"earlier")
    with writing(tmp_path / "target") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "target").read_bytes() == b"earlier"
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_was_written_can_be_read_back_before_the_end(tmp_path: Path) -> None:
    with writing(tmp_path / "target") as file:
        file.write(b"new")
        file.seek(0)
        assert file.read() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError("a", "b", "c")])
def test_a_failure_leaves_the_earlier_target_and_nothing_else(
    tmp_path: Path, error: type[BaseException] | BaseException
) -> None:
    (tmp_path / "target").write_bytes(b"earlier")
    with pytest.raises(BaseException) as raised, writing(tmp_path / "target") as file:
        file.write(b"half")
        raise error
    assert raised.type is (error if isinstance(error, type) else type(error))
    assert (tmp_path / "target").read_bytes() == b"earlier"
    assert names(tmp_path) == {"target"}


def test_a_failure_with_no_earlier_target_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "target"):
        raise ZeroDivisionError
    assert names(tmp_path) == set()


def test_a_link_keeps_its_place_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "behind").write_bytes(b"earlier")
    (tmp_path / "link").symlink_to("behind")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "behind").read_bytes() == b"new"


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with writing(tmp_path / "target") as file:
            file.write(b"half" * 1000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(names(tmp_path)) == 1
    write(tmp_path / "target", b"new")
    assert names(tmp_path) == {"target"}
    assert (tmp_path / "target").read_bytes() == b"new"


def test_two_writers_at_once_do_not_mix_what_they_write(tmp_path: Path) -> None:
    with writing(tmp_path / "target") as first:
        first.write(b"first")
        with writing(tmp_path / "target") as second:
            second.write(b"the second")
        assert (tmp_path / "target").read_bytes() == b"the second"
    assert (tmp_path / "target").read_bytes() == b"first"
    assert names(tmp_path) == {"target"}


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    with writing(tmp_path / "target"):
        (temporary,) = names(tmp_path)
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / temporary).symlink_to("victim")
    write(tmp_path / "target", b"new")
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (tmp_path / "target").read_bytes() == b"new"
    assert names(tmp_path) == {"target", "victim", temporary}


def test_a_hard_link_in_the_place_of_the_temporary_file_is_not_written(tmp_path: Path) -> None:
    with writing(tmp_path / "target"):
        (temporary,) = names(tmp_path)
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / temporary).hardlink_to(tmp_path / "victim")
    write(tmp_path / "target", b"new")
    assert (tmp_path / "victim").read_bytes() == b"untouched"


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127])
def test_a_name_as_long_as_they_come_can_be_written(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, b"new")
    assert names(tmp_path) == {name}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_with_the_target_s_name(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told, writing(tmp_path / "target") as file:
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), file.fileno())
        file.write(b"x")
    assert told.value.where == str(tmp_path / "target")
    assert "no space left" in told.value.problem
    assert names(tmp_path) == set()


def test_a_missing_directory_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told, writing(tmp_path / "a" / "b"):
        pass
    assert str(told.value) == (
        f"{tmp_path}/a/b: cannot be written: no such file or directory;"
        f" make the directory first: mkdir -p {tmp_path}/a"
    )


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"), writing(tmp_path):
        pass


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UserError, match="not a regular file"), writing(Path("/dev/null")):
        pass
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_scratch_directory_lies_where_the_target_s_first_missing_directory_will(tmp_path: Path) -> None:
    with scratch(tmp_path / "a" / "b") as directory:
        (directory / "large").write_bytes(b"")
        assert directory.parent == tmp_path
    assert names(tmp_path) == set()


def test_a_scratch_directory_is_removed_when_its_body_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch(tmp_path / "target") as directory:
        (directory / "large").write_bytes(b"")
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


def test_missing_directories_are_made(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be made a directory"):
        make_directory(tmp_path / "a" / "b")


def test_an_input_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"12345")
    assert read_input(tmp_path / "in", "key file", limit=5) == b"12345"


def test_an_input_above_the_limit_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"123456")
    with pytest.raises(UserError, match="larger than 5 bytes"):
        read_input(tmp_path / "in", "key file", limit=5)


def test_an_endless_input_is_told() -> None:
    with pytest.raises(UserError, match="larger than"):
        read_input(Path("/dev/zero"), "key file")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", "there is no such key file"),
        ("directory", "is a directory, not a key file"),
        ("file/below", "cannot be read as key file: not a directory"),
        ("loop", "cannot be read as key file: too many levels of symbolic links"),
        ("a\0b", "cannot be read as key file"),
    ],
)
def test_an_input_that_is_no_file_is_told(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as raised:
        read_input(tmp_path / name, "key file")
    assert told in str(raised.value)
    assert name in raised.value.where


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_input_is_told_with_the_command_that_allows_it(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    (tmp_path / "in").chmod(0)
    with pytest.raises(UserError, match="chmod u\\+r"):
        read_input(tmp_path / "in", "key file")


def test_two_files_change_their_names_or_stay_as_they_are(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    assert not _exchange(first, second)
    assert names(tmp_path) == {"first"}
    second.write_bytes(b"2")
    assert _exchange(first, second)
    assert (first.read_bytes(), second.read_bytes()) == (b"2", b"1")


def test_a_target_is_replaced_where_files_cannot_change_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mystikos_tool.io.atomic._exchange", lambda first, second: False)
    write(tmp_path / "target", b"earlier")
    write(tmp_path / "target", b"later")
    assert (tmp_path / "target").read_bytes() == b"later"
    assert names(tmp_path) == {"target"}


def test_who_writes_the_same_target_meanwhile_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither just before a file takes its place nor just before it is removed."""
    target = tmp_path / "target"
    replace, unlink = atomic._replace, Path.unlink

    def replaced(final: Path, temporary: Path) -> None:
        monkeypatch.setattr(atomic, "_replace", replace)
        write(target, b"meanwhile")
        replace(final, temporary)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        monkeypatch.setattr(Path, "unlink", unlink)
        with writing(target) as other:
            other.write(b"meanwhile")
            unlink(path, missing_ok)

    monkeypatch.setattr(atomic, "_replace", replaced)
    write(target, b"later")
    assert target.read_bytes() == b"later"

    with pytest.raises(RuntimeError), writing(target):
        monkeypatch.setattr(Path, "unlink", unlinked)
        raise RuntimeError
    assert target.read_bytes() == b"meanwhile"
    assert names(tmp_path) == {"target"}


def test_a_file_that_is_replaced_is_let_go(tmp_path: Path) -> None:
    write(tmp_path / "target", b"earlier")
    threads = set(threading.enumerate())
    write(tmp_path / "target", b"later")
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert (tmp_path / "target").read_bytes() == b"later"
    assert not [path for path in _open_files() if path.is_relative_to(tmp_path)]


def _open_files() -> Iterator[Path]:
    """Yield what this process has open, a removed file with " (deleted)" behind its name."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own, and what other threads close meanwhile
            yield link.readlink()


def left_by_a_killed_process(directory: Path) -> set[str]:
    """Have a process killed while it writes, in every way that there is; return the names that it leaves."""
    child = os.fork()
    if child == 0:
        with (
            scratch(directory / "target") as inner,
            writing(directory / "target"),
            writing(directory / "target") as second,
        ):
            (inner / "below").mkdir()
            (inner / "below" / "large").write_bytes(b"half")
            second.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return names(directory)


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    left = left_by_a_killed_process(tmp_path)
    assert len(left) == 3
    assert {path.name for path in abandoned.found(tmp_path)} == left
    assert {path.name for path in abandoned.found(tmp_path, "target")} == left
    assert len(abandoned.found(tmp_path, "other")) == 1
    abandoned.sweep(tmp_path)
    assert names(tmp_path) == set()


def test_a_scratch_directory_goes_with_all_in_it_and_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    with scratch(tmp_path / "target") as directory:
        (directory / "file").touch()
        (directory / "link").symlink_to(tmp_path / "outside")
        (directory / "in" / "it").mkdir(parents=True)
        (directory / "in" / "it" / "link").symlink_to(tmp_path / "outside")
    assert [*tmp_path.iterdir()] == [tmp_path / "outside"]
    assert (tmp_path / "outside" / "file").exists()


def test_threads_that_sweep_take_no_scratch_directory_away_from_each_other(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(100):
                with scratch(tmp_path / "target") as directory:
                    assert directory.is_dir()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert names(tmp_path) == set()


def test_a_scratch_directory_sweeps_what_lies_beside_it(tmp_path: Path) -> None:
    left_by_a_killed_process(tmp_path)
    with scratch(tmp_path / "target") as directory:
        assert names(tmp_path) == {directory.name}
    assert names(tmp_path) == set()


def test_what_a_killed_process_left_above_the_directories_that_it_made_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = Path("myst", "bin", "hello")
    left = tmp_path / ".mystikos-abcd1234"
    left.mkdir()
    target.parent.mkdir(parents=True)
    with scratch(target) as directory:
        assert directory.parent == tmp_path / "myst" / "bin"
        assert not left.exists()


def test_what_a_living_process_writes_is_not_swept(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with scratch(target) as directory, writing(target) as first, writing(target) as second:
        abandoned.sweep(tmp_path)
        assert abandoned.found(tmp_path) == []
        assert directory.is_dir()
        assert len(names(tmp_path)) == 3
        first.write(b"1")
        second.write(b"2")
    assert names(tmp_path) == {"target"}


@pytest.mark.parametrize(
    "name", [".mystikos-part", ".mystikos-notes", "a.mystikos-part", ".mystikos-abcdefgh0"]
)
def test_what_has_no_name_of_ours_is_not_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    abandoned.sweep(tmp_path)
    assert names(tmp_path) == {name}


def test_a_link_with_a_name_of_ours_leads_no_sweep_away(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".mystikos-abcdefgh").symlink_to(tmp_path / "kept")
    (tmp_path / "here" / ".a.mystikos-part").symlink_to(tmp_path / "kept")
    abandoned.sweep(tmp_path / "here")
    assert names(tmp_path / "here") == {".mystikos-abcdefgh", ".a.mystikos-part"}
    assert names(tmp_path) == {"kept", "here"}


NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user's")


@as_root
def test_what_another_user_left_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.mystikos-part").write_bytes(b"")
    os.chown(tmp_path / ".a.mystikos-part", NOBODY, NOBODY)
    abandoned.sweep(tmp_path)
    assert names(tmp_path) == {".a.mystikos-part"}


@as_root
@pytest.mark.parametrize("link", ["target", "directory"])
def test_output_through_another_user_s_link_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "target").symlink_to("victim")
    (tmp_path / "directory").symlink_to(".")
    os.chown(tmp_path / link, NOBODY, NOBODY, follow_symlinks=False)
    given = tmp_path / ("target" if link == "target" else "directory/victim")
    with pytest.raises(UserError) as told:
        write(given, b"new")
    assert str(told.value) == (
        f"{given}: is reached by {tmp_path / link}, a symbolic link of another user's (uid {NOBODY});"
        " remove the link, or name the place that it leads to"
    )
    assert (tmp_path / "victim").read_bytes() == b"untouched"


@as_root
def test_a_directory_behind_another_user_s_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to("victim")
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    for given in (tmp_path / "link", tmp_path / "link" / "new" / "directory"):
        with pytest.raises(UserError, match=f"{given}: is reached by {tmp_path}/link, a symbolic link of"):
            make_directory(given)
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("given", ["sub/../link/x", "absolute/x", "link/../link/x", "./link//x"])
def test_the_user_s_own_links_are_followed_wherever_they_are(tmp_path: Path, given: str) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "link").symlink_to("deep")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("real/deep")
    (tmp_path / "absolute").symlink_to(tmp_path / "real" / "deep")
    expected = (tmp_path / given).resolve()
    write(tmp_path / given, b"new")
    assert expected.read_bytes() == b"new"


def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="too many levels of symbolic links"):
        write(tmp_path / "loop", b"")


def test_data_are_written_whole_where_the_kernel_takes_less_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:3], at))
    with (tmp_path / "file").open("w+b") as file:
        atomic.write_at(file.fileno(), b"0123456789", 2)
    assert (tmp_path / "file").read_bytes() == b"\0\x000123456789"


def test_what_is_open_elsewhere_is_not_rewritten_where_nobody_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"earlier")
    with (tmp_path / "target").open("rb"):
        with rewriting(tmp_path / "target", unread=True) as file:
            assert file is None
        assert names(tmp_path) == {"target"}
        with rewriting(tmp_path / "target") as file:
            assert file
    with rewriting(tmp_path / "target", unread=True) as file:
        assert file
        file.write(b"new")
    assert (tmp_path / "target").read_bytes() == b"newlier"


def test_what_runs_is_not_rewritten(tmp_path: Path) -> None:
    shutil.copy("/bin/sleep", tmp_path / "target")
    with subprocess.Popen([tmp_path / "target", "60"]) as running:
        try:
            with rewriting(tmp_path / "target", unread=True) as file:
                assert file is None
        finally:
            running.kill()
    assert names(tmp_path) == {"target"}
