"""Lay a tree out as a disk: ext2, encrypted or not, with its hash tree and FSSIG (docs/disks.md).

The same tree gives the same bytes everywhere: what tools usually take from the clock or from
chance follows from the content here.

    made = disk.write(nodes_of(scan(directory)), Path("app.disk"), Options(signer=key))
    made.root_hash        # for a package that is to trust this disk
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import fssig, luks, verity
from mystikos_tool.formats.ext2 import BLOCK
from mystikos_tool.io import progress
from mystikos_tool.io.atomic import rewriting, write_at, writing
from mystikos_tool.root.disk import hashtree
from mystikos_tool.root.disk.booting import bootable
from mystikos_tool.root.disk.earlier import Earlier
from mystikos_tool.root.disk.image import Blocks, Image, listing_digest, uuid_from
from mystikos_tool.root.disk.nodes import Node, made_directory
from mystikos_tool.root.disk.patching import Layout, PatchedImage, layout_of, patched, with_contents
from mystikos_tool.root.disk.placement import File, files_of, find_blocks, place
from mystikos_tool.root.disk.reader import opened

# Another number where other bytes come of the same tree than an earlier version made.
FORMAT = 2
ROOM = 8 << 20
# That of the files in an archive (docs/formats.md, section 1).
TIME = 0x56734BA4
_MAX_TIME = (1 << 31) - 1
_NO_UUID = bytes(16)
_PIECE = 32 * BLOCK  # that are compared at once


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


def encryption(key_file: Path, passphrase: bytes | None = None) -> luks.Encryption:
    """Return how a disk is encrypted with the master key in a file, which a passphrase may open.

    Raises UserError for a file that holds no such key, and for a passphrase of fewer than 14 bytes or
    that nobody can type when cryptsetup asks for it: one of more than 512 bytes or of several lines.
    """
    key = luks.load_key(key_file)
    if passphrase is not None:
        _check_passphrase(passphrase)
    return luks.Encryption(key, passphrase)


def _check_passphrase(passphrase: bytes) -> None:
    what = "the passphrase"
    if len(passphrase) < luks.MIN_PASSPHRASE:
        raise UserError(what, f"has fewer than {luks.MIN_PASSPHRASE} bytes", "give a longer one")
    if len(passphrase) > luks.MAX_PASSPHRASE:
        problem = f"has more than {luks.MAX_PASSPHRASE} bytes, which cryptsetup does not let type"
        raise UserError(what, problem, "give a shorter one")
    if b"\n" in passphrase or b"\0" in passphrase:
        raise UserError(what, "has several lines or a NUL in it", "give one line")


class Disk(NamedTuple):
    """A disk that was made: its root hash, its size and what is free in it in bytes, and its files."""

    root_hash: bytes
    size: int
    free: int
    files: int


class _Plan(NamedTuple):
    """A disk that is laid out, all but the content of its files."""

    image: Image
    shape: verity.Shape
    listing: bytes
    salt: bytes
    options: Options


def write(
    nodes: Sequence[Node],
    target: Path,
    options: Options = _AS_NEEDED,
    unchanged: Collection[bytes] = frozenset(),
) -> Disk:
    """Write a disk; see `lay_out`."""
    return lay_out(nodes, target, options, unchanged)[0]


def lay_out(
    nodes: Sequence[Node],
    target: Path,
    options: Options = _AS_NEEDED,
    unchanged: Collection[bytes] = frozenset(),
) -> tuple[Disk, Layout]:
    """Write a disk, beside its place first; ``nodes`` are in the byte order of their paths.

    Return with it what `rewrite` finds its files by.

    ``unchanged`` are the paths of files whose content is what ``target`` holds, which was written
    by this function and is as it was. Where the layout is the same as well, ``target`` is changed
    in place, out of sight, and only the blocks that differ are written and hashed.

    Raises UserError for what does not fit, what the kernel would refuse, and files that cannot be
    read or change meanwhile. An earlier target is then as it was, or gone if it was being changed.
    """
    _check(options)
    given = bootable(nodes) if options.boots else nodes
    files = files_of(given, made_directory(b"", 0o755))
    total = sum(node.size for node in given if node.path not in unchanged)
    with (
        progress.bar("writing the disk", 2 * total),
        _earlier(target, options, files if unchanged else ()) as earlier,
    ):
        find_blocks(
            files, lambda file: earlier.runs(file) if earlier and file.node.path in unchanged else None
        )
        plan = _plan(files, options)
        root_hash = None
        if earlier and earlier.has_layout(plan.image, plan.shape, plan.salt):
            with rewriting(target) as found:
                if found and earlier.is_file(found.fileno()):
                    root_hash = _write_differences(found.fileno(), plan, earlier, unchanged)
        if root_hash is None:
            with writing(target) as file:
                root_hash = _write_new(file.fileno(), plan)
    free = plan.image.placement.free * BLOCK
    made = Disk(root_hash, plan.shape.end + fssig.SIZE, free, len(files))
    return made, layout_of(nodes, files, plan.shape, plan.salt)


def rewrite(
    nodes: Sequence[tuple[int, Node]], target: Path, layout: Layout, options: Options = _AS_NEEDED
) -> Disk | None:
    """Write other contents of some files into a disk that `lay_out` made with these options and this layout.

    ``nodes`` are these files and their inode numbers. Nothing else may be another one: neither paths,
    types, modes and owners, nor links; and the disk is as it was written. Return None, with no byte
    of it changed, where it has to be laid out anew, and where it cannot be changed in place; raises
    UserError as `write` does.
    """
    if options.encryption:
        return None
    with progress.bar("writing the disk", 2 * sum(node.size for _, node in nodes)):
        try:
            files = with_contents(nodes)
        except UserError:  # whoever writes the disk anew meets the same
            return None
        with rewriting(target) as file:
            may_grow = options.size is None
            image = file and patched(file.fileno(), layout, files, options.time, may_grow=may_grow)
            if not (file and image):
                return None
            shape = verity.Shape(layout.data_blocks)
            output = _Hashed(file.fileno(), shape, layout.salt)
            output.write(image.blocks())
            root_hash = output.finish(image, options)
        return Disk(root_hash, shape.end + fssig.SIZE, image.free * BLOCK, image.files)


@contextmanager
def _earlier(target: Path, options: Options, files: Sequence[File]) -> Iterator[Earlier | None]:
    """Open what was written to ``target`` before; None where nothing of it can be kept."""
    with ExitStack() as closing:
        found = None
        # An encrypted disk is written anew.
        if files and not options.encryption:
            with suppress(UserError):
                found = Earlier(closing.enter_context(opened(target)), files)
        yield found


def _plan(files: Sequence[File], options: Options) -> _Plan:
    payload = luks.PAYLOAD_OFFSET if options.encryption else 0
    size = None if options.size is None else options.size - payload
    placement = place(files, size=size, room=options.room)
    blocks = size // BLOCK if size is not None else placement.geometry.blocks
    shape = verity.Shape(payload // BLOCK + blocks)
    listing = listing_digest(files)
    return _Plan(Image(placement, options.time), shape, listing, _salt(options, listing), options)


def _salt(options: Options, listing: bytes) -> bytes:
    """Return the salt: from paths and types alone, so that a changed file changes no other's hashes."""
    if options.salt is not None:
        return options.salt
    if options.encryption:
        return options.encryption.derive(f"verity salt {listing.hex()}", verity.SALT_SIZE)
    return hashlib.sha256(b"mystikos-tool disk: salt" + listing).digest()


def _check(options: Options) -> None:
    if not 0 <= options.time <= _MAX_TIME:
        remedy = "give seconds since 1970 up to 2038"
        raise UserError(f"the time {options.time}", "does not fit ext2's 31 bits", remedy)
    if options.size is None:
        return
    what = f"the size of {options.size:,} bytes"
    if options.size % BLOCK:
        problem = f"is no multiple of {BLOCK}, and Mystikos' kernel refuses such a disk"
        raise UserError(what, problem, f"give {-(-options.size // BLOCK) * BLOCK}")
    if options.encryption and options.size <= luks.PAYLOAD_OFFSET:
        raise UserError(what, "has room for the LUKS header only", "give a larger size")


class _Output:
    """An open disk, into which blocks of its file system are written."""

    def __init__(self, descriptor: int, encryption: luks.Encryption | None) -> None:
        self._descriptor = descriptor
        self._encryption = encryption
        self._payload = luks.PAYLOAD_OFFSET // BLOCK if encryption else 0

    def write(self, every: Iterable[Blocks]) -> None:
        """Write blocks of the file system, each to its place."""
        for number, data in self._on_disk(every):
            write_at(self._descriptor, data, number * BLOCK)

    def _on_disk(self, every: Iterable[Blocks]) -> Iterator[Blocks]:
        """Yield blocks by their numbers in the disk, as they are there."""
        for block, data in every:
            if self._encryption:
                first = block * BLOCK // luks.SECTOR
                yield self._payload + block, luks.encrypt(self._encryption.key, bytes(data), first)
            else:
                yield block, data


class _Hashed(_Output):
    """A disk with its hash tree, to which only what differs is written, and hashed."""

    def __init__(
        self, descriptor: int, shape: verity.Shape, salt: bytes, encryption: luks.Encryption | None = None
    ) -> None:
        super().__init__(descriptor, encryption)
        self._shape = shape
        self._salt = salt
        self._tree = hashtree.HashTree(descriptor, shape, salt)

    def write(self, every: Iterable[Blocks]) -> None:
        """Write those blocks of the file system that differ, each to its place."""
        for first, data in self._on_disk(every):
            for start in range(0, len(data), _PIECE):
                self._write_piece(first + start // BLOCK, data[start : start + _PIECE])

    def _write_piece(self, number: int, now: bytes | memoryview) -> None:
        """Write what differs of blocks that follow each other; all of them where the first one does.

        Of a file that was made anew mostly every block is another one, and it costs as much to find
        that out as to write them.
        """
        if self._read(number, BLOCK) != bytes(now[:BLOCK]):
            self._put(number, now)
        elif len(now) > BLOCK and (before := self._read(number, len(now))) != (data := bytes(now)):
            for at in range(BLOCK, len(now), BLOCK):
                if before[at : at + BLOCK] != data[at : at + BLOCK]:
                    self._put(number + at // BLOCK, data[at : at + BLOCK])

    def _read(self, number: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, number * BLOCK)

    def _put(self, number: int, blocks: bytes | memoryview) -> None:
        write_at(self._descriptor, blocks, number * BLOCK)
        self._tree.put(number, blocks)

    def finish(self, image: Image | PatchedImage, options: Options) -> bytes:
        """Write what follows from all the rest of the disk; return the root hash.

        That are the UUIDs, so far as they are not given, from the root hash with a UUID of zeros;
        the hash tree and the FSSIG.
        """
        for number, blocks in self._on_disk(image.superblocks(_NO_UUID)):
            self._tree.put(number, blocks)
        unnamed = self._tree.root_hash()
        for number, blocks in self._on_disk(image.superblocks(options.uuid or uuid_from(unnamed, b"ext2"))):
            self._put(number, blocks)
        root_hash = self._tree.root_hash()
        self._tree.write()
        shape = self._shape
        superblock = verity.superblock(shape.data_blocks, self._salt, uuid_from(unnamed, b"verity"))
        write_at(self._descriptor, superblock, shape.hash_offset)
        write_at(self._descriptor, fssig.build(shape.hash_offset, root_hash, options.signer), shape.end)
        return root_hash


def _write_new(descriptor: int, plan: _Plan) -> bytes:
    """Write a disk into an empty file; return the root hash."""
    image, shape, options = plan.image, plan.shape, plan.options
    output = _Output(descriptor, options.encryption)
    os.ftruncate(descriptor, shape.end + fssig.SIZE)
    if options.encryption:
        write_at(descriptor, luks.header(options.encryption, plan.listing), 0)
    for file in image.placement.files:
        output.write(image.content(file))
    output.write(image.metadata())
    output.write(image.superblocks(_NO_UUID))
    hashtree.write(descriptor, shape, plan.salt)
    return _Hashed(descriptor, shape, plan.salt, options.encryption).finish(image, options)


def _write_differences(descriptor: int, plan: _Plan, earlier: Earlier, unchanged: Collection[bytes]) -> bytes:
    """Bring an earlier disk of the same layout up to date; return the root hash."""
    image = plan.image
    output = _Hashed(descriptor, plan.shape, plan.salt)
    freed = earlier.freed(image)
    for file in image.placement.files:
        if file.body or file.node.path not in unchanged or not earlier.has_in_place(file, image):
            output.write(image.content(file))
    output.write(image.metadata())
    output.write(freed)
    return output.finish(image, plan.options)
