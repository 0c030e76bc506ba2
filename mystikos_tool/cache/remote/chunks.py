"""Large files as chunks, cut where their content says so, and those of them that this machine has."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mystikos_tool.cache.remote import digest
from mystikos_tool.cache.remote.digest import Digest
from mystikos_tool.cache.remote.server import Chunking
from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, user_cache

_KEPT_AFTER_TRIMMING = 0.8


class Chunk(NamedTuple):
    """A part of a file: its digest, and where it begins, in bytes."""

    digest: Digest
    offset: int


class Cut(NamedTuple):
    """A file's digest and the chunks that it consists of."""

    digest: Digest
    chunks: list[Chunk]


def cut(file: BinaryIO, chunking: Chunking, keep: Callable[[Digest, bytes], None] | None = None) -> Cut:
    """Cut a file as FastCDC 2020 does with normalization level 2; memory does not grow with it.

    ``keep`` is given every chunk.
    """
    from pyfastcdc import FastCDC

    whole = hashlib.sha256()
    chunks: list[Chunk] = []
    cutter = FastCDC(chunking.average, normalized_chunking=2, seed=chunking.seed)
    for chunk in cutter.cut_stream(file):
        whole.update(chunk.data)
        named = digest.of(chunk.data)
        chunks.append(Chunk(named, chunk.offset))
        if keep:
            keep(named, bytes(chunk.data))
    size = chunks[-1].offset + chunks[-1].digest.size if chunks else 0
    return Cut(Digest(whole.hexdigest(), size), chunks)


class ChunkStore:
    """Chunks in a directory, one file each; one that is lost or damaged is just not there.

    ``directory`` None keeps nothing; ``limit`` is in bytes and holds after :meth:`trim`.
    """

    def __init__(self, directory: Path | None, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._has_grown = False

    def __contains__(self, named: Digest) -> bool:
        path = self._path(named)
        return path is not None and _may_be(path, named)

    def get(self, named: Digest) -> bytes | None:
        """Return a chunk, verified; one that is damaged makes room for the right one."""
        path = self._path(named)
        if path is None or not _may_be(path, named):
            return None
        with suppress(OSError):
            data = path.read_bytes()
            if digest.of(data) == named:
                os.utime(path)
                return data
            path.unlink()
        return None

    def put(self, named: Digest, data: bytes) -> None:
        """Keep a chunk; where that cannot be, it is not kept."""
        path = self._path(named)
        if path is None or _may_be(path, named):
            return
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            user_cache.clear(path)
            atomic.write(path, data, 0o600)
            self._has_grown = True

    def trim(self) -> None:
        """Remove what was not used for longest, if there is more than the limit."""
        if not self._has_grown or self._directory is None:
            return
        found = sorted(_entries(self._directory))
        total = sum(size for _, size, _ in found)
        if total <= self._limit:
            return
        for _, size, path in found:
            if total <= self._limit * _KEPT_AFTER_TRIMMING:
                return
            with suppress(OSError):
                path.unlink()
                total -= size

    def _path(self, named: Digest) -> Path | None:
        return self._directory / named.hash[:2] / named.hash if self._directory else None


def _may_be(path: Path, named: Digest) -> bool:
    """Tell whether a file has the size of a chunk."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == named.size


def _entries(directory: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each chunk was used last, its size and its path."""
    with suppress(OSError):
        for path in directory.glob("??/*"):
            with suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path
