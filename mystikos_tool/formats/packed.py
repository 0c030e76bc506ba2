"""Compressed files and zip archives: what is in them, in pieces and bounded, whoever wrote them.

gzip (RFC 1952), zlib (RFC 1950; Git's objects), bzip2, xz and, where the zstandard library is installed,
zstd (RFC 8878), told by their first bytes, and zip (APPNOTE.TXT of PKWARE; stored and deflated files), as
jar and wheel files are. What is damaged or encrypted ends where it cannot be read on.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import IO, Protocol, cast

from mystikos_tool.io.content import Content

LONGEST_MAGIC = 6
MOST_OF_ZIP = 1 << 24  # bytes of an archive that is looked into: it is held in memory, with its directory

_PIECE = 1 << 18
_GZIP_FORM = 31  # zlib: a header and a checksum of gzip, the largest window
_MEMORY_OF_XZ = 1 << 27  # bytes that it may ask for; xz -9 takes 65 MiB
_MEMORY_OF_ZSTD = 1 << 27  # as it takes by default; a window of zstd --ultra -22
_ENCRYPTED = 1  # of the general purpose bit flag

# A name inside of a file, "" for what is compressed as a whole, and a piece of its content.
_Pieces = Iterator[tuple[str, bytes]]


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def is_packed(start: bytes) -> bool:
    """Tell whether a file that begins with these 6 bytes is one of those that are looked into."""
    return start.startswith(_MAGICS)


def unpacked(content: Content, most: int) -> _Pieces:
    """Yield what is packed in a file, up to ``most`` bytes in all: a name inside of it, and a piece.

    The name is "" for what is compressed as a whole. Of an archive the smallest files come first; pieces
    of one file follow each other. A file that is neither yields nothing.
    """
    start = content.part(0, min(LONGEST_MAGIC, content.size)).read()
    for magic, read in _READERS.items():
        if start.startswith(magic):
            yield from read(content, most)


def _gzip(content: Content, most: int) -> _Pieces:
    return _decompressed(zlib.decompressobj(_GZIP_FORM), zlib.error, content, most)


def _zlib(content: Content, most: int) -> _Pieces:
    return _decompressed(zlib.decompressobj(), zlib.error, content, most)


def _bzip2(content: Content, most: int) -> _Pieces:
    try:
        import bz2
    except ImportError:  # not every Python was built with it
        return iter(())
    return _decompressed(bz2.BZ2Decompressor(), OSError, content, most)


def _xz(content: Content, most: int) -> _Pieces:
    try:
        import lzma
    except ImportError:  # not every Python was built with it
        return iter(())
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY_OF_XZ)
    return _decompressed(stream, lzma.LZMAError, content, most)


def _zstd(content: Content, most: int) -> _Pieces:
    try:
        import zstandard
    except ImportError:  # it is an extra
        return
    file = cast("IO[bytes]", _File(content))
    reading = zstandard.ZstdDecompressor(max_window_size=_MEMORY_OF_ZSTD).stream_reader(file)
    try:
        while most > 0 and (out := reading.read(min(_PIECE, most))):
            most -= len(out)
            yield "", out
    except zstandard.ZstdError:
        return


class _File:
    """Content as what a library reads from."""

    def __init__(self, content: Content) -> None:
        self._pieces = content.chunks(_PIECE)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return at most that many of the next bytes, none at the end."""
        piece = self._rest or bytes(next(self._pieces, b""))
        self._rest = piece[size:]
        return piece[:size]


def _decompressed(stream: _Decompressor, error: type[Exception], content: Content, most: int) -> _Pieces:
    """Yield the first stream of a compressed file."""
    pieces = content.chunks(_PIECE)
    data = b""
    while most > 0 and not stream.eof:
        if not data and _takes_more(stream):
            data = bytes(next(pieces, b""))
            is_last = not data
        else:
            is_last = False
        try:
            out = stream.decompress(data, min(_PIECE, most))
        except (error, ValueError):
            return
        data = getattr(stream, "unconsumed_tail", b"")
        most -= len(out)
        if out:
            yield "", out
        elif is_last:
            return


def _takes_more(stream: _Decompressor) -> bool:
    """Tell whether it has used what it was given; zlib gives back what it has not."""
    return bool(getattr(stream, "needs_input", True))


def _zip(content: Content, most: int) -> _Pieces:
    if content.size > MOST_OF_ZIP:
        return
    import zipfile  # few roots have such a file

    methods, damaged = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), (*_DAMAGED, zipfile.BadZipFile)
    try:
        archive = zipfile.ZipFile(io.BytesIO(content.read()))
    except damaged:
        return
    for info in sorted(archive.infolist(), key=attrgetter("file_size", "header_offset")):
        if most <= 0:
            return
        if info.flag_bits & _ENCRYPTED or info.compress_type not in methods:
            continue
        try:
            with archive.open(info) as file:
                while most > 0 and (data := file.read(min(_PIECE, most))):
                    most -= len(data)
                    yield info.filename, data
        except damaged:
            continue


_DAMAGED = (
    *(EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError),
    *(struct.error, zlib.error),
)
_READERS: dict[bytes, Callable[[Content, int], _Pieces]] = {
    b"\x1f\x8b\x08": _gzip,
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), _zlib),
    b"BZh": _bzip2,
    b"\xfd7zXZ\x00": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"PK\x03\x04": _zip,
}
_MAGICS = tuple(_READERS)
