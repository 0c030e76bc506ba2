"""What layers are compressed with: a stream becomes pieces of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, cast

from mystikos_tool.errors import UserError
from mystikos_tool.root.oci.blobs import Stream
from mystikos_tool.root.oci.manifest import GZIP, NONE, ZSTD

_CHUNK = 1 << 20
_READ = 1 << 18
_GZIP_FORM = 31  # zlib: a header and a checksum of gzip (RFC 1952), the largest window
_ZSTD_WINDOW = 1 << 27  # what zstd(1) accepts, too, unless it is told otherwise
_AGAIN = "make or fetch the image again"
_MAGIC = {b"\x1f\x8b": GZIP, b"\x28\xb5\x2f\xfd": ZSTD}
_LONGEST_MAGIC = max(map(len, _MAGIC))


class DamagedError(UserError):
    """Compressed data that cannot be read."""


class Peeked:
    """A stream whose first bytes, ``start``, are known before it is read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.start = stream.read(_LONGEST_MAGIC)
        self._is_started = False

    def read(self, size: int, /) -> bytes:
        """Return what comes next."""
        if self._is_started:
            return self._stream.read(size)
        self._is_started = True
        return self.start


def of(start: bytes) -> str:
    """Return the compression of a content that begins so."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), NONE)


def decompressed(stream: Stream, compression: str, where: str) -> Iterator[bytes]:
    """Yield what was compressed, in pieces of at most 1 MiB; raise UserError for what is damaged."""
    if compression == GZIP:
        yield from _gunzipped(stream, where)
    elif compression == ZSTD:
        yield from _from_zstd(stream, where)
    else:
        yield from iter(lambda: stream.read(_CHUNK), b"")


def _gunzipped(stream: Stream, where: str) -> Iterator[bytes]:
    """Yield what is in one or several gzip members, with zeros behind them or not."""
    inflating = zlib.decompressobj(_GZIP_FORM)
    try:
        while data := stream.read(_READ):
            while data:
                if inflating.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    inflating = zlib.decompressobj(_GZIP_FORM)
                yield inflating.decompress(data, _CHUNK)
                data = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
        while not inflating.eof:
            rest = inflating.decompress(b"", _CHUNK)
            if not rest:
                raise DamagedError(where, "ends within its gzip data", _AGAIN)
            yield rest
    except zlib.error:
        raise DamagedError(where, "is damaged, or no gzip data", _AGAIN) from None


def _from_zstd(stream: Stream, where: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        remedy = "install it: pip install 'mystikos-tool[image]'"
        raise UserError(where, "is compressed by zstd, for which zstandard is needed", remedy) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with decompressor.stream_reader(cast(IO[bytes], stream), read_across_frames=True) as reader:
            while data := reader.read(_CHUNK):
                yield data
    except zstandard.ZstdError:
        raise DamagedError(where, "is damaged, or no zstd data of an ordinary window", _AGAIN) from None
