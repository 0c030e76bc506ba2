"""Many disks: large trees, rebuilds in different environments, and damages to what readers read.

MYST_DISK_CASES=1000 takes so many damages, ten thousand files and a hundred rebuilds instead of a few.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import run

import mystikos_tool
from mystikos_tool import UserError
from mystikos_tool.explain import disks
from mystikos_tool.root.disk import reader
from mystikos_tool.root.disk.index import DiskIndex

CASES = int(os.environ.get("MYST_DISK_CASES", "20"))
FILES = CASES * 10
REBUILDS = max(CASES // 10, 2)
NAMES = "aZ09 .-_~+ä€𝄞\n\t\\\"'$*?[]{}|;&<>"


def grow(root: Path, seed: int, count: int) -> None:
    """Make a tree of files of all kinds, with odd names and modes."""
    chance = random.Random(seed)
    folders = [root]
    root.mkdir()
    for number in range(count):
        name = "".join(chance.choices(NAMES, k=chance.randrange(1, 30))).strip(".") + str(number)
        place = chance.choice(folders) / name
        kind = chance.randrange(10)
        if kind == 0:
            place.mkdir()
            folders.append(place)
        elif kind == 1:
            place.symlink_to("x" * chance.choice((1, 59, 60, 61, 4000)))
        elif kind == 2:
            with place.open("wb") as file:
                file.truncate(chance.randrange(1, 1 << 20))
                file.seek(chance.randrange(1 << 20))
                file.write(b"after a hole")
        else:
            place.write_bytes(chance.randbytes(chance.choice((0, 1, 100, 4095, 4096, 4097, 20_000))))
            place.chmod(chance.choice((0o644, 0o755, 0o600, 0o4755, 0o2711, 0o444)))
            if kind == 3:
                (place.parent / f"{name} too").hardlink_to(place)


def below(root: Path) -> Iterator[Path]:
    """Everything below a directory; `Path.rglob` of some Pythons fails for the target of a long link."""
    for directory, folders, files in os.walk(root):
        yield from (Path(directory, name) for name in (*folders, *files))


def tree_of(root: Path) -> dict[bytes, tuple[int, int, bytes]]:
    """Mode, number of links and a digest of the content or target of everything below a directory."""
    found = {}
    for path in below(root):
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).digest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        found[os.fsencode(path.relative_to(root))] = (status.st_mode, links, content)
    return found


def tree_on(disk: Path) -> dict[bytes, tuple[int, int, bytes]]:
    index = DiskIndex(disk)
    found = {}
    for member in index.members:
        content = b""
        if stat.S_ISREG(member.mode):
            content = hashlib.sha256(index.data(member)).digest()
        elif stat.S_ISLNK(member.mode):
            content = index.data(member)
        links = 0 if stat.S_ISDIR(member.mode) else member.links
        found[member.path] = (member.mode, links, content)
    return found


def test_a_tree_of_many_files_comes_back_from_its_disk(tmp_path: Path) -> None:
    grow(tmp_path / "tree", 1, FILES)
    mystikos_tool.disk(tmp_path / "disk", tmp_path / "tree", modes="preserve", data=True)
    assert tree_on(tmp_path / "disk") == tree_of(tmp_path / "tree")
    run("e2fsck", "-fn", tmp_path / "disk")


def copy_shuffled(source: Path, target: Path, chance: random.Random) -> None:
    """Copy a tree, files in another order and without holes; those that are one stay one."""
    paths = sorted(below(source))
    for path in paths:
        if not path.is_symlink() and path.is_dir():
            (target / path.relative_to(source)).mkdir(parents=True)
    files = [path for path in paths if path.is_symlink() or not path.is_dir()]
    chance.shuffle(files)
    first: dict[int, Path] = {}
    for path in files:
        place, status = target / path.relative_to(source), path.lstat()
        if path.is_symlink():
            place.symlink_to(path.readlink())
        elif other := first.get(status.st_ino):
            place.hardlink_to(other)
        else:
            first[status.st_ino] = place
            place.write_bytes(path.read_bytes())
            place.chmod(0o755 if status.st_mode & 0o100 else chance.choice((0o600, 0o644, 0o664)))


# The capability lets the other user reach the interpreter and the checkout, wherever they lie.
AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
MAY_BE_NOBODY = os.geteuid() == 0 and shutil.which("setpriv")


def test_rebuilds_in_different_environments_give_the_same_bytes(tmp_path: Path) -> None:
    grow(tmp_path / "tree", 2, 60)
    digests = set()
    for number in range(REBUILDS):
        chance = random.Random(number)
        place = tmp_path / "place" / ("deeper/" * chance.randrange(3)).rstrip("/")
        temporary = tmp_path / "place" / "temporary"
        temporary.mkdir(parents=True)
        mask = chance.choice((0o022, 0o077, 0o002, 0))
        before = os.umask(mask)
        try:
            copy_shuffled(tmp_path / "tree", place / "tree", chance)
        finally:
            os.umask(before)
        environment = {
            **os.environ,
            "TZ": chance.choice(("UTC", "Asia/Tokyo", "America/Lima")),
            "LC_ALL": chance.choice(("C", "C.UTF-8", "POSIX", "tr_TR.UTF-8")),
            "PYTHONHASHSEED": str(number),
            "TMPDIR": str(temporary),
            "XDG_CACHE_HOME": str(temporary / "cache"),
        }
        under: tuple[str, ...] = ()
        if MAY_BE_NOBODY and chance.randrange(2):
            under = AS_NOBODY
            for path in (tmp_path / "place", *below(tmp_path / "place")):
                os.chown(path, 65534, 65534, follow_symlinks=False)
        is_relative = chance.randrange(2)
        names = ("tree", "disk") if is_relative else (str(place / "tree"), str(place / "disk"))
        command = [*under, sys.executable, "-m", "mystikos_tool", "mkext2", *names]
        where = place if is_relative else Path("/")
        environment["PYTHONPATH"] = str(Path(mystikos_tool.__file__).parents[1])
        subprocess.run(command, env=environment, umask=mask, check=True, capture_output=True, cwd=where)
        digests.add(hashlib.sha256((place / "disk").read_bytes()).hexdigest())
        shutil.rmtree(tmp_path / "place")
    assert len(digests) == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("small")
    grow(directory / "tree", 3, 30)
    mystikos_tool.disk(directory / "disk", directory / "tree", room=0)
    return (directory / "disk").read_bytes()


@pytest.mark.parametrize("part", range(10))
def test_a_damaged_disk_is_read_or_refused_by_every_reader_and_nothing_else(
    tmp_path: Path, small: bytes, part: int
) -> None:
    chance = random.Random(part)
    structures = [at for at in range(0, len(small), 4096) if any(small[at : at + 4096])]
    whole = tmp_path / "whole"
    whole.write_bytes(small)
    for _ in range(CASES // 10):
        data = bytearray(small)
        for _ in range(chance.choice((1, 4, 30))):
            at = chance.choice(structures) + chance.randrange(4096)
            data[at] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
        (tmp_path / "disk").write_bytes(
            data[: chance.choice((len(data), len(data), chance.randrange(len(data))))]
        )
        for read in (disks.report, reread, mystikos_tool.verify_disk, mystikos_tool.check):
            try:
                read(tmp_path / "disk")
            except UserError as error:
                assert str(tmp_path / "disk") in error.where
        if reader.is_disk(tmp_path / "disk"):
            try:
                disks.compare(whole, tmp_path / "disk").to_text()
            except UserError as error:
                assert str(tmp_path / "disk") in error.where


def reread(disk: Path) -> None:
    """Look everything up in a disk as packaging does."""
    index = DiskIndex(disk)
    for member in index.members:
        index.find("/" + os.fsdecode(member.path))
        if stat.S_ISREG(member.mode):
            with index.reading() as data_of:
                read_at = data_of(member)
                read_at(0, 100)
                read_at(max(member.size - 5, 0), 100)
