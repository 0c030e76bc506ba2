"""Whether the program of a configuration can start: its interpreter and libraries, as its root has them.

Under an installed Mystikos its own C library loads every program, in place of PT_INTERP, and brings
its part of the C library along; it takes position-independent programs with a PT_INTERP only.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from mystikos_tool.config import Config
from mystikos_tool.formats import program
from mystikos_tool.formats.program import Executable, Script
from mystikos_tool.root.index import Index, Member
from mystikos_tool.root.mounts import mount_over

_LIBRARY_DIRECTORIES = tuple(
    f"{top}/{name}" for top in ("", "/usr", "/usr/local") for name in ("lib", "lib64", "lib/x86_64-linux-gnu")
)
_LINKER_FILES = ("/etc/ld-musl-x86_64.path", "/etc/ld.so.cache")
# What a musl C library is itself, whatever follows the dot.
_MUSL_LINKER = "/lib/ld-musl-x86_64.so.1"
_IN_MUSL = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
_MAX_LIBRARIES, _MAX_DIRECTORIES, _MAX_MISSING = 4096, 256, 64  # more are not looked for, in, or told
_OF_A_C_LIBRARY = ("libc.", "ld-")


class Fault(NamedTuple):
    """Why the program does not start, or, where it is not ``certain``, may not."""

    problem: str
    remedy: str
    certain: bool


def is_executable(member: Member, *, embedded: bool) -> bool:
    """Tell whether a file may be started: in the embedded runtime by its owner, who starts it."""
    return bool(member.mode & (stat.S_IXUSR if embedded else 0o111))


def faults(index: Index, member: Member, config: Config, *, embedded: bool) -> Iterator[Fault]:
    """Yield what keeps the program ``member`` from starting, in the embedded runtime or an installed one."""
    checked = _Start(index, config, embedded)
    found = _read(index, member)
    if isinstance(found, Script):
        yield from checked.script(found)
    elif found:
        yield from checked.executable(found, config.application_path)
    else:
        problem = "it is neither an x86-64 ELF program nor a script that begins with #!"
        yield Fault(problem, "give a program of one of these kinds", certain=embedded)


class Library(NamedTuple):
    """A library that is needed: its name, who needs it, and where it lies, None where it is missing."""

    name: str
    user: str
    place: str | None
    found: Executable | None


def loaded(index: Index, config: Config) -> dict[str, Executable]:
    """Return what an installed Mystikos loads at the start, by path: the program and its libraries.

    Of a script it is its interpreter. Empty where the program is none or is not in the root.
    """
    start, path = _Start(index, config, embedded=False), config.application_path
    member = index.find(path)
    found = _read(index, member) if member and stat.S_ISREG(member.mode) else None
    if isinstance(found, Script):
        path = os.fsdecode(found.interpreter)
        member = index.find(path)
        found = _read(index, member) if member and stat.S_ISREG(member.mode) else None
    if not isinstance(found, Executable):
        return {}
    libraries = start.libraries(found, path)
    return {path: found, **{one.place: one.found for one in libraries if one.place and one.found}}


def _read(index: Index, member: Member) -> Script | Executable | None:
    with index.reading() as data_of:
        return program.read(data_of(member))


class _Start(NamedTuple):
    root: Index
    config: Config
    embedded: bool

    def script(self, script: Script) -> Iterator[Fault]:
        path = self._absolute(script.interpreter)
        member = self.root.find(path)
        is_missing = member is None or not self._can_start(member)
        if script.ends_in_return:
            yield Fault(*program.ENDS_IN_RETURN, certain=is_missing and self.embedded)
        elif is_missing:
            yield self._missing(f"its interpreter {path}", path, certain=self.embedded)
        if member is None or is_missing:
            return
        found = _read(self.root, member)
        if isinstance(found, Executable):
            yield from self.executable(found, path)

    def executable(self, found: Executable, path: str) -> Iterator[Fault]:
        if self.embedded and found.is_truncated:
            yield Fault(
                f"{path} ends before what it loads of itself does", "build or copy it again", certain=True
            )
        if not self.embedded and not found.position_independent:
            problem = f"{path} is not position-independent, and an installed Mystikos starts no such program"
            yield Fault(problem, "link it with -pie", certain=True)
        if found.interpreter is not None:
            yield from self._interpreter(self._absolute(found.interpreter))
        elif not self.embedded:
            problem = f"{path} is statically linked, and an installed Mystikos starts no such program"
            yield Fault(problem, "link it dynamically, against musl", certain=True)
        if found.interpreter is not None:
            yield from self._libraries(found, path)

    def _interpreter(self, path: str) -> Iterator[Fault]:
        member = self.root.find(path)
        if member is None or not self._can_start(member):
            if self.embedded and not self._has_musl():
                yield self._missing(f"its interpreter {path}", path, certain=True)
            else:
                problem = f"its interpreter {path} is not in the root, and Mystikos' own C library loads it"
                yield Fault(problem, "put the C library that it was linked with into the appdir", False)

    def _can_start(self, member: Member) -> bool:
        return stat.S_ISREG(member.mode) and is_executable(member, embedded=self.embedded)

    def _has_musl(self) -> bool:
        """Return whether the root has what loads programs of any C library, as Mystikos does by itself."""
        return self.root.find(_MUSL_LINKER) is not None

    def _libraries(self, start: Executable, path: str) -> Iterator[Fault]:
        missing = (library for library in self.libraries(start, path) if library.place is None)
        for library in islice(missing, _MAX_MISSING):
            yield from self._missing_library(library.name, library.user)

    def libraries(self, start: Executable, path: str) -> Iterator[Library]:
        """Look for what is needed as a dynamic linker does, also of the libraries themselves."""
        linker = posixpath.basename(self._absolute(start.interpreter or b""))
        is_musl = linker.startswith("ld-musl") or not self.embedded
        if not is_musl:
            is_musl = self._has_musl() and self.root.find(self._absolute(start.interpreter or b"")) is None
        builtin = _IN_MUSL if is_musl else ()
        pending, seen = [(start, path, self._given_directories())], {linker}
        while pending:
            found, user, directories = pending.pop()
            directories = [*self._directories(found, user), *directories][:_MAX_DIRECTORIES]
            for name in (needed.decode(errors="surrogateescape") for needed in found.needed):
                if name in seen or name.startswith(builtin) or len(seen) > _MAX_LIBRARIES:
                    continue
                seen.add(name)
                place = self._place(name, directories)
                member = self.root.find(place) if place else None
                library = _read(self.root, member) if member else None
                executable = library if isinstance(library, Executable) else None
                if executable and place:
                    pending.append((executable, place, directories))
                yield Library(name, user, place, executable)

    def _directories(self, found: Executable, path: str) -> list[str]:
        origin = posixpath.dirname(path)
        written = [
            directory.decode(errors="surrogateescape")
            for directory in (*(found.rpath or ()), *(found.runpath or ()))
        ]
        return [one.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for one in written]

    def _given_directories(self) -> list[str]:
        """Return what LD_LIBRARY_PATH names, of which Mystikos' own dynamic linker takes no notice."""
        name = "LD_LIBRARY_PATH="
        if not self.embedded:
            return []
        given = [one[len(name) :] for one in self.config.environment_variables if one.startswith(name)]
        return [directory for paths in given for directory in paths.split(":") if directory]

    def _place(self, name: str, directories: list[str]) -> str | None:
        places = [name] if "/" in name else [f"{one}/{name}" for one in (*directories, *_LIBRARY_DIRECTORIES)]
        for place in (self._absolute(place.encode(errors="surrogateescape")) for place in places):
            member = self.root.find(place)
            if member and stat.S_ISREG(member.mode):
                return place
        return None

    def _missing_library(self, name: str, user: str) -> Iterator[Fault]:
        encoded = name.encode(errors="surrogateescape")
        if any(one.path.rpartition(b"/")[2] == encoded for one in self.root.members):
            if self.embedded and any(self.root.find(path) for path in _LINKER_FILES):
                return  # these name further directories, to other dynamic linkers than Mystikos' own
            problem = (
                f"the library {name}, which {user} needs, is in none of the directories it is looked for in"
            )
            yield Fault(
                problem, "put it into /lib or /usr/lib, or name its directory in DT_RUNPATH", certain=False
            )
            return
        may_be_elsewhere = self.config.mounts or (not self.embedded and name.startswith(_OF_A_C_LIBRARY))
        problem = f"the library {name}, which {user} needs, is not in the root"
        yield Fault(problem, "put it into the appdir", certain=not may_be_elsewhere)

    def _missing(self, what: str, path: str, *, certain: bool) -> Fault:
        mount = mount_over(self.config.mounts, path)
        place = (
            f"not a program of the root; it may be one of the mount {mount}" if mount else "not in the root"
        )
        member = self.root.find(path)
        if member and not mount:
            place = "not an executable file of the root"
        return Fault(f"{what} is {place}", "put it into the appdir", certain and not mount)

    def _absolute(self, path: bytes) -> str:
        written = path.decode(errors="surrogateescape")
        return posixpath.join(self.config.current_working_directory, written)
