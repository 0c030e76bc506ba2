"""SCons nodes of the tool: an application directory as one node, and files with a remembered digest."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import SCons.Action
import SCons.CacheDir
import SCons.Errors
import SCons.Node
import SCons.Node.FS
import SCons.Node.Python
import SCons.SConsign

from mystikos_tool.cache.digests import Digests
from mystikos_tool.cache.store import Store
from mystikos_tool.errors import UserError
from mystikos_tool.root.source import DirectorySource, PlacedSource, Source, scan_file
from mystikos_tool.root.tree import Tree, overlay, select

_UNREADABLE = "unreadable"
_NOT_MADE = "not made"

# SCons' numbers for: compare get_csig() with the database; store nothing of its own.
_BY_SIGNATURE = 6
_STORE_NOTHING = 0
_ALIKE = 0.75  # from where on a file's name is taken for a slip in another's

_store: Store | None = None
_sources: dict[tuple[str, SourceOptions], RootSource] = {}


def store() -> Store:
    """Return what this build remembers for the next, kept beside SCons' signature database."""
    global _store
    if _store is None:
        fs = SCons.Node.FS.get_default_fs()
        _store = Store(Path(fs.Top.get_abspath()) / f"{SCons.SConsign.DB_Name or '.sconsign'}.mystikos")
        atexit.register(_save)
    return _store


def _save() -> None:
    if _store and SCons.Action.execute_actions:
        _store.save()


class SourceOptions(NamedTuple):
    """How a directory or file goes into a root: its place there, the name of a file, and what stays out."""

    place: str = ""
    name: str = ""
    exclude: tuple[str, ...] = ()
    preserve_modes: bool = False


class RootSourceInfo(SCons.Node.NodeInfoBase):  # type: ignore[misc]
    """What SCons' signature database keeps of a root's source."""

    __slots__ = ("csig",)
    current_version_id = 1
    field_list = ["csig"]  # noqa: RUF012 SCons wants a list

    def str_to_node(self, name: str) -> Any:
        """Return the node that the database calls ``name``."""
        known = [node for node in _sources.values() if str(node) == name]
        return known[0] if known else SCons.Node.Python.Value(name)


class RootSource(SCons.Node.Node):  # type: ignore[misc]
    """A directory or file of which a root file system is made; its signature is its tree's digest.

    Files that builders put into it are its children: they are built before it is read.
    """

    NodeInfo = RootSourceInfo
    BuildInfo = SCons.Node.Python.ValueBuildInfo

    def __init__(self, origin: Any, options: SourceOptions) -> None:
        super().__init__()
        self.implicit: list[Any] | None = None
        self.origin = origin
        self.options = options
        self.name = origin.name
        self.stray: list[str] = []
        self._scanned: Source | None = None
        self.roots = 0  # that take the tree
        self.changed_since_last_build = _BY_SIGNATURE
        self.store_info = _STORE_NOTHING

    def __str__(self) -> str:
        return str(self.origin)

    is_up_to_date = SCons.Node.Node.children_are_up_to_date

    def is_under(self, _: Any) -> bool:
        """Belong to every directory: what depends on it decides whether it is looked at."""
        return True

    def get_abspath(self) -> str:
        """Return the path of the directory or file."""
        return str(self.origin.get_abspath())

    def scan(self) -> None:
        """Find what is built, in any SConscript, into the directory."""
        if self.implicit is None:
            derived = sorted((node for layer in _layers(self.origin) for node in _derived(layer)), key=str)
            self.implicit = derived
            self.implicit_set = set(derived)
            self._children_reset()

    def take_tree(self) -> Tree:
        """Return the tree whose digest is the signature; raise UserError as the core's scan does."""
        source = self._scanned or self._source()
        tree = source.tree()
        self.roots -= 1
        self._scanned = tree if self.roots > 0 else None
        return tree

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
        return DirectorySource(
            Path(directory.get_abspath()),
            exclude=(*self.options.exclude, *_databases()),
            preserve_modes=self.options.preserve_modes,
            may_be_missing=may_be_missing,
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
            self._scanned = self._source()
            info.csig = Digests(store()).tree(self._scanned, f"{self.get_abspath()} {self.options}").hex()
        except UserError:
            return _UNREADABLE
        return str(info.csig)

    def get_text_contents(self) -> str:
        """Return what stands for the content in signatures."""
        return self.get_csig()

    def get_contents(self) -> bytes:
        """Return what stands for the content in signatures."""
        return self.get_csig().encode()


def root_source(origin: Any, options: SourceOptions) -> RootSource:
    """Return the one node of a directory or file with these options."""
    key = (origin.get_abspath(), options)
    if key not in _sources:
        _sources[key] = RootSource(origin, options)
    _sources[key].roots += 1
    return _sources[key]


def _databases() -> tuple[str, ...]:
    """Return the name of what SConsignFile(None) makes SCons keep in every directory that it builds in."""
    in_directories = SCons.SConsign.ForDirectory is SCons.SConsign.DirFile
    return (SCons.SConsign.current_sconsign_filename(),) if in_directories else ()


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


class DigestedFile(SCons.Node.FS.File):  # type: ignore[misc]
    """A file whose digest is remembered with its status, so that it is not read again to compare it.

    What ``attributes.myst_made_of`` names, if it is set, decides the content: then the digest is
    that of the names and of the nodes' signatures, and the file, however large, is never read.
    """

    __slots__ = ()

    def get_csig(self) -> str:
        """Return the digest in hexadecimal; of nothing where there is no file.

        A file that ``-n`` only told of is another one to what would be made of it.
        """
        if not SCons.Action.execute_actions and self.get_state() == SCons.Node.executed:
            return _NOT_MADE
        info = self.get_ninfo()
        try:
            return str(info.csig)
        except AttributeError:
            pass
        info.csig = self._made_of() or self.get_content_hash()
        return str(info.csig)

    def get_max_drift_csig(self) -> str:
        """Return nothing: what stat says decides whether a file is read again, however old it is."""
        return ""

    def make_ready(self) -> None:
        """Prepare to be looked at. What a build would need to know is found out when there is one."""
        self.has_src_builder()

    def changed(self, node: Any = None, allowcache: bool = False) -> bool:
        """Tell whether the file has to be made.

        SCons asks twice; from when all children are ready the answer stays the same.
        """
        ready = node is None and self.get_state() == SCons.Node.pending
        return bool(super().changed(node, allowcache or ready)) or self._is_damaged()

    def _is_damaged(self) -> bool:
        """Tell whether a stage's target has another size than when it was made, as after a power failure."""
        made = getattr(self.get_stored_info().ninfo, "size", None)
        is_target = hasattr(self.attributes, "myst_stage")
        return is_target and made is not None and self.exists() and bool(self.get_size() != made)

    def visited(self) -> None:
        """Store what is known of the file, unless the database says the same already.

        Where nothing changes, SCons then need not serialize its entries anew. It calls this again
        for what it has found to be up to date.
        """
        state = self.get_state()
        asked = state != SCons.Node.pending or SCons.CacheDir.cache_force
        if state != SCons.Node.up_to_date and (asked or not self._is_stored()):
            super().visited()

    def _is_stored(self) -> bool:
        known, stored = self.get_ninfo(), self.get_stored_info()
        known.timestamp, known.size = self.get_timestamp(), self.get_size()
        self.get_csig()
        return _version(known) == _version(stored.ninfo) and (
            not self.has_builder() or _children(self) == _stored_children(stored.binfo)
        )

    def _made_of(self) -> str | None:
        parts = getattr(self.attributes, "myst_made_of", ())
        words = [part if isinstance(part, str) else part.get_csig() for part in parts]
        return hashlib.sha256("\n".join(words).encode()).hexdigest() if words else None

    def get_content_hash(self) -> str:
        """Return the SHA-256 of the content in hexadecimal; of nothing where there is no file.

        A file that can't be read counts as changed, so that the action gets to say why.
        """
        try:
            return Digests(store()).file(Path(self.rfile().get_abspath())).hex()
        except FileNotFoundError:
            return str(super().get_content_hash())
        except OSError:
            return _UNREADABLE

    def srcnode(self) -> Any:
        """Return the file in the source directory, if this one lies in a variant directory."""
        folders = self.dir.srcdir_list()
        return digested(folders[0].File(self.name)) if folders else self

    def missing(self) -> bool:
        """Tell whether the file is neither there nor made.

        Raises StopError, with what to do about it, where a variable names the file.
        """
        if not super().missing():
            return False
        variable = getattr(self.attributes, "myst_variable", None)
        if variable:
            source = self.srcnode()
            remedy = _nearest(source) or f"create it, or correct {variable}"
            raise SCons.Errors.StopError(f"{source}: is named by {variable} and is not there; {remedy}")
        return True

    def get_cachedir_csig(self) -> str:
        """Return the digest that a file in the cache would have."""
        made_of = self._made_of()
        if made_of or self.exists():
            return made_of or self.get_csig()
        _, cached = self.get_build_env().get_CacheDir().cachepath(self)
        if cached and Path(cached).is_file():
            return hashlib.sha256(Path(cached).read_bytes()).hexdigest()
        return self.get_csig()


def _version(info: Any) -> tuple[Any, ...]:
    """Return what is stored of a file beside what it was made of."""
    return tuple(getattr(info, name, None) for name in ("csig", "timestamp", "size"))


def _children(node: Any) -> list[str]:
    lists = (node.sources, node.depends, node.implicit or ())
    return [str(child) for children in lists for child in children]


def _stored_children(info: Any) -> list[str]:
    """Return the names of what a file was made of, in the order of :func:`_children`."""
    lists = (getattr(info, name, ()) for name in ("bsources", "bdepends", "bimplicit"))
    return [str(child) for children in lists for child in children]


def _nearest(node: Any) -> str | None:
    """Point to a file whose name is nearly that of a missing one."""
    import difflib  # needed for this message only

    directory = Path(node.get_abspath()).parent
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    near = difflib.get_close_matches(node.name, names, 1, _ALIKE)
    return f"did you mean {Path(str(node)).with_name(near[0])}?" if near else None


def digested(node: Any) -> Any:
    """Make a file node remember its digest, by which it is compared whatever the environment's Decider.

    SCons' timestamps count seconds, in which a stage may run twice.
    """
    if type(node) is SCons.Node.FS.Entry:
        node.must_be_same(SCons.Node.FS.File)
    if type(node) is SCons.Node.FS.File:
        node.__class__ = DigestedFile
        node.changed_since_last_build = _BY_SIGNATURE
    return node


def named_by(variable: str, node: Any) -> Any:
    """Make a file node remember its digest, and which construction variable names it."""
    digested(node).attributes.myst_variable = variable
    return node
