"""What a stage is made of and no stage makes, as a node that the tool compares in its own way.

The node stands before the file or directory of the user's, which keeps its class, its Decider and
its entry in SCons' database: they are the user's, whose own targets may depend on it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import SCons.Node
import SCons.Node.Alias
import SCons.Node.FS
import SCons.Node.Python

from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import UNREADABLE


class InputNode(SCons.Node.Python.Value):  # type: ignore[misc]
    """A file or directory of the user's by its signature.

    It is one of SCons' values, compared by its signature and kept in the database of whatever is
    made of it under SCons' own class, so that the database can be read where this tool is not loaded.
    """

    executor: Any

    def __init__(self, origin: Any) -> None:
        super().__init__(origin, name=origin.name)
        self.origin = origin
        self.implicit: list[Any] | None = None
        self.changed_paths: list[str] = []  # in a directory, since it was last looked at
        self._shown: str | None = None

    def __str__(self) -> str:
        return self._shown or str(self.read_node())

    def get_executor(self, create: int = 1) -> Any:
        """Return the executor; it is made when it is asked for, as that of any node."""
        try:
            return self.executor
        except AttributeError:
            if not create:
                raise
        self.executor = scons_internals.NothingToMake(targets=[self])
        return self.executor

    def read_node(self) -> Any:
        """Return the node of what is read."""
        return self.origin

    def str_for_display(self) -> str:
        """Return the name that ``--tree`` shows."""
        return str(self)

    def get_abspath(self) -> str:
        """Return the path of the file or directory."""
        return str(self.read_node().get_abspath())

    def get_subst_proxy(self) -> Any:
        """Return what variables such as ``${SOURCE.file}`` are read from."""
        return self.origin.get_subst_proxy()

    def make_ready(self) -> None:
        """Do nothing: whoever is made of the node asks for its signature."""

    def prepare(self) -> None:
        """Do nothing: nothing makes the node."""

    def scan(self) -> None:
        """Find what has to be built before the node can be read."""
        if self.implicit is None:
            scons_internals.scanned(self, self.built_before())
            self._shown = str(self.read_node())  # the build has begun, and no builder comes any more

    def settle(self) -> None:
        """Spare SCons a task for the node where nothing has to be built before it can be read.

        What waits for the node already goes on when SCons has given it a task.
        """
        if self.get_state() == SCons.Node.no_state and not (self.waiting_parents or self.children()):
            self.set_state(SCons.Node.up_to_date)

    def built_before(self) -> list[Any]:
        """Return the nodes that have to be built first; raise StopError where that cannot be."""
        return self.made_by()

    def made_by(self) -> list[Any]:
        """Return the nodes that make what is read."""
        return [self.origin] if needs_visit(self.origin) else []

    def get_csig(self) -> str:
        """Return the signature in hexadecimal, found out once in a build."""
        info = self.get_ninfo()
        try:
            return str(info.csig)
        except AttributeError:
            pass
        signature = self.signature()
        if signature is None:
            return UNREADABLE
        info.csig = signature
        return signature

    def signature(self) -> str | None:
        """Return the signature; None for what cannot be read, so that the action gets to say why."""
        raise NotImplementedError

    def get_text_contents(self) -> str:
        """Return what stands for the content in signatures."""
        return self.get_csig()


def is_made_of(node: Any, part: Any) -> bool:
    """Tell whether a node is, or is made after, another one, as far as it is known before the build."""
    return any(one is part for one in _with_parts(node))


def is_made_below(node: Any, directory: Any) -> bool:
    """Tell whether a node is made, as :func:`is_made_of`, of an input that lies in a directory."""
    return any(isinstance(one, InputNode) and one.origin.is_under(directory) for one in _with_parts(node))


def _with_parts(node: Any) -> Iterator[Any]:
    """Yield a node and all that it is made of or after."""
    pending, seen = [node], set()
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            yield node
            parts = (node.sources, node.depends, node.prerequisites, node.implicit)
            pending += [each for nodes in parts for each in nodes or ()]  # SCons drops what it has made
            pending += node.made_by() if isinstance(node, InputNode) else ()


def made_of(nodes: Iterable[Any]) -> list[Any]:
    """Return files and directories that builders make, and those of what they are made of."""
    pending, seen = list(nodes), dict[Any, None]()
    while pending:
        node = pending.pop()
        if node not in seen and isinstance(node, SCons.Node.FS.Base | SCons.Node.Alias.Alias):
            seen[node] = None
            pending += parts_of(node)
    return [node for node in seen if isinstance(node, SCons.Node.FS.Base)]


def parts_of(node: Any) -> list[Any]:
    """Return what a node is made of as it is described, with what aliases among that stand for."""
    pending, seen = [node], dict[Any, None]()
    while pending:
        node = pending.pop()
        parts = [part for part in (*(node.sources or ()), *(node.depends or ())) if part not in seen]
        seen.update(dict.fromkeys(parts))
        pending += [part for part in parts if isinstance(part, SCons.Node.Alias.Alias)]
    return list(seen)


def needs_visit(node: Any) -> bool:
    """Tell whether SCons has something to do for a node before it can be read."""
    return bool(node.is_derived() or node.depends or node.side_effects)


def origin_of(node: Any) -> Any:
    """Return the node that an InputNode stands for, or the node itself."""
    return node.origin if isinstance(node, InputNode) else node


def path_of(node: Any) -> Path:
    """Return a node's path, relative to the top of the build where it lies below it.

    What the user gives may lie in a repository.
    """
    return Path(str(node.read_node().rfile() if isinstance(node, InputNode) else node))


def paths_of(node: Any) -> list[str]:
    """Return the path of a file or directory and those that stand for it in repositories."""
    top = node.fs.Top
    repositories = top.repositories if top.repositories and node.is_under(top) else ()
    return [node.get_abspath(), *(one.entry_abspath(node.get_path(top)) for one in repositories)]
