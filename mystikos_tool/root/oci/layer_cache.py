"""Layers as this user's cache keeps them: decompressed, by digest, each with its index beside it.

    DIGEST.tar          the layer, a tar archive that has this digest
    DIGEST.index        what is in it, and the fingerprint of the file that it was found in

What does not fit, by damage or by another's hand, counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import atomic, fingerprint, progress, user_cache
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.oci import compression, layer
from mystikos_tool.root.oci.blobs import Opener, Verifying, mismatch
from mystikos_tool.root.oci.digest import Digest
from mystikos_tool.root.oci.layer import Member

MAX_LAYER = 1 << 36  # bytes of a layer that is decompressed; the root of an enclave is in memory
_VERSION = "mystikos-tool layer 1"
_HEAD = 1 << 20
_ENCODING = "latin-1"  # every byte is a character


class PackedLayer(NamedTuple):
    """A layer as an image has it: ``diff_id`` is the digest of the archive, decompressed.

    ``compression`` None is what the content itself says. ``digest`` and ``size`` are those of what is
    read, None where nothing says them. ``where`` names the layer in messages.
    """

    diff_id: Digest
    opened: Opener
    where: str
    compression: str | None = None
    digest: Digest | None = None
    size: int | None = None


class Layer:
    """A layer that can be read at any place: its archive is open, and is what its digest says."""

    def __init__(self, diff_id: Digest, file: FileIO, path: Path, members: list[Member]) -> None:
        self.diff_id = diff_id
        self.members = members
        self._file = file
        self._path = path
        self._version = self._version_now()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes of the archive; raise UserError where it was changed meanwhile."""
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) < size or self._version_now() != self._version:
            problem = "changed while it was read"
            raise UserError(str(self._path), problem, "build again when nothing writes to it")
        return data

    def _version_now(self) -> tuple[int, ...]:
        # Not its name: another build may have put the same layer in its place, or removed it.
        return fingerprint.content_version(fingerprint.of(os.fstat(self._file.fileno())))


class LayerCache:
    """The layers in a directory, this user's own."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or user_cache.directory() / "layers"

    def layer(self, packed: PackedLayer) -> Layer:
        """Return a layer, decompressed into the cache unless it is there.

        Raises UserError for one that is not what its digests say, and as :func:`layer.members` does;
        nothing of it is in the cache then.
        """
        self._make_directory()
        path, index = self._path(packed.diff_id, "tar"), self._path(packed.diff_id, "index")
        user_cache.clear(path)
        user_cache.clear(index)
        if found := self._known(packed.diff_id):
            return found
        with atomic.writing(path, 0o600) as file:
            with progress.bar(f"reading {packed.where}", packed.size or 0):
                for data in _decompressed(packed):
                    file.write(data)
            file.flush()
            members = list(layer.members(_reading(file.fileno()), file.tell(), packed.where))
            opened = FileIO(os.dup(file.fileno()))
        known = fingerprint.of(os.fstat(opened.fileno()))
        atomic.write(index, _index(members, known), 0o600)
        return Layer(packed.diff_id, opened, path, members)

    def _known(self, diff_id: Digest) -> Layer | None:
        """Return a layer that is in the cache, None where it is not, or not as it was put there."""
        path, index = self._path(diff_id, "tar"), self._path(diff_id, "index")
        try:
            file = FileIO(path)
        except OSError:
            return None
        members = _indexed(index, fingerprint.of(os.fstat(file.fileno())))
        if members is None:
            file.close()
            return None
        with suppress(OSError):
            os.utime(index)  # when it was used last, for pruning
        return Layer(diff_id, file, path, members)

    def _path(self, diff_id: Digest, kind: str) -> Path:
        return self._directory / f"{diff_id.algorithm}-{diff_id.hex}.{kind}"

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._directory.stat()
        except OSError as error:
            remedy = "set XDG_CACHE_HOME to a directory that can be written"
            raise UserError(str(self._directory), f"cannot be written: {reason_of(error)}", remedy) from None
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = "belongs to another user, or others may write to it, so that layers could be another's"
            remedy = f"chmod go-w {self._directory}, or set XDG_CACHE_HOME to a directory of this user"
            raise UserError(str(self._directory), problem, remedy)


def _reading(descriptor: int) -> ReadAt:
    return lambda offset, size: os.pread(descriptor, size, offset)


def _decompressed(packed: PackedLayer) -> Iterator[bytes]:
    """Yield a layer's archive; raise UserError at its end unless it was what both digests say."""
    whole, size = packed.diff_id.begun(), 0
    with packed.opened() as stream:
        # What is not compressed has one digest, and is hashed once.
        digest = packed.digest if packed.digest != packed.diff_id else None
        verifying = Verifying(stream, digest, packed.size, packed.where)
        peeked = compression.Peeked(verifying)
        kind = packed.compression or compression.of(peeked.start)
        try:
            for data in compression.decompressed(peeked, kind, packed.where):
                size += len(data)
                if size > MAX_LAYER:
                    raise UserError(packed.where, f"has more than {MAX_LAYER:,} bytes", "make it smaller")
                whole.update(data)
                yield data
        except compression.DamagedError:
            verifying.finish()  # what was damaged on its way is told as that
            raise
        verifying.finish()
    if whole.hexdigest() != packed.diff_id.hex:
        raise mismatch(packed.where, packed.diff_id)


def _index(members: list[Member], known: bytes) -> bytes:
    rows = [
        (path.decode(_ENCODING), mode, size, offset, target.decode(_ENCODING))
        for path, mode, size, offset, target in members
    ]
    body = json.dumps(rows, separators=(",", ":")).encode()
    return f"{_VERSION} {known.hex()} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def _indexed(path: Path, known: bytes) -> list[Member] | None:
    """Return what an index says, None where it is not of the file with this fingerprint, or damaged."""
    with suppress(OSError, ValueError):
        head, _, body = path.read_bytes().partition(b"\n")
        if head == f"{_VERSION} {known.hex()} {hashlib.sha256(body).hexdigest()}".encode():
            return [
                Member(path.encode(_ENCODING), mode, size, offset, target.encode(_ENCODING))
                for path, mode, size, offset, target in json.loads(body)
            ]
    return None
