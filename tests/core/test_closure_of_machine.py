"""Closures of this machine's own programs: held against lddtree of pax-utils, and started in a root."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
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


class Linked:
    """Libraries and a program with random paths of their own, linked by the machine's compiler."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.program = directory / "bin" / "app"
        self._random = random.Random(seed)
        self._places = [directory / name for name in ("one", "two", "bin/inner", "three")]
        names = [f"libr{number}.so" for number in range(self._random.randint(2, 5))]
        built: dict[str, Path] = {}
        for name in names:
            users = self._random.sample(sorted(built), self._random.randint(0, len(built)))
            places = self._random.sample(self._places, self._random.randint(1, 2))
            for place in places:
                self._link(place / name, [built[user] for user in users], "-shared", f"-Wl,-soname,{name}")
            built[name] = places[0] / name
        self._link(self.program, [built[name] for name in names if self._random.random() < 0.7])

    def _paths(self) -> list[str]:
        """The options for a random DT_RPATH or DT_RUNPATH, or for none."""
        written = [str(place) for place in self._places]
        written += ["$ORIGIN", "$ORIGIN/../one", "${ORIGIN}/../two", "$ORIGIN/inner", "/missing"]
        chosen = self._random.sample(written, self._random.randint(1, 7))
        tags = self._random.choice(["--enable-new-dtags", "--disable-new-dtags"])
        return [f"-Wl,{tags}", *(f"-Wl,-rpath,{path}" for path in chosen)]

    def _link(self, target: Path, libraries: list[Path], *options: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.directory / "source.c"
        source.write_text("int main(void) { return 0; }\n" if target == self.program else "")
        command = [
            "gcc",
            *options,
            *self._paths(),
            "-Wl,--no-as-needed,--allow-shlib-undefined",
            "-o",
            target,
        ]
        subprocess.run([*command, source, *libraries], check=True)

    def of_linker(self) -> tuple[set[str], set[str]]:
        """What the machine's dynamic linker loads, links followed, and the names of what it misses."""
        listing = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}  # as ldd asks it to
        done = subprocess.run([self.program], env=listing, capture_output=True, text=True, check=True)
        rows = [line.split() for line in done.stdout.splitlines()]
        missing = {row[0] for row in rows if "not" in row}
        found = {row[2] for row in rows if row[1:2] == ["=>"] and row[2] != "not"}
        return {os.path.realpath(path) for path in found}, missing


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("seed", range(CASES))
def test_random_programs_get_the_libraries_that_the_machines_linker_loads(tmp_path: Path, seed: int) -> None:
    linked = Linked(tmp_path, seed)
    loaded, missing = linked.of_linker()
    if missing:
        with pytest.raises(UserError) as refused:
            Closure([str(linked.program)]).tree()
        assert set(re.findall(r"(\S+) \(", refused.value.problem)) == missing
        return
    own = {os.path.realpath(linked.program), os.path.realpath("/lib64/ld-linux-x86-64.so.2")}
    assert files([linked.program]) == loaded | own
