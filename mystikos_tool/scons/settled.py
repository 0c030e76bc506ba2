"""Packages that are up to date because nothing is another than when SCons found them so.

SCons decides about archive, measurement, signed image and package one after the other: by what each is
made of, by its action and by its file. All of that is one row here for each package. Where the row is the
same, and so is what SCons remembers, SCons would decide the same again: one look stands for four
decisions. Where anything about a package is not as usual, SCons decides.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import SCons.Errors
import SCons.Node

from mystikos_tool.io import fingerprint
from mystikos_tool.scons import intermediates, scons_internals
from mystikos_tool.scons.database import UNREADABLE, store
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.stages import Stage, awaited, stage_for

# The table of the store: by directory, the digest of what SCons remembers of it, and the row of each package.
_SETTLED = "settled"

_UNKNOWN = (UNREADABLE, scons_internals.NOT_MADE)

_settled: set[Any] = set()

# Names and signatures of what is no target: a thousand packages share configuration, key and runtime.
_of_inputs: dict[InputNode, str] = {}


class _UnusualError(Exception):
    """Something about a package is for SCons to decide."""


class _Directory:
    """The rows of the packages in a directory; ``found`` are those of which SCons has to decide first."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._name = str(node.get_internal_path())
        digest, rows = store().table(_SETTLED).get(self._name, (b"", {}))
        self.rows: dict[str, bytes] = dict(rows) if digest and digest == self._digest() else {}
        self.found: dict[str, bytes] = {}
        atexit.register(self._remember)  # before the store is written

    def _digest(self) -> bytes:
        entries = scons_internals.stored_entries(self._node)
        return hashlib.sha256(entries).digest() if entries else b""

    def _remember(self) -> None:
        """Remember the rows with what SCons remembers by now: it has changed that of what was made."""
        digest = self._digest()
        known = (digest, self.rows if digest else {})
        if store().table(_SETTLED).get(self._name, (b"", {})) != known:
            store().change(_SETTLED, self._name, known)


_directory = lru_cache(None)(_Directory)


def look_at(package: Any) -> None:
    """Let a package that SCons comes to, and its intermediates, be up to date if they are as they were."""
    if package.get_state() != SCons.Node.pending or _asked_for() is None:
        return
    nodes, directory, started = list(_chain(package)), _directory(package.dir), time.time_ns()
    before = directory.rows.pop(package.name, None)
    try:
        files = b"".join(map(_fingerprint, nodes))
        words = "\0".join(_words(nodes))
    except (OSError, _UnusualError, SCons.Errors.StopError):
        return  # SCons makes what is missing, and tells what is wrong
    row = hashlib.sha256(files + words.encode(errors="surrogateescape")).digest()
    if row == before:
        directory.rows[package.name] = row
        _settled.add(package)
        for node in nodes[1:]:
            scons_internals.pass_over(node)
    elif not fingerprint.any_racy(files, started):
        directory.found[package.name] = row


def is_settled(package: Any) -> bool:
    """Tell whether a package is known to be up to date."""
    return package in _settled


def confirm(package: Any) -> None:
    """Remember the row of a package that SCons has found up to date, if all of it is."""
    directory = _directory(package.dir)
    row = directory.found.pop(package.name, None)
    _, *before = _chain(package)
    if row and all(node.get_state() == SCons.Node.up_to_date for node in before):
        directory.rows[package.name] = row


@lru_cache(None)
def _asked_for() -> frozenset[Any] | None:
    """Return the targets of the build, of which SCons tells; None where it has to look at every node."""
    targets = None if scons_internals.fills_cache() else scons_internals.build_targets()
    return None if targets is None else frozenset(targets)


def _chain(package: Any) -> Iterator[Any]:
    """Yield a package and the intermediates that it is made of, each behind what is made of it."""
    node = package
    while node is not None:
        yield node
        node = intermediates.intermediate_of(node)


def _fingerprint(node: Any) -> bytes:
    return fingerprint.of(os.stat(node.get_abspath()))  # noqa: PTH116 to make a Path takes longer than this


def _words(nodes: Sequence[Any]) -> Iterator[str]:
    """Yield what SCons compares of nodes: of each the action, and what it is made of.

    Raises _UnusualError where there is more to it, or a part has not had its turn.
    """
    package = nodes[0]
    if any(map(awaited, {stage_for(node, Stage).added_for or node for node in nodes})):
        raise _UnusualError
    for node in nodes:
        is_awaited = not node.waiting_parents <= package.waiting_parents
        if node.dir is not package.dir or is_awaited or _is_unusual(node):
            raise _UnusualError
        yield node.name
        yield node.get_executor().get_contents().decode()
        for part in node.sources:
            yield part.name if part in nodes else _of_inputs.get(part) or _signature(part)


def _signature(part: Any) -> str:
    """Return the name and the signature of a part, which SCons looks at no more once it is up to date."""
    if isinstance(part, InputNode):
        part.settle()
    signature = part.get_csig() if part.get_state() == SCons.Node.up_to_date else UNREADABLE
    if signature in _UNKNOWN:
        raise _UnusualError
    word = f"{part}\0{signature}"
    if isinstance(part, InputNode):
        _of_inputs[part] = word
    return word


def _is_unusual(node: Any) -> bool:
    """Tell whether more than its action and its sources decides about a node, or has decided already."""
    return bool(
        node.get_state() not in (SCons.Node.no_state, SCons.Node.pending, SCons.Node.up_to_date)
        or (node.get_state() == SCons.Node.no_state and node in (_asked_for() or ()))
        or node.ignore
        or intermediates.of(node)
        or not isinstance(node.get_executor(), scons_internals.OneTargetExecutor)
        or intermediates.is_special(node)
    )
