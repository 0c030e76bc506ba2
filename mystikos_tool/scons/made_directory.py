"""Directories that builders make: what a builder left in one goes before it runs again.

SCons removes a file before its builder runs, unless it is precious, but leaves a directory as it is: what
its builder makes no longer would stay in it, and in the root. Which of the files are the builder's is seen
while it runs. What was there before is the user's, or another builder's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import SCons.Node.FS

from mystikos_tool.io import lookup
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import store

# Of a file: type, size and time of the last change; empty for a directory, and for what is not there.
Version = tuple[int, ...]

# The table of the store, by path: the state of made directories and side effects.
MADE = "made"

ITSELF = "."  # the path of a directory from itself on


def is_made(node: Any) -> bool:
    """Tell whether a builder makes a file, or a directory with all that is in it."""
    # Every directory has a builder, which makes an empty one.
    return bool(node.has_explicit_builder() or node.side_effect)


def rows_of(name: str) -> str:
    """Return the name that the store has for what a builder made in a directory: paths and versions."""
    return f"made in {name}"


def _changed_rows_of(name: str) -> str:
    """Return the name that the store has for what was in a directory and was written while its builder ran.

    It stays out when the builder is gone, but is not removed: the user may have written it.
    """
    return f"changed in {name}"


def made_in(name: str) -> list[tuple[str, Version]]:
    """Return what a builder made in a directory: paths and versions."""
    return list(store().value(rows_of(name)) or ())


def written_in(name: str) -> list[tuple[str, Version]]:
    """Return what was made and what was written in a directory while its builder ran."""
    return [row for rows in (rows_of, _changed_rows_of) for row in store().value(rows(name)) or ()]


def version_made(name: str) -> Version:
    """Return how a side effect or a link was when it was made; nothing for something else, or none."""
    rows = store().value(rows_of(name))
    known = store().table(MADE).get(name) if rows is None else dict(rows).get(ITSELF)
    return known if isinstance(known, tuple) else ()


@lru_cache(None)
def paths_written(name: str) -> frozenset[str] | None:
    """Return the paths that :func:`written_in` has; None where nobody knows what its builder makes."""
    if store().value(rows_of(name)) is None:
        return None
    return frozenset(path for path, _ in written_in(name))


def gone_from(node: Any) -> set[str]:
    """Return the paths of what a builder has made in a directory and is not there any more."""
    above, rows = node.get_abspath(), made_in(node.get_internal_path())
    gone = {row for row, _ in rows if not os.path.lexists(f"{above}/{row}")}
    was_link = any(row == ITSELF and version for row, version in rows)
    return gone | {ITSELF} if was_link and not Path(above).is_symlink() else gone


def forget_what_is_gone(node: Any) -> None:
    """Forget what a builder made in a directory and others have removed in the same build."""
    if gone := gone_from(node):
        name = rows_of(node.get_internal_path())
        store().keep(name, [row for row in store().value(name) if row[0] not in gone])


def forget(name: str) -> None:
    """Forget what was made and written in a directory."""
    store().forget(rows_of(name))
    store().forget(_changed_rows_of(name))


def version_of(path: Path | str) -> Version:
    """Return the version of a file or link; nothing where there is none."""
    try:
        return _version(os.lstat(path))
    except OSError:
        return ()


def _version(status: os.stat_result) -> Version:
    return stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns


class _Seen(NamedTuple):
    """A file: its version, inode, and the time of the last change of its state; of a directory nothing."""

    version: Version = ()
    inode: int = 0
    changed_at: int = 0


def _look(directory: Path) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for folder, folders, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*folders, *files)):
            with suppress(OSError):  # it is gone already
                status = path.lstat()
                is_folder = stat.S_ISDIR(status.st_mode)
                found = _Seen() if is_folder else _Seen(_version(status), status.st_ino, status.st_ctime_ns)
                seen[os.path.relpath(path, directory)] = found
    return seen


class _Before(NamedTuple):
    """What was in a directory before its builder ran; what of that earlier runs had made, or written over."""

    seen: dict[str, _Seen]
    made: frozenset[str]
    changed: frozenset[str]


@contextmanager
def building(targets: list[Any]) -> Iterator[None]:
    """Empty the directories among some targets, and see what their builder makes in them."""
    before = [_emptied(target) for target in targets]
    try:
        yield
    finally:
        for target, there in zip(targets, before, strict=True):
            _remember(target, there)


def _emptied(node: Any) -> _Before:
    """Remove from a directory what its builder has left there and nobody has written since."""
    path, name = Path(node.get_abspath()), node.get_internal_path()
    rows = dict(store().value(rows_of(name)) or ())
    if lookup.is_symlink(path) or not lookup.is_dir(path):
        return _Before({}, frozenset(), frozenset())
    found = _look_at_all(path)
    made = {row for row, version in rows.items() if row in found and found[row].version == version}
    if not node.precious:
        remove_all(node, {row: bool(rows[row]) for row in made})
    there = _look_at_all(path)
    known = store().value(_changed_rows_of(name)) or ()
    changed = {row for row, version in known if version and version == version_of(path / row)}
    return _Before(there, frozenset(made & there.keys()), frozenset(changed))


def _look_at_all(path: Path) -> dict[str, _Seen]:
    return {ITSELF: _Seen(), **_look(path)} if lookup.is_dir(path) else {}


def _remember(node: Any, before: _Before) -> None:
    path, name = Path(node.get_abspath()), node.get_internal_path()
    forget(name)
    if lookup.is_dir(path):
        store().change(MADE, name, b"")  # until it is known to be made, and of what
    if lookup.is_symlink(path):
        store().keep(rows_of(name), [(ITSELF, version_of(path))])
    elif seen := _look_at_all(path):
        made = before.made | (seen.keys() - before.seen.keys())
        changed = {row for row, found in seen.items() if found != before.seen.get(row)} | before.changed
        changed = changed & seen.keys() - made
        changed |= _full_of({*made, *changed}, seen)
        if scons_internals.is_installed(node):
            copied = {row for row in changed if _copies(node, row)}
            made, changed = made | copied, changed - copied
        store().keep(rows_of(name), sorted((row, seen[row].version) for row in made))
        if changed:
            store().keep(_changed_rows_of(name), sorted((row, seen[row].version) for row in changed))
    paths_written.cache_clear()


def _copies(node: Any, row: str) -> bool:
    """Tell whether Install takes a path from a source, and leaves nothing there of who wrote it before."""
    sources = (one if is_made(one) else one.srcnode() for one in node.sources)
    return any(os.path.lexists(f"{source.get_abspath()}/{row}") for source in sources)


def _full_of(made: set[str], rows: Iterable[str]) -> set[str]:
    """Return the directories that were there and have nothing in them but what a builder has made."""
    inside: dict[str, list[str]] = {}
    for row in {*rows} - {ITSELF}:
        inside.setdefault(str(Path(row).parent), []).append(row)
    full: set[str] = set()
    for row in sorted(inside, key=lambda row: (row != ITSELF, row), reverse=True):  # the innermost first
        if row not in made and all(one in made or one in full for one in inside[row]):
            full.add(row)
    return full


def is_made_in(directory: Any, path: str) -> bool:
    """Tell whether another builder than a directory's makes what is at a path in it, or around that."""
    return not set(made_by_others(directory)).isdisjoint((path, *map(str, Path(path).parents)))


def made_by_others(directory: Any, above: str = "") -> Iterator[str]:
    """Yield the paths of what other builders make in a directory."""
    for name, node in list(directory.entries.items()) if isinstance(directory, SCons.Node.FS.Dir) else ():
        if name not in (".", ".."):
            if is_made(node):
                yield f"{above}{name}"
            else:
                yield from made_by_others(node, f"{above}{name}/")


def remove_all(node: Any, rows: Mapping[str, bool]) -> None:
    """Remove files, and directories that are then empty, but for those that other builders make or fill.

    ``rows`` are paths below the node's, each with whether it is a file.
    """
    path, others = Path(node.get_abspath()), set(made_by_others(node))
    filled = {str(above) for other in others for above in Path(other).parents}
    # What is in a directory comes before it.
    for row in sorted(rows, key=lambda row: (row != ITSELF, row), reverse=True):
        if row not in filled and others.isdisjoint((row, *map(str, Path(row).parents))):
            remove(path, row, is_file=rows[row])


def remove(directory: Path, row: str, *, is_file: bool) -> bool:
    """Remove a file, or a directory that is empty; return whether it is gone.

    Nothing is removed where a link, or what a store that lies says, leads out of the directory.
    """
    whole = Path(os.path.realpath(directory.parent), directory.name)
    place = whole / row
    if not place.is_relative_to(whole) or os.path.realpath(place.parent) != str(place.parent):
        return False
    with suppress(OSError):
        (directory / row).unlink() if is_file else (directory / row).rmdir()
        return True
    return False
