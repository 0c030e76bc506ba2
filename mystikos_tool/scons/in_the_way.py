"""What builders that are gone have left where something is made now: in its place, or on the way to it.

SCons removes a file before its builder runs. A directory that was made there, or a link to one, it leaves, so
that a command writes into it, or into what the link leads to. A new checkout has neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mystikos_tool.io import lookup
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.made_directory import remove_all, version_made, version_of
from mystikos_tool.scons.stale import is_left_behind, is_of_others, made_above, made_whole


def remove_before(targets: Iterable[Any]) -> None:
    """Remove what is in the way of targets and of their side effects, but for what is precious.

    To SCons every side effect is precious, as its maker may add to it: one that never ran has made nothing.
    """
    for target in targets:
        is_new = scons_internals.stored_target(target) is None
        _clear(target, links=not target.precious, content=not target.precious)
        for node in target.side_effects:
            _clear(node, links=is_new or is_of_others(node), content=True)


def _clear(node: Any, *, links: bool, content: bool) -> None:
    _remove_links_above(node)
    path = Path(node.get_abspath())
    if not lookup.is_symlink(path):
        if content and lookup.is_dir(path) and not made_above(node):
            remove_all(node, made_whole(node))
            node.clear_memoized_values()
    elif links and version_of(path) == version_made(node.get_internal_path()):
        _unlink(node)


def _remove_links_above(node: Any) -> None:
    """Remove the links that builders have left on the way to a target, from the outermost on."""
    above, found = node, list[Any]()
    while (above := above.get_dir()) is not None:
        found.insert(0, above)
    for number, directory in enumerate(found):
        if lookup.is_symlink(Path(directory.get_abspath())) and is_left_behind(directory):
            _unlink(directory)
            for below in (*found[number + 1 :], node):  # what the link led to may have had one of its name
                below.clear_memoized_values()


def _unlink(node: Any) -> None:
    Path(node.get_abspath()).unlink()
    node.clear_memoized_values()  # SCons asks whether it has to make the directory
