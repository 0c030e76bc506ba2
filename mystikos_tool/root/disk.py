"""Lay a tree out as a disk: ext2, encrypted or not, with its hash tree and FSSIG (docs/disks.md).

The same tree gives the same bytes everywhere: what tools usually take from the clock or from
chance follows from the content here.

    made = disk.write(nodes_of(scan(directory)), Path("app.disk"), Options(signer=key))
    made.root_hash        # for a package that is to trust this disk
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2, fssig, luks, verity
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP
from mystikos_tool.io import progress
from mystikos_tool.io.atomic import writing
from mystikos_tool.root import hashtree
from mystikos_tool.root.booting import bootable
from mystikos_tool.root.nodes import Node, made_directory
from mystikos_tool.root.placement import File, Placement, files_of, find_blocks, place, whole_chunks

ROOM = 8 << 20
# That of the files in an archive (docs/formats.md, section 1).
TIME = 0x56734BA4
_MAX_TIME = (1 << 31) - 1
_CLEAN, _CONTINUE, _NO_MAXIMUM = 1, 1, 0xFFFF
_HALF_MD4, _SIGNED_HASH = 1, 1


@dataclass(frozen=True)
class Options:
    """How a disk is made.

    ``size`` is that of the data area in bytes, a LUKS header included; without it the disk is as
    large as its content needs, with ``room`` bytes for programs to write. ``time`` is that of
    every file, in seconds since 1970. With ``boots``, the disk has what the kernel needs of a
    root. ``salt`` (32 bytes) and ``uuid`` (16 bytes) follow from the content where they are not given.
    """

    size: int | None = None
    room: int = ROOM
    time: int = TIME
    boots: bool = True
    encryption: luks.Encryption | None = None
    signer: fssig.Signer | None = None
    salt: bytes | None = None
    uuid: bytes | None = None


_AS_NEEDED = Options()


class Disk(NamedTuple):
    """A disk that was made: its root hash, its size and what is free in it in bytes, and its files."""

    root_hash: bytes
    size: int
    free: int
    files: int


def write(nodes: Sequence[Node], target: Path, options: Options = _AS_NEEDED) -> Disk:
    """Write a disk, beside its place first; ``nodes`` are in the byte order of their paths.

    Raises UserError for what does not fit, what the kernel would refuse, and files that cannot be
    read or change meanwhile; an earlier target is then as it was.
    """
    _check(options)
    given = bootable(nodes) if options.boots else nodes
    total = sum(node.size for node in given)
    with progress.bar("writing the disk", 2 * total):
        files = files_of(given, made_directory(b"", 0o755))
        find_blocks(files)
        payload = luks.PAYLOAD_OFFSET if options.encryption else 0
        size = None if options.size is None else options.size - payload
        placement = place(files, size=size, room=options.room)
        shape = verity.Shape((payload + (size or placement.geometry.blocks * BLOCK)) // BLOCK)
        with writing(target) as file:
            writer = _Writer(file, placement, shape, options)
            writer.write_all()
            root_hash = writer.seal()
    return Disk(root_hash, shape.end + fssig.SIZE, placement.free * BLOCK, len(files))


def _check(options: Options) -> None:
    if not 0 <= options.time <= _MAX_TIME:
        raise UserError(
            f"the time {options.time}", "does not fit ext2's 31 bits", "give seconds since 1970 up to 2038"
        )
    if options.size is None:
        return
    if options.size % BLOCK:
        raise UserError(
            f"the size of {options.size:,} bytes",
            f"is no multiple of {BLOCK}, and Mystikos' kernel refuses such a disk",
            f"give {-(-options.size // BLOCK) * BLOCK}",
        )
    if options.encryption and options.size <= luks.PAYLOAD_OFFSET:
        raise UserError(
            f"the size of {options.size:,} bytes", "has room for the LUKS header only", "give a larger size"
        )


class _Writer:
    """Writes one disk into an open, empty file."""

    def __init__(self, file: BinaryIO, placement: Placement, shape: verity.Shape, options: Options) -> None:
        self._descriptor = file.fileno()
        self._placement = placement
        self._geometry = placement.geometry
        self._shape = shape
        self._options = options
        self._encryption = options.encryption
        self._payload = luks.PAYLOAD_OFFSET if options.encryption else 0
        self._listing = _listing_digest(placement.files)

    def write_all(self) -> None:
        """Write everything but the hash tree, with a UUID of zeros."""
        os.ftruncate(self._descriptor, self._shape.end + fssig.SIZE)
        if self._encryption:
            _write_at(self._descriptor, luks.header(self._encryption, self._listing), 0)
        for file in self._placement.files:
            self._write_content(file)
        for block, content in self._metadata():
            self._write_blocks(block, content)
        self._write_superblocks(bytes(16))

    def seal(self) -> bytes:
        """Write UUID, hash tree and FSSIG; return the root hash."""
        descriptor, shape, salt = self._descriptor, self._shape, self._salt
        hashtree.write_leaves(descriptor, shape, salt)
        derived = hashtree.leaves_digest(descriptor, shape)
        self._write_superblocks(self._options.uuid or uuid_from(derived, b"ext2"))
        hashtree.update_leaves(descriptor, shape, salt, self._superblock_places())
        root_hash = hashtree.finish(descriptor, shape, salt)
        superblock = verity.superblock(shape.data_blocks, salt, uuid_from(derived, b"verity"))
        _write_at(descriptor, superblock, shape.hash_offset)
        _write_at(descriptor, fssig.build(shape.hash_offset, root_hash, self._options.signer), shape.end)
        return root_hash

    @property
    def _salt(self) -> bytes:
        """The salt: from paths and types alone, so that a changed file changes no other file's hashes."""
        if self._options.salt is not None:
            return self._options.salt
        if self._encryption:
            return self._encryption.derive(f"verity salt {self._listing.hex()}", verity.SALT_SIZE)
        return hashlib.sha256(b"mystikos-tool disk: salt" + self._listing).digest()

    def _write_blocks(self, block: int, data: bytes) -> None:
        """Write blocks of the file system, the first of which is ``block``."""
        if self._encryption:
            data = luks.encrypt(self._encryption.key, data, block * BLOCK // luks.SECTOR)
        _write_at(self._descriptor, data, self._payload + block * BLOCK)

    def _write_content(self, file: File) -> None:
        if file.body:
            body = file.body.ljust(-(-len(file.body) // BLOCK) * BLOCK, b"\0")
            chunks: Iterable[bytes] = (body,)
        else:
            chunks = whole_chunks(file.node.chunks()) if file.runs else ()
        extents = self._placement.extents(file)
        extent = next(extents, None)
        first = 0
        for chunk in chunks:
            end = first + len(chunk) // BLOCK
            while extent and extent.logical < end:
                skip = first - extent.logical if extent.logical < first else 0
                start = max(extent.logical, first)
                stop = min(extent.logical + extent.length, end)
                piece = chunk[(start - first) * BLOCK : (stop - first) * BLOCK]
                self._write_blocks(extent.block + skip, piece)
                if stop < extent.logical + extent.length:
                    break
                extent = next(extents, None)
            first = end

    def _metadata(self) -> Iterator[tuple[int, bytes]]:
        """Yield the blocks of maps, inodes and bitmaps, each with the first one's number."""
        geometry = self._geometry
        tables: dict[int, bytearray] = {}
        for file in self._placement.files:
            numbers = self._placement.numbers(file.start, file.blocks)
            pointers, index = file.index.build(numbers[: file.index.size], numbers[file.index.size :])
            yield from zip(numbers, index, strict=False)
            group, slot = divmod(file.number - 1, geometry.inodes_per_group)
            table = tables.setdefault(group, bytearray(geometry.table_blocks * BLOCK))
            table[slot * ext2.INODE_SIZE : (slot + 1) * ext2.INODE_SIZE] = self._inode(file, pointers)
        free_table = bytes(geometry.table_blocks * BLOCK)
        for group, (blocks, inodes) in enumerate(self._bitmaps()):
            yield geometry.bitmaps(group), blocks + inodes + bytes(tables.get(group, free_table))

    def _inode(self, file: File, pointers: bytes) -> bytes:
        node = file.node
        if stat.S_ISLNK(node.mode) and not file.body:
            pointers = node.target
        user, group = node.owner
        time = self._options.time
        return ext2.INODE.pack(
            {
                "mode": node.mode,
                "uid": user & 0xFFFF,
                "uid_high": user >> 16,
                "gid": group & 0xFFFF,
                "gid_high": group >> 16,
                "size": file.size & 0xFFFFFFFF,
                "size_high": file.size >> 32,
                "access_time": time,
                "change_time": time,
                "modification_time": time,
                "links": file.links,
                "sectors": file.blocks * (BLOCK // ext2.SECTOR),
                "blocks": pointers,
            }
        )

    def _bitmaps(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each group's bitmaps, of blocks and of inodes."""
        geometry = self._geometry
        used: list[list[tuple[int, int]]] = [[(0, self._metadata_blocks(g))] for g in range(geometry.groups)]
        for block, count in self._placement.used():
            used[block // BLOCKS_PER_GROUP].append((block % BLOCKS_PER_GROUP, count))
        for group in range(geometry.groups):
            inodes = [(0, count)] if (count := self._used_inodes(group)) else []
            yield (
                ext2.bitmap(used[group], geometry.group_blocks(group)),
                ext2.bitmap(inodes, geometry.inodes_per_group),
            )

    def _metadata_blocks(self, group: int) -> int:
        return self._geometry.data_start(group) - group * BLOCKS_PER_GROUP

    def _used_inodes(self, group: int) -> int:
        """Return how many inodes of a group are used: the reserved ones and those of files come first."""
        each = self._geometry.inodes_per_group
        last = self._placement.files[-1].number if len(self._placement.files) > 1 else 0
        return min(max(max(last, ext2.FIRST_INODE - 1) - group * each, 0), each)

    def _descriptors(self) -> bytes:
        geometry, placement = self._geometry, self._placement
        free = [geometry.group_blocks(g) - self._metadata_blocks(g) for g in range(geometry.groups)]
        for block, count in placement.used():
            free[block // BLOCKS_PER_GROUP] -= count
        directories = [0] * geometry.groups
        for file in placement.files:
            directories[(file.number - 1) // geometry.inodes_per_group] += file.is_directory
        return b"".join(
            ext2.GROUP.pack(
                {
                    "block_bitmap": geometry.bitmaps(group),
                    "inode_bitmap": geometry.bitmaps(group) + 1,
                    "inode_table": geometry.bitmaps(group) + 2,
                    "free_blocks": free[group],
                    "free_inodes": geometry.inodes_per_group - self._used_inodes(group),
                    "directories": directories[group],
                }
            )
            for group in range(geometry.groups)
        )

    def _copies(self) -> Iterator[int]:
        """Yield the groups that have the superblock."""
        return filter(ext2.has_superblock, range(self._geometry.groups))

    def _superblock_places(self) -> list[int]:
        """Return the numbers of the superblocks' blocks in the disk."""
        return [self._payload // BLOCK + group * BLOCKS_PER_GROUP for group in self._copies()]

    def _write_superblocks(self, uuid: bytes) -> None:
        """Write the superblock and the group descriptors, in each group that has them."""
        descriptors = self._descriptors()
        descriptors = descriptors.ljust(self._geometry.descriptor_blocks * BLOCK, b"\0")
        for group in self._copies():
            packed = self._superblock(group, uuid)
            # The first superblock lies behind the place of a boot sector.
            before = bytes(ext2.SUPERBLOCK_OFFSET) if group == 0 else b""
            self._write_blocks(group * BLOCKS_PER_GROUP, (before + packed).ljust(BLOCK, b"\0") + descriptors)

    def _superblock(self, group: int, uuid: bytes) -> bytes:
        geometry, time = self._geometry, self._options.time
        free_inodes = sum(
            geometry.inodes_per_group - self._used_inodes(number) for number in range(geometry.groups)
        )
        return ext2.SUPERBLOCK.pack(
            {
                "inodes_count": geometry.inodes,
                "blocks_count": geometry.blocks,
                "free_blocks": self._placement.free,
                "free_inodes": free_inodes,
                "log_block_size": 2,
                "log_fragment_size": 2,
                "blocks_per_group": BLOCKS_PER_GROUP,
                "fragments_per_group": BLOCKS_PER_GROUP,
                "inodes_per_group": geometry.inodes_per_group,
                "write_time": time,
                "max_mount_count": _NO_MAXIMUM,
                "magic": ext2.MAGIC,
                "state": _CLEAN,
                "errors": _CONTINUE,
                "check_time": time,
                "revision": 1,
                "first_inode": ext2.FIRST_INODE,
                "inode_size": ext2.INODE_SIZE,
                "group_number": group,
                "incompat": ext2.INCOMPAT_FILETYPE,
                "ro_compat": ext2.RO_COMPAT_SPARSE_SUPER | ext2.RO_COMPAT_LARGE_FILE,
                "uuid": uuid,
                "hash_seed": uuid_from(uuid, b"directories") if any(uuid) else uuid,
                "hash_version": _HALF_MD4,
                "creation_time": time,
                "flags": _SIGNED_HASH,
            }
        )


def uuid_from(data: bytes, purpose: bytes) -> bytes:
    """Return a UUID of 16 bytes that follows from data, in the form of a random one (RFC 9562, version 4)."""
    digest = bytearray(hashlib.sha256(b"mystikos-tool disk: uuid " + purpose + data).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _listing_digest(files: Iterable[File]) -> bytes:
    """Return a digest of the paths and types of a file system, 32 bytes."""
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(b"%o %d " % (stat.S_IFMT(file.node.mode), len(file.node.path)) + file.node.path)
    return hashed.digest()


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
