"""Files of the user's that stages read: configuration, keys, an installed runtime, an archive."""

from __future__ import annotations

import difflib
from contextlib import suppress
from pathlib import Path
from typing import Any

import SCons.Errors
import SCons.Node.FS

from mystikos_tool.io import lookup
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import UNREADABLE, content_digest
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.stale import follow, made_above, made_before_above, remember_made
from mystikos_tool.scons.target_file import TargetFile

_ALIKE = 0.75  # from where on a file's name is taken for a slip in another's

_files: dict[tuple[Any, str], InputFile] = {}


class InputFile(InputNode):
    """A file by the digest of its content; ``variable`` is the construction variable that names it.

    ``remedy`` says what to do where it is not there, "" what is mostly to be done.
    """

    def __init__(self, origin: Any, variable: str, remedy: str = "") -> None:
        super().__init__(origin)
        self.variable = variable
        self.remedy = remedy
        self._made: list[Any] = []  # what builders make of it, or above it

    def read_node(self) -> Any:
        """Return the node of the file that is read: in a variant directory, that of the source directory."""
        return self.origin if self.origin.is_derived() else self.origin.srcnode()

    def made_by(self) -> list[Any]:
        """Return the nodes that make the file, or a directory that it lies in."""
        return [*super().made_by(), *made_above(self.origin)]

    def built_before(self) -> list[Any]:
        """Return the nodes that have to be built first."""
        nodes = [*self.made_by(), *made_before_above(self.origin)]
        self._made = follow(nodes)
        return nodes

    def signature(self) -> str | None:
        """Return the digest of the content in hexadecimal."""
        for node in self._made:
            remember_made(node)
        if scons_internals.was_only_told_of(self.origin):
            return scons_internals.NOT_MADE
        digest = content_digest(self.read_node())
        return None if digest == UNREADABLE else digest

    def missing(self) -> bool:
        """Tell whether the file is neither there nor made.

        Raises StopError, with what to do about it, where a variable names the file.
        """
        file = self.read_node()
        path = Path(file.get_abspath())
        if not self.is_missing():
            if lookup.exists(path) and not lookup.is_file(path):  # reading a FIFO would not end
                if lookup.is_dir(path) and not self.variable:  # its builder was given just a name
                    raise SCons.Errors.StopError(f'{file}: is a directory; give it as Dir("{file}")')
                named = f"is named by {self.variable} and is" if self.variable else "is"
                raise SCons.Errors.StopError(f"{file}: {named} no regular file; give a file")
            return False
        if self.variable:
            if reason := lookup.why_hidden(path):
                problem = f"is named by {self.variable} and may not be looked at: {reason}"
                raise SCons.Errors.StopError(f"{file}: {problem}; see that it can be read")
            if target := lookup.lost_target(path):
                problem = (
                    f"is named by {self.variable} and is a symbolic link to {target}, which is not there"
                )
                raise SCons.Errors.StopError(f"{file}: {problem}; make that, or correct the link")
            remedy = self.remedy or self._at_the_top() or _nearest(file) or self.create_remedy()
            raise SCons.Errors.StopError(f"{file}: is named by {self.variable} and is not there; {remedy}")
        return True

    def is_missing(self) -> bool:
        """Tell whether the file is neither there nor made, now that all was made that it may lie in."""
        file = self.read_node()
        if self._made and not file.is_derived():
            file.clear_memoized_values()  # SCons remembers that it was not there
        return bool(file.missing())

    def create_remedy(self) -> str:
        """Return what to do about a file that is not there and has no neighbour of nearly its name."""
        return f"create it, or correct {self.variable}"

    def _at_the_top(self) -> str | None:
        """Point to a file of that name at the top of the build, which SConscripts below it name by ``#``."""
        name, top = self.origin.name, self.origin.fs.Top
        node = top.entries.get(name)
        is_there = lookup.is_file(Path(top.get_abspath(), name)) or bool(node and node.is_derived())
        return f'did you mean "#{name}"?' if is_there and self.origin.dir is not top else None


def input_file(origin: Any, variable: str = "", remedy: str = "") -> Any:
    """Return the one input node of a file; what a stage made is compared by its signature as it is."""
    origin = origin.disambiguate()
    if isinstance(origin, TargetFile):
        return origin
    key = (origin, variable)
    if key not in _files:
        if type(origin) is SCons.Node.FS.Entry:
            origin.must_be_same(SCons.Node.FS.File)
        _files[key] = InputFile(origin, variable, remedy)
    return _files[key]


def known_files() -> list[InputFile]:
    """Return all such nodes."""
    return list(_files.values())


def _nearest(node: Any) -> str | None:
    """Point to a file whose name is nearly that of a missing one."""
    directory = Path(node.get_abspath()).parent
    names: list[str] = []
    with suppress(OSError):
        names += (path.name for path in directory.iterdir())
    near = difflib.get_close_matches(node.name, names, 1, _ALIKE)
    return f"did you mean {Path(str(node)).with_name(near[0])}?" if near else None
