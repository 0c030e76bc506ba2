"""What lies in a directory and no builder stands behind any more, and directories that are out of date.

SCons itself leaves a file where it is when its builder is gone, and makes a directory again when a
source of it was built, not when one was edited.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import SCons.Node.FS

from mystikos_tool.cache.digests import Digests
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.root.source import DirectorySource, excluding
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import UNREADABLE, content_digest, patterns_in, store
from mystikos_tool.scons.input_node import InputNode, is_made_below, made_of
from mystikos_tool.scons.made_directory import (
    ITSELF,
    MADE,
    Version,
    building,
    forget,
    forget_what_is_gone,
    gone_from,
    is_made,
    is_made_in,
    made_by_others,
    made_in,
    paths_written,
    rows_of,
    version_made,
    version_of,
    written_in,
)
from mystikos_tool.scons.shapes import shape_of

_OWN = "own"  # the table of the store, by path, of what became a source
_MAKERS = "makers"  # the table of the store, by the path of a side effect or link: names of what makes it

# What to do about a file that stays out, as its builder is gone.
REMEDY = "describe it, remove it, or touch it where it became a source"

_states: dict[Any, bytes] = {}  # of directories before they were made
_looked_at: set[Any] = set()
_made_again: set[Any] = set()


def forget_earlier_build() -> None:
    """Forget what was found out for an earlier build of an interactive session."""
    for found in (_states, _looked_at, _made_again):
        found.clear()
    _left_in.cache_clear()
    _names_made.cache_clear()
    scons_internals.forget_earlier_build()


class LeftBehind(NamedTuple):
    """Paths below a directory that would not be there in a new checkout, and those to be told of."""

    paths: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def left_behind(place: Any, *described: Any) -> LeftBehind:
    """Return what builders that are gone have left below ``place``.

    ``described`` are the directories whose builders count: ``place`` itself, what stands for it where
    that lies in a repository, and what leads to it. A file that was written since it was made is a source
    of the user's.
    """

    def is_made_now(path: str) -> bool:
        return any(_made(directory, path) for directory in described)

    stored = scons_internals.stored_targets(place)
    gone = [(path, _is_as_made(place, path, entry)) for path, entry in stored if not is_made_now(path)]
    gone += [(path, same) for path, same in _remembered(place) if not is_made_now(path)]
    # A directory with nothing but a database of SCons' had something once.
    once = [*(path for path, _ in gone), *scons_internals.own_databases(place)]
    if not once:
        return LeftBehind()
    top = Path(place.get_abspath())
    files = {path for path, same in gone if same and os.path.lexists(top / path)}
    folders = {str(above) for path in once for above in (Path(path), *Path(path).parents)} - {"."}
    empty = _empty(top, {path for path in folders if not is_made_now(path)}, files)
    topmost = {path for path in empty if path.rpartition("/")[0] not in empty}
    told = {path for path in topmost if not any(each.startswith(f"{path}/") for each in files)}
    return LeftBehind(tuple(sorted(files | empty)), tuple(sorted(files | told)))


def is_left_behind(file: Any) -> bool:
    """Tell whether a file is what a builder that is gone has left; a new checkout has none there."""
    if is_made(file) or made_above(file):
        return False
    entry = scons_internals.stored_target(file)
    if entry is not None and _is_as_made(file.dir, file.name, entry):
        return True
    version = version_of(Path(file.get_abspath()))
    if made := version_made(file.get_internal_path()):
        return made == version
    return version != () and _is_in_rows_above(file, version)


def _is_in_rows_above(file: Any, version: Version) -> bool:
    """Tell whether what made a directory that a file lies in left the file there as it is now."""
    return any(rows.get(below) == version for rows, below in _rows_above(file))


def _rows_above(file: Any) -> Iterator[tuple[dict[str, Version], str]]:
    """Yield what made the directories that a file lies in left there, and the file's path below each."""
    directory = file
    while (directory := directory.get_dir()) is not None:
        if rows := written_in(directory.get_internal_path()):
            yield dict(rows), os.path.relpath(file.get_abspath(), directory.get_abspath())


def _made(directory: Any, path: str) -> bool:
    """Tell whether a builder makes what is at a path below a directory, or a directory that it lies in.

    A directory that Install copies has what its source has.
    """
    nodes = [directory]
    while (above := nodes[0].get_dir()) is not None:  # a file, too, may turn out to be a directory
        nodes.insert(0, above)
    names = [*(node.name for node in nodes[1:]), *Path(path).parts]
    for part in Path(path).parts:
        below = nodes[-1].entries.get(part) if isinstance(nodes[-1], SCons.Node.FS.Dir) else None
        if below is None:
            break
        nodes.append(below)
    return any(is_made(node) and _makes(node, names[at:]) for at, node in enumerate(nodes))


def _makes(node: Any, below: list[str]) -> bool:
    """Tell whether the builder of a node makes what lies below it at a path.

    Of a directory that is a side effect nobody knows what is in it, and of one that others made before what
    its builder has not written: a file there that is as another builder made it is of that one.
    """
    if not below:
        return True
    path = "/".join(below)
    if not scons_internals.is_installed(node):
        written = paths_written(node.get_internal_path())
        return bool(node.has_explicit_builder()) and (written is None or path in written)
    return any(_has(_read(source), path) for source in node.sources)


def _has(directory: Any, path: str) -> bool:
    """Tell whether a directory has something at a path, which is not left behind there."""
    parts = {path, *map(str, Path(path).parents)}
    return os.path.lexists(f"{directory.get_abspath()}/{path}") and parts.isdisjoint(_left_in(directory))


@lru_cache
def _left_in(directory: Any) -> Collection[str]:
    """Return what is left behind in a directory that is copied; it has been made by then."""
    return frozenset(left_behind(directory, directory).paths)


def _is_as_made(place: Any, path: str, entry: Any) -> bool:
    """Tell whether a file is the one that a builder made, and none that was written since.

    A directory never is: its time and size do not tell what was written below it. Nor is a link, of
    which SCons keeps the time and size of what it leads to.
    """
    file = Path(place.get_abspath(), path)
    try:
        status = file.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    name, version = f"{place.get_internal_path()}/{path}", version_of(file)
    if _stored_version(entry) == (status[stat.ST_MTIME], status.st_size):
        return store().table(_OWN).get(name) != version
    # Where something is made of it, SCons forgets how it was when it was made.
    if store().table(_OWN).get(name) != version:
        store().change(_OWN, name, version)
    return False


def _stored_version(entry: Any) -> tuple[Any, Any]:
    """Return the time in whole seconds and the size that SCons has of a target."""
    return getattr(entry.ninfo, "timestamp", None), getattr(entry.ninfo, "size", None)


def _remembered(
    place: Any, rows_in: Callable[[str], list[tuple[str, Version]]] = written_in
) -> Iterator[tuple[str, bool]]:
    """Yield what side effects and made directories left below a directory, and whether it is as it was.

    ``rows_in`` returns what counts as left in a made directory.
    """
    made, top = store().table(MADE), place.get_internal_path()
    for name in scons_internals.paths_below(_names_made(), top):
        below, path = os.path.relpath(name, top), Path(place.get_abspath(), os.path.relpath(name, top))
        rows = store().value(rows_of(name))
        yield below, rows is None and made[name] == version_of(path)
        for row, version in rows_in(name):
            yield os.path.normpath(f"{below}/{row}"), version == version_of(path / row)


def made_whole(place: Any) -> dict[str, bool]:
    """Return all paths in a directory that has nothing but what builders made, as they made it; else nothing.

    Each comes with whether it is a file. A new checkout has no such directory, but for one that was there
    before its builder ran.
    """
    names = scons_internals.paths_below(_names_made(), place.get_internal_path())
    if any(rows and ITSELF not in dict(rows) for rows in map(made_in, names)):
        return {}
    stored, others = scons_internals.stored_targets(place), set(made_by_others(place))
    # Another builder may have made its file in this build, and SCons has not stored that yet.
    found = [(path, path in others or _is_as_made(place, path, entry)) for path, entry in stored]
    found += _remembered(place, made_in)
    files = {path for path, same in found if same} - {ITSELF}
    folders = {str(above) for path, _ in found for above in (Path(path), *Path(path).parents)} - {ITSELF}
    top = Path(place.get_abspath())
    rows = {**dict.fromkeys(_empty(top, folders, files), False), **dict.fromkeys(files, True)}
    return {ITSELF: False, **rows} if found and rows.keys() >= {each.name for each in top.iterdir()} else {}


@lru_cache
def _names_made() -> list[str]:
    """Return the paths of what is remembered."""
    return sorted(store().table(MADE))


def _empty(top: Path, folders: Iterable[str], files: set[str]) -> set[str]:
    """Return those of some directories that have nothing in them but ``files`` and what SCons keeps."""
    empty: set[str] = set()
    kept = excluding(patterns_in(top)) or (lambda _: False)
    for folder in sorted(folders, key=lambda path: path.count("/"), reverse=True):
        path = top / folder
        if lookup.is_dir(path) and not lookup.is_symlink(path):
            there = {f"{folder}/{each.name}" for each in path.iterdir()}
            if all(kept(os.fsencode(each)) for each in there - files - empty):
                empty.add(folder)
    return empty


def made_above(node: Any) -> list[Any]:
    """Return the directories that a node lies in and that builders make."""
    return [directory for directory in _described_above(node) if directory.has_explicit_builder()]


def made_before_above(node: Any) -> list[Any]:
    """Return what is made into directories that a node lies in, or before them: by SideEffect, Depends.

    But for what is made of something in such a directory, which cannot wait for it.
    """
    found = []
    for directory in _described_above(node):
        if not directory.has_explicit_builder():
            found += [one for one in made_before(directory) if not is_made_below(one, directory)]
    return found


def _described_above(node: Any) -> tuple[Any, ...]:
    """Return the directories that a node lies in, and that a call describes, from the node on."""
    directory = node.get_dir()
    if directory is None:
        return ()
    find = _described if scons_internals.reads_sconscripts() else _described_now
    return find(directory)


def _described(directory: Any) -> tuple[Any, ...]:
    """Return a directory and those that it lies in, as far as a call describes them."""
    said = directory.has_explicit_builder() or directory.side_effect
    is_described = said or directory.depends or directory.prerequisites
    return ((directory,) if is_described else ()) + _described_above(directory)


# When all SConscripts are read, no call comes any more; a thousand sources lie in the same directories.
_described_now = lru_cache(None)(_described)


def made_before(node: Any) -> list[Any]:
    """Return what SCons has to make before a file or directory is as it will be."""
    if node.has_explicit_builder() or (node.side_effect and not is_directory(node)):
        return [node]
    # A directory itself would wait for all that SCons knows in it.
    made_by = node.sources if node.side_effect else ()
    return [*made_by, *(node.depends or ()), *(node.prerequisites or ())]


def follow(nodes: Iterable[Any]) -> list[Any]:
    """Have nodes made again where they are stale; return those to be remembered when they are made.

    Of what they are made of, that concerns directories: SCons itself compares files.
    """
    given = set(nodes)
    found = [
        node
        for node in made_of(given)
        if is_made(node) and (node in given or is_directory(node) or scons_internals.is_installed(node))
    ]
    stale = [node for node in found if make_again_where_stale(node)]
    for node in found if stale else ():
        if is_directory(node) and not _made_again.isdisjoint(made_of([node])):
            scons_internals.make_anyway(node)  # it may have had its turn before that was known
    return found


def is_directory(node: Any) -> bool:
    """Tell whether a node is that of a directory."""
    return isinstance(node, SCons.Node.FS.Dir)


def make_again_where_stale(node: Any) -> bool:
    """Let SCons make again what it finds up to date and what is not as it was when it was made.

    That is a directory whose sources are others, or that lacks what its builder made there, and what makes
    a side effect that is not there, but for one that was not there when it had been made; and what is by now
    as another builder made it, which is gone. Return whether there is a directory to be made again.
    """
    if node in _looked_at:
        return node in _made_again
    _looked_at.add(node)
    path, made = node.get_abspath(), store().table(MADE).get(node.get_internal_path())
    if not node.has_explicit_builder():
        if (made != () and not os.path.lexists(path)) or is_of_others(node):
            for maker in node.sources:
                scons_internals.make_anyway(maker)
    elif not os.path.isdir(path):  # noqa: PTH112 quicker than a Path, for many files
        if not is_directory(node) and is_of_others(node):
            scons_internals.make_anyway(node)
    elif made != _state(node) or gone_from(node) or _has_what_others_made(node):
        scons_internals.make_anyway(node)
        _made_again.add(node)
    return node in _made_again


def is_of_others(node: Any) -> bool:
    """Tell whether a file or link that a builder makes is as another one made it, which is gone.

    SCons does not look at a target to find out whether it is up to date.
    """
    name, version = node.get_internal_path(), version_of(node.get_abspath())
    known = store().table(_MAKERS).get(name)
    if known and not set(known) <= set(_makers(node)):
        return True
    entry = scons_internals.stored_target(node)
    if entry is not None and _is_stored(entry, version):
        return not node.has_explicit_builder() and version != version_made(name)
    is_its_own = version == version_made(name)
    return not is_its_own and not made_above(node) and _is_in_rows_above(node, version)


def _has_what_others_made(node: Any) -> bool:
    """Tell whether something that a builder made in a directory is as another one made it, which is gone."""
    top, name = Path(node.get_abspath()), node.get_internal_path()
    found = {row: version_of(top / row) for row, version in made_in(name) if version}
    changed = {row: found[row] for row, version in made_in(name) if version and found[row] != version}
    if not changed:
        return False
    entries = dict(scons_internals.stored_targets(node.disambiguate()))
    return any(
        not is_made_in(node, row)
        and (
            version == version_made(f"{name}/{row}") or (row in entries and _is_stored(entries[row], version))
        )
        for row, version in changed.items()
    )


def _is_stored(entry: Any, version: Version) -> bool:
    """Tell whether a regular file is as SCons has stored a target."""
    return bool(version) and _stored_version(entry) == (version[2] // 10**9, version[1])


def _makers(node: Any) -> tuple[str, ...]:
    """Return the names of what makes a side effect; of a target its own."""
    return (str(node),) if node.has_explicit_builder() else tuple(sorted(map(str, node.sources)))


@contextmanager
def making(targets: list[Any]) -> Iterator[None]:
    """See what a builder makes in directories, and of what."""
    # A source that is edited from here on makes another directory, with the next build. What is made of a
    # directory may become one.
    for target in targets:
        if any(map(_is_there_as_directory, (target, *map(_read, target.sources)))):
            _states[target] = _state(target)
    with building(targets):
        yield


def remember_made(node: Any) -> None:
    """Remember of what state of its sources a directory was made, or how a side effect is."""
    name, path = node.get_internal_path(), Path(node.get_abspath())
    has_builder = bool(node.has_explicit_builder())
    is_file = not lookup.is_dir(path) or (lookup.is_symlink(path) and not has_builder)
    makers = store().table(_MAKERS).get(name)
    if makers != _makers(node) and (makers or not has_builder or lookup.is_symlink(path)):
        store().change(_MAKERS, name, _makers(node))
    if has_builder and is_file and not lookup.is_symlink(path) and not is_directory(node):
        return  # SCons remembers it
    if not has_builder and not is_file:
        return  # of a directory as a side effect nobody knows what is in it
    known, was_made_now = store().table(MADE).get(name), scons_internals.was_made_now(node)
    if has_builder and known and not was_made_now:
        return  # its sources may be others by now
    state = version_of(path) if is_file else _states.get(node) or _state(node)
    if known == state and not was_made_now:
        return
    store().change(MADE, name, state)
    _names_made.cache_clear()
    if is_file:
        forget(name)
    else:
        forget_what_is_gone(node)


def _state(node: Any) -> bytes:
    """Return what stands for the action and the sources of a directory."""
    given = (*(node.sources or ()), *(node.depends or ()))
    # An input that SCons waits for stands beside the directory that it is.
    parts = [part for part in given if not isinstance(part, InputNode)]
    # First: what SCons substitutes in an action it takes for a file, unless it knows a directory there.
    signatures = [_signature(part) for part in parts]
    digest = hashlib.sha256(scons_internals.action_signature(node).encode())
    for part, signature in zip(parts, signatures, strict=True):
        digest.update(f"\0{part}\0{signature}".encode(errors="surrogateescape"))
    return digest.digest()


def _signature(part: Any) -> str:
    part = _read(part)
    if _is_there_as_directory(part):
        path = Path(part.get_abspath())
        source = DirectorySource(path, exclude=patterns_in(path), preserve_modes=True, may_be_missing=True)
        try:
            return Digests(store()).tree(source, f"source {path}").hex()
        except UserError:
            return UNREADABLE
    if isinstance(part, SCons.Node.FS.File):
        return f"{content_digest(part)} {shape_of(part)}"
    return str(part.get_csig())


def _is_there_as_directory(node: Any) -> bool:
    """Tell whether a node is a directory: to SCons that is a file where a builder has just made it."""
    return is_directory(node) or (isinstance(node, SCons.Node.FS.Base) and bool(node.isdir()))


def _read(node: Any) -> Any:
    """Return the node of what is read: in a variant directory, that of the source directory."""
    if not isinstance(node, SCons.Node.FS.Base):
        return node
    node = node.disambiguate()
    return node if is_made(node) else node.srcnode()
