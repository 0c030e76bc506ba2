"""Layers laid over one another: what of each is in the root (OCI image specification, layer.md).

A whiteout hides what lower layers have, never what its own has. A path goes through symbolic links of
the layers before it as it would for a program whose root this is, so that none leaves the root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.cpio import MAX_MEMBERS
from mystikos_tool.formats.paths import follow
from mystikos_tool.root.oci.layer import HARD_LINK, Member

_PREFIX = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_CANNOT = "make the image without it"
_PATH = attrgetter("path")
_IMPLIED = stat.S_IFDIR | 0o755


class Found(NamedTuple):
    """What is at a path of the root; ``layer`` is the number of the layer that has it, from 0.

    A directory that no layer names, only what is in it, has the layer None.
    """

    path: bytes
    member: Member
    layer: int | None


class _Node:
    """A directory, a file or anything else; ``below`` is None for what is no directory.

    ``layer`` has the data, ``named_in`` the name: a hard link may lead to a lower layer. ``hidden_by`` is
    the last layer that hid what lower layers have below.
    """

    __slots__ = ("below", "hidden_by", "layer", "member", "named_in")

    def __init__(self, member: Member, layer: int | None, named_in: int | None) -> None:
        self.member = member
        self.layer = layer
        self.named_in = named_in
        self.below: dict[bytes, _Node] | None = {} if stat.S_ISDIR(member.mode) else None
        self.hidden_by: int | None = None


def merged(layers: Sequence[Sequence[Member]], names: Sequence[str]) -> list[Found]:
    """Return what is in the root, in the byte order of paths; ``names`` are the layers' in messages.

    Devices and FIFOs are among it. Raises UserError for a path that appears twice in a layer, lies
    below what is no directory, and for a hard link to what is not there.
    """
    root = _Node(Member(b"", _IMPLIED, 0, 0), None, None)
    for number, members in enumerate(layers):
        layer = _Layer(root, number, names[number])
        for member in members:
            if not layer.hides(member):
                layer.add(member)
    return sorted(_below(root), key=_PATH)


class _Layer:
    """One layer on its way over the ones before."""

    def __init__(self, root: _Node, number: int, name: str) -> None:
        self._root = root
        self._number = number
        self._name = name
        self._implied = 0
        # Where paths have led to. It stays so until something is taken away or replaced.
        self._known: dict[bytes, _Node] = {}

    def hides(self, member: Member) -> bool:
        """Take away what a whiteout hides; tell whether the member is one."""
        if _PREFIX not in member.path:
            return False
        above, _, name = member.path.rpartition(b"/")
        if b"/" + _META in b"/" + member.path and name != _OPAQUE:
            return True  # what AUFS keeps for itself
        if b"/" + _PREFIX in b"/" + above:
            raise self._refused(member, "lies below a whiteout")
        if not name.startswith(_PREFIX):
            return False
        hidden = name[len(_PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise self._refused(member, "is a whiteout of nothing")
        directory = self._directory(above, member, make=False)
        if directory is not None and directory.below is not None:
            if name == _OPAQUE:
                self._hide(self._not_hidden_below(directory))
            elif hidden in directory.below:
                self._hide([(directory.below, hidden)])
        return True

    def _hide(self, found: list[tuple[dict[bytes, _Node], bytes]]) -> None:
        """Take away what is there but for what this layer has named, and the directories above that."""
        for place, name in found:
            found += self._not_hidden_below(place[name])
        self._known.clear()
        for place, name in reversed(found):
            if place[name].named_in != self._number and not place[name].below:
                del place[name]

    def _not_hidden_below(self, node: _Node) -> list[tuple[dict[bytes, _Node], bytes]]:
        """Return the children of a node; none where this layer has hidden what is below it already.

        Nothing of a lower layer comes there afterwards. So each child is looked at once in a layer, however
        many whiteouts there are.
        """
        if node.below is None or node.hidden_by == self._number:
            return []
        node.hidden_by = self._number
        return [(node.below, child) for child in node.below]

    def add(self, member: Member) -> None:
        """Put a member at its place."""
        above, _, name = member.path.rpartition(b"/")
        directory = self._known.get(above) or self._made(above, member)
        assert directory.below is not None  # noqa: S101 it is a directory
        node = self._linked(member) if member.mode == HARD_LINK else _Node(member, self._number, self._number)
        there = directory.below.get(name)
        if there is not None:
            self._check_replaceable(there, node, member)
            if there.below is not None and node.below is not None:
                node.below, node.hidden_by = there.below, there.hidden_by
            self._known.clear()
        directory.below[name] = node

    def _made(self, path: bytes, member: Member) -> _Node:
        """Return the directory that a path leads to, made if it is missing."""
        directory = self._directory(path, member, make=True)
        assert directory is not None  # noqa: S101 what is in the way is refused
        self._known[path] = directory
        return directory

    def _check_replaceable(self, there: _Node, node: _Node, member: Member) -> None:
        """Refuse what this layer has twice; a directory may be named again."""
        if (there.below is None or node.below is None) and self._is_in(there):
            raise self._refused(member, "is twice in the layer")

    def _is_in(self, node: _Node) -> bool:
        """Tell whether this layer has named something or anything below it."""
        pending = [node]
        while pending:
            node = pending.pop()
            if node.named_in == self._number:
                return True
            pending += (node.below or {}).values()
        return False

    def _linked(self, member: Member) -> _Node:
        """Return what a hard link is: the file again."""
        above, _, name = member.target.rpartition(b"/")
        directory = self._directory(above, member, make=False)
        there = directory.below.get(name) if directory and directory.below else None
        shown = os.fsdecode(member.target)
        if there is None:
            raise self._refused(member, f"is a hard link to {shown}, which is not there")
        if there.below is not None:
            raise self._refused(member, f"is a hard link to {shown}, which is a directory")
        return _Node(there.member, there.layer, self._number)

    def _directory(self, path: bytes, member: Member, *, make: bool) -> _Node | None:
        """Return the directory that a path leads to, links followed; None where nothing is there.

        With ``make`` what is missing is made; what is in the way raises UserError.
        """

        def child(directory: _Node, name: bytes) -> _Node | None:
            if directory.below is None:
                return None
            if make and name not in directory.below:
                self._count_implied(member)
                directory.below[name] = _Node(Member(b"", _IMPLIED, 0, 0), None, self._number)
            return directory.below.get(name)

        found = follow(os.fsdecode(path), self._root, child, _link_target)
        if found is not None and found.below is not None:
            return found
        if make:
            raise self._refused(member, "lies below what is no directory")
        return None

    def _count_implied(self, member: Member) -> None:
        """Bound what long names make, each of them thousands of directories."""
        self._implied += 1
        if self._implied > MAX_MEMBERS:
            raise self._refused(member, f"is below one of more than {MAX_MEMBERS:,} unnamed directories")

    def _refused(self, member: Member, problem: str) -> UserError:
        path = member.path.decode(errors="backslashreplace")
        return UserError(f"{self._name}, {path}", problem, _CANNOT)


def _link_target(node: _Node) -> bytes | None:
    return node.member.target if stat.S_ISLNK(node.member.mode) else None


def _below(root: _Node) -> Iterator[Found]:
    pending = [(b"", root)]
    while pending:
        prefix, node = pending.pop()
        for name, child in (node.below or {}).items():
            path = prefix + name
            yield Found(path, child.member, child.layer)
            if child.below:
                pending.append((path + b"/", child))
