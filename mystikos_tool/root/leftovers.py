"""Files of version control, editors and desktops, which are hardly meant for a root.

Nothing is left out for it. Whoever means it says so; the rest learns of the pattern that keeps it out.
Compiled Python files hold the time of their source, which an archive does not keep, so that Python
does not take them; but MRENCLAVE is another one for them in every checkout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from mystikos_tool.errors import UserError
from mystikos_tool.printable import few

WARN, ERROR, ALLOW = POLICIES = ("warn", "error", "allow")

_NAMES = {
    os.fsencode(name): name
    for name in (".git", ".hg", ".svn", ".bzr", ".DS_Store", "Thumbs.db", "__pycache__")
}
_COPIES = (b"~", b".swp")  # that editors keep

# What is in the names of a tree that has some, each name with a NUL before and behind it.
_MARKS = [b"\0%b\0" % name for name in _NAMES] + [b"%b\0" % ending for ending in _COPIES]

_Found = dict[str, list[str]]


def found(paths: Iterable[bytes]) -> _Found:
    """Return the paths of a tree that hardly belong in a root, by the pattern that keeps each of them out.

    ``paths`` are in the order of a tree. What lies below such a directory is not named as well.
    """
    patterns: _Found = {}
    paths = list(paths)
    names = b"\0".join([b"", *paths, b""]).replace(b"/", b"\0")
    if not any(mark in names for mark in _MARKS):  # nearly always, and soon said of 20,000 paths
        return patterns
    above = b"/"
    for path in paths:
        name = path.rpartition(b"/")[2]
        pattern = _NAMES.get(name) or (name.endswith(_COPIES) and _of_file(name))
        if pattern and not path.startswith(above):
            above = path + b"/"
            patterns.setdefault(pattern, []).append(path.decode(errors="backslashreplace"))
    return patterns


def _of_file(name: bytes) -> str | None:
    """Return the pattern of a copy that an editor keeps."""
    if name.endswith(b"~"):
        return "*~"
    return ".*.swp" if name.endswith(b".swp") and name.startswith(b".") else None


def told(
    paths: Iterable[bytes], where: str, policy: str, keep_out: Callable[[Sequence[str]], str]
) -> list[str]:
    """Return what is to be warned of; raise UserError where leftovers are an error.

    ``keep_out`` says how the user keeps patterns out.
    """
    patterns = found(paths) if policy != ALLOW else {}
    if not patterns:
        return []
    shown = ", ".join(few([f"/{path}" for path in listed]) for listed in patterns.values())
    error = UserError(where, f"holds what is hardly meant for it: {shown}", keep_out(list(patterns)))
    if policy == ERROR:
        raise error
    return [str(error)]
