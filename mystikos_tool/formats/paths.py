"""How a path is followed in a file system that is only read: an archive's or a disk's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

_MAX_LINKS = 40  # as Linux (path_resolution(7))

_Member = TypeVar("_Member")


def follow(
    path: str | bytes,
    root: _Member,
    child: Callable[[_Member, bytes], _Member | None],
    link_target: Callable[[_Member], bytes | None],
) -> _Member | None:
    """Return what an absolute path leads to, or None where nothing is there.

    ``child`` returns the member of a directory by its name, ``link_target`` the target of a
    symbolic link and None of anything else. Links are followed, never out of ``root``.
    """
    pending = _parts(os.fsencode(path))
    above = [root]
    links = 0
    while pending:
        part = pending.pop(0)
        if part == b"..":
            above = above[:-1] or above
            continue
        found = child(above[-1], part)
        if found is None:
            return None
        target = link_target(found)
        if target is None:
            above.append(found)
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        above = above[:1] if target.startswith(b"/") else above
        pending = _parts(target) + pending
    return above[-1]


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
