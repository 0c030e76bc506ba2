from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from cli_support import DATA, EPOCH_OF_VECTORS, Result, Run, configure

from mystikos_tool import cli
from mystikos_tool.runtime import cache as runtime_cache


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command line remembers, instead of what it does for whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded runtime in the cache of whoever runs the tests: compiling it takes a minute."""
    if find_spec("ziglang") is None:
        pytest.skip("needs the ziglang package")
    return runtime_cache.compiled()


@pytest.fixture
def compiled(embedded: Path, cache: Path) -> Path:
    """What the command line remembers, with the embedded runtime compiled."""
    shutil.copytree(embedded, cache / "mystikos-tool" / embedded.name)
    return cache


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process, on the day of the vectors."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH_OF_VECTORS)

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            assert isinstance(error.code, int)
            status = error.code
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic runtimes of the vectors, with the program that stands in for their loader."""
    directory = tmp_path_factory.mktemp("runtimes")
    for name in ("rt-a", "rt-b"):
        shutil.copytree(DATA / name, directory / name)
        (directory / name / "bin").mkdir()
        shutil.copy(DATA / "program", directory / name / "bin" / "myst")
    return directory


@pytest.fixture
def project(tmp_path: Path, runtimes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in: an appdir, a key, a configuration and a runtime."""
    directory = tmp_path / "project"
    (directory / "appdir" / "bin").mkdir(parents=True)
    (directory / "appdir" / "bin" / "hello").write_bytes(b"#!/bin/hello\n")
    (directory / "appdir" / "bin" / "hello").chmod(0o755)
    (directory / "appdir" / "motd").write_bytes(b"hello\n")
    shutil.copy(DATA / "keys" / "key-a.pem", directory / "key.pem")
    (directory / "key.pem").chmod(0o600)
    configure(directory)
    shutil.copytree(runtimes / "rt-a", directory / "runtime")
    monkeypatch.chdir(directory)
    return directory
