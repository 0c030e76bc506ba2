"""Contents by their digest, wherever an image keeps them, verified as they are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import FileIO
from pathlib import Path
from typing import Protocol

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.root.oci import manifest as manifests
from mystikos_tool.root.oci.digest import Digest
from mystikos_tool.root.oci.manifest import Descriptor, Manifest

_CHUNK = 1 << 20
_DEPTH = 4  # of an index in an index
_AGAIN = "make or fetch the image again"


class Stream(Protocol):
    """What is read from its start to its end."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; nothing at the end."""


Opener = Callable[[], AbstractContextManager[Stream]]


class Blobs(Protocol):
    """The contents of an image; ``where`` names them in messages."""

    @property
    def where(self) -> str:
        """What messages call the image."""

    def opened(self, descriptor: Descriptor) -> AbstractContextManager[Stream]:
        """Begin to read a content; raise UserError where it cannot be had. Nothing of it is verified."""


def opened_file(path: Path, remedy: str) -> FileIO:
    """Open a file of an image to read it; raise UserError where that cannot be, and for a FIFO at once."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)  # else nobody may ever write into a FIFO

    try:
        file = FileIO(path, opener=opener)
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {reason_of(error)}", remedy) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(str(path), "is no regular file", remedy)
    return file


class Verifying:
    """A stream that is held to its size and its digest, where it has them.

    More bytes are refused at once, all else at the end.
    """

    def __init__(self, stream: Stream, digest: Digest | None, size: int | None, where: str) -> None:
        self._stream = stream
        self._digest = digest
        self._left = size
        self._where = where
        self._hash = digest.begun() if digest else None

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Return what comes next."""
        # One byte more than there should be, to see that there is none.
        wanted = size if self._left is None else min(size, self._left + 1)
        data = self._stream.read(wanted)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise UserError(self._where, "has more bytes than its descriptor says", _AGAIN)
        if self._hash:
            self._hash.update(data)
        return data

    def finish(self) -> None:
        """Read what is left; raise UserError unless it is all what size and digest say."""
        while self.read(_CHUNK):
            pass
        if self._left:
            raise UserError(self._where, f"ends {self._left:,} bytes too early", _AGAIN)
        if self._digest and self._hash and self._hash.hexdigest() != self._digest.hex:
            raise mismatch(self._where, self._digest)


def mismatch(where: str, digest: Digest) -> UserError:
    """Return the error of a content that has another digest."""
    return UserError(where, f"has another digest than {digest}", f"distrust it: {_AGAIN}")


def document(blobs: Blobs, descriptor: Descriptor) -> bytes:
    """Return a small content, an index, a manifest or a configuration, verified."""
    where = f"{blobs.where}, {descriptor.digest}"
    if descriptor.size > manifests.MAX_DOCUMENT:
        problem = f"has {descriptor.size:,} bytes, more than the {manifests.MAX_DOCUMENT:,} that are accepted"
        raise UserError(where, problem, "give another image")
    with blobs.opened(descriptor) as stream:
        verifying = Verifying(stream, descriptor.digest, descriptor.size, where)
        data = b"".join(iter(verifying.read, b""))
        verifying.finish()
    return data


def manifest_of(blobs: Blobs, descriptor: Descriptor) -> Manifest:
    """Return the manifest that a descriptor leads to, through indexes to the image for linux/amd64."""
    for _ in range(_DEPTH):
        where = f"{blobs.where}, {descriptor.digest}"
        if descriptor.media_type in manifests.MANIFESTS:
            return manifests.manifest(document(blobs, descriptor), where)
        if descriptor.media_type not in manifests.INDEXES:
            problem = f"is of the media type {descriptor.media_type!r}, which is no image"
            raise UserError(where, problem, "give an image of OCI or of Docker's schema 2")
        descriptor = manifests.chosen(manifests.index(document(blobs, descriptor), where), where)
    raise UserError(blobs.where, f"has an index within an index, {_DEPTH} times", "name the image itself")
