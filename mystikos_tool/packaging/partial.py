"""Packages that are written while their enclave is measured.

Of what a package holds only the enclave image follows from MRENCLAVE, neither its size nor its place.
Measuring reads the root, nearly all of the rest: it is written as it is read, while a thread hashes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mystikos_tool.io import fingerprint
from mystikos_tool.io.atomic import writing
from mystikos_tool.io.content import IOV_MAX, Content, FileContent, Readable, Reader
from mystikos_tool.packaging import sections


class PartialPackage:
    """A package whose enclave image is still missing; of ``parts.enclave`` only the size is taken.

    ``rootfs`` is the root file system, to be read once from start to end. Committed, the package takes the
    place of ``target``; aborted, it leaves nothing. Raises UserError as :func:`sections.write` does.
    """

    def __init__(self, loader: Path, parts: sections.Parts, target: Path) -> None:
        self._made_of = _versions(loader, parts)
        sections.check_name(target)
        content = sections.pieces(loader, parts)
        with ExitStack() as closing:
            self._file = closing.enter_context(writing(target, sections.MODE))
            self._enclave_place, rootfs_place = _write_around(content, parts, self._file)
            self._copy = _Copy(parts.rootfs, self._file.fileno(), rootfs_place)
            self._closing = closing.pop_all()

    @property
    def rootfs(self) -> Readable:
        """The root file system, which is written to the package as it is read."""
        return self._copy

    def is_of(self, loader: Path, parts: sections.Parts) -> bool:
        """Tell whether only the enclave image is missing, and the rest are these parts as they are now."""
        return self._copy.is_whole and self._made_of == _versions(loader, parts)

    def commit(self, enclave: Content) -> int:
        """Write the enclave image and let the package take its place; return its size in bytes."""
        with self._closing:
            size = self._file.seek(0, os.SEEK_END)
            self._file.seek(self._enclave_place)
            enclave.write_to(self._file)
            return size

    def abort(self) -> None:
        """Leave nothing behind; a package that was committed stays."""
        with suppress(_Aborted), self._closing:
            raise _Aborted


class _Aborted(Exception):  # noqa: N818 no error
    """Nobody wants the package any more."""


def _write_around(content: Sequence[tuple[int, Content]], parts: sections.Parts, file: BinaryIO) -> list[int]:
    """Write all but the enclave image and the root file system; return the places that are left for them."""
    left = []
    for place, piece in content:
        if piece is parts.enclave or piece is parts.rootfs:
            left.append(place)
        else:
            file.seek(place)  # writes what is in its buffer; the last piece is empty
            piece.write_to(file)
    return left


def _versions(loader: Path, parts: sections.Parts) -> list[object]:
    """Return what changes with a package, but for the content of its enclave image."""
    enclave, *rest = parts
    contents = (FileContent.of(loader), *rest)
    files = (content.path for content in contents if isinstance(content, FileContent))
    return [enclave.size, *contents, *(fingerprint.of(path.stat()) for path in files)]


class _Copy:
    """Content that is written to an open file, from ``place``, as it is read, once.

    When it cannot be written, the file is emptied, and it is read nevertheless.
    """

    _reader: Reader

    def __init__(self, content: Content, descriptor: int, place: int) -> None:
        self.size = content.size
        self._content = content
        self._descriptor = descriptor
        self._place, self._end = place, place + content.size
        self._failed = False

    @property
    def is_whole(self) -> bool:
        """Whether all of it was read and written."""
        return self._place == self._end

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Begin to read the content into buffers."""
        with self._content.opened() as self._reader:
            yield self

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers of one size with what comes next, and write that."""
        size = self._reader.read_into(buffers)
        if not self._failed:
            full, rest = divmod(size, len(buffers[0]))
            filled = [*buffers[:full], buffers[full][:rest]] if rest else buffers[:full]
            written = _write(self._descriptor, filled, self._place)
            self._place += written
            self._failed = written < size
            if self._failed:
                os.ftruncate(self._descriptor, 0)  # others may need the space
        return size


def _write(descriptor: int, buffers: Sequence[memoryview], place: int) -> int:
    """Write buffers, as many with one call as the kernel takes; return how many bytes, fewer after errors."""
    size = 0
    with suppress(OSError):
        for at in range(0, len(buffers), IOV_MAX):
            size += os.pwritev(descriptor, buffers[at : at + IOV_MAX], place + size)
    return size
