"""Removing from this user's cache what images have left there, what was used longest ago first.

Builds may run meanwhile: what they have open they read to its end, and anything else they make anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError

# Of the same layer the index is removed first: without one an archive is not believed.
_NAME = re.compile(r"(sha(?:256|512)-[0-9a-f]+)(|\.index|\.tar)")


class Pruned(NamedTuple):
    """How many layers and documents were removed, their bytes, and the bytes that are left."""

    removed: int
    size: int
    left: int


class _Item(NamedTuple):
    used: int
    size: int
    paths: list[Path]


def prune(cache: Path, limit: int) -> Pruned:
    """Remove layers and documents from below ``cache`` until they have at most ``limit`` bytes.

    Raises UserError for what may not be removed.
    """
    items = sorted(item for kind in ("layers", "documents") for item in _items(cache / kind))
    left = sum(item.size for item in items)
    removed = size = 0
    for item in items:
        if left <= limit:
            break
        for path in item.paths:
            _remove(path)
        removed, size, left = removed + 1, size + item.size, left - item.size
    return Pruned(removed, size, left)


def _items(directory: Path) -> Iterator[_Item]:
    """Yield what belongs together in a directory; no other files."""
    together: dict[str, list[Path]] = {}
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            if match := _NAME.fullmatch(path.name):
                together.setdefault(match[1], []).append(path)
    for paths in together.values():
        found = []
        for path in paths:
            with suppress(OSError):  # another one has removed it
                found.append(path.lstat())
        if found:
            # A layer's index has the time when it was used last.
            yield _Item(found[0].st_mtime_ns, sum(status.st_size for status in found), paths)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise UserError(
            str(path), f"cannot be removed: {reason}", "prune as the user whose cache it is"
        ) from None
