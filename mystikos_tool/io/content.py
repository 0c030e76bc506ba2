"""Content of any size: bytes in memory, or a part of a file that is read piece by piece."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import progress
from mystikos_tool.io.pages import PAGE

_CHUNK = 1 << 20
_KERNEL_CHUNK = 1 << 26
_WINDOW, _NEAR = 1 << 16, 1 << 13
IOV_MAX = os.sysconf("SC_IOV_MAX")


class Reader(Protocol):
    """Content that is read from its start to its end."""

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers of one size with what comes next; return the number of bytes, fewer at the end."""


# Returns up to so many bytes from an offset; fewer at the end.
ReadAt = Callable[[int, int], bytes]


class AnyOffset(Protocol):
    """Bytes that are read at any offset."""

    def at_any_offset(self) -> AbstractContextManager[ReadAt]:
        """Begin to read the content at any offset."""


class Readable(Protocol):
    """Bytes to be measured."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def opened(self) -> AbstractContextManager[Reader]:
        """Begin to read the content into buffers."""


class Content(Readable, AnyOffset, Protocol):
    """Bytes to be measured or written."""

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the content in pieces of ``size`` bytes, the last one shorter."""

    def read(self) -> bytes:
        """Return the content whole."""

    def part(self, offset: int, size: int) -> Content:
        """Return ``size`` bytes of the content, from ``offset``."""

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position."""


class Bytes:
    """Content in memory, in pieces that are joined where more is done with it than writing."""

    __slots__ = ("_pieces",)

    def __init__(self, *pieces: bytes | bytearray | memoryview) -> None:
        self._pieces = pieces

    @property
    def data(self) -> bytes | bytearray | memoryview:
        """The content whole."""
        if len(self._pieces) != 1:
            self._pieces = (b"".join(self._pieces),)
        return self._pieces[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bytes) and self.data == other.data

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self._pieces))

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield views of the content."""
        view = memoryview(self.data)
        for start in range(0, len(view), size):
            yield view[start : start + size]

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Begin to read the content into buffers."""
        yield _BytesReader(memoryview(self.data))

    def read(self) -> bytes:
        """Return the content whole."""
        return bytes(self.data)

    def part(self, offset: int, size: int) -> Bytes:
        """Return ``size`` bytes of the content, from ``offset``."""
        return Bytes(self.data[offset : offset + size])

    @contextmanager
    def at_any_offset(self) -> Iterator[ReadAt]:
        """Begin to read the content at any offset."""
        yield lambda offset, size: bytes(self.data[offset : offset + size])

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position."""
        file.writelines(self._pieces)


class FileContent:
    """``size`` bytes of a file, from ``offset``."""

    __slots__ = ("offset", "path", "size")

    def __init__(self, path: Path, size: int, offset: int = 0) -> None:
        self.path = path
        self.size = size
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileContent):
            return False
        return (self.path, self.size, self.offset) == (other.path, other.size, other.offset)

    @classmethod
    def of(cls, path: Path) -> FileContent:
        """Take the whole file at ``path``; raise UserError where it is not there or no file."""
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(str(path), reason_of(error), "give an existing file") from error
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UserError(str(path), f"is {kind}", "give a file")
        return cls(path, status.st_size)

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the content in pieces; raise UserError when the file has become shorter."""
        with self._open() as file:
            for start in range(0, self.size, size):
                yield self._piece(file.fileno(), start, min(size, self.size - start))

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Begin to read the content into buffers; raise UserError when the file has become shorter."""
        with self._open() as file:
            yield _FileReader(self, file.fileno())

    def read(self) -> bytes:
        """Return the content whole."""
        return b"".join(self.chunks(max(self.size, 1)))

    def part(self, offset: int, size: int) -> FileContent:
        """Return ``size`` bytes of the content, from ``offset``."""
        return FileContent(self.path, size, self.offset + offset)

    @contextmanager
    def at_any_offset(self) -> Iterator[ReadAt]:
        """Begin to read the content at any offset; raise UserError for a file that may not be read."""
        with self._open() as file:
            descriptor = file.fileno()
            yield lambda offset, size: self._read_at(
                descriptor, offset, max(min(size, self.size - offset), 0)
            )

    def write_to(self, file: BinaryIO) -> None:
        """Write the content to a file, at its position.

        The kernel copies by itself what lies at the same place of a page there as here; for the
        rest, which it would copy in parts of pages, it is slower than a buffer.
        """
        file.flush()
        aligned = (file.tell() - self.offset) % PAGE == 0
        copied = self._copy_in_kernel(file.fileno()) if aligned else 0
        file.seek(0, os.SEEK_CUR)
        rest = FileContent(self.path, self.size - copied, self.offset + copied)
        file.writelines(rest.chunks(_CHUNK))

    def _open(self) -> FileIO:
        try:
            return self.path.open("rb", buffering=0)
        except PermissionError as error:
            remedy = f"allow it, as in: chmod u+r {self.path}"
            raise UserError(str(self.path), "may not be read", remedy) from error

    def _piece(self, descriptor: int, start: int, size: int) -> bytes:
        """Return ``size`` bytes from ``start`` of the content."""
        data = b""
        while len(data) < size:
            more = self._read_at(descriptor, start + len(data), size - len(data))
            if not more:
                raise UserError(str(self.path), "became shorter while it was read", "build again")
            progress.advance(len(more))
            data += more
        return data

    def _read_at(self, descriptor: int, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start`` of the content."""
        try:
            return os.pread(descriptor, size, self.offset + start)
        except OSError as error:
            raise UserError(str(self.path), reason_of(error), "see that it can be read") from error

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


class Window:
    """Reads ahead as long as what is asked for lies close together, and no more than that elsewhere."""

    def __init__(self, read: ReadAt) -> None:
        self._read = read
        self._start = 0
        self._data = b""
        self._ahead = 0

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from an offset, fewer at the end."""
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            is_near = 0 <= at <= len(self._data) + _NEAR
            self._ahead = min(2 * max(self._ahead, size), _WINDOW) if is_near else 0
            self._start, at = offset, 0
            self._data = self._read(offset, max(size, self._ahead))
        return self._data[at : at + size]


def pieces(read: ReadAt, offset: int, size: int, short: Exception) -> Iterator[bytes]:
    """Yield ``size`` bytes from an offset in pieces of up to 1 MiB; raise ``short`` where it ends before."""
    for at in range(offset, offset + size, _CHUNK):
        wanted = min(_CHUNK, offset + size - at)
        data = read(at, wanted)
        if len(data) < wanted:
            raise short
        yield data


def sha256(parts: Iterable[bytes | memoryview]) -> bytes:
    """Return the SHA-256 of what comes in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def whole(content: Readable) -> bytes:
    """Return content that is small."""
    data = bytearray(content.size)
    with content.opened() as reader:
        reader.read_into([memoryview(data)] if data else [])
    return bytes(data)


class _BytesReader:
    def __init__(self, data: memoryview) -> None:
        self._left = data

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers with what comes next."""
        size = min(_capacity(buffers), len(self._left))
        _scatter(self._left[:size], buffers)
        self._left = self._left[size:]
        return size


class _FileReader:
    def __init__(self, content: FileContent, descriptor: int) -> None:
        self._content = content
        self._descriptor = descriptor
        self._done = 0

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers with what comes next, as many with one call as the kernel takes."""
        return sum(self._read(buffers[at : at + IOV_MAX]) for at in range(0, len(buffers), IOV_MAX))

    def _read(self, buffers: Sequence[memoryview]) -> int:
        capacity = _capacity(buffers)
        size = min(capacity, self._content.size - self._done)
        place = self._content.offset + self._done
        if size < capacity or os.preadv(self._descriptor, buffers, place) < size:
            _scatter(memoryview(self._content._piece(self._descriptor, self._done, size)), buffers)
        else:
            progress.advance(size)
        self._done += size
        return size


class PieceReader:
    """Reads pieces of any sizes as if they were one; a piece may change once the next one is asked for."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._left = bytearray()

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers with what comes next."""
        capacity, data = _capacity(buffers), self._left
        while len(data) < capacity and (piece := next(self._pieces, None)) is not None:
            data += piece
        self._left = data[capacity:]
        size = min(len(data), capacity)
        _scatter(memoryview(data)[:size], buffers)
        return size


def _capacity(buffers: Sequence[memoryview]) -> int:
    return len(buffers) * len(buffers[0]) if buffers else 0


def _scatter(data: memoryview, buffers: Sequence[memoryview]) -> None:
    # A stream fills each buffer in a third of the time that an assignment takes.
    deque(map(BytesIO(data).readinto, buffers), maxlen=0)
