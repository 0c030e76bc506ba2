"""dm-verity: the superblock, the shape of the hash tree and its hashes (docs/disks.md).

The source is the Linux kernel's documentation of dm-verity and the superblock of veritysetup;
Mystikos' kernel takes format 1, SHA-256, blocks of 4096 bytes and a salt of 32 bytes, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.record import Field, Record

BLOCK = 4096
DIGEST_SIZE = 32
SALT_SIZE = 32
PER_BLOCK = BLOCK // DIGEST_SIZE

_SIGNATURE = b"verity\0\0"
_ALGORITHM = b"sha256".ljust(32, b"\0")
_FIXED: dict[str, int | bytes] = {
    "signature": _SIGNATURE,
    "version": 1,
    "hash_type": 1,
    "algorithm": _ALGORITHM,
    "data_block_size": BLOCK,
    "hash_block_size": BLOCK,
    "salt_size": SALT_SIZE,
}

SUPERBLOCK = Record(
    512,
    (
        Field("signature", 0, "8s"),
        Field("version", 8, "I"),
        Field("hash_type", 12, "I"),
        Field("uuid", 16, "16s"),
        Field("algorithm", 32, "32s", filled=True),
        Field("data_block_size", 64, "I"),
        Field("hash_block_size", 68, "I"),
        Field("data_blocks", 72, "Q"),
        Field("salt_size", 80, "H"),
        Field("salt", 88, "256s", filled=True),
    ),
)


class Level(NamedTuple):
    """A level of the tree: where it begins in the disk, in bytes, and how many blocks it has."""

    offset: int
    blocks: int


@dataclass(frozen=True)
class Shape:
    """Where a disk of ``data_blocks`` blocks, at least one, has its superblock, hash tree and FSSIG."""

    data_blocks: int

    @property
    def hash_offset(self) -> int:
        """Offset of the superblock: the data's size in bytes."""
        return self.data_blocks * BLOCK

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels, leaf first; in the disk the top comes first, behind the superblock's block."""
        sizes = [-(-self.data_blocks // PER_BLOCK)]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // PER_BLOCK))
        levels, offset = [], self.hash_offset + BLOCK
        for size in reversed(sizes):
            levels.append(Level(offset, size))
            offset += size * BLOCK
        return tuple(reversed(levels))

    @property
    def end(self) -> int:
        """Offset behind the tree, where the FSSIG lies."""
        leaf = self.levels[0]
        return leaf.offset + leaf.blocks * BLOCK


def superblock(data_blocks: int, salt: bytes, uuid: bytes) -> bytes:
    """Return the block of 4096 bytes before the tree; ``salt`` has 32 bytes, ``uuid`` 16."""
    return SUPERBLOCK.pack({**_FIXED, "data_blocks": data_blocks, "salt": salt, "uuid": uuid}).ljust(
        BLOCK, b"\0"
    )


class Superblock(NamedTuple):
    """What differs between the superblocks that the kernel takes."""

    data_blocks: int
    salt: bytes
    uuid: bytes


def parse(block: bytes, where: str) -> Superblock:
    """Read a superblock; raise UserError for one that Mystikos' kernel refuses."""
    if len(block) < SUPERBLOCK.size:
        raise UserError(where, "the disk ends before its dm-verity superblock", "make the disk again")
    fields = SUPERBLOCK.unpack(block[: SUPERBLOCK.size])
    for name, value in _FIXED.items():
        if fields[name] != value:
            raise UserError(
                where,
                f"the dm-verity superblock has another {name.replace('_', ' ')} than the kernel takes",
                "make the disk again",
            )
    return Superblock(int(fields["data_blocks"]), bytes(fields["salt"])[:SALT_SIZE], bytes(fields["uuid"]))
