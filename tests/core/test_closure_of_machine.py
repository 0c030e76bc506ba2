"""Closures of this machine's own programs: held against lddtree of pax-utils, and started in a root."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mystikos_tool.formats import ld_so_cache, program
from mystikos_tool.formats.program import Executable
from mystikos_tool.io.content import FileContent
from mystikos_tool.root import archive
from mystikos_tool.root.closure import Closure

CASES = int(os.environ.get("MYST_CLOSURE_CASES", "3"))


def dynamic_programs() -> list[Path]:
    """Programs of this machine that a dynamic linker starts, in an order that says nothing."""
    found = sorted(path for path in Path("/usr/bin").iterdir() if path.is_file() and not path.is_symlink())
    random.Random(15).shuffle(found)
    return [path for path in found if is_dynamic(path)]


def is_dynamic(path: Path) -> bool:
    with FileContent.of(path).at_any_offset() as read_at:
        found = program.read(read_at)
    return isinstance(found, Executable) and found.interpreter is not None


def files(programs: list[Path]) -> set[str]:
    """The files of a closure, their links followed."""
    entries = Closure([str(path) for path in programs]).tree().entries
    found = {"/" + entry.path.decode() for entry in entries if stat.S_ISREG(entry.mode)}
    return {os.path.realpath(path) for path in found - {ld_so_cache.PATH}}


def listed(path: Path) -> set[str]:
    """What lddtree lists for a program. It is a script in Python, whose library is here."""
    lddtree = shutil.which("lddtree")
    assert lddtree
    done = subprocess.run([sys.executable, lddtree, "-l", path], capture_output=True, text=True, check=True)
    return {os.path.realpath(line) for line in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("lddtree") is None, reason="lddtree is not installed")
def test_closures_are_what_lddtree_lists() -> None:
    programs = dynamic_programs()[:CASES]
    assert programs
    for path in programs:
        assert files([path]) == listed(path), path


@pytest.mark.skipif(shutil.which("ldconfig") is None, reason="ldconfig is not installed")
def test_the_machines_cache_is_read_as_ldconfig_prints_it() -> None:
    done = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True)
    printed = [line.strip().partition(" (libc6,x86-64)") for line in done.stdout.splitlines()]
    expected: dict[bytes, list[bytes]] = {}
    for name, found, path in printed:
        if found:
            expected.setdefault(name.encode(), []).append(path.split(" => ")[1].encode())
    assert ld_so_cache.read(Path(ld_so_cache.PATH).read_bytes()) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root directory")
@pytest.mark.skipif(not is_dynamic(Path("/bin/ls")), reason="needs a dynamically linked ls")
def test_a_closure_starts_where_nothing_else_is(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tree = Closure(["/bin/ls"]).tree()
    archive.extract(archive.write(tree, tmp_path / "archive"), root)
    chroot = shutil.which("chroot") or "/usr/sbin/chroot"
    done = subprocess.run([chroot, root, "/bin/ls", "/"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        os.fsdecode(entry.path) for entry in tree.entries if b"/" not in entry.path
    }
