"""Programs with what they need to start, as a source of root file systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool.printable import few
from mystikos_tool.root.closure import Closure
from mystikos_tool.root.permissions import PermittedSource
from mystikos_tool.root.source import Source
from mystikos_tool.scons.database import store
from mystikos_tool.scons.root_source import RootSource, SourceOptions, root_source

_sources: dict[tuple[Asked, SourceOptions], ClosureSource] = {}


class Asked(NamedTuple):
    """What a call of MystClosure asks for: paths in the root, sources of the project's, and where to look.

    ``sysroot`` is the node of a directory, None for this machine.
    """

    paths: tuple[str, ...]
    given: tuple[RootSource, ...]
    sysroot: Any
    extras: tuple[str, ...]


class ClosureSource(RootSource):
    """The closure of programs, by the digest of its tree; see :mod:`mystikos_tool.root.closure`."""

    def __init__(self, origin: Any, asked: Asked, options: SourceOptions) -> None:
        super().__init__(origin, options)
        self._asked = asked
        self._closure: Closure | None = None
        # What builds the sysroot or puts something into it has to be done first.
        parts = (root_source(asked.sysroot, SourceOptions()),) if asked.sysroot else ()
        self._parts: tuple[RootSource, ...] = (*asked.given, *parts)

    def made_by(self) -> list[Any]:
        """Return what is built into the sysroot or is one of the programs, in any SConscript."""
        return list(dict.fromkeys(node for part in self._parts for node in part.made_by()))

    def unplaced_file(self) -> str | None:
        """Return the name of the only file that no mapping places; None for programs of a sysroot."""
        names = [name for name in (part.unplaced_file() for part in self._asked.given) if name]
        return names[0] if len(names) == 1 else None

    def stray_paths(self) -> Iterator[str]:
        """Yield what lies in the project's sources and was left out."""
        return (path for part in self._asked.given for path in part.stray_paths())

    def has_excluded(self, pattern: str) -> bool:
        """Tell whether a pattern kept something out."""
        return super().has_excluded(pattern) or any(part.has_excluded(pattern) for part in self._asked.given)

    def machine_changes(self) -> list[str]:
        """Return what is to be told of files that are not the project's, and are not what they were."""
        closure = self._closure
        found = [path for path in self.changed_paths if closure and not closure.is_given(path.encode())]
        if not found:
            return []
        shown = few([f"/{path}" for path in found])
        where = self._asked.sysroot or "this machine"
        return [f"{shown}: changed on {where} since the closure of {self} was last packed"]

    def _source(self) -> Source:
        asked = self._asked
        programs = [*asked.paths, *(path for part in asked.given for path in part.file_in_root())]
        self._closure = Closure(
            programs,
            given=[part.source() for part in asked.given],
            sysroot=Path(asked.sysroot.get_abspath() if asked.sysroot else "/"),
            extras=asked.extras,
            exclude=self.options.exclude,
            preserve_modes=self.options.preserve_modes,
            known=store().value(self._facts_name()),
        )
        return PermittedSource(self._closure, self.options.chmod) if self.options.chmod else self._closure

    def signature(self) -> str | None:
        """Return the tree's digest in hexadecimal; remember what was read of programs for it."""
        digest = super().signature()
        name = self._facts_name()
        if digest and self._closure and self._closure.facts() != (store().value(name) or {}):
            store().keep(name, dict(self._closure.facts()))
        return digest

    def _facts_name(self) -> str:
        return f"programs of {self._name()}"

    def _name(self) -> str:
        paths, given, sysroot, extras = self._asked
        sources = [f"{part} {part.options}" for part in given]
        return f"closure of {paths} {sources} {extras} in {sysroot} {self.options}"

    def _tells_changes(self) -> bool:
        return True


def closure_source(env: Any, asked: Asked, options: SourceOptions) -> ClosureSource:
    """Return the one node of programs with these options."""
    key = (asked, options)
    if key not in _sources:
        top = asked.sysroot or env.fs.Dir("/")
        origin = top.Entry(asked.paths[0].strip("/")) if asked.paths else asked.given[0].origin
        _sources[key] = ClosureSource(origin, asked, options)
    return _sources[key]
