"""Programs and libraries of a root without their debug information, which no loader reads.

The same bytes come of the same file on every machine: no tool of the machine's takes part.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager

from mystikos_tool.formats import stripping
from mystikos_tool.formats.stripping import Piece
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.source import excluding
from mystikos_tool.root.tree import Entry, Tree, changed

EVERY = ("*",)
_CHUNK = 1 << 20
_SMALLEST = 64  # bytes of an ELF header
_MAGIC = b"\x7fELF"


class Stripping:
    """Strips the files that match a pattern; ``faults`` says of which it could not take anything out.

    A pattern without a slash is held against every name, one with a slash against the path in the root.
    """

    def __init__(self, patterns: tuple[str, ...] = EVERY) -> None:
        self.name = f"stripped 1 {patterns}"  # the number is another one when other bytes come of a file
        self.faults: list[tuple[str, str]] = []
        self._matches = excluding(patterns)

    def __call__(self, entry: Entry) -> Entry:
        """Return an entry as it is stripped; of a large file only the headers are read for that."""
        is_file = stat.S_ISREG(entry.mode) and entry.size >= _SMALLEST
        if not (is_file and self._matches and self._matches(entry.path)):
            return entry
        with entry.contents.opened(entry) as read_at:
            found = read_at(0, len(_MAGIC)) == _MAGIC and stripping.plan(read_at, entry.size)
        if isinstance(found, str):
            self.faults.append((entry.name, found))
        if not isinstance(found, list):
            return entry
        return entry._replace(size=stripping.size_of(found), contents=_Stripped(entry, found))

    def tree(self, tree: Tree) -> Tree:
        """Return a tree with all of its files stripped."""
        return Tree(tuple(map(self, tree.entries)), tree.left_out, tree.as_of)

    def warnings(self) -> list[str]:
        """Return what is to be told of files that could not be stripped."""
        return [f"{name}: was not stripped: {fault}" for name, fault in self.faults]


class _Stripped:
    """The content of one entry in pieces."""

    def __init__(self, original: Entry, pieces: list[Piece]) -> None:
        self._original = original
        self._pieces = pieces

    def name(self, entry: Entry) -> str:
        """Return the original's name."""
        return self._original.name

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return user and group of the original."""
        return self._original.contents.owner(self._original)

    def identity(self, entry: Entry) -> bytes:
        """Return that of the original: links to it are stripped alike."""
        return self._original.contents.identity(self._original)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content; see :class:`mystikos_tool.root.tree.Contents`."""
        with self._original.contents.opened(self._original) as read_at:
            for piece in self._pieces:
                if isinstance(piece, bytes):
                    yield piece
                elif isinstance(piece, int):
                    yield from (bytes(min(_CHUNK, piece - at)) for at in range(0, piece, _CHUNK))
                else:
                    yield from self._copied(read_at, *piece)

    def _copied(self, read_at: ReadAt, start: int, size: int) -> Iterator[bytes]:
        for offset in range(start, start + size, _CHUNK):
            wanted = min(_CHUNK, start + size - offset)
            data = read_at(offset, wanted)
            if len(data) < wanted:
                raise changed(self._original)
            yield data

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        whole = b"".join(self.chunks(entry))
        yield lambda offset, size: whole[offset : offset + size]
