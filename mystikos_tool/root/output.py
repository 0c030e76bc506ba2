"""A tree written out for the user: as an archive, or as an application directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import atomic, lookup
from mystikos_tool.root import archive
from mystikos_tool.root.tree import Tree

ARCHIVE_SUFFIX = ".cpio"


def write(tree: Tree, target: Path, sources: Iterable[Path]) -> None:
    """Write a tree as an archive where the target's name ends in ``.cpio``, else as a directory.

    A directory is new, or empty before. It has no set-user-ID and set-group-ID bits, as in
    :func:`mystikos_tool.root.archive.extract`. Raises UserError for what cannot be written, and for a target
    that is one of the files of which the tree is made or lies in one of the directories, ``sources``; the
    target is then as it was.
    """
    for source in sources:
        atomic.check_target(target, (source,), packed=source if lookup.is_dir(source) else None)
    if target.suffix == ARCHIVE_SUFFIX:
        archive.write(tree, target)
        return
    try:
        is_free = not lookup.exists(target) or (lookup.is_dir(target) and not any(target.iterdir()))
    except OSError as error:
        raise UserError(str(target), reason_of(error), "give another directory") from error
    if not is_free:
        raise UserError(str(target), "is not empty", "give a directory that is empty or does not exist")
    with atomic.scratch(target) as directory:
        made = directory / "root"
        archive.extract(archive.write(tree, directory / "archive"), made)
        try:
            os.rename(made, target)
        except OSError as error:
            problem = f"cannot be made: {reason_of(error)}"
            raise UserError(str(target), problem, "give another directory") from error
