"""What is on a disk, and how two disks differ: identity, files, and blocks with the files they belong to."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mystikos_tool.errors import UserError
from mystikos_tool.explain.difference import Change
from mystikos_tool.formats import verity
from mystikos_tool.formats.ext2_reader import Filesystem, Member
from mystikos_tool.io.content import sha256
from mystikos_tool.printable import named_file, printable
from mystikos_tool.root.disk import reader
from mystikos_tool.root.disk.reader import DiskFile

# The schema of what to_json returns, here and of what `packaging.disk_verification` proves.
SCHEMA = Path(__file__).with_name("disk.schema.json")

FORMAT = 1

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}
_CHUNK = 1 << 20
_MAX_HOLES = 1 << 32  # bytes of all files whose digests are told, beyond the disk's own
MAX_TOLD = 200  # files and blocks that are told of one by one

ONLY_A, ONLY_B = "only in A", "only in B"


@dataclass(frozen=True)
class Identity:
    """What a disk says of itself: sizes in bytes, digests in hexadecimal, None for what is not there.

    ``signer`` is the SHA-256 of the modulus of who signed, ``uuid`` that of the file system.
    """

    size: int
    data_size: int
    root_hash: str
    signer: str | None
    salt: str
    encrypted: bool
    uuid: str | None
    block_size: int | None


@dataclass(frozen=True)
class File:
    """A file: mode in octal digits, owner as user:group, number of links, size in bytes, target of a link."""

    path: str
    type: str
    mode: str
    owner: str
    links: int
    size: int
    target: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class DiskReport:
    """What is on a disk; ``files`` is None for an encrypted one."""

    path: str
    identity: Identity
    files: tuple[File, ...] | None

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    def to_text(self) -> str:
        """Return lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        one = self.identity
        yield f"{self.path}: root hash {one.root_hash}"
        yield f"signer {one.signer or 'none'}"
        kind = "LUKS1, encrypted" if one.encrypted else f"ext2, blocks of {one.block_size}, UUID {one.uuid}"
        yield f"{one.size:,} bytes, {one.data_size:,} of them data: {kind}"
        if self.files is None:
            yield "\nfiles: the disk is encrypted"
            return
        yield f"\nfiles: {len(self.files):,}"
        for file in self.files:
            digest, name = file.sha256 or "-", named_file(file.path, file.type, file.target)
            yield f"  {file.mode} {file.owner:>9} {file.size:>13,}  {digest:64}  {name}"


def report(path: Path) -> DiskReport:
    """Read a disk; nothing of it is held against its hash tree. Raises UserError for what is none."""
    with reader.opened(path) as disk:
        filesystem = None if disk.is_encrypted else disk.filesystem()
        files = None
        if filesystem:
            digests = _Digests(filesystem)
            files = tuple(_file(filesystem, member, digests) for member in filesystem.members)
        return DiskReport(printable(str(path)), _identity(disk, filesystem), files)


def _identity(disk: DiskFile, filesystem: Filesystem | None) -> Identity:
    signed = disk.fssig
    return Identity(
        size=disk.shape.end + verity.BLOCK,
        data_size=signed.hash_offset,
        root_hash=signed.root_hash.hex(),
        signer=signed.signer.hex() if signed.signature else None,
        salt=disk.superblock.salt.hex(),
        encrypted=disk.is_encrypted,
        uuid=filesystem.uuid.hex() if filesystem else None,
        block_size=filesystem.block_size if filesystem else None,
    )


class _Digests:
    """The SHA-256 of files, of each inode once; None where holes are so large that it would take too long."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._known: dict[int, str | None] = {}
        self._left = filesystem.blocks * filesystem.block_size + _MAX_HOLES

    def of(self, member: Member) -> str | None:
        if member.inode not in self._known:
            self._known[member.inode] = self._of(member)
        return self._known[member.inode]

    def _of(self, member: Member) -> str | None:
        if member.size > self._left:
            return None
        self._left -= member.size
        return sha256(self._filesystem.content(member)).hex()


def _file(filesystem: Filesystem, member: Member, digests: _Digests | None = None) -> File:
    kind = stat.S_IFMT(member.mode)
    return File(
        printable(member.path),
        _TYPES[kind],
        f"{stat.S_IMODE(member.mode):04o}",
        f"{member.uid}:{member.gid}",
        member.links,
        0 if kind == stat.S_IFDIR else member.size,
        printable(filesystem.data(member)) if kind == stat.S_IFLNK else None,
        digests.of(member) if digests and kind == stat.S_IFREG else None,
    )


@dataclass(frozen=True)
class FileChange:
    """A file that is not the same in both: "only in A", "content", "mode" and the like."""

    path: str
    changes: tuple[str, ...]
    a: File | None
    b: File | None


@dataclass(frozen=True)
class BlockChange:
    """A block of 4096 bytes that differs: its offset, and what it belongs to in each, None if not known."""

    offset: int
    a: str | None
    b: str | None


@dataclass(frozen=True)
class DiskDifference:
    """What differs between two disks; ``same`` says that they are equal byte for byte.

    ``files`` has the first 200 of ``changed_files``, both None where one of the disks is encrypted;
    ``blocks`` has the first 200 of ``changed_blocks``, those of the data area that differ.
    """

    a: str
    b: str
    same: bool
    identity: tuple[Change, ...]
    changed_files: int | None
    files: tuple[FileChange, ...] | None
    changed_blocks: int
    blocks: tuple[BlockChange, ...]

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    def to_text(self) -> str:
        """Return lines for people, the answer first."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "the same disk" if self.same else "another disk"
        for name, path in (("A", self.a), ("B", self.b)):
            yield f"{name}: {path} (disk)"
        for change in self.identity:
            yield f"{change.name}: {_said(change.a)} in A, {_said(change.b)} in B"
        if self.files is None:
            yield "files: a disk is encrypted"
        elif self.files:
            yield f"\nfiles: {self.changed_files:,} different"
            yield from map(_file_line, self.files)
        if self.blocks:
            yield f"\nblocks: {self.changed_blocks:,} different"
            yield from map(_block_line, self.blocks)


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _file_line(change: FileChange) -> str:
    mark = {ONLY_A: "-", ONLY_B: "+"}.get(change.changes[0], "*")
    return f"  {mark} {change.path}: {', '.join(_what(name, change) for name in change.changes)}"


def _what(name: str, change: FileChange) -> str:
    if change.a is None or change.b is None or name == "content":
        return name
    return f"{name} {getattr(change.a, name)} in A, {getattr(change.b, name)} in B"


def _block_line(change: BlockChange) -> str:
    owners = dict.fromkeys(owner for owner in (change.a, change.b) if owner)
    return f"  {change.offset:#x}: {' in A, '.join(owners) + (' in B' if len(owners) > 1 else '')}".rstrip(
        ": "
    )


def compare(a: Path, b: Path) -> DiskDifference:
    """Compare two disks; nothing is proved of either. Raises UserError for what is no disk."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(reader.opened(path)) for path in (a, b))
        blocks = _different_blocks(one, other)
        readable = not (one.is_encrypted or other.is_encrypted)
        sides = [disk.filesystem() if readable else None for disk in (one, other)]
        changed = list(_different_files(sides[0], sides[1], set(blocks))) if sides[0] and sides[1] else None
        told = blocks[:MAX_TOLD]
        owners = [disk.owners(told) for disk in (one, other)]
        identity = tuple(_different_identity(_identity(one, sides[0]), _identity(other, sides[1])))
        return DiskDifference(
            printable(str(a)),
            printable(str(b)),
            same=not blocks and _same_tail(one, other),
            identity=identity,
            changed_files=None if changed is None else len(changed),
            files=None if changed is None else tuple(changed[:MAX_TOLD]),
            changed_blocks=len(blocks),
            blocks=tuple(
                BlockChange(number * verity.BLOCK, *(_shown(side.get(number)) for side in owners))
                for number in told
            ),
        )


def _shown(owner: str | None) -> str | None:
    return None if owner is None else printable(owner)


def _different_identity(a: Identity, b: Identity) -> Iterator[Change]:
    one, other = asdict(a), asdict(b)
    yield from (
        Change(name.replace("_", " "), one[name], other[name]) for name in one if one[name] != other[name]
    )


def _different_blocks(a: DiskFile, b: DiskFile) -> list[int]:
    """Return the numbers of the data blocks that differ or that one has alone."""
    found: list[int] = []
    shared = min(a.fssig.hash_offset, b.fssig.hash_offset)
    for start in range(0, shared, _CHUNK):
        size = min(_CHUNK, shared - start)
        if min(a.hole_end(start), b.hole_end(start)) >= start + size:
            continue
        one, other = a.read(start, size), b.read(start, size)
        if one != other:
            found += [
                (start + at) // verity.BLOCK
                for at in range(0, size, verity.BLOCK)
                if one[at : at + verity.BLOCK] != other[at : at + verity.BLOCK]
            ]
    longer = max(a.shape.data_blocks, b.shape.data_blocks)
    return [*found, *range(shared // verity.BLOCK, longer)]


def _same_tail(a: DiskFile, b: DiskFile) -> bool:
    """Tell whether two disks with the same data have the same bytes behind them."""
    start, end = a.fssig.hash_offset, a.shape.end + verity.BLOCK
    return a.shape == b.shape and all(
        a.read(at, min(_CHUNK, end - at)) == b.read(at, min(_CHUNK, end - at))
        for at in range(start, end, _CHUNK)
    )


def _different_files(a: Filesystem, b: Filesystem, blocks: Collection[int]) -> Iterator[FileChange]:
    in_a, in_b = ({member.path: member for member in side.members} for side in (a, b))
    for path in sorted(in_a.keys() | in_b.keys()):
        one, other = in_a.get(path), in_b.get(path)
        shown_a, shown_b = one and _file(a, one), other and _file(b, other)
        if one is None or other is None or shown_a is None or shown_b is None:
            yield FileChange(printable(path), (ONLY_A if one else ONLY_B,), shown_a, shown_b)
            continue
        names = ("type", "mode", "owner", "links", "size", "target")
        changes = [name for name in names if getattr(shown_a, name) != getattr(shown_b, name)]
        if shown_a.type == shown_b.type == "file" and not _same_content(a, one, b, other, blocks):
            changes.append("content")
        if changes:
            yield FileChange(printable(path), tuple(changes), shown_a, shown_b)


def _same_content(a: Filesystem, one: Member, b: Filesystem, other: Member, blocks: Collection[int]) -> bool:
    """Tell whether two files have the same content; what lies in equal blocks is not read."""
    if one.size != other.size:
        return False
    if a.block_size == b.block_size == verity.BLOCK:
        places = list(a.map_of(one))
        if places == list(b.map_of(other)) and not any(block in blocks for _, block in places):
            return True
    return _holds(a, one, b, other) and _holds(b, other, a, one)


def _holds(a: Filesystem, one: Member, b: Filesystem, other: Member) -> bool:
    """Tell whether the second file has what the first one has outside of its holes."""
    size = a.block_size
    return all(a.read(one, at * size, size) == b.read(other, at * size, size) for at, _ in a.map_of(one))


def check_comparable(a: Path, b: Path) -> None:
    """Raise UserError where one of two is a disk and the other is none."""
    for one, other in ((a, b), (b, a)):
        if reader.is_disk(one) and not reader.is_disk(other):
            problem = f"is a disk, and {os.fspath(other)} is none"
            raise UserError(str(one), problem, "compare disks with disks")
