"""Directories and files of which root file systems are made, each as one node."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Errors
import SCons.Node.FS
import SCons.Script

from mystikos_tool.cache.digests import Digests, changed_paths
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.root.archive import ArchiveSource
from mystikos_tool.root.disk.nodes import described as on_disk
from mystikos_tool.root.permissions import Permissions, PermittedSource
from mystikos_tool.root.source import DirectorySource, PlacedSource, Source, excluding, scan_file
from mystikos_tool.root.tree import Tree, join, select
from mystikos_tool.scons import blame, scons_internals, shapes
from mystikos_tool.scons.database import patterns_in, store
from mystikos_tool.scons.in_the_way import remove_before
from mystikos_tool.scons.input_file import known_files
from mystikos_tool.scons.input_node import InputNode, is_made_of, made_of, parts_of, paths_of
from mystikos_tool.scons.made_directory import is_made
from mystikos_tool.scons.stages import awaited, call_of, stage_of
from mystikos_tool.scons.stale import (
    REMEDY,
    follow,
    forget_earlier_build,
    is_directory,
    is_left_behind,
    left_behind,
    made_above,
    made_before,
    made_before_above,
    make_again_where_stale,
    making,
    remember_made,
)

if TYPE_CHECKING:
    from mystikos_tool.root.oci.process import Start

_sources: dict[tuple[Any, SourceOptions], RootSource] = {}
_handing_over = Lock()


class SourceOptions(NamedTuple):
    """How a directory, file or layer goes into a root.

    ``place`` is the directory in the root, ``name`` that of a file there; what turns out to be a
    directory is what lies at both. An archive that is a layer has its modes already. ``chmod`` are
    modes that were asked for by path in the root. On a ``disk`` links to one file stay so, and with
    ``owners`` files belong to whom they belong.
    """

    place: str = ""
    name: str = ""
    exclude: tuple[str, ...] = ()
    preserve_modes: bool = False
    layer: bool = False
    chmod: Permissions = ()
    disk: bool = False
    owners: bool = False


class RootSource(InputNode):
    """A directory or file of which a root file system is made, by the digest of its tree.

    Files that builders put into it are its children: they are built before it is read.
    """

    def __init__(self, origin: Any, options: SourceOptions) -> None:
        super().__init__(origin)
        self.options = options
        _layers(origin)  # SCons would take for a file what it does not find, as it may lie in a repository
        self._all_layers: list[Any] = []
        self.stray: list[str] = []
        self._made: list[Any] = []  # what builders make in it, or above it
        self._scanned: Source | None = None
        self._scanned_with: set[tuple[str, ...]] = set()
        self.taken_by: list[Any] = []  # roots, of which each takes the tree
        self._taken = 0

    def built_before(self) -> list[Any]:
        """Return what is built, in any SConscript, into the directory or before one of its roots.

        Raises StopError where something is built into the directory that is made of it.
        """
        if type(self.origin) is SCons.Node.FS.Entry:
            self.origin.disambiguate()  # no builder comes any more
        nodes = self.made_by()
        for layer in self._layers():
            nodes += made_before_above(layer)
        self._made = follow(nodes)
        for node in nodes:
            if is_made_of(node, self):
                problem = f"{node}: is what it is made of, too; name the target otherwise"
                if node is not self.origin:
                    problem = (
                        f"{node}: lies in {self.origin}, which it is made of;"
                        " give it another place, or exclude it with MYST_ROOTFS_EXCLUDE"
                    )
                raise SCons.Errors.StopError(blame.named(problem, call_of(self.taken_by[0])))
        # One directory is looked at once in a build, whichever of its roots comes first.
        before = [node for root in self.taken_by for node in awaited(root) if not is_made_of(node, self)]
        return sorted({*nodes, *before}, key=str)

    def made_by(self) -> list[Any]:
        """Return what is built into the directory, around it or before anything in it, in any SConscript."""
        layers = self._layers()
        made = [node for layer in layers for node in made_above(layer)]
        for layer in layers:
            for node in self._known(layer):
                made += made_before(node)
        return made

    def _layers(self) -> list[Any]:
        """Return the node, those that it is a variant of, and what a link in its path leads to."""
        if not self._all_layers or scons_internals.reads_sconscripts():
            self._all_layers = [*_layers(self.origin), *_led_to(self.origin)]
        return self._all_layers

    def _known(self, directory: Any) -> Iterator[Any]:
        """Yield the nodes that are known of a layer, but for those that are excluded."""
        return _known(directory, excluding(self.options.exclude), b"")

    def _built(self, directory: Any) -> list[Any]:
        """Return the nodes that builders make in a layer, or the layer itself."""
        return [node for node in self._known(directory) if is_made(node)]

    def take_tree(self) -> Tree:
        """Return the tree whose digest is the signature; raise UserError as the core's scan does.

        The tree is kept until the last root that is made of it has taken it, in any thread.
        """
        with _handing_over:
            source = self._scanned
            self._taken += 1
            if self._taken >= len(self.taken_by):
                self._scanned = None
        try:
            return (source or self._source()).tree()
        except UserError as error:
            raise self._explained(error) from error

    def look_again(self) -> None:
        """Look at the source as it is now, after an action that was added to a root that is made of it.

        Where there are several, another one may be made of what was there before. It is for the next
        build to find that out.
        """
        self._scanned = None
        if len(self.taken_by) == 1:
            with suppress(AttributeError):
                del self.get_ninfo().csig
            self.get_csig()

    def stray_paths(self) -> Iterator[str]:
        """Yield what lies in the source and was left out, as nobody makes it any more."""
        return (f"{self}/{path}" for path in self.stray)

    def start(self) -> Start | None:
        """Return what the source says of the program to start, None where it says nothing."""
        return None

    def machine_changes(self) -> list[str]:
        """Return the files of this machine, not of the project, that changed since it was last looked at."""
        return []

    def _explained(self, error: UserError) -> UserError:
        """Return an error with a remedy for where the source goes."""
        path = Path(self.origin.get_abspath())
        mapped = f"{self.options.place}/{self.options.name}".strip("/")
        is_known = lookup.exists(path) or lookup.is_symlink(path) or lookup.why_hidden(path)
        if mapped and error.where == str(path) and not is_known:
            remedy = f'create it, or correct what "{mapped}" is mapped to'
            return UserError(error.where, error.problem, remedy)
        if self.stray and error.where == str(path) and lookup.is_dir(path):
            more = f" and {len(self.stray) - 1:,} more" if len(self.stray) > 1 else ""
            problem = f"has nothing but {self.stray[0]}{more}, left by a builder that is gone"
            return UserError(error.where, problem, REMEDY)
        source = self.origin.srcnode()
        if (
            source is not self.origin
            and error.where == source.get_abspath()
            and not lookup.exists(self._path())
        ):
            # SCons removes the copy as soon as it is asked for; Glob has found it before.
            problem = f"is not there, and a copy of it that was left at {self.origin} is removed"
            return UserError(
                error.where, problem, "build again if Glob has found the copy, or correct the name"
            )
        return error

    def unplaced_file(self) -> str | None:
        """Return the name of a file that no mapping places, so that it lies at the top of the root."""
        options = self.options
        is_file = isinstance(self.origin, SCons.Node.FS.File) and not options.layer
        return str(self) if is_file and not (options.place or options.name) else None

    def file_in_root(self) -> list[str]:
        """Return where the one file lies that the source is; nothing for a directory or a layer."""
        if self.options.layer or isinstance(self.origin, SCons.Node.FS.Dir):
            return []
        return ["/".join(["", *filter(None, [self.options.place, self.options.name or self.origin.name])])]

    def source(self) -> Source:
        """Return what is at its place in the root, as it is now."""
        return self._source()

    def has_excluded(self, pattern: str) -> bool:
        """Tell whether a pattern kept something out of the source."""
        every = (excluding(patterns) for patterns in {self.options.exclude, *self._scanned_with})
        return not all(one is None or pattern in one.unused for one in every)

    def _source(self) -> Source:
        """Return what is at its place in the root."""
        source = self._layer() if self.options.layer else self._found()
        place = self._place()
        source = PlacedSource(source, place) if place else source
        return PermittedSource(source, self.options.chmod) if self.options.chmod else source

    def _place(self) -> str:
        """Return the directory in the root that the source goes into, or that it is."""
        place, name = self.options.place, self.options.name
        is_directory = name and lookup.is_dir(self._path())
        return f"{place}/{name}".strip("/") if is_directory else place

    def _found(self) -> Source:
        if isinstance(self.origin, SCons.Node.FS.Dir):
            return self._directory()
        if lookup.is_dir(self._path()):
            # A builder has made a directory where just a name was given; nothing else is known in it.
            return self._plain_directory(self._path(), self.options.exclude, may_be_missing=False)
        return self._file()

    def _path(self) -> Path:
        """Return the path of the file."""
        node = self.origin if self.origin.is_derived() else self.origin.srcnode()
        is_directory = isinstance(node, SCons.Node.FS.Dir)
        return Path((node if is_directory else node.rfile()).get_abspath())

    def _layer(self) -> ArchiveSource:
        self._refuse_left_behind()
        return ArchiveSource(self._path(), exclude=self.options.exclude)

    def _file(self) -> Tree:
        self._refuse_left_behind()
        name = self.options.name or self.origin.name
        return scan_file(self._path(), name, preserve_modes=self.options.preserve_modes)

    def _refuse_left_behind(self) -> None:
        """Raise UserError for a file that no builder makes any more: a new checkout has none to pack."""
        file = self.read_node() if self.origin.is_derived() else self.origin.srcnode()
        if isinstance(file, SCons.Node.FS.File) and is_left_behind(file):
            remedy = "describe it, remove it, or touch it if it became a source"
            raise UserError(str(self), "was made by a builder that is gone", remedy)

    def _directory(self) -> Source:
        """Return a directory's source.

        A repository has the files that the directory itself has not. In a variant directory it has
        the files of the source directory and what builders make in the variant. What else lies there
        is a copy of a source that may be gone or was built once, as is everywhere what a builder made
        that is gone; it would not be there in a new checkout, stays out, and is named in ``stray``.
        """
        *variants, source = _layers(self.origin)
        self.stray = []
        *repositories, local = _places(source)
        scanned = self._scan(local, source, may_be_missing=bool(variants or repositories))
        if not (variants or repositories):
            return scanned
        below = [self._scan(place, source).tree() for place in repositories]
        tree = join([*below, scanned.tree()], later_wins=True)
        for variant, place in ((one, place) for one in reversed(variants) for place in _places(one)):
            found = self._scan(place, variant).tree()
            built = {os.fsencode(node.get_path(variant)) for node in self._built(variant)}
            tree = join((tree, found if b"." in built else select(found, built)), later_wins=True)
            self.stray += [os.fsdecode(entry.path) for entry in found.entries]
        # What is left at the place of a source is only hidden by that.
        self.stray = sorted({*self.stray} - {os.fsdecode(entry.path) for entry in tree.entries})
        if not tree.entries and self.stray and not lookup.is_dir(Path(source.get_abspath())):
            problem = f"has nothing that a builder is known to make, and there is no {source}"
            remedy = f'say what makes it, as with SideEffect(Dir("{self.origin.name}"), made)'
            raise UserError(str(self), problem, remedy)
        return tree if tree.entries else self._scan(source, source, may_be_missing=False)

    def _scan(self, place: Any, described: Any, *, may_be_missing: bool = True) -> DirectorySource:
        """Return what is in a directory but for what builders have left there that are gone.

        ``described`` is the node whose builders count; see :func:`left_behind`.
        """
        path, led_to = str(place.get_abspath()), _led_to(place)
        places = [(place, described, *led_to), *((one, described, one) for one in led_to)]
        left = [left_behind(*each) for each in places]
        told = sorted({path for each in left for path in each.told})
        self.stray += [path for path in told if not _is_excluded(path, self.options.exclude)]
        gone = sorted({path for each in left for path in each.paths})
        exclude = (*self.options.exclude, *patterns_in(path), *self._caches_in(path), *map(_pattern, gone))
        return self._plain_directory(path, exclude, may_be_missing=may_be_missing)

    def _caches_in(self, directory: str) -> tuple[str, ...]:
        """Return patterns of SCons' own caches that lie below a directory."""
        above = directory.rstrip("/") + "/"
        caches = {cache for root in self.taken_by if (cache := scons_internals.cache_of(root))}
        return tuple(_pattern(one.removeprefix(above)) for one in caches if one.startswith(above))

    def _plain_directory(
        self, path: str | Path, exclude: tuple[str, ...], *, may_be_missing: bool
    ) -> DirectorySource:
        self._scanned_with.add(exclude)
        return DirectorySource(
            path,
            exclude=exclude,
            preserve_modes=self.options.preserve_modes,
            may_be_missing=may_be_missing,
        )

    def signature(self) -> str | None:
        """Return the tree's digest in hexadecimal."""
        if any(map(_was_only_told_of, self.implicit or ())):
            return scons_internals.NOT_MADE
        for node in self._made:
            remember_made(node)
        digests, name = Digests(store()), self._name()
        try:
            source = self._source()
            before = digests.rows(name) if self._tells_changes() else None
            digest = self._digest(digests, source, name).hex()
        except UserError:
            return None
        if before:
            self.changed_paths = changed_paths(before, digests.rows(name))
        self._scanned = source
        return digest

    def _digest(self, digests: Digests, source: Source, name: str) -> bytes:
        if not self.options.disk:
            return digests.tree(source, name, check=attrgetter("members"))

        def described(tree: Tree) -> bytes:
            return tree.described() + on_disk(tree, owners=self.options.owners)

        return digests.tree(source, name, described=described)

    def _name(self) -> str:
        """Return what tells the source from others in the store."""
        return f"{self} {_shown(self.options)}"

    def _tells_changes(self) -> bool:
        return _explains()


@lru_cache(None)
def _shown(options: SourceOptions) -> str:
    return str(options)


@lru_cache(None)
def _explains() -> bool:
    return "explain" in SCons.Script.GetOption("debug")


def root_source(origin: Any, options: SourceOptions) -> RootSource:
    """Return the one node of a directory or file with these options."""
    key = (origin, options)
    if key not in _sources:
        _sources[key] = RootSource(origin, options)
    return _sources[key]


@lru_cache(None)
def follow_directories() -> None:
    """Let SCons make files again that stages are made of, when a directory they are made of was edited in.

    SCons itself knows of such a source only what builders make in it, and of files no modes. What makes
    directories is watched from then on. All SConscripts are to be read first.
    """
    scons_internals.before_each_build(_follow_directories)


def _follow_directories() -> None:
    forget_earlier_build()
    made = (
        made_of([*source.made_by(), *_waited_for(source)]) for source in [*_sources.values(), *known_files()]
    )
    nodes = [node for node in dict.fromkeys(chain(*made)) if stage_of(node) is None]
    shapes.follow(nodes)
    for node in nodes:
        is_file = is_made(node) and not os.path.isdir(node.get_abspath())  # noqa: PTH112 quicker than a Path
        if is_file or node.side_effect:
            make_again_where_stale(node)  # in the build SCons may have had done with what makes it
        if node.has_explicit_builder():
            scons_internals.made_within(node, making, shapes.taken_over, remove_before)
        if not is_directory(node):
            parts = map(_resolved, parts_of(node))
            read = [part for part in parts if is_directory(part) and not node.is_under(part)]
            node.add_dependency([root_source(part, SourceOptions(preserve_modes=True)) for part in read])


def _was_only_told_of(node: Any) -> bool:
    """Tell whether SCons said that it would make a node, or what makes it beside something else."""
    makers = node.sources if node.side_effect else ()
    return any(map(scons_internals.was_only_told_of, (node, *makers)))


def _waited_for(source: Any) -> Iterator[Any]:
    """Yield what roots wait for that are made of a source."""
    for root in source.taken_by if isinstance(source, RootSource) else ():
        yield from awaited(root)


def _resolved(node: Any) -> Any:
    return node.disambiguate() if isinstance(node, SCons.Node.FS.Base) else node


def _layers(directory: Any) -> list[Any]:
    """Return a node and, where it lies in a variant directory, those that it is a variant of."""
    layers = [directory]
    while (source := layers[-1].srcnode()) is not layers[-1] and source not in layers:
        layers.append(source)
    return layers


def _led_to(node: Any) -> list[Any]:
    """Return the node of what a symbolic link leads to, if a path has one in it and leads below the top."""
    path = str(node.get_abspath())
    real = _without_links(path)
    found = node.fs.Entry(real).disambiguate() if real != path else None
    return [found] if found and found.is_under(node.fs.Top) else []


@lru_cache(None)
def _without_links(path: str) -> str:
    directory, name = os.path.split(path)
    if name and os.path.islink(path):  # noqa: PTH114 to make a Path takes longer than this
        return os.path.realpath(path)
    return f"{_without_links(directory).rstrip('/')}/{name}" if name else path


def _places(directory: Any) -> list[Any]:
    """Return what stands for a directory in repositories, the first of them last, and itself."""
    _, *places = paths_of(directory)
    found = [directory.fs.Dir(place) for place in reversed(places) if lookup.is_dir(Path(place))]
    return [*found, directory]


def _is_excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether patterns leave out what is at a path, or a directory that it lies in."""
    excluded = excluding(patterns)
    parts = (path, *map(str, Path(path).parents))
    return excluded is not None and any(excluded(os.fsencode(part)) for part in parts)


def _pattern(path: str) -> str:
    """Return the pattern that leaves out just what is at a path."""
    return f"/{glob.escape(path)}"


def _known(node: Any, excluded: Callable[[bytes], object] | None, path: bytes) -> Iterator[Any]:
    """Yield a node and, of a directory, every node below it; ``path`` is the node's in the root."""
    yield node
    if not isinstance(node, SCons.Node.FS.Dir):
        return
    prefix = path + b"/" if path else b""
    for name, child in list(node.entries.items()):
        if name in (".", ".."):
            continue
        below = prefix + os.fsencode(name)
        if not (excluded and excluded(below)):
            # Of a side effect SCons knows only now whether it is a directory.
            yield from _known(child.disambiguate() if child.side_effect else child, excluded, below)


def made_in(directory: Any, part: Any) -> list[Any]:
    """Return what SCons has to make before a directory is as it will be, but for what is made of ``part``."""
    nodes = dict.fromkeys(node for known in _known(directory, None, b"") for node in made_before(known))
    return [node for node in nodes if not is_made_of(node, part)]
