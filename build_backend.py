"""The build backend: setuptools, after it and the compiler have been held to digests that are kept here.

pip takes what a build requires without hashes, and all of it has a hand in what a wheel contains. Before any
of it is imported or run, each requirement has to be, file by file, what build_requirements.json says. After
an update of the lock file, in an environment that was installed from it with --require-hashes, write the
digests anew:

    python build_backend.py
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_KNOWN = Path(__file__).with_name("build_requirements.json")
_BACKEND, _COMPILER = "setuptools", "ziglang"
# What each puts beside other packages: directories and files.
_PARTS = {
    _BACKEND: ("_distutils_hack", "distutils-precedence.pth", "setuptools"),
    _COMPILER: ("ziglang",),
}

Settings = dict[str, Any] | None


def build_wheel(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    """Build a wheel, with the runtime compiled; return its name."""
    return str(_setuptools(_COMPILER).build_wheel(directory, settings, metadata))


def build_sdist(directory: str, settings: Settings = None) -> str:
    """Build a source distribution; return its name."""
    return str(_setuptools().build_sdist(directory, settings))


def build_editable(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    """Build a wheel that leads to this checkout, by a path, not by code for each start; return its name."""
    settings = {"editable_mode": "compat", **(settings or {})}
    return str(_setuptools().build_editable(directory, settings, metadata))


def prepare_metadata_for_build_wheel(directory: str, settings: Settings = None) -> str:
    """Write a wheel's metadata; return the name of their directory."""
    return str(_setuptools().prepare_metadata_for_build_wheel(directory, settings))


def prepare_metadata_for_build_editable(directory: str, settings: Settings = None) -> str:
    """Write an editable wheel's metadata; return the name of their directory."""
    return str(_setuptools().prepare_metadata_for_build_editable(directory, settings))


def _setuptools(*others: str) -> Any:
    """Return setuptools' backend, when it and the other requirements of a step were checked."""
    for name in (_BACKEND, *others):
        _check(name)
    # Bytecode that lies beside the checked files was not checked: it is compiled anew.
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="pycache-")
    atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)
    from setuptools import build_meta

    return build_meta


def _check(name: str) -> None:
    """End the build unless an installed package is the known one."""
    known = json.loads(_KNOWN.read_text(encoding="ascii"))[name]
    remedy = (
        "install it with the other locked requirements, python -m pip install --require-hashes -r"
        " requirements.lock, and build with --no-build-isolation"
    )
    try:
        found = _described(name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"mystikos-tool: {name} {known['version']}, which builds it, is not installed; {remedy}")
    if found["version"] != known["version"]:
        sys.exit(f"mystikos-tool: {name} is {found['version']}, not {known['version']}; {remedy}")
    if found != known:
        sys.exit(f"mystikos-tool: {name} {known['version']} is not the one that was published; {remedy}")
    directory = importlib.metadata.distribution(name).locate_file(name)
    spec = importlib.util.find_spec(name)  # of a package at the top, which runs nothing of it
    taken = spec.origin if spec else None
    if taken != str(Path(str(directory), "__init__.py")):
        sys.exit(f"mystikos-tool: {taken} would be taken for {name}; take it away, or {remedy}")


def _described(name: str) -> dict[str, str]:
    """Return an installed package's version, and the SHA-256 in hexadecimal over its files."""
    distribution = importlib.metadata.distribution(name)
    directory = Path(str(distribution.locate_file("")))
    digest = hashlib.sha256()
    for path in (path for part in _PARTS[name] for path in sorted(_files(directory / part))):
        # A directory that is linked to is in no package, and would be taken for a module of its name.
        content = hashlib.sha256(b"" if path.is_dir() else path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(directory)}\0{content}\n".encode())
    return {"version": distribution.version, "sha256": digest.hexdigest()}


def _files(directory: Path) -> Iterator[Path]:
    """Yield a file, or all files and links below a directory but bytecode, which is not used."""
    if directory.is_file():
        yield directory
    for folder, folders, names in os.walk(directory):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        links = (name for name in folders if Path(folder, name).is_symlink())
        yield from (Path(folder, name) for name in (*names, *links))


if __name__ == "__main__":
    described = {name: _described(name) for name in (_BACKEND, _COMPILER)}
    _KNOWN.write_text(json.dumps(described, indent=1) + "\n", encoding="ascii")
