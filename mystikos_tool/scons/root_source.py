"""Directories and files of which root file systems are made, each as one node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import SCons.Node.FS
import SCons.Script

from mystikos_tool.cache.digests import Digests, changed_paths
from mystikos_tool.errors import UserError
from mystikos_tool.root.source import DirectorySource, PlacedSource, Source, scan_file
from mystikos_tool.root.tree import Tree, overlay, select
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import store
from mystikos_tool.scons.input_node import InputNode

_sources: dict[tuple[Any, SourceOptions], RootSource] = {}
_handing_over = Lock()


class SourceOptions(NamedTuple):
    """How a directory or file goes into a root: its place there, the name of a file, and what stays out."""

    place: str = ""
    name: str = ""
    exclude: tuple[str, ...] = ()
    preserve_modes: bool = False


class RootSource(InputNode):
    """A directory or file of which a root file system is made, by the digest of its tree.

    Files that builders put into it are its children: they are built before it is read.
    """

    def __init__(self, origin: Any, options: SourceOptions) -> None:
        super().__init__(origin)
        self.options = options
        self.stray: list[str] = []
        self._scanned: Source | None = None
        self.roots = 0  # that take the tree

    def built_before(self) -> list[Any]:
        """Return what is built, in any SConscript, into the directory."""
        return sorted((node for layer in _layers(self.origin) for node in _derived(layer)), key=str)

    def take_tree(self) -> Tree:
        """Return the tree whose digest is the signature; raise UserError as the core's scan does.

        The tree is kept until the last root that is made of it has taken it, in any thread.
        """
        with _handing_over:
            source = self._scanned
            self.roots -= 1
            if self.roots <= 0:
                self._scanned = None
        return (source or self._source()).tree()

    def _source(self) -> Source:
        """Return what is at its place in the root."""
        source = self._directory() if isinstance(self.origin, SCons.Node.FS.Dir) else self._file()
        return PlacedSource(source, self.options.place) if self.options.place else source

    def _file(self) -> Tree:
        node = self.origin if self.origin.is_derived() else self.origin.srcnode()
        name = self.options.name or self.origin.name
        return scan_file(Path(node.get_abspath()), name, preserve_modes=self.options.preserve_modes)

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
            built = {os.fsencode(node.get_path(variant)) for node in _derived(variant)}
            tree = overlay(tree, found if b"." in built else select(found, built))
            there = {entry.path for entry in tree.entries}
            stray.update(os.fsdecode(entry.path) for entry in found.entries if entry.path not in there)
        self.stray = sorted(stray)
        return tree if tree.entries else self._scan(source, False)

    def _scan(self, directory: Any, may_be_missing: bool) -> DirectorySource:
        database = scons_internals.database_in_directories()
        return DirectorySource(
            Path(directory.get_abspath()),
            exclude=(*self.options.exclude, database) if database else self.options.exclude,
            preserve_modes=self.options.preserve_modes,
            may_be_missing=may_be_missing,
        )

    def signature(self) -> str | None:
        """Return the tree's digest in hexadecimal."""
        digests, name = Digests(store()), f"{self} {self.options}"
        try:
            source = self._source()
            before = digests.rows(name) if "explain" in SCons.Script.GetOption("debug") else None
            digest = digests.tree(source, name).hex()
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
    _sources[key].roots += 1
    return _sources[key]


def _layers(directory: Any) -> list[Any]:
    """Return a node and, where it lies in a variant directory, those that it is a variant of."""
    layers = [directory]
    while (source := layers[-1].srcnode()) not in layers:
        layers.append(source)
    return layers


def _derived(directory: Any) -> Iterator[Any]:
    """Yield the nodes that builders make in or below a directory, or the directory or file itself."""
    if directory.has_explicit_builder():
        yield directory
    if not isinstance(directory, SCons.Node.FS.Dir):
        return
    for name, node in list(directory.entries.items()):
        if name in (".", ".."):
            continue
        if isinstance(node, SCons.Node.FS.Dir):
            yield from _derived(node)
        elif node.is_derived():
            yield node
