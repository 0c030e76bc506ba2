from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from compiling import HERE, MakeOnce, compile_sanitized, compile_watching_threads, needs_compiler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Bytes
from mystikos_tool.pipeline import pack
from mystikos_tool.root.archive import index
from mystikos_tool.runtime.build import SOURCE_DIRECTORY

pytestmark = needs_compiler

ARCHIVES = HERE.parent / "data" / "expected" / "rootfs"
DIRECTORY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777

Unpack = Callable[..., "subprocess.CompletedProcess[str]"]
Entry = tuple[str, int, bytes] | tuple[str, int, bytes, int]  # as the arguments of entry()


_NAMES = ("unpack", "write_behind", "write", "archive", "path")
_PARTS = (*(f"kernel/{name}.c" for name in _NAMES), "common/error.c")
SOURCES = (HERE / "unpack_archive.c", *(SOURCE_DIRECTORY / part for part in _PARTS))


@pytest.fixture(scope="session")
def unpack(make_once: MakeOnce, tmp_path_factory: pytest.TempPathFactory) -> Unpack:
    scratch = tmp_path_factory.mktemp("unpack_archive")
    program = (
        make_once("unpack_archive", lambda place: compile_sanitized(place / "unpack", *SOURCES)) / "unpack"
    )

    def unpack(archive: bytes, root: Path, *before: str) -> subprocess.CompletedProcess[str]:
        (scratch / "archive").write_bytes(archive)
        root.mkdir(exist_ok=True)
        return subprocess.run(
            [*before, program, scratch / "archive", root],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )

    return unpack


def entry(name: str, mode: int, data: bytes = b"", links: int = 1) -> bytes:
    encoded = name.encode()
    fields = (0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded + b"\0"
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


TRAILER = entry("TRAILER!!!", 0)


def archive_of(*entries: Entry) -> bytes:
    return entry(".", DIRECTORY) + b"".join(entry(*each) for each in entries) + TRAILER


def is_taken_by_the_packager(archive: bytes) -> bool:
    try:
        index(Bytes(archive), "archive")
    except UserError:
        return False
    return True


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


def test_what_the_packer_packed_comes_out_again(unpack: Unpack, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "bin" / "program").write_bytes(os.urandom(300_000))
    (source / "bin" / "set-id").write_bytes(b"x")
    (source / "none").write_bytes(b"")
    (source / "dangling").symlink_to("/nowhere/../at all")
    (source / "bin" / "set-id").chmod(0o6755)
    (source / "shared").mkdir()
    (source / "shared").chmod(0o3770)
    pack(source, tmp_path / "archive", preserve_modes=True)

    done = unpack((tmp_path / "archive").read_bytes(), tmp_path / "root")

    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path / "root") == tree(source)


@pytest.mark.parametrize("name", ["hello", "pages"])
def test_it_unpacks_what_the_reference_packed_as_cpio_does(unpack: Unpack, tmp_path: Path, name: str) -> None:
    archive = (ARCHIVES / f"{name}.cpio").read_bytes()
    (tmp_path / "expected").mkdir()
    try:
        subprocess.run(["cpio", "-i", "--quiet"], cwd=tmp_path / "expected", input=archive, check=True)
    except FileNotFoundError:
        pytest.skip("needs GNU cpio")

    done = unpack(archive, tmp_path / "root")

    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path / "root") == tree(tmp_path / "expected")


def test_files_larger_than_a_write_and_directories_in_any_order_come_out_whole(
    unpack: Unpack, tmp_path: Path
) -> None:
    large = os.urandom(9 << 20)
    entries = (
        ("a", DIRECTORY, b""),
        ("ab", DIRECTORY, b""),
        ("a/b", DIRECTORY, b""),
        ("a/b/c", FILE, large),
        ("ab/c", FILE, b"2"),
        ("./a//d", FILE, b"3"),
        ("a/b/e", FILE, b"4"),
        ("f", FILE, b"5"),
    )

    assert unpack(archive_of(*entries), tmp_path / "root").returncode == 0

    content = {path: data for path, (_, data) in tree(tmp_path / "root").items() if data}
    assert content == {"a/b/c": large, "ab/c": b"2", "a/d": b"3", "a/b/e": b"4", "f": b"5"}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A tree that is large enough for a second thread, with files of every size beside each other."""
    sizes = (0, 1, 4095, 4096, 4097, 20_000, 300_000, (4 << 20) - 1, 4 << 20, (4 << 20) + 1)
    source = tmp_path / "source"
    for number in range(400):
        path = source / f"directory{number % 7}" / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(sizes[number % 7 if number < 370 else number % 10]))
        path.chmod(0o6755 if number % 5 == 0 else 0o640)
    pack(source, tmp_path / "archive", preserve_modes=True)
    assert (tmp_path / "archive").stat().st_size > 40 << 20
    return source


def test_what_two_threads_write_comes_out_whole(unpack: Unpack, tmp_path: Path, large: Path) -> None:
    done = unpack((tmp_path / "archive").read_bytes(), tmp_path / "root")
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path / "root") == tree(large)


@pytest.mark.long
def test_the_two_threads_never_race_for_memory(tmp_path: Path, large: Path) -> None:
    program = compile_watching_threads(tmp_path / "unpack_archive", *SOURCES)
    (tmp_path / "root").mkdir()
    command = [program, tmp_path / "archive", tmp_path / "root"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path / "root") == tree(large)


def test_what_either_thread_cannot_write_is_told_in_one_line(unpack: Unpack, tmp_path: Path) -> None:
    limited = ("sh", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "sh")  # files of 51,200 bytes
    entries = [(f"file{number:03}", FILE, bytes(40_000)) for number in range(200)]
    for number in (20, 60, 61, 62, 63):
        entries[number] = (f"large{number}", FILE, bytes(60_000))
    done = unpack(archive_of(*entries), tmp_path / "root", *limited)
    assert done.returncode == 125
    assert re.fullmatch(r".*: cannot unpack large\d+: File too large\n", done.stderr)


HOSTILE = {
    "a name with dots": [("../outside/new", FILE, b"x")],
    "a name with dots inside": [("a", DIRECTORY, b""), ("a/../../outside/new", FILE, b"x")],
    "a name that is only dots": [("..", DIRECTORY, b"")],
    "an absolute name": [("/outside/new", FILE, b"x")],
    "a file through a link": [("a", LINK, b"../outside"), ("a/new", FILE, b"x")],
    "a file through a link to a link": [
        ("a", DIRECTORY, b""),
        ("b", LINK, b"a/c"),
        ("a/c", LINK, b"../../outside"),
        ("b/new", FILE, b"x"),
    ],
    "a file over a link": [("a", LINK, b"../outside/victim"), ("a", FILE, b"x")],
    "a file over a dangling link": [("a", LINK, b"../outside/new"), ("a", FILE, b"x")],
    "a directory over a link": [("a", LINK, b"../outside"), ("a", DIRECTORY, b""), ("a/new", FILE, b"x")],
    "a link over a directory in use": [("a", DIRECTORY, b""), ("a", LINK, b"../outside")],
    "a link through a link": [("a", LINK, b"../outside"), ("a/new", LINK, b"x")],
    "a directory through a link": [("a", LINK, b"../outside"), ("a/new", DIRECTORY, b"")],
    "a file below a file": [("a", FILE, b"x"), ("a/b", FILE, b"y")],
    "a file twice": [("a", FILE, b"x"), ("a", FILE, b"y")],
    "a file for the root": [("a/..", FILE, b"x")],
    "a link with a NUL": [("a", LINK, b"x\0y")],
    "a link to nothing": [("a", LINK, b"")],
    "a device": [("a", stat.S_IFCHR | 0o666, b"")],
    "a pipe": [("a", stat.S_IFIFO | 0o666, b"")],
    "a file before its directory": [("a/b", FILE, b"x")],
    "a name of 256 bytes": [("a" * 256, FILE, b"x")],
    "a link to a path of 4,096 bytes": [("a", LINK, b"x" * 4096)],
    "a root that is a file": [(".", FILE, b"x")],
    "a root that is a link": [("./", LINK, b"../outside")],
    "the first of two hard links": [("a", FILE, b"", 2), ("b", FILE, b"x", 2)],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_changes_nothing_outside(
    unpack: Unpack, tmp_path: Path, entries: list[Entry]
) -> None:
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "outside" / "victim").write_bytes(b"as it was")
    before = tree(tmp_path / "outside"), (tmp_path / "outside").stat().st_mode

    done = unpack(archive_of(*entries), tmp_path / "root")

    assert done.returncode == 125
    assert done.stderr.startswith("package: mystikos: root file system: ")
    assert done.stderr.count("\n") == 1
    assert (tree(tmp_path / "outside"), (tmp_path / "outside").stat().st_mode) == before
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "root"}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_is_refused_at_the_start_is_refused_when_it_is_packaged(entries: list[Entry]) -> None:
    assert not is_taken_by_the_packager(archive_of(*entries))


def test_a_header_in_lower_case_is_refused_as_by_the_packager(unpack: Unpack, tmp_path: Path) -> None:
    archive = archive_of(("a", FILE, b"content of ten"))
    assert b"0000000E" in archive
    archive = archive.replace(b"0000000E", b"0000000e")
    assert not is_taken_by_the_packager(archive)
    done = unpack(archive, tmp_path / "root")
    assert done.returncode == 125
    assert "an archive entry has a malformed header" in done.stderr


def test_a_truncated_archive_is_refused_wherever_it_ends(unpack: Unpack, tmp_path: Path) -> None:
    archive = archive_of(("a", DIRECTORY, b""), ("a/b", FILE, b"content"))
    whole = len(archive.rstrip(b"\0")) + 1  # without the padding behind the trailer's name
    for size in {*range(0, whole, 3), whole - 1}:
        root = tmp_path / str(size)
        done = unpack(archive[:size], root)
        assert (size, done.returncode) == (size, 125), done.stderr
        assert not is_taken_by_the_packager(archive[:size])
    assert unpack(archive[:whole], tmp_path / "root").returncode == 0


@settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_damage_to_an_archive_is_refused_by_the_packager_too_or_stays_inside(
    unpack: Unpack, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    archive = bytearray(archive_of(("a", DIRECTORY, b""), ("a/b", FILE, b"content"), ("l", LINK, b"a")))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at : at + 1] = data.draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"F", b"/", b"."]))
        )
    done = unpack(bytes(archive), place / "root")
    assert done.returncode in {0, 125}, done.stderr
    assert done.returncode == 0 or not is_taken_by_the_packager(bytes(archive))
    assert [path.name for path in place.iterdir()] == ["root"]
