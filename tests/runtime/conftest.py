from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, MakeOnce, compile_sanitized, compile_static
from packaging import make_package, write_appdir
from starting import ORDINARY_USER, PROBE, Caller, MakePackage

from mystikos_tool.runtime import Runtime
from mystikos_tool.runtime.build import SOURCE_DIRECTORY, build


@pytest.fixture(scope="session")
def runtime(make_once: MakeOnce) -> Runtime:
    """The embedded runtime, compiled once for all tests."""
    if find_spec("ziglang") is None:
        pytest.skip("needs the ziglang package")
    return Runtime.installed(make_once("runtime", build))


_READER_PARTS = (
    *(f"common/{name}.c" for name in ("error", "sha256")),
    *(f"kernel/{name}.c" for name in ("disk", "ext2", "fssig", "public_key", "read", "rsa_key", "verity")),
)


@pytest.fixture(scope="session")
def disk_reader(make_once: MakeOnce) -> Path:
    """The runtime's reader of disks as a program, see list_disk.c."""
    sources = (HERE / "list_disk.c", *(SOURCE_DIRECTORY / part for part in _READER_PARTS))
    return make_once("list_disk", lambda place: compile_sanitized(place / "list", *sources)) / "list"


Files = Mapping[str, "bytes | Path"]


@pytest.fixture(scope="session")
def public_directory() -> Iterator[Path]:
    """A directory that an ordinary user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="mystikos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Path:
    return compile_static(tmp_path_factory.mktemp("probe") / "probe", HERE / "probe.c")


@pytest.fixture(scope="session")
def package(public_directory: Path, runtime: Runtime, probe: Path) -> MakePackage:
    """Packages of the probe, by what the configuration says beside the path."""
    made: dict[str, Path] = {}
    numbers = count()

    def package(
        files: Files | None = None,
        modes: Mapping[str, int] | None = None,
        links: Mapping[str, str] | None = None,
        checked: bool = True,
        **settings: Any,
    ) -> Path:
        contents = {name: hash(content) for name, content in (files or {}).items()}
        key = repr((contents, modes, links, checked, settings))
        if key not in made:
            directory = public_directory / str(next(numbers))
            appdir = write_appdir(directory / "appdir", {"bin/probe": probe, **(files or {})})
            for name, mode in (modes or {}).items():
                (appdir / name).chmod(mode)
            for name, destination in (links or {}).items():
                (appdir / name).symlink_to(destination)
            settings = {"ApplicationPath": PROBE, "HostApplicationParameters": True, **settings}
            made[key] = make_package(directory, runtime, appdir, settings, checked=checked)
        return made[key]

    return package


@pytest.fixture(scope="session")
def inside(package: MakePackage, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Packages of a program that tells what it is told."""
    program = compile_static(tmp_path_factory.mktemp("inside") / "program", HERE / "inside.c")

    def inside(files: dict[str, bytes] | None = None, **settings: Any) -> Path:
        given = {"ApplicationPath": "/bin/inside", **settings}
        return package({"bin/inside": program, **(files or {})}, **given)

    return inside


@pytest.fixture(params=["root", "ordinary user"])
def caller(request: pytest.FixtureRequest) -> Caller:
    if os.geteuid() == 0:
        return Caller(None if request.param == "root" else ORDINARY_USER)
    if request.param == "root":
        pytest.skip("needs root")
    return Caller(None)


@pytest.fixture
def anyone() -> Caller:
    """Where it makes no difference who."""
    return Caller(None if os.geteuid() else ORDINARY_USER)
