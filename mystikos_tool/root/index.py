"""What is in a root, whether it is an archive or a disk: its members, found by their paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mystikos_tool.io.content import ReadAt


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
