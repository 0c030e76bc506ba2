"""What is in a disk that is a root, looked up as in an archive; nothing is held against the hash tree."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats.ext2_reader import Filesystem, Member
from mystikos_tool.formats.fssig import Fssig
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.disk.reader import DiskFile, is_disk, open_disk, read_at


class DiskIndex:
    """The members of an unencrypted disk, whose file is open as long as this is in use.

    ``fssig`` is what its FSSIG says, None where it has none. Raises UserError for what is no disk or
    encrypted, and every method for a file system that is not as the kernel reads it.
    """

    def __init__(self, path: Path) -> None:
        descriptor = open_disk(path)
        weakref.finalize(self, os.close, descriptor)
        self.where = str(path)
        self.fssig: Fssig | None = None
        if is_disk(path):
            disk = DiskFile(path, descriptor)
            if disk.is_encrypted:
                problem = "is encrypted, and nothing gives the kernel the key of its root"
                raise UserError(
                    self.where, problem, "make it without encryption; programs mount encrypted disks"
                )
            self.fssig, self._filesystem = disk.fssig, disk.filesystem()
        else:
            size = os.fstat(descriptor).st_size
            self._filesystem = Filesystem(
                lambda offset, count: read_at(descriptor, offset, count, self.where), size, self.where
            )

    @property
    def members(self) -> Sequence[Member]:
        """Every member, in the byte order of the paths."""
        return self._filesystem.members

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""
        return self._filesystem.entry(path)

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to inside of the disk, or None."""
        return self._filesystem.find(path)

    def data(self, member: Member) -> bytes:
        """Return a file's content or a symbolic link's target."""
        if stat.S_ISLNK(member.mode):
            return self._filesystem.data(member)
        return b"".join(self._filesystem.content(member))

    @contextmanager
    def reading(self) -> Iterator[Callable[[Member], ReadAt]]:
        """Begin to read files' content."""
        yield lambda member: lambda offset, count: self._filesystem.read(member, offset, count)
