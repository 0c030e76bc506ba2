"""What is in a root, whether it is an archive or a disk: its members, found by their paths."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol

from mystikos_tool.io.content import ReadAt

_OF_THE_HOST = (b"etc/hosts", b"etc/resolv.conf")


class Member(Protocol):
    """A directory, file or link; ``path`` has no slash in front, ``mode`` is ``st_mode``."""

    @property
    def path(self) -> bytes:
        """Path below the root."""

    @property
    def mode(self) -> int:
        """Type and permissions."""

    @property
    def size(self) -> int:
        """Size of the data in bytes."""


class Index(Protocol):
    """What is in a root; a member that a method takes is one of the index's own."""

    @property
    def where(self) -> str:
        """What messages call the root."""

    @property
    def members(self) -> Sequence[Member]:
        """Every member."""

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to inside of the root, or None."""

    def data(self, member: Any) -> bytes:
        """Return a member's data, of a symbolic link its target."""

    def reading(self) -> AbstractContextManager[Callable[[Any], ReadAt]]:
        """Begin to read members' data: of each what reads it at any offset."""


class VisibleIndex:
    """A root as its programs see it: without the files that the kernel covers or replaces by the host's.

    ``in_mount`` tells of an absolute path whether something is mounted over it.
    """

    def __init__(self, index: Index, in_mount: Callable[[str], object]) -> None:
        self._index = index
        self._in_mount = in_mount
        self.where = index.where
        self.data = index.data
        self.reading = index.reading

    @cached_property
    def members(self) -> Sequence[Member]:
        """Every member."""
        return [member for member in self._index.members if not self._is_hidden(member.path)]

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""
        return self._shown(path, self._index.entry(path))

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to inside of the root, or None."""
        return self._shown(path, self._index.find(path))

    def _shown(self, path: str, member: Member | None) -> Member | None:
        asked = os.fsencode(posixpath.normpath("/" + path)).lstrip(b"/")
        return None if member is None or self._is_hidden(asked) or self._is_hidden(member.path) else member

    def _is_hidden(self, path: bytes) -> bool:
        in_kernel_s = path.startswith(b"dev/") or path in _OF_THE_HOST
        return in_kernel_s or bool(self._in_mount("/" + os.fsdecode(path)))
