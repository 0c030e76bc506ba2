"""What copying takes over from a file, and its digest does not tell: its mode, and where it leads as a link.

SCons compares digests, so that a copy would stay as it is when the mode of what it is a copy of changes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import SCons.Node.FS
import SCons.Script

from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import store
from mystikos_tool.scons.input_node import made_of, parts_of, paths_of
from mystikos_tool.scons.made_directory import is_made

_SHAPES = "shapes"  # the table of the store, by path
_MODE = 0o7100  # what canonical modes keep: set-id and sticky bits, and whether the owner may execute


def follow(nodes: Iterable[Any]) -> None:
    """Have files made again that are made of what has another shape by now, and what is made of these.

    No target has been looked at yet; ``nodes`` have all that they are made of among them.
    """
    files = [
        node for node in nodes if node.has_explicit_builder() and not isinstance(node, SCons.Node.FS.Dir)
    ]
    if not files or SCons.Script.GetOption("clean"):
        return
    before = {node: {part: shape_of(part) for part in _files_of(node)} for node in files}
    known = store().table(_SHAPES)
    changed = {
        node
        for node, shapes in before.items()
        if known.get(node.get_internal_path()) not in (None, tuple(shapes.values()))
    }
    for node in files if changed else ():
        if not changed.isdisjoint(made_of([node])):
            scons_internals.make_anyway(node)
            node.set_nocache()  # what a cache has may have the earlier mode
    scons_internals.at_end_of_build(lambda: _remember(before))


def taken_over(node: Any) -> str:
    """Return what a copy takes over of the files that a file is made of and no umask decides.

    Nothing where these are plain files, so that caches find what is made of them as they always did.
    """
    shapes = [(mode & _MODE, target) for mode, target in map(shape_of, _files_of(node))]
    return str(shapes) if any(map(any, shapes)) else ""


_Shape = tuple[int, str]


def _remember(before: Mapping[Any, Mapping[Any, _Shape]]) -> None:
    """Remember of what shapes files were made, but for those whose turn did not come.

    A source may have another shape by now than when it was copied: the next build is to see that.
    """
    known = store().table(_SHAPES)
    for node in filter(scons_internals.is_done, before):
        name = node.get_internal_path()
        if name not in known or scons_internals.was_made_now(node):
            shapes = {part: shape_of(part) for part in before[node] if is_made(part)}
            store().change(_SHAPES, name, tuple({**before[node], **shapes}.values()))


def _files_of(node: Any) -> Iterator[Any]:
    for part in parts_of(node):
        if isinstance(part, SCons.Node.FS.Base) and not isinstance(part, SCons.Node.FS.Dir):
            yield part


def shape_of(node: Any) -> _Shape:
    """Return the mode of a file, and where it leads as a link; 0 and nothing for what is no file.

    In a variant directory that is the source, in a build with repositories what stands for it there.
    """
    paths = paths_of(node if is_made(node) else node.srcnode())
    return next((shape for shape in map(_shape, paths) if shape), (0, ""))


def _shape(path: str) -> _Shape | None:
    """Return the shape of what is at a path, None where there is nothing."""
    target = ""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target, mode = os.readlink(path), os.stat(path).st_mode  # noqa: PTH115, PTH116
    except OSError:
        return None
    return (stat.S_IMODE(mode), target) if stat.S_ISREG(mode) else (0, "")
