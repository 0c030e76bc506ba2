"""Permissions that are asked for by a path of the root, in place of those that its sources give."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from mystikos_tool.errors import UserError
from mystikos_tool.root.source import Source
from mystikos_tool.root.tree import Entry, Tree

Permissions = tuple[tuple[str, int], ...]
"""Patterns, each with the permission bits of what it matches; of several that match, the last counts."""

_MOST = 0o7777


def permissions(given: Iterable[tuple[str, object]]) -> Permissions:
    """Return patterns with their modes, each an int or octal digits in a string, as ``"0600"``.

    Raises UserError for any other mode and for an empty pattern.
    """
    return tuple((_pattern(pattern), _mode(pattern, mode)) for pattern, mode in given)


def pair(text: str) -> tuple[str, str]:
    """Return the pattern and the mode of ``"etc/shop.key=0600"``; raise UserError for other text."""
    pattern, _, mode = text.rpartition("=")
    if not pattern:
        raise UserError(text, "is no pattern with a mode", 'write it as in "etc/shop.key=0600"')
    return pattern, mode


def _pattern(pattern: str) -> str:
    if not pattern.strip("/"):
        raise UserError(repr(pattern), "is no path in a root", 'write it as in "etc/shop.key"')
    return pattern


def _mode(pattern: str, given: object) -> int:
    mode = given
    if isinstance(mode, str) and re.fullmatch("[0-7]{1,5}", mode):
        mode = int(mode, 8)
    if type(mode) is not int or not 0 <= mode <= _MOST:
        raise UserError(pattern, f"cannot have the mode {mode!r}", 'give it as 0o600 or "0600"')
    if given is mode and mode > 0o777 and re.fullmatch("[0-7]{3}", str(mode)):
        # A sticky bit and less for the owner than for others: nobody means that.
        raise UserError(pattern, f"would have the mode {mode:#o}, for {mode} is decimal", f"write 0o{mode}")
    return mode


class PermittedSource:
    """A source with other permissions where a pattern matches.

    A pattern without a slash is held against every name, one with a slash against the path in the
    root; ``*`` crosses slashes. One with a wildcard is for files only, for a directory that is not
    searchable hides what is in it. Symbolic links have no permissions.
    """

    def __init__(self, source: Source, asked: Permissions) -> None:
        self._source = source
        self._asked = asked

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the tree may have changed."""
        return hashlib.sha256(repr(self._asked).encode() + self._source.fingerprint()).digest()

    def is_racy(self) -> bool:
        """Tell whether something could be changed and the fingerprint stay as it is."""
        return self._source.is_racy()

    def tree(self) -> Tree:
        """Return the entries."""
        tree = self._source.tree()
        entries = tuple(_with_mode(entry, self._asked) for entry in tree.entries)
        return Tree(entries, tree.left_out, tree.as_of)


def unmatched(asked: Mapping[str, Iterable[Entry]]) -> Iterator[str]:
    """Yield the patterns that match none of the entries they are for."""
    for pattern, entries in asked.items():
        matches = _matcher(pattern)
        if not any(matches(entry) for entry in entries):
            yield pattern


def _with_mode(entry: Entry, asked: Permissions) -> Entry:
    for pattern, mode in reversed(asked):
        if _matcher(pattern)(entry):
            return entry._replace(mode=stat.S_IFMT(entry.mode) | mode)
    return entry


class _Matcher:
    def __init__(self, pattern: str) -> None:
        self._exact = os.fsencode(pattern.strip("/"))
        self._is_path = "/" in pattern
        self._wild = None
        if re.search(r"[*?[]", pattern):
            self._wild = re.compile(os.fsencode(fnmatch.translate(pattern.strip("/"))))

    def __call__(self, entry: Entry) -> bool:
        if stat.S_ISLNK(entry.mode):
            return False
        text = entry.path if self._is_path else entry.path.rpartition(b"/")[2]
        if self._wild is None:
            return text == self._exact
        return not stat.S_ISDIR(entry.mode) and bool(self._wild.match(text))


_matcher = lru_cache(_Matcher)
