"""A disk of 10 GB whose files are mostly holes, so that the machine's disk need not be as large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from disks import run

from mystikos_tool.root.disk.index import DiskIndex

pytestmark = pytest.mark.long

GIB = 1 << 30
TRIPLE = (12 + 1024 + 1024**2) * 4096  # where a file's triple indirect blocks begin
PLACES = {"five": (0, 2 * GIB - 3, TRIPLE - 5, 5 * GIB), "three": (3 * GIB - 9, 2 * GIB), "nine": (9 * GIB,)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large") / "tree"
    (root / "small").mkdir(parents=True)
    for number in range(2000):
        (root / f"small/file{number}").write_bytes(os.urandom(number * 50))
    for name, places in PLACES.items():
        with (root / name).open("wb") as file:
            for place in places:
                file.seek(place)
                file.write(b"content")
    (root / "dense").write_bytes(os.urandom(200 << 20))
    return root


# What wait4(2) tells counts the memory of whoever started the process as well.
PROGRAM = """
import runpy, sys
try:
    runpy.run_module("mystikos_tool", run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        sys.stderr.write(next(line for line in status if line.startswith("VmHWM")))
"""


def command(*arguments: str | Path) -> tuple[str, int]:
    """What the command line prints, and the most memory that it took, in bytes."""
    words = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout, int(done.stderr.split()[-2]) << 10


def test_a_disk_of_10_gb_is_sound_and_takes_little_memory(tree: Path, tmp_path: Path) -> None:
    disk = tmp_path / "large.disk"
    out, memory = command("mkext2", "--size=10g", tree, disk)
    root_hash = out.split()[-1]
    assert memory < 150_000_000
    assert disk.stat().st_size > 10 * GIB
    assert disk.stat().st_blocks * 512 < GIB
    run("e2fsck", "-fn", disk)
    run("veritysetup", "verify", f"--hash-offset={10 * GIB}", disk, disk, root_hash)
    out, memory = command("verify", disk)
    assert root_hash in out
    assert memory < 150_000_000
    index = DiskIndex(disk)
    for name, places in PLACES.items():
        member = index.find(f"/{name}")
        assert member
        assert member.size == max(places) + 7
        with index.reading() as data_of:
            read_at = data_of(member)
            for place in places:
                assert read_at(place, 7) == b"content"
                assert read_at(max(place - 9, 0), min(place, 9)) == bytes(min(place, 9))
