"""Where in an ext2 file system everything goes: inode numbers, blocks and block maps.

A place follows from the paths and from the sizes of what comes before, in the order of the paths.
A file keeps some blocks free behind it, so that one that grows a little moves nothing else: then
a disk of an earlier build needs no more than the blocks of the changed files. What is kept free is
free to the programs in the enclave too.
"""

from __future__ import annotations

import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2 import BLOCK, Geometry, IndexTree, Name, Run
from mystikos_tool.root.disk.nodes import Node

_TYPES = {stat.S_IFREG: ext2.TYPE_FILE, stat.S_IFDIR: ext2.TYPE_DIRECTORY, stat.S_IFLNK: ext2.TYPE_LINK}
_ZEROS = bytes(BLOCK)
_STEP = (1 << 20) // BLOCK  # computed sizes are multiples of 1 MiB
_INODE_PER = 16384 // BLOCK  # blocks of free space for each spare inode, as mke2fs counts
_SPARE_INODES = 64
MAX_TARGET = BLOCK - 1
_MAX_PATH = 4095
_NO_INDEX = IndexTree(())


@dataclass
class File:
    """An inode: ``node`` is its first link, ``body`` the content of what is no file.

    Its ``blocks``, first the indirect ones, are data blocks of the geometry from ``start``.
    """

    number: int
    node: Node
    links: int = 1
    body: bytes = b""
    runs: Sequence[Run] = ()
    start: int = 0
    index: IndexTree = _NO_INDEX
    blocks: int = 0

    @property
    def size(self) -> int:
        """Size in bytes as the inode states it."""
        return self.node.size or len(self.body) or len(self.node.target)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.node.mode)

    def take(self, runs: Sequence[Run]) -> None:
        """Set the runs of blocks that are no holes."""
        self.runs, self.index = runs, IndexTree(runs)
        self.blocks = self.index.size + sum(run.length for run in runs)


class Extent(NamedTuple):
    """A file's blocks in one piece: from which one of the file, where in the disk, and how many."""

    logical: int
    block: int
    length: int


@dataclass(frozen=True)
class Placement:
    """A file system laid out: its geometry and its files by inode number."""

    geometry: Geometry
    files: Sequence[File]

    def numbers(self, first: int, count: int) -> array[int]:
        """Return the block numbers of the data blocks from ``first``."""
        found: array[int] = array("I")
        for block, length in self.geometry.extents(first, count):
            found.extend(range(block, block + length))
        return found

    def extents(self, file: File) -> Iterator[Extent]:
        """Yield where a file's content goes, in order."""
        at = file.start + file.index.size
        for run in file.runs:
            logical = run.first
            for block, count in self.geometry.extents(at, run.length):
                yield Extent(logical, block, count)
                logical += count
            at += run.length

    @property
    def free(self) -> int:
        """Number of blocks that no file has."""
        return self.geometry.data_blocks - sum(file.blocks for file in self.files)

    def used(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of blocks that files have."""
        for file in self.files:
            yield from self.geometry.extents(file.start, file.blocks)


def files_of(nodes: Iterable[Node], root: Node) -> list[File]:
    """Number the nodes of a tree, which come in the order of their paths, and fill the directories.

    Raises UserError for names, targets and numbers of links that ext2 has no room for.
    """
    files = {b"": File(ext2.ROOT_INODE, root)}
    identities: dict[bytes, File] = {}
    children: dict[bytes, list[Name]] = {b"": []}
    for node in nodes:
        _check(node)
        parent, _, name = node.path.rpartition(b"/")
        number = ext2.FIRST_INODE + len(files) - 1
        file = File(number, node)
        if node.identity:
            file = identities.setdefault(node.identity, file)
        if file.number == number:
            files[node.path] = file
        else:
            file.links += 1
            _check_links(file)
        children[parent].append(Name(file.number, _TYPES[stat.S_IFMT(node.mode)], name))
        if stat.S_ISDIR(node.mode):
            children[node.path] = []
    for path, names in children.items():
        _fill_directory(files[path], files[path.rpartition(b"/")[0]], names)
    for file in files.values():
        if len(file.node.target) >= ext2.FAST_LINK:
            file.body = file.node.target
    return list(files.values())


def _fill_directory(file: File, parent: File, names: Sequence[Name]) -> None:
    kind = ext2.TYPE_DIRECTORY
    file.links = 2 + sum(name.type == kind for name in names)
    _check_links(file)
    file.body = ext2.directory([Name(file.number, kind, b"."), Name(parent.number, kind, b".."), *names])


def _check(node: Node) -> None:
    if len(node.path.rpartition(b"/")[2]) > ext2.MAX_NAME or len(node.path) > _MAX_PATH:
        problem = "has a name of more than 255 bytes or a path of more than 4,095"
        raise UserError(node.name, problem, "shorten the names")
    if len(node.target) > MAX_TARGET:
        raise UserError(node.name, f"leads to a path of more than {MAX_TARGET:,} bytes", "shorten the path")
    if max(node.owner) >= 1 << 32:
        raise UserError(node.name, "has an owner beyond 32 bits", "let root own the files")


def _check_links(file: File) -> None:
    if file.links > ext2.MAX_LINKS:
        problem = f"has more than {ext2.MAX_LINKS:,} links or directories in it"
        raise UserError(file.node.name, problem, "spread them over several")


def find_blocks(files: Iterable[File], known: Callable[[File], Sequence[Run] | None]) -> None:
    """Read every file to find the blocks of zeros, which become holes, but for those that are ``known``.

    Whether the source's file has holes does not count: a copy of it may have none.
    """
    for file in files:
        if file.body:
            file.take([Run(0, -(-len(file.body) // BLOCK))])
        elif file.node.size:
            if file.node.size > ext2.MAX_FILE_BLOCKS * BLOCK:
                raise UserError(file.node.name, "is too large for ext2", "split it")
            runs = known(file)
            file.take(joined_runs(_all_runs(file.node)) if runs is None else runs)


def _all_runs(node: Node) -> Iterator[Run]:
    first = 0
    for chunk in whole_chunks(node.chunks()):
        for run in _runs_in(chunk):
            yield Run(first + run.first, run.length)
        first += len(chunk) // BLOCK


def joined_runs(runs: Iterable[Run]) -> list[Run]:
    """Return runs, which come in order, with those joined that touch."""
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].first + joined[-1].length == run.first:
            joined[-1] = Run(joined[-1].first, joined[-1].length + run.length)
        else:
            joined.append(run)
    return joined


def whole_chunks(chunks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Yield content in whole blocks, the last filled up with zeros.

    A piece is as it is until the next one is asked for, or the end.
    """
    rest = b""
    for chunk in chunks:
        data = memoryview(b"".join((rest, chunk)) if rest else chunk)
        end = len(data) // BLOCK * BLOCK
        if end:
            yield data[:end]
        rest = bytes(data[end:])
    if rest:
        yield memoryview(rest.ljust(BLOCK, b"\0"))


def _runs_in(chunk: memoryview) -> Iterator[Run]:
    """Yield the runs of blocks that are not zero."""
    first = 0
    # A block of zeros begins with one, which few others do.
    starts = bytes(chunk[::BLOCK])
    at = starts.find(0)
    while at >= 0:
        if bytes(chunk[at * BLOCK : (at + 1) * BLOCK]) == _ZEROS:
            if at > first:
                yield Run(first, at - first)
            first = at + 1
        at = starts.find(0, at + 1)
    if len(starts) > first:
        yield Run(first, len(starts) - first)


def place(files: Sequence[File], *, size: int | None, room: int) -> Placement:
    """Give every file its blocks, in a file system of ``size`` bytes or one with ``room`` bytes free.

    Raises UserError where they do not fit.
    """
    if size is not None:
        return _place_within(files, size)
    needed = sum(kept(file.blocks) for file in files)
    free = -(-room // BLOCK)
    inodes = len(files) + ext2.FIRST_INODE + _SPARE_INODES + free // _INODE_PER
    try:
        geometry = ext2.smallest(needed + free, inodes, _STEP)
    except ValueError:
        raise UserError("the disk", "would be larger than ext2 can be", "divide its content") from None
    _put(files, keep=True)
    return Placement(geometry, files)


def _place_within(files: Sequence[File], size: int) -> Placement:
    used = len(files) + ext2.FIRST_INODE
    blocks = sum(file.blocks for file in files)
    # As many inodes as mke2fs would make, or as few as there are files.
    every = (_geometry(size, max(used, size // BLOCK // _INODE_PER)), _geometry(size, used))
    geometry = next((found for found in every if found and found.data_blocks >= blocks), None)
    if geometry is None and size // BLOCK > ext2.MAX_BLOCKS:
        problem, remedy = "is more than ext2 can have", f"give at most {ext2.MAX_BLOCKS * BLOCK:,}"
        raise UserError(f"the size of {size:,} bytes", problem, remedy)
    if geometry is None:
        least = ext2.smallest(blocks, used, 1).blocks * BLOCK
        problem = f"is too small: the content alone needs {least:,}, and programs that write need more"
        raise UserError(f"the size of {size:,} bytes", problem, "give a larger size or none")
    _put(files, keep=sum(kept(file.blocks) for file in files) <= geometry.data_blocks)
    return Placement(geometry, files)


def _geometry(size: int, inodes: int) -> Geometry | None:
    try:
        return ext2.geometry(size // BLOCK, inodes)
    except ValueError:
        return None


def _put(files: Sequence[File], *, keep: bool) -> None:
    """Give directories their blocks first, so that files, which change, do not move them."""
    start = 0
    for file in sorted(files, key=lambda file: not file.body):
        file.start = start
        start += kept(file.blocks) if keep else file.blocks


def kept(blocks: int) -> int:
    """Return how many blocks are kept for a file: up to an eighth more, in steps that grow with it."""
    step = max(2, 1 << max(blocks.bit_length() - 4, 0))
    return -(-blocks // step) * step
