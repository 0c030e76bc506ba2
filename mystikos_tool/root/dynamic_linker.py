"""Where a dynamic linker finds the shared libraries of a program, by the rules of glibc's and musl's.

Nothing is run to find them: these are the rules of ld.so(8) and of musl's ldso/dynlink.c. Of what
glibc chooses by the processor (glibc-hwcaps), what every processor takes is chosen: a root is the
same wherever it is made.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from mystikos_tool.formats import ld_so_cache
from mystikos_tool.formats.program import Executable

_CONFIGURATION = b"/etc/ld.so.conf"
_MAX_CONFIGURATION = 1 << 20
_MAX_INCLUDES = 10
_MAX_LINKER = 1 << 24
# The built-in directories of glibc's linker: strings that begin and end with a slash, one behind the other.
_BUILT_IN = re.compile(rb"(?:/[!-~]*lib[!-~]*/\0){1,16}")
_VARIABLE = re.compile(rb"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")
_MUSL_DIRECTORIES = (b"/lib", b"/usr/local/lib", b"/usr/lib")
# What a musl C library is itself, whatever follows the dot.
_IN_MUSL = (b"libc.", b"libpthread.", b"librt.", b"libm.", b"libdl.", b"libutil.", b"libxnet.")


class Files(Protocol):
    """A root file system as a dynamic linker sees it, by absolute paths; links are followed within it."""

    def executable(self, path: bytes) -> Executable | None:
        """Return the program or library that a path leads to; None where there is no such x86-64 file."""

    def data(self, path: bytes, limit: int) -> bytes | None:
        """Return the content of a file; None where there is none of at most ``limit`` bytes."""

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory, sorted; none where there is no directory."""


class Loaded(NamedTuple):
    """A program or library at the path by which it was found, and what needed it first."""

    path: bytes
    file: Executable
    loader: Loaded | None = None


class Missing(NamedTuple):
    """A library that is nowhere, and what needs it."""

    name: bytes
    user: Loaded


class Linker(Protocol):
    """A dynamic linker."""

    def places(self, name: bytes, user: Loaded) -> Iterator[bytes]:
        """Yield the paths at which a library is looked for, in their order."""

    def found_by_cache(self, name: bytes, user: Loaded, place: bytes) -> bool:
        """Tell whether a library is found at a place only because a cache says so."""

    def configuration(self) -> Iterator[bytes]:
        """Yield the paths of the files that tell the linker where to look, as far as it reads them."""


def of_interpreter(interpreter: bytes, files: Files) -> Linker | None:
    """Return the dynamic linker that a PT_INTERP names; None where it is of another C library."""
    name = posixpath.basename(interpreter)
    if name == b"ld-linux-x86-64.so.2":
        return Glibc(interpreter, files)
    if name == b"ld-musl-x86_64.so.1":
        return Musl(interpreter, files)
    return None


class Glibc:
    """The dynamic linker of glibc."""

    def __init__(self, interpreter: bytes, files: Files) -> None:
        self._files = files
        self._built_in = _built_in_directories(files.data(interpreter, _MAX_LINKER) or b"")
        self._cache = ld_so_cache.read(files.data(ld_so_cache.PATH.encode(), ld_so_cache.MAX_SIZE) or b"")
        self._configured = tuple(dict.fromkeys(_configured(files, _CONFIGURATION, 0)))
        multiarch = any(b"/x86_64-linux-gnu" in directory for directory in self._built_in)
        self._variables = {
            b"LIB": b"lib/x86_64-linux-gnu" if multiarch else b"lib64",
            b"PLATFORM": b"x86_64",
        }

    def places(self, name: bytes, user: Loaded) -> Iterator[bytes]:
        """Yield the paths at which a library is looked for, in their order."""
        if b"/" in name:
            yield self._expanded(name, user)
            return
        yield from self._places_of(name, user)
        only_own = user.file.only_own_directories
        for place in self._cache.get(name, ()):
            if not (only_own and posixpath.dirname(place) in self._built_in):
                yield place
        for directory in (*self._configured, *(() if only_own else self._built_in)):
            yield posixpath.join(directory, name)

    def _places_of(self, name: bytes, user: Loaded) -> Iterator[bytes]:
        """Yield the paths that the files themselves name."""
        for directory in (*self._inherited(user), *self._of(user, user.file.runpath)):
            yield posixpath.join(directory, name)

    def found_by_cache(self, name: bytes, user: Loaded, place: bytes) -> bool:
        """Tell whether a library is found at a place only because a cache says so."""
        if b"/" in name or place in self._places_of(name, user):
            return False
        return user.file.only_own_directories or posixpath.dirname(place) not in self._built_in

    def configuration(self) -> Iterator[bytes]:
        """Yield nothing: the cache that a root gets is written for it."""
        return iter(())

    def _inherited(self, user: Loaded) -> Iterator[bytes]:
        """Yield the directories of DT_RPATH: a library's own, then those of what loaded it, and so on.

        A DT_RUNPATH takes its file's DT_RPATH away, and from the libraries that the file needs those of
        all others.
        """
        if user.file.runpath is not None:
            return
        each: Loaded | None = user
        while each:
            if each.file.runpath is None:
                yield from self._of(each, each.file.rpath)
            each = each.loader

    def _of(self, user: Loaded, written: Sequence[bytes] | None) -> Iterator[bytes]:
        for directory in written or ():
            expanded = self._expanded(directory, user)
            if expanded.startswith(b"/"):
                yield expanded

    def _expanded(self, written: bytes, user: Loaded) -> bytes:
        if b"$" not in written:
            return written
        values = {**self._variables, b"ORIGIN": posixpath.dirname(user.path)}
        return _VARIABLE.sub(lambda found: values[found[1] or found[2]], written)


def _built_in_directories(linker: bytes) -> tuple[bytes, ...]:
    found = _BUILT_IN.search(linker)
    directories = found[0].split(b"\0") if found else [b"/lib64/", b"/usr/lib64/", b"/lib/", b"/usr/lib/"]
    return tuple(directory.rstrip(b"/") for directory in directories if directory)


def _configured(files: Files, path: bytes, depth: int) -> Iterator[bytes]:
    """Yield the directories of a configuration, as ldconfig(8) reads it, and of those that it includes."""
    for line in (files.data(path, _MAX_CONFIGURATION) or b"").split(b"\n"):
        words = line.partition(b"#")[0].split()
        if words and words[0] == b"include":
            for pattern in words[1:] if depth < _MAX_INCLUDES else ():
                for included in _matching(files, posixpath.join(posixpath.dirname(path), pattern)):
                    yield from _configured(files, included, depth + 1)
        elif words and words[0].startswith(b"/"):
            yield words[0].partition(b"=")[0].rstrip(b"/") or b"/"


def _matching(files: Files, pattern: bytes) -> list[bytes]:
    """Return the paths that a pattern of a shell matches, sorted."""
    found = [b"/"]
    for part in filter(None, pattern.split(b"/")):
        wild = any(special in part for special in b"*?[")
        found = [
            posixpath.join(directory, name)
            for directory in found
            for name in (fnmatch.filter(files.names(directory), part) if wild else [part])
        ]
    return found


class Musl:
    """The dynamic linker of musl."""

    def __init__(self, interpreter: bytes, files: Files) -> None:
        self._interpreter = interpreter
        self._path_file = _path_file(interpreter)
        given = files.data(self._path_file, _MAX_CONFIGURATION)
        self._given = given is not None
        self._system = _MUSL_DIRECTORIES if given is None else tuple(filter(None, re.split(rb"[:\n]", given)))

    def places(self, name: bytes, user: Loaded) -> Iterator[bytes]:
        """Yield the paths at which a library is looked for, in their order."""
        if b"/" in name:
            yield name
        elif name.startswith(_IN_MUSL):
            yield self._interpreter
        else:
            for directory in (*self._inherited(user), *self._system):
                yield posixpath.join(directory, name)

    def found_by_cache(self, name: bytes, user: Loaded, place: bytes) -> bool:
        """Return False: musl has no cache."""
        return False

    def configuration(self) -> Iterator[bytes]:
        """Yield the path of the file that has the directories in which every library is looked for."""
        if self._given:
            yield self._path_file

    def _inherited(self, user: Loaded) -> Iterator[bytes]:
        """Yield the directories of what needs a library, of what loaded that, and so on.

        DT_RUNPATH and DT_RPATH are the same to musl; with a variable other than $ORIGIN, none counts.
        """
        each: Loaded | None = user
        while each:
            written = each.file.rpath if each.file.runpath is None else each.file.runpath
            origin = posixpath.dirname(each.path)
            expanded = [
                one.replace(b"${ORIGIN}", origin).replace(b"$ORIGIN", origin) for one in written or ()
            ]
            if not any(b"$" in one for one in expanded):
                yield from (one for one in expanded if one.startswith(b"/"))
            each = each.loader


def _path_file(interpreter: bytes) -> bytes:
    """Return the path of the file beside a linker: /etc/ld-musl-x86_64.path for the one in /lib."""
    prefix = posixpath.dirname(posixpath.dirname(interpreter))
    return posixpath.join(prefix, b"etc/ld-musl-x86_64.path")


def load(
    start: Loaded, linker: Linker, files: Files, loaded: Mapping[bytes, Loaded] | None = None
) -> tuple[dict[bytes, Loaded], list[Missing]]:
    """Return the libraries that are loaded with a program, by their names, and those that are missing.

    They are looked for in the order in which a linker does, breadth first. ``loaded`` are those that are
    there before, as where a program opens a library later.
    """
    found = dict(loaded or {})
    missing: list[Missing] = []
    added: dict[bytes, Loaded] = {}
    pending = [start]
    for user in pending:
        for name in user.file.needed:
            if name in found:
                continue
            # What a linker has not found once it does not look for again.
            library = None if any(one.name == name for one in missing) else _found(name, user, linker, files)
            if library is None:
                missing.append(Missing(name, user))
                continue
            known = next((one for one in found.values() if one.path == library.path), None)
            found[name] = added[name] = known or library
            found.setdefault(library.file.soname or name, library)
            if known is None:
                pending.append(library)
    return added, missing


def _found(name: bytes, user: Loaded, linker: Linker, files: Files) -> Loaded | None:
    for place in linker.places(name, user):
        file = files.executable(place)
        if file:
            return Loaded(place, file, user)
    return None
