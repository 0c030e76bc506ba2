"""Without isolation links in the root lead where they would if it were the root, as Linux itself says."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
from pathlib import Path

import pytest
from compiling import HERE, compile_sanitized, needs_compiler

from mystikos_tool.runtime.build import SOURCE_DIRECTORY

pytestmark = needs_compiler

OPENAT2, IN_ROOT = 437, 0x10
TREES, PATHS = 40, 60


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [SOURCE_DIRECTORY / name for name in ("kernel/path.c", "common/error.c")]
    target = tmp_path_factory.mktemp("resolver") / "resolver"
    return compile_sanitized(target, HERE / "resolve_links.c", *sources)


def resolve(resolver: Path, root: Path, paths: list[str]) -> list[str]:
    command: list[str | Path] = [resolver, root, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\0")[:-1]


def where_linux_finds_it(root: Path, path: str) -> str | None:
    """The path below the root, or None when there is nothing."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, IN_ROOT)
    descriptor = os.open(root, os.O_PATH)
    call = ctypes.CDLL(None, use_errno=True).syscall
    found = call(OPENAT2, descriptor, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
    os.close(descriptor)
    if found < 0:
        if ctypes.get_errno() == 38:
            pytest.skip("needs openat2")
        return None
    try:
        return os.path.relpath(Path(f"/proc/self/fd/{found}").readlink(), root)
    finally:
        os.close(found)


def random_path(chance: random.Random) -> str:
    parts = chance.choices(["a", "b", "c", "d", "..", ".", ""], k=chance.randint(1, 5))
    return "/" * chance.randint(0, 1) + "/".join(parts) or "a"


def make_tree(chance: random.Random, root: Path) -> None:
    directories = [root]
    for _ in range(14):
        place = chance.choice(directories) / chance.choice("abcd")
        if os.path.lexists(place):
            continue
        kind = chance.randint(0, 3)
        if kind == 0:
            place.write_text("")
        elif kind == 1:
            place.mkdir()
            directories.append(place)
        else:
            place.symlink_to(random_path(chance))


def test_links_lead_where_linux_would_follow_them(resolver: Path, tmp_path: Path) -> None:
    chance = random.Random(4)
    agreed = 0
    for tree in range(TREES):
        root = tmp_path / str(tree)
        root.mkdir()
        make_tree(chance, root)
        paths = ["/" + random_path(chance) for _ in range(PATHS)]
        for path, found in zip(paths, resolve(resolver, root, paths), strict=True):
            expected = where_linux_finds_it(root, path)
            if expected is not None:
                assert (path, found or ".") == (path, expected)
                agreed += 1
            else:
                assert ".." not in found.split("/")
    assert agreed > 500


def test_links_that_never_end_lead_nowhere(resolver: Path, tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "longer").symlink_to("longer/longer")
    (tmp_path / "long").symlink_to("x" * 4000)
    assert resolve(resolver, tmp_path, ["/self", "/longer", "/long/" + "y" * 4000, "z" * 5000]) == ["?"] * 4
