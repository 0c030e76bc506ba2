"""The root that an enclave mounts: an archive in the package, or a disk beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.formats import cpio
from mystikos_tool.io.content import Bytes, Content, FileContent
from mystikos_tool.io.pages import PAGE
from mystikos_tool.root import archive
from mystikos_tool.root.archive import Archive

if TYPE_CHECKING:
    from mystikos_tool.root.disk.index import DiskIndex


class ArchiveRoot:
    """An archive, which the package holds and MRENCLAVE measures; ``known`` is what is in it, once read."""

    def __init__(self, path: Path, known: Archive | None = None) -> None:
        self.path = path
        self.known = known

    def content(self) -> Content:
        """Return what the package holds for the root; raise UserError where there is no such file."""
        return self.known.content if self.known else FileContent.of(self.path)

    def index(self) -> Archive:
        """Return what is in the archive; raise UserError as :func:`mystikos_tool.root.archive.read` does."""
        return self.known or archive.read(self.path)


class DiskRoot:
    """An ext2 disk, which the host gives to the enclave at its start.

    Its content is not measured: a public key or root hash in the package makes it trusted. ``path`` is
    the disk where it is at hand already.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def content(self) -> Content:
        """Return what the package holds for the root: one page of zeros (docs/formats.md, section 1)."""
        return Bytes(bytes(PAGE))

    def index(self) -> DiskIndex | None:
        """Return what is on the disk, None where it is not at hand; raise UserError for what is no disk."""
        from mystikos_tool.root.disk.index import DiskIndex  # most roots are no disks

        return DiskIndex(self.path) if self.path else None


Root = ArchiveRoot | DiskRoot

_START = 2048  # bytes: enough for the magic number of a disk


def of(path: Path) -> Root:
    """Return what a file is: a disk by its magic number (`kinds.is_disk`), else an archive."""
    try:
        start = _start_of(path)
    except OSError:
        return ArchiveRoot(path)  # reading it as an archive says why
    if start.startswith(cpio.MAGIC):
        return ArchiveRoot(path)
    from mystikos_tool.formats import kinds

    return DiskRoot(path) if kinds.is_disk(start) else ArchiveRoot(path)


def _start_of(path: Path) -> bytes:
    """Return what a regular file begins with; nothing else is waited for, and it begins with nothing."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.pread(descriptor, _START, 0) if is_regular else b""
    finally:
        os.close(descriptor)
