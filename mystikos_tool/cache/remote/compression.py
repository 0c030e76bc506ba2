"""Zstandard, with bounded results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

import zstandard

from mystikos_tool.cache.remote.server import PIECE

_LEVEL = 1


def compress(data: bytes) -> bytes:
    """Return compressed data."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def decompress(data: bytes, size: int) -> bytes:
    """Return ``size`` + 1 bytes at most of what was compressed; ValueError where it is wrong."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return bytes(reader.read(size + 1))
    except zstandard.ZstdError as error:
        raise ValueError("not Zstandard") from error


def compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Compress a stream."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()


def decompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress a stream, in pieces of bounded size; ValueError where it is wrong."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(
            cast(IO[bytes], _Source(pieces)), read_across_frames=True
        ) as reader:
            while data := reader.read(PIECE):
                yield data
    except zstandard.ZstdError as error:
        raise ValueError("not Zstandard") from error


class _Source:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> memoryview | bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
