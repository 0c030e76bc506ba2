"""Directories and files of which root file systems are made, each as one node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import SCons.Errors
import SCons.Node.FS
import SCons.Script

from mystikos_tool.cache.digests import Digests, changed_paths
from mystikos_tool.errors import UserError
from mystikos_tool.root import archive
from mystikos_tool.root.archive import ArchiveSource
from mystikos_tool.root.permissions import Permissions, PermittedSource
from mystikos_tool.root.source import DirectorySource, PlacedSource, Source, excluding, scan_file
from mystikos_tool.root.tree import Tree, overlay, select
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import patterns_in, store
from mystikos_tool.scons.input_node import InputNode, is_made_of
from mystikos_tool.scons.stages import awaited

_sources: dict[tuple[Any, SourceOptions], RootSource] = {}
_handing_over = Lock()


class SourceOptions(NamedTuple):
    """How a directory, file or layer goes into a root.

    ``place`` is the directory in the root, ``name`` that of a file; an archive that is a layer has
    its modes already. ``chmod`` are modes that were asked for by path in the root.
    """

    place: str = ""
    name: str = ""
    exclude: tuple[str, ...] = ()
    preserve_modes: bool = False
    layer: bool = False
    chmod: Permissions = ()


class RootSource(InputNode):
    """A directory or file of which a root file system is made, by the digest of its tree.

    Files that builders put into it are its children: they are built before it is read.
    """

    def __init__(self, origin: Any, options: SourceOptions) -> None:
        super().__init__(origin)
        self.options = options
        self.stray: list[str] = []
        self._scanned: Source | None = None
        self.taken_by: list[Any] = []  # roots, of which each takes the tree
        self._taken = 0

    def built_before(self) -> list[Any]:
        """Return what is built, in any SConscript, into the directory or before one of its roots.

        Raises StopError where something is built into the directory that is made of it.
        """
        nodes = self.made_by()
        for node in nodes:
            if is_made_of(node, self):
                raise SCons.Errors.StopError(
                    f"{node}: lies in {self.origin}, which it is made of;"
                    " give it another place, or exclude it with MYST_ROOTFS_EXCLUDE"
                )
        # One directory is looked at once in a build, whichever of its roots comes first.
        before = [node for root in self.taken_by for node in awaited(root) if not is_made_of(node, self)]
        return sorted({*nodes, *before}, key=str)

    def made_by(self) -> list[Any]:
        """Return what is built into the directory, or before anything in it, in any SConscript."""
        return [
            before
            for layer in _layers(self.origin)
            for node in self._known(layer)
            for before in _before(node)
        ]

    def _known(self, directory: Any) -> Iterator[Any]:
        """Yield the nodes that are known of a layer, but for those that are excluded."""
        return _known(directory, excluding(self.options.exclude), b"")

    def _built(self, directory: Any) -> list[Any]:
        """Return the nodes that builders make in a layer, or the layer itself."""
        return [node for node in self._known(directory) if _is_built(node)]

    def take_tree(self) -> Tree:
        """Return the tree whose digest is the signature; raise UserError as the core's scan does.

        The tree is kept until the last root that is made of it has taken it, in any thread.
        """
        with _handing_over:
            source = self._scanned
            self._taken += 1
            if self._taken >= len(self.taken_by):
                self._scanned = None
        return (source or self._source()).tree()

    def _source(self) -> Source:
        """Return what is at its place in the root."""
        source = self._layer() if self.options.layer else self._found()
        source = PlacedSource(source, self.options.place) if self.options.place else source
        return PermittedSource(source, self.options.chmod) if self.options.chmod else source

    def _found(self) -> Source:
        return self._directory() if isinstance(self.origin, SCons.Node.FS.Dir) else self._file()

    def _path(self) -> Path:
        """Return the path of the file."""
        node = self.origin if self.origin.is_derived() else self.origin.srcnode()
        return Path(node.get_abspath())

    def _layer(self) -> ArchiveSource:
        return ArchiveSource(self._path(), exclude=self.options.exclude)

    def _file(self) -> Tree:
        name = self.options.name or self.origin.name
        return scan_file(self._path(), name, preserve_modes=self.options.preserve_modes)

    def _directory(self) -> Source:
        """Return a directory's source.

        In a variant directory it has the files of the source directory and what builders make
        in the variant. What else lies there is a copy of a source that may be gone or was built
        once, and would not be there in a new checkout: it stays out, and is named in ``stray``.
        """
        *variants, source = _layers(self.origin)
        if not variants:
            return self._scan(source, False)
        tree = self._scan(source, True).tree()
        stray: set[str] = set()
        for variant in reversed(variants):
            found = self._scan(variant, True).tree()
            built = {os.fsencode(node.get_path(variant)) for node in self._built(variant)}
            tree = overlay(tree, found if b"." in built else select(found, built))
            there = {entry.path for entry in tree.entries}
            stray.update(os.fsdecode(entry.path) for entry in found.entries if entry.path not in there)
        self.stray = sorted(stray)
        return tree if tree.entries else self._scan(source, False)

    def _scan(self, directory: Any, may_be_missing: bool) -> DirectorySource:
        path = Path(directory.get_abspath())
        return DirectorySource(
            path,
            exclude=(*self.options.exclude, *patterns_in(path)),
            preserve_modes=self.options.preserve_modes,
            may_be_missing=may_be_missing,
        )

    def signature(self) -> str | None:
        """Return the tree's digest in hexadecimal."""
        if any(map(scons_internals.was_only_told_of, self.implicit or ())):
            return scons_internals.NOT_MADE
        digests, name = Digests(store()), f"{self} {self.options}"
        try:
            source = self._source()
            before = digests.rows(name) if "explain" in SCons.Script.GetOption("debug") else None
            digest = digests.tree(source, name, archive.check).hex()
        except UserError:
            return None
        if before:
            self.changed_paths = changed_paths(before, digests.rows(name))
        self._scanned = source
        return digest


def root_source(origin: Any, options: SourceOptions) -> RootSource:
    """Return the one node of a directory or file with these options."""
    key = (origin, options)
    if key not in _sources:
        _sources[key] = RootSource(origin, options)
    return _sources[key]


def _layers(directory: Any) -> list[Any]:
    """Return a node and, where it lies in a variant directory, those that it is a variant of."""
    layers = [directory]
    while (source := layers[-1].srcnode()) not in layers:
        layers.append(source)
    return layers


def _known(node: Any, excluded: Callable[[bytes], object] | None, path: bytes) -> Iterator[Any]:
    """Yield a node and, of a directory, every node below it; ``path`` is the node's in the root."""
    yield node
    if not isinstance(node, SCons.Node.FS.Dir):
        return
    prefix = path + b"/" if path else b""
    for name, child in list(node.entries.items()):
        below = prefix + os.fsencode(name)
        if name not in (".", "..") and not (excluded and excluded(below)):
            yield from _known(child, excluded, below)


def _is_built(node: Any) -> bool:
    """Tell whether a builder makes a file, or a directory with all that is in it."""
    # Every directory has a builder, which makes an empty one.
    return bool(node.has_explicit_builder() or node.side_effect)


def _before(node: Any) -> list[Any]:
    """Return what SCons has to make before a file or directory is as it will be."""
    is_directory = isinstance(node, SCons.Node.FS.Dir)
    if node.has_explicit_builder() or (node.side_effect and not is_directory):
        return [node]
    # A directory itself would wait for all that SCons knows in it.
    made_by = node.sources if node.side_effect else ()
    return [*made_by, *(node.depends or ()), *(node.prerequisites or ())]
