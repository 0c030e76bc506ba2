"""The variables of an image as Mystikos has them in a root: ``/appenv.json``."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.oci.image import Image
from mystikos_tool.root.tree import Entry

PATH = b"appenv.json"
_CHUNK = 1 << 20
_MODE = stat.S_IFREG | 0o644


def added(entries: Sequence[Entry], image: Image) -> tuple[Entry, ...]:
    """Return the entries with a file of the image's variables, unless there are none or is such a file."""
    env = image.process.env
    if not env or any(entry.path == PATH for entry in entries):
        return tuple(entries)
    data = (json.dumps({"Env": list(env)}, indent=4) + "\n").encode()
    entry = Entry(PATH, _MODE, len(data), PATH, _fingerprint(data), _Made(image.where, data))
    return tuple(sorted((*entries, entry), key=attrgetter("path")))


def _fingerprint(data: bytes) -> bytes:
    """Return what stands for a content in the form of a file's status; it is never racy."""
    digest = hashlib.sha256(data).digest()
    device, inode = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8))
    return fingerprint.STRUCT.pack(device, inode, len(data), -1, -1, _MODE)


class _Made:
    """One file in memory."""

    def __init__(self, where: str, data: bytes) -> None:
        self._where = where
        self._data = data

    def name(self, entry: Entry) -> str:
        """Return the image and the path."""
        return f"{self._where}, {PATH.decode()}"

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return root, to whom all of a root belongs."""
        return 0, 0

    def identity(self, entry: Entry) -> bytes:
        """Return nothing: there are no links to it."""
        return b""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content; see :class:`mystikos_tool.root.tree.Contents`."""
        for start in range(0, len(self._data), _CHUNK):
            yield self._data[start : start + _CHUNK]

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        yield lambda offset, size: self._data[offset : offset + size]
