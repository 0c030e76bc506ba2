"""Give a server the blobs and files that it lacks, large files in chunks where it takes them so."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mystikos_tool.cache.remote import digest
from mystikos_tool.cache.remote.chunks import Cut, cut
from mystikos_tool.cache.remote.digest import Digest
from mystikos_tool.cache.remote.server import PIECE, Limits, MissingError, Server, ServerError, Trouble

_ASKED_AT_ONCE = 10_000  # digests in one FindMissingBlobs: a megabyte

Keep = Callable[[Digest, bytes], None]


def cut_file(path: Path, limits: Limits, keep: Keep | None = None) -> Cut:
    """Return a file's digest, and its chunks if it is to be stored as such; ``keep`` is given each chunk.

    Raises ServerError for a file that is larger than the server takes.
    """
    chunking = limits.splices
    size = path.stat().st_size
    if limits.largest_blob and size > limits.largest_blob:
        raise ServerError(Trouble.FAILED, "it takes no file as large as one of these")
    with path.open("rb") as opened:
        if chunking and size > chunking.worthwhile:
            return cut(opened, chunking, keep)
        whole = hashlib.sha256()
        while data := opened.read(PIECE):
            whole.update(data)
        return Cut(Digest(whole.hexdigest(), opened.tell()), [])


def send(
    server: Server,
    limits: Limits,
    blobs: Mapping[Digest, bytes],
    files: Mapping[Path, Cut],
    lost: Set[Digest] = frozenset(),
) -> None:
    """Store blobs and files where the server lacks them, or has them in ``lost``, whatever it says itself.

    Raises ServerError, and MissingError for a file that has changed since it was cut.
    """
    asked = {*blobs, *(whole.digest for whole in files.values())}
    asked |= {chunk.digest for whole in files.values() for chunk in whole.chunks}
    missing = _missing(server, asked) | (asked & lost)
    parts = {named: _Part(data) for named, data in blobs.items() if named in missing}
    for path, whole in files.items():
        if whole.digest in missing:
            parts |= _parts(path, whole, missing)
    _write(server, limits, parts)
    for whole in files.values():
        if whole.chunks and whole.digest in missing:
            server.splice(whole.digest, [chunk.digest for chunk in whole.chunks])


def verified(named: Digest, data: bytes) -> bytes:
    """Return data that has a digest; raise MissingError for other data."""
    if digest.of(data) != named:
        raise MissingError
    return data


def batches(digests: Iterable[Digest], limit: int) -> Iterator[list[Digest]]:
    """Yield blobs in groups of ``limit`` bytes at most, or of one."""
    batch: list[Digest] = []
    size = 0
    for named in digests:
        if batch and size + named.size > limit:
            yield batch
            batch, size = [], 0
        batch.append(named)
        size += named.size
    if batch:
        yield batch


class _Part(NamedTuple):
    """Where a blob's bytes are: here, or in a file from an offset on."""

    data: bytes = b""
    path: Path | None = None
    offset: int = 0

    def read(self, size: int) -> bytes:
        """Return the bytes, ``size`` of them at most."""
        if self.path is None:
            return self.data
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(size)

    def opened(self, size: int) -> Callable[[], BinaryIO]:
        """Return what opens a file that has just the bytes."""
        path = self.path
        if path and path.stat().st_size == size:
            return lambda: path.open("rb")
        return lambda: io.BytesIO(self.read(size))


def _missing(server: Server, asked: Iterable[Digest]) -> set[Digest]:
    remaining = iter(sorted(asked))
    missing: set[Digest] = set()
    while some := list(islice(remaining, _ASKED_AT_ONCE)):
        missing |= server.missing(some)
    return missing - {digest.EMPTY}


def _parts(path: Path, whole: Cut, missing: Set[Digest]) -> dict[Digest, _Part]:
    if not whole.chunks:
        return {whole.digest: _Part(path=path)}
    return {
        chunk.digest: _Part(path=path, offset=chunk.offset)
        for chunk in whole.chunks
        if chunk.digest in missing
    }


def _write(server: Server, limits: Limits, parts: Mapping[Digest, _Part]) -> None:
    small = [named for named in parts if named.size <= limits.batch]
    for batch in batches(small, limits.batch):
        server.write_batch({named: verified(named, parts[named].read(named.size)) for named in batch})
    for named, part in parts.items():
        if named.size > limits.batch:
            server.write(named, part.opened(named.size))
