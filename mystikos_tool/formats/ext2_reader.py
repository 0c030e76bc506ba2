"""Read an ext2 file system that a hostile party may have written.

What Mystikos' kernel reads is read (docs/disks.md); what it would hang on is refused. Every number
of the disk is held against the disk's size before it is used, no block of a directory is visited
more often than there are blocks, and no directory twice: the cost is bounded by the disk's size.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2 import Name
from mystikos_tool.formats.paths import follow

_MAX_BLOCK_SIZE = 8192
_INODE_SIZES = (128, 256)
_DIRECT = 12
_MAX_PATH = 4095
_READABLE_INCOMPAT = ext2.INCOMPAT_FILETYPE
_BIGALLOC = 0x200
_KINDS = {
    ext2.TYPE_FILE: stat.S_IFREG,
    ext2.TYPE_DIRECTORY: stat.S_IFDIR,
    3: stat.S_IFCHR,
    4: stat.S_IFBLK,
    5: stat.S_IFIFO,
    6: stat.S_IFSOCK,
    ext2.TYPE_LINK: stat.S_IFLNK,
}
_REMEDY = "do not trust this disk; make it again"

# Returns as many bytes from an offset of the file system, fewer only behind its end.
ReadAt = Callable[[int, int], bytes]


class Member(NamedTuple):
    """A path of the file system and the inode that it names."""

    path: bytes
    inode: int
    mode: int
    size: int
    links: int
    uid: int
    gid: int
    time: int


class _Broken(Exception):  # noqa: N818 becomes a UserError, which knows the place
    """What is wrong in the file system."""


class Filesystem:
    """An ext2 file system of ``size`` bytes; ``where`` is what messages call it.

    ``superblock`` is as it was first read, 1024 bytes.
    Raises UserError, as every method does, for what is no ext2 or is not as the kernel reads it.
    """

    def __init__(self, read_at: ReadAt, size: int, where: str) -> None:
        self._read_at = read_at
        self._where = where
        self._tables: dict[int, int] = {}
        self._counted: dict[int, int] = {}  # by inode, how many blocks of it were met
        self._met = 0
        data = read_at(ext2.SUPERBLOCK_OFFSET, ext2.SUPERBLOCK.size)
        if not ext2.is_superblock(data) or size < ext2.SUPERBLOCK_OFFSET:
            raise UserError(where, "is no ext2 file system", "make it with 'mystikos-tool mkext2'")
        self.superblock = data
        fields = ext2.SUPERBLOCK.unpack(data)
        self._numbers = {name: value for name, value in fields.items() if isinstance(value, int)}
        self.uuid = bytes(fields["uuid"])
        try:
            self._check(size)
        except _Broken as error:
            raise UserError(where, str(error), _REMEDY) from None

    def _check(self, size: int) -> None:
        numbers = self._numbers
        if numbers["revision"] < 1:
            raise _Broken("has ext2's revision 0, which the kernel refuses")
        if numbers["log_block_size"] > 3:
            raise _Broken(f"has blocks of more than {_MAX_BLOCK_SIZE} bytes")
        self.block_size = 1024 << numbers["log_block_size"]
        self.blocks = numbers["blocks_count"]
        if self.blocks * self.block_size > size:
            raise _Broken("is larger than the data area of its disk")
        if numbers["inode_size"] not in _INODE_SIZES:
            raise _Broken(f"has inodes of {numbers['inode_size']} bytes")
        unknown = numbers["incompat"] & ~_READABLE_INCOMPAT
        if unknown or numbers["ro_compat"] & _BIGALLOC or not numbers["incompat"] & ext2.INCOMPAT_FILETYPE:
            raise _Broken(f"has features (incompat {numbers['incompat']:#x}) that the kernel cannot read")
        in_bitmap = 8 * self.block_size
        if not (
            0 < numbers["blocks_per_group"] <= in_bitmap and 0 < numbers["inodes_per_group"] <= in_bitmap
        ):
            raise _Broken("has groups of a wrong size")
        first = numbers["first_data_block"]
        if first != (1 if self.block_size == 1024 else 0) or first >= self.blocks:
            raise _Broken("begins at a wrong block")
        groups = -(-(self.blocks - first) // numbers["blocks_per_group"])
        if numbers["inodes_count"] > groups * numbers["inodes_per_group"]:
            raise _Broken("has more inodes than its groups hold")

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Every member, in the byte order of the paths; ``lost+found`` included."""
        return tuple(sorted(self._walk()))

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""
        place, wanted = self._root, os.fsencode(path).strip(b"/")
        for part in wanted.split(b"/") if wanted else []:
            found = self._child(place, part)
            if found is None:
                return None
            place = found
        return place

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to inside of the file system, or None.

        Symbolic links are followed, never out of it.
        """
        return follow(path, self._root, self._child, self._link_target)

    def _link_target(self, member: Member) -> bytes | None:
        return self.data(member) if stat.S_ISLNK(member.mode) else None

    def data(self, member: Member) -> bytes:
        """Return a symbolic link's target."""
        inode = self.inode(member.inode)
        size = int(inode["size"])
        try:
            if not 0 < size < self.block_size:
                raise _Broken(f"has a target of {size} bytes")
            if size < ext2.FAST_LINK and not int(inode["sectors"]):
                return bytes(inode["blocks"])[:size]
            return b"".join(self._blocks(inode, size))[:size]
        except _Broken as error:
            raise self._broken(member.path, error) from None

    def content(self, member: Member) -> Iterator[bytes]:
        """Yield a file's content block by block, holes as zeros."""
        left, zeros = member.size, bytes(self.block_size)
        try:
            for number, count in self._runs_of(member):
                for _ in range(count):
                    yield (self._block(number) if number else zeros)[:left]
                    left -= min(left, self.block_size)
        except _Broken as error:
            raise self._broken(member.path, error) from None

    def read(self, member: Member, offset: int, size: int) -> bytes:
        """Return bytes of a file from an offset, fewer at its end; holes are zeros."""
        end = min(offset + size, member.size)
        if offset >= end:
            return b""
        try:
            pointers = struct.unpack("<15I", bytes(self.inode(member.inode)["blocks"]))
            numbers = range(offset // self.block_size, -(-end // self.block_size))
            places = [self._place(pointers, number) for number in numbers]
            data = b"".join(self._block(place) if place else bytes(self.block_size) for place in places)
        except _Broken as error:
            raise self._broken(member.path, error) from None
        start = offset % self.block_size
        return data[start : start + end - offset]

    def _place(self, pointers: Sequence[int], number: int) -> int:
        """Return where in the disk a block of a file is, 0 for a hole."""
        if number < _DIRECT:
            return pointers[number]
        number, per_block = number - _DIRECT, self.block_size // 4
        for depth in (1, 2, 3):
            if number < per_block**depth:
                break
            number -= per_block**depth
        else:
            raise _Broken("has more bytes than its map can name")
        place = pointers[_DIRECT - 1 + depth]
        while place and depth:
            depth -= 1
            slot, number = divmod(number, per_block**depth)
            (place,) = struct.unpack_from("<I", self._block(place), 4 * slot)
        return int(place)

    def blocks_of(self, member: Member) -> Iterator[int]:
        """Yield the numbers of the blocks that hold a member's content, without holes."""
        if not stat.S_ISLNK(member.mode) or int(self.inode(member.inode)["sectors"]):
            yield from (block for _, block in self.map_of(member))

    def map_of(self, member: Member) -> Iterator[tuple[int, int]]:
        """Yield for each block of a file or directory that is no hole its number there and in the disk."""
        at = 0
        try:
            for number, count in self._runs_of(member):
                if number:
                    yield at, number
                at += count
        except _Broken as error:
            raise self._broken(member.path, error) from None

    def block(self, number: int) -> bytes:
        """Return a block's content."""
        try:
            return self._block(number)
        except _Broken as error:
            raise UserError(self._where, str(error), _REMEDY) from None

    @property
    def _root(self) -> Member:
        return self._member(b"", ext2.ROOT_INODE, stat.S_IFDIR)

    def _child(self, directory: Member, name: bytes) -> Member | None:
        if not stat.S_ISDIR(directory.mode):
            return None
        found = next(self._names(directory, name), None)
        if found is None:
            return None
        path = directory.path + b"/" + name if directory.path else name
        return self._member(path, found.inode, _KINDS[found.type])

    def _walk(self) -> Iterator[Member]:
        pending, seen = [self._root], {ext2.ROOT_INODE}
        visited = 0
        while pending:
            directory = pending.pop()
            visited += directory.size // self.block_size
            if visited > self.blocks:
                raise self._broken(directory.path, _Broken("has more blocks than the disk"))
            names: set[bytes] = set()
            for name in self._names(directory):
                path = directory.path + b"/" + name.name if directory.path else name.name
                if len(path) > _MAX_PATH or name.name in names:
                    raise self._broken(path, _Broken("is too long or there twice"))
                names.add(name.name)
                member = self._member(path, name.inode, _KINDS[name.type])
                if stat.S_ISDIR(member.mode):
                    if member.inode in seen:
                        raise self._broken(path, _Broken("is a directory with two names"))
                    seen.add(member.inode)
                    pending.append(member)
                yield member

    def _names(self, directory: Member, only: bytes | None = None) -> Iterator[Name]:
        """Yield a directory's entries but for ``.`` and ``..``, or ``only`` those of a name."""
        inode = self.inode(directory.inode)
        try:
            if directory.size % self.block_size or directory.size > self.blocks * self.block_size:
                raise _Broken(f"is a directory of {directory.size} bytes")
            for block in self._blocks(inode, directory.size):
                for name in ext2.names(block, only) if only is None or only in block else ():
                    if name.name in (b".", b".."):
                        continue
                    if not name.name or b"/" in name.name or b"\0" in name.name or name.type not in _KINDS:
                        raise _Broken(f"has an entry {name.name!r} of the type {name.type}")
                    yield name
        except (_Broken, ValueError) as error:
            raise self._broken(directory.path, error) from None

    def _member(self, path: bytes, number: int, kind: int) -> Member:
        inode = self.inode(number)
        mode = int(inode["mode"])
        if stat.S_IFMT(mode) != kind:
            raise self._broken(path, _Broken(f"has the mode {mode:o}, and another type in its directory"))
        size = int(inode["size"]) | (int(inode["size_high"]) << 32 if stat.S_ISREG(mode) else 0)
        return Member(
            path,
            number,
            mode,
            size,
            int(inode["links"]),
            int(inode["uid"]) | int(inode["uid_high"]) << 16,
            int(inode["gid"]) | int(inode["gid_high"]) << 16,
            int(inode["modification_time"]),
        )

    def inode(self, number: int) -> dict[str, int | bytes]:
        """Return an inode's fields, as `ext2.INODE` names them."""
        where = f"{self._where}, inode {number}"
        if not 0 < number <= self._numbers["inodes_count"]:
            raise UserError(where, "does not exist", _REMEDY)
        group, slot = divmod(number - 1, self._numbers["inodes_per_group"])
        try:
            offset = self._table(group) + slot * self._numbers["inode_size"]
            data = self._bytes(offset, ext2.INODE_SIZE)
        except _Broken as error:
            raise UserError(where, str(error), _REMEDY) from None
        inode = ext2.INODE.unpack(data)
        if int(inode["flags"]) & (ext2.FLAG_EXTENTS | ext2.FLAG_INLINE_DATA):
            problem = "has extents or inline data, which the kernel hangs on"
            raise UserError(where, problem, _REMEDY)
        return inode

    def _table(self, group: int) -> int:
        """Return the offset of a group's inode table."""
        if group not in self._tables:
            descriptors = (self._numbers["first_data_block"] + 1) * self.block_size
            descriptor = self._bytes(descriptors + group * ext2.GROUP.size, ext2.GROUP.size)
            self._tables[group] = ext2.GROUP.get_int(descriptor, "inode_table") * self.block_size
        return self._tables[group]

    def _blocks(self, inode: dict[str, int | bytes], size: int) -> Iterator[bytes]:
        """Yield the blocks of ``size`` bytes of a file."""
        zeros = bytes(self.block_size)
        for number, count in self._runs(inode, size):
            for _ in range(count):
                yield self._block(number) if number else zeros

    def _runs_of(self, member: Member) -> Iterator[tuple[int, int]]:
        """Yield what `_runs` does; all files together have no more blocks than the disk."""
        met = 0
        for number, count in self._runs(self.inode(member.inode), member.size):
            met += number > 0
            if met > self._counted.get(member.inode, 0):
                self._counted[member.inode] = met
                self._met += 1
                if self._met > self.blocks:
                    raise _Broken("and other files have more blocks together than the disk")
            yield number, count

    def _runs(self, inode: dict[str, int | bytes], size: int) -> Iterator[tuple[int, int]]:
        """Yield the block numbers of ``size`` bytes of a file: each block, or 0 and the length of a hole."""
        per_block = self.block_size // 4
        left = -(-size // self.block_size)
        if left > _DIRECT + per_block + per_block**2 + per_block**3:
            raise _Broken(f"has {size} bytes, more than its map can name")
        named = 0
        for at, pointer in enumerate(struct.unpack("<15I", bytes(inode["blocks"]))):
            depth = max(at - _DIRECT + 1, 0)
            covered = min(per_block**depth, left)
            for is_content, number, count in self._below(pointer, depth, covered):
                named += number > 0
                if named > self.blocks:
                    raise _Broken("has more blocks than the disk")
                if is_content:
                    yield number, count
            left -= covered

    def _below(self, pointer: int, depth: int, count: int) -> Iterator[tuple[bool, int, int]]:
        """Yield what ``count`` blocks of a file are, below an indirect block; 0 is the depth of the last.

        Each is a content block, a hole or, for whoever counts them, an indirect block itself.
        """
        if pointer >= self.blocks:
            raise _Broken(f"names the block {pointer}, which the disk has not")
        if count <= 0:
            return
        if depth == 0 or pointer == 0:
            yield True, pointer, count
            return
        yield False, pointer, 0
        each = (self.block_size // 4) ** (depth - 1)
        for (below,) in struct.iter_unpack("<I", self._block(pointer)):
            if count <= 0:
                return
            yield from self._below(below, depth - 1, min(each, count))
            count -= each

    def _block(self, number: int) -> bytes:
        if number >= self.blocks:
            raise _Broken(f"names the block {number}, which the disk has not")
        return self._bytes(number * self.block_size, self.block_size)

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset + size > self.blocks * self.block_size:
            raise _Broken("lies outside of the disk")
        data = self._read_at(offset, size)
        if len(data) < size:
            raise _Broken("lies behind the end of the disk")
        return data

    def _broken(self, path: bytes, error: Exception) -> UserError:
        return UserError(f"{self._where}, /{os.fsdecode(path)}", str(error), _REMEDY)
