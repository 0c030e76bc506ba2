"""The signed directory: a package's parts as files, as an installed Mystikos runs them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mystikos_tool import runtime
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.io.atomic import make_directory, writing
from mystikos_tool.io.content import Content, FileContent
from mystikos_tool.packaging.sections import MAX_SIZES, ROOTFS, SECTIONS, Parts
from mystikos_tool.root import root

# In the order of the loader and a package's sections.
_NOT_OF_RUNTIME = ("rootfs", "pubkeys", "roothashes", "config.json")
FILES = (runtime.LOADER, runtime.ENCLAVE, runtime.CRT, runtime.KERNEL, *_NOT_OF_RUNTIME)
_NAMES = dict(zip(SECTIONS, FILES[1:], strict=True))


class SignedDirectory:
    """The files of a signed directory by the names of a package's sections."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def content(self, name: str) -> Content:
        """Return a file as a package holds it, of a disk a page; raise UserError if missing or too large."""
        path = self._path / _NAMES[name]
        if name == ROOTFS:
            return root.of(path).content()
        content, limit = FileContent.of(path), MAX_SIZES[name]
        if content.size > limit:
            problem = f"has {content.size:,} bytes, more than {limit:,}"
            raise UserError(str(path), problem, "do not use it; sign again")
        return content

    def where(self, name: str) -> str:
        """Return a file's place for messages."""
        return str(self._path / _NAMES[name])


def is_one(directory: Path) -> bool:
    """Tell whether a directory has the files of a signed one."""
    return not _missing(directory)


def check(directory: Path) -> None:
    """Raise UserError for a directory that lacks a file of a signed one."""
    if missing := _missing(directory):
        problem = f"is a directory, and no signed one: it lacks {missing[0]}"
        raise UserError(str(directory), problem, "give a package or a signed directory")


def _missing(directory: Path) -> list[str]:
    return [name for name in _NAMES.values() if not lookup.is_file(directory / name)]


def write(loader: Path, parts: Parts, directory: Path) -> None:
    """Write loader and parts as files; if one can't be written, raise UserError and keep the earlier ones."""
    with ExitStack() as stack:  # every file is written before the first takes its place
        for name, content in zip(FILES, (FileContent.of(loader), *parts), strict=True):
            target = directory / name
            make_directory(target.parent)
            mode = 0o755 if name == runtime.LOADER else 0o644
            content.write_to(stack.enter_context(writing(target, mode)))


def others(directory: Path) -> list[Path]:
    """Return what else than directories and the files of a signed directory is in ``directory``."""
    files = (path for path in directory.rglob("*") if lookup.is_symlink(path) or not lookup.is_dir(path))
    return sorted(path for path in files if str(path.relative_to(directory)) not in FILES)
