"""Files of a root that this tool writes itself."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.tree import Contents, Entry


def written(path: str, data: bytes, whose: str) -> Entry:
    """Return a file of mode 0644 with this content; messages call it ``whose`` and its path."""
    digest = hashlib.sha256(data).digest()
    mode = stat.S_IFREG | 0o644
    # Device and inode stand for the content; times of long ago are never racy.
    known = digest[:16] + fingerprint.STRUCT.pack(0, 0, len(data), 0, 0, mode)[16:]
    return Entry(os.fsencode(path), mode, len(data), digest, known, _Written(data, f"{whose} /{path}"))


class _Written(Contents):
    """The content of one such file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name

    def name(self, entry: Entry) -> str:
        """Return what messages call it."""
        return self._name

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        yield lambda offset, size: self._data[offset : offset + size]
