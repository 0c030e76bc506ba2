"""Read a disk: who signed it, whether its hash tree is right, and the files in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.formats import fssig, luks, verity
from mystikos_tool.formats.ext2_reader import Filesystem
from mystikos_tool.root.disk import hash_worker, hashtree

_REMEDY = "make it with 'mystikos-tool mkext2'"
_AGAIN = "do not trust this disk; make it again"


class DiskFile:
    """An open disk. ``fssig`` and ``superblock`` are as they stand there, held against its size only."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._where = str(path)
        size = os.fstat(descriptor).st_size
        end = max(size - fssig.SIZE, 0)
        self.fssig = fssig.parse(self.read(end, fssig.SIZE), size, self._where)
        self.superblock = verity.parse(self.read(self.fssig.hash_offset, verity.BLOCK), self._where)
        self.shape = verity.Shape(self.fssig.hash_offset // verity.BLOCK)
        if self.superblock.data_blocks != self.shape.data_blocks or self.shape.end != end:
            raise UserError(self._where, "its hash tree does not cover its data, or has another size", _AGAIN)

    def is_file(self, descriptor: int) -> bool:
        """Tell whether another descriptor is of the same file."""
        return os.path.sameopenfile(self._descriptor, descriptor)

    @property
    def is_encrypted(self) -> bool:
        """Whether the data area begins with a LUKS header."""
        return luks.is_header(self.read(0, len(luks.MAGIC)))

    def filesystem(self, key: bytes | None = None) -> Filesystem:
        """Return the file system, decrypted by the master key of 64 bytes where there is one.

        Nothing of it is checked against the hash tree. Raises UserError for a disk that is
        encrypted with another key, and for what is no ext2.
        """
        size = self.fssig.hash_offset
        if not self.is_encrypted:
            return Filesystem(lambda offset, count: self.read(offset, count), size, self._where)
        if key is None:
            raise UserError(self._where, "is encrypted", "give its key file")
        header = self.read(0, luks.HEADER.size)
        luks.check_key(header, key, self._where)
        return Filesystem(
            lambda offset, count: self._decrypt(key, offset, count), size - luks.PAYLOAD_OFFSET, self._where
        )

    def check(self) -> None:
        """Hold every block against the hash tree, and that against the root hash; raise UserError."""
        salt = self.superblock.salt
        with _told(self._where):
            is_sound = hashtree.is_sound(self._descriptor, self.shape, salt, self.fssig.root_hash)
        if not is_sound:
            raise UserError(self._where, "its hash tree does not lead to its root hash", _AGAIN)
        wrong = self.wrong_blocks()
        if wrong:
            owner = self.owners(wrong[:1]).get(wrong[0])
            place = f"offset {wrong[0] * verity.BLOCK}" + (f", in {owner}" if owner else "")
            raise UserError(f"{self._where}, {place}", "is not what its hash says", _AGAIN)

    def owners(self, blocks: Collection[int], key: bytes | None = None) -> dict[int, str]:
        """Return by their numbers what blocks of 4096 bytes belong to, as far as that can be known.

        That is the path of a file whose content they have; or the structures of the file system, the
        LUKS header among them, or free space. ``key`` is that of an encrypted disk. Nothing is known
        without it, or of a file system that cannot be read.
        """
        if self.is_encrypted and key is None:
            return {}
        before = luks.PAYLOAD_OFFSET // verity.BLOCK if self.is_encrypted else 0
        try:
            filesystem = self.filesystem(key)
            per_block = max(verity.BLOCK // filesystem.block_size, 1)
            inside = {
                (block - before) * verity.BLOCK // filesystem.block_size + part: block
                for block in blocks
                for part in range(per_block)
            }
            found = owners(filesystem, inside.keys())
        except UserError:
            return {}
        known = dict.fromkeys(blocks, "what belongs to no file: maps, inodes, bitmaps or free space")
        return known | {inside[block]: owner for block, owner in found.items()}

    def wrong_blocks(self) -> list[int]:
        """Return the numbers of blocks of 4096 bytes that are not what their hashes say, or some of many."""
        with _told(self._where):
            return hashtree.wrong_blocks(self._descriptor, self.shape, self.superblock.salt)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the disk, fewer at its end."""
        return read_at(self._descriptor, offset, size, self._where)

    def hole_end(self, offset: int) -> int:
        """Return where a hole of the disk's file at an offset ends; the offset itself where there is none."""
        return hash_worker.hole_end(self._descriptor, offset)

    def _decrypt(self, key: bytes, offset: int, size: int) -> bytes:
        first = offset // luks.SECTOR
        end = -(-(offset + size) // luks.SECTOR)
        data = self.read(luks.PAYLOAD_OFFSET + first * luks.SECTOR, (end - first) * luks.SECTOR)
        start = offset - first * luks.SECTOR
        whole = data[: len(data) // luks.SECTOR * luks.SECTOR]
        return luks.decrypt(key, whole, first)[start : start + size]


def read_at(descriptor: int, offset: int, size: int, where: str) -> bytes:
    """Return bytes of an open file, fewer at its end; raise UserError where it cannot be read."""
    with _told(where):
        return os.pread(descriptor, size, offset)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Raise a UserError for a file that cannot be read, or was cut meanwhile."""
    try:
        yield
    except OSError as error:
        problem = f"cannot be read: {reason_of(error)}"
        raise UserError(where, problem, "see what is wrong with its place") from None
    except ValueError:
        raise UserError(where, "was cut while it was read", "wait until nothing writes to it") from None


@contextmanager
def opened(path: Path) -> Iterator[DiskFile]:
    """Open a disk; raise UserError for a file that is none or that the kernel would refuse."""
    descriptor = open_disk(path)
    try:
        yield DiskFile(path, descriptor)
    finally:
        os.close(descriptor)


def open_disk(path: Path) -> int:
    """Return a descriptor of a regular file, to be read; raise UserError for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(str(path), reason_of(error), "give a disk") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(str(path), "is no regular file", "give a disk")
    return descriptor


def is_disk(path: Path) -> bool:
    """Tell whether a file has an FSSIG at its end."""
    with suppress(OSError, UserError), os.fdopen(open_disk(path), "rb", buffering=0) as disk:
        end = os.fstat(disk.fileno()).st_size - fssig.SIZE
        return end > 0 and fssig.is_one(os.pread(disk.fileno(), 8, end))
    return False


def owners(filesystem: Filesystem, blocks: Collection[int]) -> dict[int, str]:
    """Return the paths of what has its content in these blocks of the file system.

    A block that is not named holds maps, inodes or bitmaps, or is free.
    """
    found = {}
    left = filesystem.blocks
    wanted = set(blocks)
    for member in filesystem.members:
        for block in filesystem.blocks_of(member):
            left -= 1
            if block in wanted:
                found[block] = "/" + os.fsdecode(member.path)
        # Hard links name their blocks again; a hostile disk is not read for ever.
        if left < -filesystem.blocks:
            break
    return found
