from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.formats import cpio
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import FileContent
from mystikos_tool.root.archive import Archive, ArchiveSource, Earlier, Unwritten, extract, index, read, write
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import Tree, canonical_mode, join


def scan(directory: Path, *, preserve_modes: bool = False) -> Tree:
    return DirectorySource(directory, preserve_modes=preserve_modes).tree()


def pack(directory: Path, target: Path, *, preserve_modes: bool = False) -> bytes:
    write(scan(directory, preserve_modes=preserve_modes), target)
    return target.read_bytes()


def told(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def entry(
    name: bytes, mode: int = stat.S_IFREG | 0o644, data: bytes = b"", *, nul: bytes = b"\0", links: int = 1
) -> bytes:
    """An archive entry made by hand."""
    numbers = [0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + len(nul), 0]
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + name + nul
    header += bytes(-len(header) % 4)
    return header + data + bytes(-len(data) % 4)


TRAILER = entry(b"TRAILER!!!", 0)
DIRECTORY, LINK = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def archive(path: Path, *entries: bytes) -> Archive:
    path.write_bytes(b"".join(entries) + TRAILER)
    return read(path)


# What is written


@pytest.mark.parametrize("buffer", [512, 4096, 1 << 16])
def test_an_archive_that_is_not_written_is_read_as_the_one_that_is(tmp_path: Path, buffer: int) -> None:
    root = tmp_path / "root"
    (root / "d" / "empty").mkdir(parents=True)
    for number, size in enumerate((0, 1, 4095, 4096, 300_000, 1_500_000)):
        (root / "d" / f"{number}").write_bytes(os.urandom(size))
    (root / "l").symlink_to("d/3")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "f").write_bytes(b"12345")
    for tree in (scan(root), scan(tmp_path / "small")):
        write(tree, tmp_path / "archive")
        unwritten, read_again = Unwritten(tree), b""
        with unwritten.opened() as reader:
            data = bytearray(2 * buffer)
            while size := reader.read_into([memoryview(data)[:buffer], memoryview(data)[buffer:]]):
                read_again += data[:size]
        assert read_again == (tmp_path / "archive").read_bytes()
        assert unwritten.size == len(read_again)


def test_an_archive_of_nothing_has_the_root_and_its_end(tmp_path: Path) -> None:
    nothing = Tree((), (), 0)
    write(nothing, tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == cpio.ROOT + cpio.end(len(cpio.ROOT))
    assert Unwritten(nothing).size == (tmp_path / "archive").stat().st_size
    assert read(tmp_path / "archive").members == ()


def test_an_archive_that_is_not_written_is_not_of_a_file_that_changed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").write_bytes(b"before")
    unwritten = Unwritten(scan(tmp_path / "root"))
    (tmp_path / "root" / "f").write_bytes(b"after it")
    with unwritten.opened() as reader:
        assert "changed" in told(lambda: reader.read_into([memoryview(bytearray(1 << 16))]))


def test_more_entries_than_a_reader_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpio, "MAX_MEMBERS", 3)
    for number in range(3):
        (tmp_path / f"root/{number}").mkdir(parents=True)
    assert pack(tmp_path / "root", tmp_path / "archive")
    (tmp_path / "root/last").touch()
    assert "last: is one of 4 entries, and a root has at most 3" in told(
        lambda: pack(tmp_path / "root", tmp_path / "archive")
    )


def test_the_bytes_of_an_archive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"12345")
    (root / "l").symlink_to("d/f")
    same = b"00000000000000000000000156734BA4"  # uid, gid, nlink, mtime
    device = b"00000008000000020000000000000000"
    expected = (
        b"070701" b"00B66448" b"000041ED" b"00000000" b"00000000" b"00000002" b"5BE31EB3" b"00000000"
        + device + b"00000002" b"00000000" b".\0"
        b"070701" b"00000000" b"000041ED" + same + b"00000000" + device + b"00000002" b"00000000" b"d\0"
        b"070701" b"00000000" b"000081A4" + same + b"00000005" + device + b"00000004" b"00000000" b"d/f\0\0\0"
        b"12345\0\0\0"
        b"070701" b"00000000" b"0000A1FF" + same + b"00000003" + device + b"00000002" b"00000000" b"l\0"
        b"d/f\0"
        b"070701" b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0\0\0\0"
    )  # fmt: skip
    data = pack(root, tmp_path / "archive")
    assert data == expected.ljust(1024, b"\0")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 510, 511, 512, 513])
def test_an_archive_has_whole_blocks_of_512_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").write_bytes(b"x" * size)
    data = pack(tmp_path / "root", tmp_path / "archive")
    assert len(data) % 512 == 0
    assert data.rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(data) - len(data.rstrip(b"\0")) < 512 + 4


def test_an_archive_does_not_depend_on_times_order_and_umask(tmp_path: Path) -> None:
    archives = []
    for number, (mask, names) in enumerate([(0o022, "abc"), (0o077, "cab")]):
        before = os.umask(mask)
        try:
            root = tmp_path / str(number)
            root.mkdir()
            for name in names:
                (root / name).write_bytes(name.encode())
                os.utime(root / name, (number, number))
        finally:
            os.umask(before)
        archives.append(pack(root, tmp_path / f"{number}.cpio"))
    assert archives[0] == archives[1]


def test_what_is_told_of_an_archive_that_was_written_is_what_is_read_from_it(tmp_path: Path) -> None:
    tree(tmp_path / "root")
    written = write(scan(tmp_path / "root"), tmp_path / "archive")
    assert written == read(tmp_path / "archive")
    assert len(written.members) == len(list((tmp_path / "root").rglob("*")))


@settings(
    max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_what_is_copied_from_an_earlier_archive_makes_no_difference(
    tmp_path: Path, known: set[int], removed: set[int]
) -> None:
    """Whichever members are known to be unchanged, and whichever have gone since."""
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    (tmp_path / "root").mkdir()
    for number in range(10):
        (tmp_path / "root" / f"{number}").write_bytes(b"%d" % number * number * 700)
    before = write(scan(tmp_path / "root"), tmp_path / "earlier")
    for number in removed:
        (tmp_path / "root" / f"{number}").unlink()
    (tmp_path / "root" / "new").write_bytes(b"new" * 1000)
    scanned = scan(tmp_path / "root")
    offsets = {member.path: member.offset for member in before.members if int(member.path) in known}
    write(scanned, tmp_path / "anew")
    write(scanned, tmp_path / "copied", Earlier(tmp_path / "earlier", offsets))
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "anew").read_bytes()


def test_an_earlier_archive_may_be_the_target(tmp_path: Path) -> None:
    tree(tmp_path / "root")
    archive = write(scan(tmp_path / "root"), tmp_path / "archive")
    before = (tmp_path / "archive").read_bytes()
    offsets = {member.path: member.offset for member in archive.members}
    earlier = Earlier(tmp_path / "archive", offsets)
    assert write(scan(tmp_path / "root"), tmp_path / "archive", earlier) == archive
    assert (tmp_path / "archive").read_bytes() == before


def tree(root: Path) -> None:
    """A tree with every kind of entry and odd names."""
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "bin" / "app").write_bytes(bytes(range(256)) * 20)
    (root / "bin" / "app").chmod(0o4755)
    (root / "bin" / "none").touch()
    (root / "name with space\nand ä").write_bytes(b"1")
    (root / "link").symlink_to("bin/app")
    (root / "dangling").symlink_to("/no/where/" + "x" * 300)
    (root / "shared").mkdir()
    (root / "shared").chmod(0o1777)
    (root / ("d" * 100)).mkdir()
    (root / ("d" * 100) / ("f" * 154)).write_bytes(b"255")


def unpacked(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything below a directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (mode, content)
    return found


READERS = {
    "cpio": ["cpio", "-idm", "--no-absolute-filenames", "--quiet", "-F", "../archive"],
    "bsdtar": ["bsdtar", "-xpf", "../archive"],
    "bsdcpio": ["bsdcpio", "-idm", "--quiet", "-F", "../archive"],
}


@pytest.mark.parametrize("reader", READERS)
def test_other_programs_read_the_archive(tmp_path: Path, reader: str) -> None:
    if not shutil.which(reader):
        pytest.skip(f"{reader} is not installed")
    tree(tmp_path / "root")
    pack(tmp_path / "root", tmp_path / "archive", preserve_modes=True)
    (tmp_path / "out").mkdir()
    subprocess.run(READERS[reader], cwd=tmp_path / "out", check=True)
    assert unpacked(tmp_path / "out") == unpacked(tmp_path / "root")


@pytest.mark.parametrize("preserve_modes", [True, False])
def test_extracting_gives_back_the_tree(tmp_path: Path, preserve_modes: bool) -> None:
    tree(tmp_path / "root")
    pack(tmp_path / "root", tmp_path / "archive", preserve_modes=preserve_modes)
    extract(read(tmp_path / "archive"), tmp_path / "out", keep_set_id=True)
    expected = unpacked(tmp_path / "root")
    if not preserve_modes:
        expected = {path: (canonical_mode(mode), data) for path, (mode, data) in expected.items()}
    assert unpacked(tmp_path / "out") == expected


def test_set_id_bits_are_extracted_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "su").write_bytes(b"")
    (tmp_path / "root" / "su").chmod(0o6755)
    pack(tmp_path / "root", tmp_path / "archive", preserve_modes=True)
    extract(read(tmp_path / "archive"), tmp_path / "without")
    extract(read(tmp_path / "archive"), tmp_path / "with", keep_set_id=True)
    modes = [(tmp_path / name / "su").stat().st_mode & 0o7777 for name in ("without", "with")]
    assert modes == [0o755, 0o6755]


NAMES = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .filter(lambda name: name not in (b".", b"..", b"TRAILER!!!"))
    .map(os.fsdecode)
)
CONTENT = st.binary(max_size=600)
TARGETS = st.binary(min_size=1, max_size=600).map(lambda target: os.fsdecode(target.replace(b"\0", b"x")))
TREES: st.SearchStrategy[object] = st.recursive(
    CONTENT | TARGETS, lambda children: st.dictionaries(NAMES, children, max_size=4), max_leaves=12
)


def make(path: Path, tree: object) -> None:
    """Make files of bytes, links of strings and directories of dictionaries."""
    if isinstance(tree, dict):
        path.mkdir()
        for name, child in tree.items():
            make(path / name, child)
    elif isinstance(tree, str):
        os.symlink(tree, path)  # noqa: PTH211, a Path would change the target
    else:
        assert isinstance(tree, bytes)
        path.write_bytes(tree)


def made(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)  # noqa: PTH115, a Path would change the target
    if path.is_dir():
        return {child.name: made(child) for child in path.iterdir()}
    return path.read_bytes()


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_any_tree_comes_back_from_its_archive(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    directory = tmp_path_factory.mktemp("tree")
    make(directory / "root", tree)
    pack(directory / "root", directory / "archive")
    extract(read(directory / "archive"), directory / "out")
    assert made(directory / "out") == tree
    shutil.rmtree(directory)


def long_path(directory: Path, size: int) -> Path:
    """Make a file whose path below ``directory`` has ``size`` bytes, in components of 100."""
    directory.mkdir()
    path = directory
    while size > 101:
        path /= "d" * 100
        path.mkdir()
        size -= 101
    (path / ("f" * size)).touch()
    return path / ("f" * size)


def test_a_path_of_255_bytes_is_accepted(tmp_path: Path) -> None:
    long_path(tmp_path / "root", 255)
    pack(tmp_path / "root", tmp_path / "archive")
    assert max(len(member.path) for member in read(tmp_path / "archive").members) == 255


def test_a_path_of_256_bytes_is_refused_by_name(tmp_path: Path) -> None:
    path = long_path(tmp_path / "root", 256)
    assert told(lambda: pack(tmp_path / "root", tmp_path / "archive")) == (
        f"{path}: its path in the root has 256 bytes and the kernel reads no more than 255; shorten the names"
    )


def test_the_length_of_a_path_counts_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "root" / ("d" * 150)).mkdir(parents=True)
    (tmp_path / "root" / ("d" * 150) / ("ä" * 53)).touch()
    assert "has 257 bytes" in told(lambda: pack(tmp_path / "root", tmp_path / "archive"))


def test_a_file_of_4_gib_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with (tmp_path / "root" / "sparse").open("wb") as file:
        file.truncate(1 << 32)
    assert told(lambda: pack(tmp_path / "root", tmp_path / "archive")) == (
        f"{tmp_path}/root/sparse: has 4294967296 bytes and the archive holds files below 4 GiB;"
        " split it or mount it instead"
    )


# Files that do not stay as they are


def write_after(tmp_path: Path, change: Callable[[Path], object]) -> str:
    """Scan, change the file ``f``, write; return what is told, and check that the target stays."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").write_bytes(b"x" * 1000)
    (tmp_path / "archive").write_bytes(b"earlier")
    scanned = scan(root)
    change(root / "f")
    problem = told(lambda: write(scanned, tmp_path / "archive"))
    assert (tmp_path / "archive").read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"root", "archive"}
    return problem


def replaced_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replaced_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"x" * 1001),
        lambda path: path.write_bytes(b"x" * 999),
        lambda path: path.write_bytes(b""),
        lambda path: os.utime(path, ns=(0, 0)),
        lambda path: path.unlink(),
        replaced_by_fifo,
        replaced_by_link,
        replaced_by_directory,
    ],
    ids=["longer", "shorter", "empty", "written again", "removed", "fifo", "link", "directory"],
)
def test_a_file_that_changed_since_the_scan_is_told(tmp_path: Path, change: Callable[[Path], object]) -> None:
    assert write_after(tmp_path, change) == (
        f"{tmp_path}/root/f: changed while it was read; build again when nothing writes to it"
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_file_that_grows_while_it_is_read_is_told(tmp_path: Path) -> None:
    """Files in /proc have content and a size of 0, as if they grew at the moment of reading."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").touch()
    scanned = scan(tmp_path / "root").entries[0]
    status = Path("/proc/self/status").lstat()
    growing = scanned._replace(origin=b"/proc/self/status", fingerprint=fingerprint.of(status))
    assert "changed while it was read" in told(lambda: write(Tree((growing,), (), 0), tmp_path / "archive"))
    assert not (tmp_path / "archive").exists()


UNREADABLE = """
import os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from mystikos_tool.root.archive import write
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.errors import UserError

root, target = map(Path, sys.argv[1:])
scanned = DirectorySource(root).tree()
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    write(scanned, target)
except UserError as error:
    print(error)
"""


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A directory that another user finds; pytest's own are in one that a second pytest makes private."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_an_unreadable_file_is_told(anyones: Path) -> None:
    root, out = anyones / "root", anyones / "out"
    root.mkdir()
    (root / "f").write_bytes(b"secret")
    (root / "f").chmod(0)
    out.mkdir()
    out.chmod(0o777)
    command = [sys.executable, "-c", UNREADABLE, str(root), str(out / "archive")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"{root}/f: may not be read; make it readable for the build\n"
    assert list(out.iterdir()) == []


def test_a_file_with_the_name_of_the_end_mark_is_told(tmp_path: Path) -> None:
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "TRAILER!!!").touch()
    pack(tmp_path / "root", tmp_path / "archive")
    (tmp_path / "root" / "TRAILER!!!").touch()
    assert "has the name that ends an archive; rename it" in told(
        lambda: pack(tmp_path / "root", tmp_path / "archive")
    )


# What is read


def test_members_are_found_in_order_with_their_data(tmp_path: Path) -> None:
    entries = (entry(b".", DIRECTORY), entry(b"d", DIRECTORY), entry(b"d/f", data=b"12345"))
    found = archive(tmp_path / "a", *entries)
    assert [member.path for member in found.members] == [b"d", b"d/f"]
    assert found.data(found.members[1]) == b"12345"


def test_names_with_dots_and_slashes_too_many_are_those_of_the_kernel(tmp_path: Path) -> None:
    found = archive(
        tmp_path / "a", entry(b"./", DIRECTORY), entry(b"./d/", DIRECTORY), entry(b"./d//./f", data=b"1")
    )
    assert [member.path for member in found.members] == [b"d", b"d/f"]


def test_a_name_may_have_255_bytes(tmp_path: Path) -> None:
    assert archive(tmp_path / "a", entry(b"f" * 255)).members[0].path == b"f" * 255


HOSTILE = {
    "absolute": ([entry(b"/etc/passwd")], "/etc/passwd leads out of the root; do not trust this archive"),
    "upwards": ([entry(b"../f")], "../f leads out of the root"),
    "upwards in the middle": (
        [entry(b"d", DIRECTORY), entry(b"d/../../f")],
        "d/../../f leads out of the root",
    ),
    "below a link": (
        [entry(b"d", LINK, b"/tmp"), entry(b"d/f")],
        "d/f: does not lie in a directory of the archive",
    ),
    "below a file": ([entry(b"d"), entry(b"d/f")], "d/f: does not lie in a directory of the archive"),
    "before its directory": (
        [entry(b"d/f"), entry(b"d", DIRECTORY)],
        "d/f: does not lie in a directory of the archive",
    ),
    "twice": ([entry(b"f"), entry(b"f")], "f: is in the archive twice"),
    "twice as a link": ([entry(b"f", LINK, b"/tmp/x"), entry(b"f")], "f: is in the archive twice"),
    "twice with dots": ([entry(b"f"), entry(b"./f")], "f: is in the archive twice"),
    "device": ([entry(b"f", stat.S_IFBLK | 0o666)], "f: has the type 60000"),
    "fifo": ([entry(b"f", stat.S_IFIFO | 0o666)], "f: has the type 10000"),
    "no type": ([entry(b"f", 0o644)], "f: has the type 0"),
    "link to nothing": ([entry(b"f", LINK)], "f: is a symbolic link with a target of 0 bytes"),
    "link to a path with a NUL": (
        [entry(b"f", LINK, b"a\0b")],
        "f: is a symbolic link whose target has a NUL",
    ),
    "link to a long path": ([entry(b"f", LINK, b"x" * 4096)], "with a target of 4096 bytes"),
    "root as a file": ([entry(b".")], "/: is the root and has the type 100000"),
    "root as a link": ([entry(b"./", LINK, b"/tmp")], "/: is the root and has the type 120000"),
    "hard link": (
        [entry(b"f", links=2), entry(b"g", data=b"1", links=2)],
        "f: is one of several hard links, whose content is elsewhere",
    ),
    "another archive behind it": (
        [entry(b"f"), TRAILER, entry(b"g", data=b"1")],
        "ends the archive, and more than zeros follow",
    ),
    "data of a directory": ([entry(b"d", DIRECTORY, b"1")], "d: is a directory with data"),
    "data of the root": ([entry(b".", DIRECTORY, b"1")], "/: is a directory with data"),
    "data of the end": ([entry(b"TRAILER!!!", 0, b"1")], "ends the archive and has data"),
    "root twice": ([entry(b".", DIRECTORY), entry(b"./", DIRECTORY)], "/: is in the archive twice"),
    "empty name": ([entry(b"")], "offset 0: has a name that is empty"),
    "no name": ([entry(b"", nul=b"")], "offset 0: has a name that is empty"),
    "name of 256 bytes": ([entry(b"f" * 256)], "has a name that is empty or has more than 255 bytes"),
    "name without end": ([entry(b"f", nul=b"")], "has a name that"),
    "name without end, long": ([entry(b"ff", nul=b"")], "has a name that does not end where it should"),
    "name that ends early": ([entry(b"f\0x")], "has a name that does not end where it should"),
    "other magic": ([entry(b"f").replace(b"070701", b"070702")], "is no CPIO archive of the newc form"),
    "old form": ([b"\xc7\x71" + bytes(100)], "is no CPIO archive of the newc form"),
    "lower case": ([entry(b"f", 0o100755 | 0xA0).lower()], "not in upper-case hexadecimal digits"),
    "sign": ([entry(b"f").replace(b"07070100000000", b"070701+0000000")], "hexadecimal digits"),
    "underscore": ([entry(b"f").replace(b"07070100000000", b"0707010000_000")], "hexadecimal digits"),
    "space": ([entry(b"f").replace(b"07070100000000", b"070701 0000000")], "hexadecimal digits"),
    "huge file": ([entry(b"f")[:54] + b"FFFFFFFF" + entry(b"f")[62:]], "is truncated"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_the_kernel_would_not_unpack_is_told(tmp_path: Path, name: str) -> None:
    entries, problem = HOSTILE[name]
    message = told(lambda: archive(tmp_path / "a", *entries))
    assert message.startswith(f"{tmp_path}/a, ")
    assert problem in message


def test_nothing_is_written_for_a_hostile_archive(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(entry(b"f", data=b"1") + entry(b"d", LINK, b"..") + entry(b"d/x", data=b"2") + TRAILER)
    with pytest.raises(UserError):
        extract(read(path), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_out_of_the_root_is_only_a_link(tmp_path: Path) -> None:
    found = archive(tmp_path / "a", entry(b"l", LINK, b"../../etc/passwd"))
    extract(found, tmp_path / "out")
    assert str((tmp_path / "out" / "l").readlink()) == "../../etc/passwd"


def test_an_archive_cut_anywhere_is_told(tmp_path: Path) -> None:
    data = entry(b".", DIRECTORY) + entry(b"f", data=b"12345") + entry(b"l", LINK, b"f") + TRAILER
    path = tmp_path / "a"
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        message = told(lambda: read(path))
        assert "is truncated" in message or "no CPIO archive" in message
    path.write_bytes(data)
    assert len(read(path).members) == 2


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_gives_a_usererror_or_an_archive(tmp_path: Path, data: st.DataObject) -> None:
    whole = entry(b".", DIRECTORY) + entry(b"f", data=b"12345") + entry(b"l", LINK, b"f") + TRAILER
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(damaged)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    try:
        extract(read(tmp_path / "a"), tmp_path / "out")
    except UserError as error:
        assert str(error).startswith(str(tmp_path))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "no such file or directory" in told(lambda: read(tmp_path / "missing"))
    assert "is a directory" in told(lambda: read(tmp_path))


def test_a_directory_with_something_in_it_is_not_extracted_into(tmp_path: Path) -> None:
    found = archive(tmp_path / "a", entry(b"f"))
    assert "is not empty" in told(lambda: extract(found, tmp_path))


def test_what_cannot_be_extracted_is_told_with_its_place_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes, path: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    found = archive(
        tmp_path / "a",
        *(entry(b"d", DIRECTORY), entry(b"d/f", data=b"1"), entry(b"f", data=b"1"), entry(b"l", LINK, b"d")),
    )
    monkeypatch.setattr(os, "symlink", full)
    (tmp_path / "empty").mkdir()
    for name in ("out", "empty"):
        message = f"{tmp_path}/{name}/l: no space left on device; free some space"
        assert told(lambda name=name: extract(found, tmp_path / name)) == message  # type: ignore[misc]
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "empty"}


def test_what_others_put_into_a_directory_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a second one does that unpacks there: it is the first to come to a file."""
    found = archive(
        tmp_path / "a",
        *(entry(b"d", DIRECTORY), entry(b"d/f", data=b"1"), entry(b"g", data=b"1")),
    )

    def put(path: str | bytes, mode: int) -> None:
        make(path, mode)
        (tmp_path / "out" / "d" / "other").touch()
        (tmp_path / "out" / "g").write_text("other's")

    make = os.mkdir
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "mkdir", put)
    assert "out/g: file exists" in told(lambda: extract(found, tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"d", "other", "g"}
    assert (tmp_path / "out" / "g").read_text() == "other's"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's link")
def test_nothing_is_extracted_through_another_user_s_link(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a", entry(b"f", data=b"1"))
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").symlink_to("victim")
    os.chown(tmp_path / "out", 65534, 65534, follow_symlinks=False)
    assert "a symbolic link of another user's" in told(lambda: extract(packed, tmp_path / "out"))
    assert not list((tmp_path / "victim").iterdir())


def test_directories_without_write_permission_are_filled_and_then_closed(tmp_path: Path) -> None:
    found = archive(tmp_path / "a", entry(b"d", stat.S_IFDIR | 0o555), entry(b"d/f", data=b"1"))
    extract(found, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "d").stat().st_mode) == 0o555
    assert (tmp_path / "out" / "d" / "f").read_bytes() == b"1"


# Paths within the root

ROOT = (
    entry(b"bin", LINK, b"usr/bin"),
    entry(b"usr", DIRECTORY),
    entry(b"usr/bin", DIRECTORY),
    entry(b"usr/bin/app", data=b"app"),
    entry(b"usr/bin/app2", LINK, b"app"),
    entry(b"usr/bin/app3", LINK, b"/bin/app2"),
    entry(b"usr/bin/up", LINK, b"../../../../bin/../bin/app"),
    entry(b"usr/bin/self", LINK, b"self"),
    entry(b"usr/bin/there", LINK, b"back"),
    entry(b"usr/bin/back", LINK, b"there"),
    entry(b"usr/bin/dangling", LINK, b"/nowhere"),
    entry(b"rooted", LINK, b"/"),
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/usr/bin/app", b"usr/bin/app"),
        ("//usr/./bin//app", b"usr/bin/app"),
        ("/usr/../usr/bin/app", b"usr/bin/app"),
        ("/../../usr/bin/app", b"usr/bin/app"),
        ("/bin/app", b"usr/bin/app"),
        ("/bin/app2", b"usr/bin/app"),
        ("/bin/app3", b"usr/bin/app"),
        ("/bin/up", b"usr/bin/app"),
        ("/bin", b"usr/bin"),
        ("/bin/..", b"usr"),
        ("/rooted/rooted/bin/app", b"usr/bin/app"),
        ("/", b""),
        ("/rooted", b""),
        ("/bin/self", None),
        ("/bin/there", None),
        ("/bin/dangling", None),
        ("/bin/app/x", None),
        ("/missing", None),
        ("/missing/../usr", None),
    ],
)
def test_a_path_leads_through_links_but_never_out_of_the_root(
    tmp_path: Path, path: str, found: bytes | None
) -> None:
    member = archive(tmp_path / "a", *ROOT).find(path)
    assert (member and member.path) == found


def test_a_link_s_target_may_have_4095_bytes(tmp_path: Path) -> None:
    assert archive(tmp_path / "a", entry(b"l", LINK, b"x" * 4095)).members[0].size == 4095


def test_the_root_is_a_directory_that_is_always_there(tmp_path: Path) -> None:
    found = archive(tmp_path / "a").find("/")
    assert found
    assert found.mode == DIRECTORY


def test_an_entry_is_found_without_following_links(tmp_path: Path) -> None:
    opened = archive(tmp_path / "a", *ROOT)
    link = opened.entry("/bin")
    assert link
    assert opened.data(link) == b"usr/bin"
    assert opened.entry("/bin/app") is None


# An archive as a source


def test_an_archive_is_a_layer_of_a_root(tmp_path: Path) -> None:
    """Joined with a directory, packed, and the same as if all had been in one directory."""
    tree(tmp_path / "root")
    pack(tmp_path / "root", tmp_path / "whole", preserve_modes=True)
    shutil.copytree(tmp_path / "root" / "bin", tmp_path / "upper" / "bin")
    shutil.rmtree(tmp_path / "root" / "bin")
    pack(tmp_path / "root", tmp_path / "layer", preserve_modes=True)
    upper = scan(tmp_path / "upper", preserve_modes=True)
    write(join([upper, ArchiveSource(tmp_path / "layer").tree()]), tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_entries_of_an_archive_come_in_the_byte_order_of_their_paths(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry(b"b", data=b"b"), entry(b"a", DIRECTORY), entry(b"a/f", LINK, b"../b"))
    layer = ArchiveSource(tmp_path / "a").tree()
    assert [(found.path, found.mode, found.size, found.target) for found in layer.entries] == [
        (b"a", DIRECTORY, 0, b""),
        (b"a/f", LINK, 4, b"../b"),
        (b"b", stat.S_IFREG | 0o644, 1, b""),
    ]
    assert b"".join(map(bytes, layer.entries[2].chunks())) == b"b"


def test_what_matches_a_pattern_stays_out_of_a_layer_and_makes_it_another(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry(b"a", DIRECTORY), entry(b"a/f.o"), entry(b"b.o"), entry(b"c"))
    every, some = ArchiveSource(tmp_path / "a"), ArchiveSource(tmp_path / "a", exclude=("*.o",))
    assert [found.path for found in some.tree().entries] == [b"a", b"c"]
    assert every.fingerprint() != some.fingerprint()


def test_an_archive_that_changed_since_its_tree_was_made_is_told(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry(b"f", data=b"1"))
    source = ArchiveSource(tmp_path / "a")
    layer = source.tree()
    archive(tmp_path / "a", entry(b"f", data=b"22"), entry(b"g"))
    assert told(lambda: write(layer, tmp_path / "out")) == (
        f"{tmp_path}/a, f: changed while it was read; build again when nothing writes to it"
    )
    assert ArchiveSource(tmp_path / "a").fingerprint() != source.fingerprint()


def test_what_clashes_with_an_archive_is_told_with_its_name(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry(b"f", data=b"1"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").touch()
    layers = [scan(tmp_path / "root"), ArchiveSource(tmp_path / "a").tree()]
    assert f"{tmp_path}/a, f: clashes with {tmp_path}/root/f at /f" in told(lambda: join(layers))


def test_what_is_no_archive_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no archive")
    assert "is no CPIO archive of the newc form" in told(lambda: ArchiveSource(tmp_path / "a").tree())
    assert "no such file" in told(lambda: ArchiveSource(tmp_path / "missing").fingerprint())


# An archive that is a part of something


def test_an_archive_inside_a_file_is_listed_and_its_files_are_read(tmp_path: Path) -> None:
    tree(tmp_path / "root")
    data = pack(tmp_path / "root", tmp_path / "archive")
    (tmp_path / "package").write_bytes(b"loader" * 1000 + data + b"config")
    inside = FileContent(tmp_path / "package", len(data), 6000)
    found = index(inside, "package, section .mystrootfs")
    assert found.members == read(tmp_path / "archive").members
    app = found.find("/link")
    assert app
    assert found.content_of(app).read() == (tmp_path / "root" / "bin" / "app").read_bytes()
    extract(found, tmp_path / "out")
    extract(read(tmp_path / "archive"), tmp_path / "expected")
    assert unpacked(tmp_path / "out") == unpacked(tmp_path / "expected")


def test_an_archive_inside_a_file_ends_where_it_ends(tmp_path: Path) -> None:
    """What follows in the file is no part of it."""
    cut = entry(b"f", data=b"12345678")
    (tmp_path / "package").write_bytes(b"x" * 5 + cut + TRAILER)
    inside = FileContent(tmp_path / "package", len(cut), 5)
    assert f"section, offset {len(cut)}: is truncated" in told(lambda: index(inside, "section"))
