"""SCons nodes of the tool: an application directory as one node, and files with a remembered digest."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import SCons.Action
import SCons.Node
import SCons.Node.FS
import SCons.Node.Python
import SCons.SConsign

from mystikos_tool import appdir
from mystikos_tool.digests import Digests
from mystikos_tool.errors import UserError

_UNREADABLE = "unreadable"

_digests: Digests | None = None
_appdirs: dict[tuple[str, bool], AppdirNode] = {}


def digests() -> Digests:
    """Return the digests that this build shares, kept beside SCons' signature database."""
    global _digests
    if _digests is None:
        fs = SCons.Node.FS.get_default_fs()
        _digests = Digests(Path(fs.Top.get_abspath()) / f"{SCons.SConsign.DB_Name or '.sconsign'}.mystikos")
        atexit.register(_save)
    return _digests


def _save() -> None:
    if _digests and SCons.Action.execute_actions:
        _digests.save()


class AppdirNodeInfo(SCons.Node.NodeInfoBase):  # type: ignore[misc]
    """What SCons' signature database keeps of an application directory."""

    __slots__ = ("csig",)
    current_version_id = 1
    field_list = ["csig"]  # noqa: RUF012 SCons wants a list

    def str_to_node(self, name: str) -> Any:
        """Return the node that the database calls ``name``."""
        known = [node for node in _appdirs.values() if str(node) == name]
        return known[0] if known else SCons.Node.Python.Value(name)


class AppdirNode(SCons.Node.Node):  # type: ignore[misc]
    """An application directory, whose signature is the digest of its tree.

    Files that builders put into it are its children: they are built before it is read.
    """

    NodeInfo = AppdirNodeInfo
    BuildInfo = SCons.Node.Python.ValueBuildInfo

    def __init__(self, directory: Any, preserve_modes: bool) -> None:
        super().__init__()
        self.implicit: list[Any] | None = None
        self.directory = directory
        self.preserve_modes = preserve_modes
        self.name = directory.name
        self.stray: list[str] = []
        # SCons' numbers for: compare get_csig() with the database; store nothing of its own.
        self.changed_since_last_build = 6
        self.store_info = 0

    def __str__(self) -> str:
        return str(self.directory)

    is_up_to_date = SCons.Node.Node.children_are_up_to_date

    def is_under(self, _: Any) -> bool:
        """Belong to every directory: what depends on it decides whether it is looked at."""
        return True

    def get_abspath(self) -> str:
        """Return the directory's path."""
        return str(self.directory.get_abspath())

    def scan(self) -> None:
        """Find the files that are built into the directory, in any SConscript."""
        if self.implicit is None:
            derived = sorted((node for layer in _layers(self.directory) for node in _derived(layer)), key=str)
            self.implicit = derived
            self.implicit_set = set(derived)
            self._children_reset()

    def tree(self) -> appdir.Tree:
        """Read the tree; raise UserError as :func:`appdir.scan` does.

        In a variant directory it has the files of the source directory and what builders make
        in the variant. What else lies there is a copy of a source that may be gone or was built
        once, and would not be there in a new checkout: it stays out, and is named in ``stray``.
        """
        *variants, source = _layers(self.directory)
        tree = self._scan(source, bool(variants))
        stray: set[str] = set()
        for variant in reversed(variants):
            found = self._scan(variant, True)
            built = {os.fsencode(node.get_path(variant)) for node in _derived(variant)}
            tree = appdir.overlay(tree, found if b"." in built else appdir.select(found, built))
            there = {entry.path for entry in tree.entries}
            stray.update(os.fsdecode(entry.path) for entry in found.entries if entry.path not in there)
        self.stray = sorted(stray)
        return tree if tree.entries else self._scan(source, False)

    def _scan(self, directory: Any, may_be_missing: bool) -> appdir.Tree:
        return appdir.scan(
            Path(directory.get_abspath()), preserve_modes=self.preserve_modes, may_be_missing=may_be_missing
        )

    def get_csig(self) -> str:
        """Return the tree's digest in hexadecimal.

        A tree that can't be read counts as changed, so that the action gets to say why.
        """
        info = self.get_ninfo()
        try:
            return str(info.csig)
        except AttributeError:
            pass
        try:
            name = f"{self.get_abspath()}:{self.preserve_modes}"
            info.csig = digests().tree(self.tree(), name).hex()
        except UserError:
            return _UNREADABLE
        return str(info.csig)

    def get_text_contents(self) -> str:
        """Return what stands for the content in signatures."""
        return self.get_csig()

    def get_contents(self) -> bytes:
        """Return what stands for the content in signatures."""
        return self.get_csig().encode()


def appdir_node(directory: Any, preserve_modes: bool) -> AppdirNode:
    """Return the one node of a directory's tree."""
    key = (directory.get_abspath(), preserve_modes)
    if key not in _appdirs:
        _appdirs[key] = AppdirNode(directory, preserve_modes)
    return _appdirs[key]


def _layers(directory: Any) -> list[Any]:
    """Return a directory and, where it lies in a variant directory, those that it is a variant of."""
    layers = [directory]
    while (source := layers[-1].srcnode()) not in layers:
        layers.append(source)
    return layers


def _derived(directory: Any) -> Iterator[Any]:
    """Yield the nodes that builders make in or below a directory, or the directory itself."""
    if directory.has_explicit_builder():
        yield directory
    for name, node in list(directory.entries.items()):
        if name in (".", ".."):
            continue
        if isinstance(node, SCons.Node.FS.Dir):
            yield from _derived(node)
        elif node.is_derived():
            yield node


class DigestedFile(SCons.Node.FS.File):  # type: ignore[misc]
    """A file whose digest is remembered with its status, so that it is not read again to compare it."""

    __slots__ = ()

    def get_csig(self) -> str:
        """Return the SHA-256 of the content in hexadecimal; of nothing where there is no file."""
        info = self.get_ninfo()
        try:
            return str(info.csig)
        except AttributeError:
            pass
        info.csig = self.get_content_hash()
        return str(info.csig)

    def get_content_hash(self) -> str:
        """Return the SHA-256 of the content in hexadecimal; of nothing where there is no file."""
        try:
            return digests().file(Path(self.rfile().get_abspath())).hex()
        except OSError:
            return str(super().get_content_hash())


def digested(node: Any) -> Any:
    """Make a file node remember its digest."""
    if type(node) is SCons.Node.FS.Entry:
        node.must_be_same(SCons.Node.FS.File)
    if type(node) is SCons.Node.FS.File:
        node.__class__ = DigestedFile
    return node
