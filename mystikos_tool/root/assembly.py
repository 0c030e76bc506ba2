"""The tree of an application directory or another source, with what is asked for on the way into a root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.io import lookup
from mystikos_tool.root.archive import ArchiveSource
from mystikos_tool.root.permissions import Permissions, PermittedSource, unmatched
from mystikos_tool.root.source import DirectorySource, Excluding, Source
from mystikos_tool.root.tree import Tree, join


class Options(NamedTuple):
    """How a directory becomes a root.

    ``exclude`` are patterns as those of :class:`DirectorySource`; ``chmod`` permissions by path in the
    root; ``overlays`` directories and archives that are laid over the directory, the last one on top;
    ``strip`` takes the debug information out of programs.
    """

    exclude: tuple[str, ...] = ()
    preserve_modes: bool = False
    chmod: Permissions = ()
    overlays: tuple[Path, ...] = ()
    strip: bool = False


class Assembled(NamedTuple):
    """A tree, and the requests that could not be met."""

    tree: Tree
    warnings: list[str]


def assembled(base: Path | Callable[[Excluding], Source], options: Options) -> Assembled:
    """Return the tree of a directory, or of another source that is made with the patterns to exclude.

    Raises UserError as the sources do, and where one has a directory and another something else.
    """
    exclude = Excluding(options.exclude)
    options = options._replace(exclude=exclude)
    source = _directory(base, options) if isinstance(base, Path) else base(exclude)
    tree = join([source.tree() for source in (source, *_overlays(options))], later_wins=True)
    warnings = [
        f"{pattern}: is excluded, and nothing in the root matches"
        for pattern in dict.fromkeys(exclude)
        if pattern in exclude.unused
    ]
    if options.chmod:
        tree = PermittedSource(tree, options.chmod).tree()
        asked = {pattern: tree.entries for pattern, _ in options.chmod}
        warnings += [
            f"{pattern}: has a mode, and no file in the root matches" for pattern in unmatched(asked)
        ]
    if options.strip:
        from mystikos_tool.root.stripped import Stripping  # few roots are

        stripping = Stripping()
        tree = stripping.tree(tree)
        warnings += stripping.warnings()
    return Assembled(tree, warnings)


def _overlays(options: Options) -> list[Source]:
    return [
        _directory(path, options) if lookup.is_dir(path) else ArchiveSource(path, exclude=options.exclude)
        for path in options.overlays
    ]


def _directory(path: Path, options: Options) -> DirectorySource:
    return DirectorySource(path, exclude=options.exclude, preserve_modes=options.preserve_modes)
