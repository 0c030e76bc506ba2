"""Content of any size: bytes in memory, or a part of a file that is read piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Protocol

from mystikos_tool import progress
from mystikos_tool.errors import UserError

_CHUNK = 1 << 20
_KERNEL_CHUNK = 1 << 26


class Content(Protocol):
    """Bytes to be measured or written."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the content in pieces of ``size`` bytes, the last one shorter."""

    def read(self) -> bytes:
        """Return the content whole."""

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position."""


@dataclass(frozen=True)
class Bytes:
    """Content in memory."""

    data: bytes | bytearray

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield views of the content."""
        view = memoryview(self.data)
        for start in range(0, len(view), size):
            yield view[start : start + size]

    def read(self) -> bytes:
        """Return the content whole."""
        return bytes(self.data)

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position."""
        file.write(self.data)


@dataclass(frozen=True)
class FileContent:
    """``size`` bytes of a file, from ``offset``."""

    path: Path
    size: int
    offset: int = 0

    @classmethod
    def of(cls, path: Path) -> FileContent:
        """Take the whole file at ``path``; raise UserError where it is not there or no file."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UserError(
                str(path), (error.strerror or "cannot be read").lower(), "give an existing file"
            ) from error
        if not path.is_file():
            raise UserError(str(path), "is not a regular file", "give a file")
        return cls(path, size)

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the content in pieces; raise UserError when the file has become shorter."""
        left = self.size
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset)
                while left > 0:
                    data = _read_up_to(file, min(size, left))
                    if not data:
                        raise UserError(str(self.path), "became shorter while it was read", "build again")
                    left -= len(data)
                    progress.advance(len(data))
                    yield data
        except PermissionError as error:
            raise UserError(
                str(self.path), "may not be read", f"allow it, as in: chmod u+r {self.path}"
            ) from error

    def read(self) -> bytes:
        """Return the content whole."""
        return b"".join(self.chunks(max(self.size, 1)))

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position, without a copy in memory where the kernel can."""
        file.flush()
        copied = self._copy_in_kernel(file.fileno())
        file.seek(0, os.SEEK_CUR)
        rest = FileContent(self.path, self.size - copied, self.offset + copied)
        for chunk in rest.chunks(_CHUNK):
            file.write(chunk)

    def _copy_in_kernel(self, target: int) -> int:
        """Copy what the kernel can copy from file to file; return its size in bytes."""
        copied = 0
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            while copied < self.size:
                wanted = min(self.size - copied, _KERNEL_CHUNK)
                size = os.copy_file_range(file.fileno(), target, wanted, self.offset + copied)
                if size == 0:
                    break
                progress.advance(size)
                copied += size
        return copied


def _read_up_to(file: RawIOBase, size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end of the file."""
    data = file.read(size) or b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
