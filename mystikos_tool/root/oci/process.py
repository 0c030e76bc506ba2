"""What an image says of its program as keys of a configuration, where that says nothing itself."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.paths import follow
from mystikos_tool.root.oci import variables
from mystikos_tool.root.oci.manifest import Process
from mystikos_tool.root.tree import Tree

_PROGRAM, _ARGUMENTS = "ApplicationPath", "ApplicationParameters"
_DIRECTORY, _VARIABLES = "CurrentWorkingDirectory", "EnvironmentVariables"
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Docker has it
_SHOWN = 200


class Start(NamedTuple):
    """How the program of an image is started; ``where`` names the image, ``tree`` is its root."""

    where: str
    process: Process
    tree: Tree

    def defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return members for a configuration beside those that it has, ``given``.

        Entrypoint and Cmd are ApplicationPath, a name without a slash as PATH of the image finds it, and
        ApplicationParameters; WorkingDir is CurrentWorkingDirectory. ``/appenv.json`` is read only where
        that is "/": elsewhere Env is EnvironmentVariables. Raises UserError for a program that is not
        in the root.
        """
        members = self._members(given)
        # What stands for the same as an absent key is left out.
        usual: Mapping[str, Any] = {_ARGUMENTS: [], _DIRECTORY: "/"}
        return {key: value for key, value in members.items() if key not in given and value != usual.get(key)}

    def _members(self, given: Mapping[str, Any]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        command = [*self.process.entrypoint, *self.process.cmd]
        if command and _PROGRAM not in given:
            members[_PROGRAM] = self._program(command[0])
            members[_ARGUMENTS] = command[1:]
        members[_DIRECTORY] = _absolute(self.process.working_dir)
        if self.process.env and not self._reads_appenv(given):
            members[_VARIABLES] = list(self.process.env)
        return members

    def _reads_appenv(self, given: Mapping[str, Any]) -> bool:
        """Tell whether the program starts where ``/appenv.json`` is read; so is what is no directory."""
        started_in = given.get(_DIRECTORY, self.process.working_dir)
        return not isinstance(started_in, str) or _absolute(started_in) == "/"

    def telling(self, tell: Callable[[str], object]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
        """Return :meth:`defaults` as a function that tells of what it returns."""

        def defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
            added = self.defaults(given)
            tell(self.told(added, given))
            return added

        return defaults

    def told(self, added: Mapping[str, Any], given: Mapping[str, Any]) -> str:
        """Return what is told of the members that were added, and of the variables, in one line."""
        said = [f"{key} {_shown(value)}" for key, value in added.items() if key != _VARIABLES]
        if env := self.process.env:
            appenv = f"/{variables.PATH}"
            if _VARIABLES in added:
                place = f"in {_VARIABLES}"
            elif self._reads_appenv(given):
                place = f"in {appenv}"
            else:
                place = f"in {appenv}, which is read in / only; add them to {_VARIABLES} of the configuration"
            said.append(f"{len(env)} variable{'s' if len(env) > 1 else ''} {place}")
        return f"{self.where}: {', '.join(said) or 'nothing of its program is taken'}"

    def _program(self, name: str) -> str:
        directory = self.process.working_dir
        if "/" in name:
            candidates = [_absolute(directory, name)]
        else:
            path = dict(each.split("=", 1) for each in self.process.env).get("PATH", _USUAL_PATH)
            candidates = [_absolute(directory, each, name) for each in path.split(":")]
        programs = _Programs(self.tree)
        for candidate in candidates:
            if candidate in programs:
                return candidate
        problem = f"starts {name!r}, which is no program in it"
        raise UserError(self.where, problem, f"say in {_PROGRAM} of the configuration what to start")


class _Programs:
    """The executable files of a root by their absolute paths, links followed."""

    def __init__(self, tree: Tree) -> None:
        self._entries = {entry.path: entry for entry in tree.entries}

    def __contains__(self, path: str) -> bool:
        found = self._entries.get(follow(path, b"", self._child, self._target) or b"")
        return found is not None and stat.S_ISREG(found.mode) and bool(found.mode & 0o111)

    def _child(self, directory: bytes, name: bytes) -> bytes | None:
        path = directory + b"/" + name if directory else name
        return path if path in self._entries else None

    def _target(self, path: bytes) -> bytes | None:
        entry = self._entries[path]
        return entry.target if stat.S_ISLNK(entry.mode) else None


def _absolute(*parts: str) -> str:
    return "/" + posixpath.normpath(posixpath.join("/", *parts)).lstrip("/")


def _shown(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
