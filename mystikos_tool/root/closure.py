"""Programs with all that a dynamic linker and a kernel need to start them, as a source of a root.

What is found stays at its path, with the directories and symbolic links that lead to it, so that the
program starts in the root as it does where it comes from. Nothing is run to find it.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ld_so_cache, program
from mystikos_tool.formats.program import Executable, Script
from mystikos_tool.io import lookup
from mystikos_tool.root import dynamic_linker
from mystikos_tool.root.dynamic_linker import Linker, Loaded, Missing
from mystikos_tool.root.root_view import Facts, RootView
from mystikos_tool.root.source import DirectorySource, PlacedSource, Source, scan_file
from mystikos_tool.root.tree import Entry, Tree, join
from mystikos_tool.root.written import written

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "nss": ("/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/protocols", "/etc/services"),
    "locale": ("/usr/lib/locale", "/usr/share/i18n/locales/musl"),
    "certificates": (
        "/etc/ssl/certs",
        "/etc/ssl/cert.pem",
        "/etc/ssl/openssl.cnf",
        "/usr/lib/ssl/certs",
        "/usr/lib/ssl/cert.pem",
        "/usr/lib/ssl/openssl.cnf",
        "/etc/pki/tls/certs",
        "/etc/pki/tls/cert.pem",
        "/etc/pki/ca-trust/extracted/pem",
    ),
    "timezones": ("/usr/share/zoneinfo",),
    "unwinder": (),
}
"""What programs open by names that no ELF file has, by the name that it is asked for; see docs/appdir.md."""

# What of an extra is a library, found as a dynamic linker finds it.
_LIBRARIES_OF_EXTRAS: Mapping[str, tuple[bytes, ...]] = {"unwinder": (b"libgcc_s.so.1",)}
_NSS = "nss"
_NSSWITCH = "/etc/nsswitch.conf"
_MAX_NSSWITCH = 1 << 16
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_MAX_SCRIPTS = 5  # scripts whose interpreter is a script, as Linux follows them
_GLIBC, _MUSL = b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-musl-x86_64.so.1"
_SHOWN = 5


class Closure:
    """The closure of programs, each an absolute path in the root: a source of a root.

    A path is looked for among what is ``given``, sources of a root themselves, and then below
    ``sysroot``. It is a program, a script, a shared library that a program opens by its name, or a directory,
    which is taken with all that is in it and all that the programs and libraries in it need. What is given
    is taken as such a directory is.
    ``extras`` are names of :data:`EXTRAS`. What matches a pattern of ``exclude``, a name or, with a
    slash, a path in the root, is as if it were not there, and no library of such a name is missed.
    Modes are made canonical unless ``preserve_modes``. ``known`` are facts of an earlier closure.

    Raises UserError, when it is asked, for what is not there, is no program of x86-64 Linux, belongs to
    a C library other than glibc and musl, or needs a library or interpreter that is not there.
    """

    def __init__(
        self,
        programs: Sequence[str],
        *,
        given: Sequence[Source] = (),
        sysroot: Path = Path("/"),
        extras: Sequence[str] = (),
        exclude: tuple[str, ...] = (),
        preserve_modes: bool = False,
        known: Facts | None = None,
    ) -> None:
        self._programs = [_checked_path(path, sysroot) for path in programs]
        self._given = given
        self._sysroot = sysroot
        self._extras = [_checked_extra(name) for name in extras]
        self._exclude = exclude
        self._preserve_modes = preserve_modes
        self._known: Facts = known or {}

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the closure may have changed."""
        return self._tree.fingerprint()

    def is_racy(self) -> bool:
        """Tell whether something could be changed and the fingerprint stay as it is."""
        return self._tree.is_racy() or any(source.is_racy() for source in self._given)

    def tree(self) -> Tree:
        """Return the entries."""
        return self._tree

    def facts(self) -> Facts:
        """Return what is known of the files by now, of which nothing needs to be read again."""
        return self._found.view.facts

    def is_given(self, path: bytes) -> bool:
        """Tell whether what is at a path, without a leading slash, is not from the sysroot."""
        return self._found.view.is_given(path)

    @cached_property
    def _tree(self) -> Tree:
        taken, given = self._found.view.taken, self._given_tree
        entries = {**taken, **{entry.path: entry for entry in given.entries}}
        ordered = tuple(entries[path] for path in sorted(entries))
        return Tree(ordered, given.left_out, min(given.as_of, self._started))

    @cached_property
    def _started(self) -> int:
        return time.time_ns()

    @cached_property
    def _given_tree(self) -> Tree:
        empty = Tree((), (), self._started)
        return join([source.tree() for source in self._given]) if self._given else empty

    @cached_property
    def _found(self) -> _Found:
        if not lookup.is_dir(self._sysroot):
            raise UserError(str(self._sysroot), "is no directory", "give the sysroot that has the programs")
        given = self._given_tree
        view = RootView(given, self._sysroot, self._exclude, self._preserve_modes, self._known)
        found = _Found(view, str(self._sysroot))
        found.add_files(view.files_of(entry for entry in given.entries if not stat.S_ISDIR(entry.mode)))
        for path in self._programs:
            found.add(path)
        for name in self._extras:
            found.add_extra(name)
        found.finish()
        return found


def _checked_path(path: str, sysroot: Path) -> str:
    if not path.startswith("/") or "\0" in path:
        raise UserError(path, "is no absolute path in the root", f"write /{path}")
    if not path.strip("/") and os.path.realpath(sysroot) == "/":
        raise UserError(path, "is the whole machine", "name programs, or directories below it")
    return path


def _checked_extra(name: str) -> str:
    if name not in EXTRAS:
        raise UserError(name, "is no extra of a closure", f"give one of {', '.join(EXTRAS)}")
    return name


class _Found:
    """What has been found so far; a view of the root remembers what is taken."""

    def __init__(self, view: RootView, sysroot: str) -> None:
        self.view = view
        self._sysroot = sysroot
        self._linkers: dict[bytes, Linker] = {}
        self._started: list[tuple[Loaded, Linker, Mapping[bytes, Loaded]]] = []
        self._opened: dict[bytes, Executable] = {}  # libraries that a program opens, by path
        self._missing: list[Missing] = []
        self._cached: dict[bytes, bytes] = {}

    def add(self, path: str) -> None:
        """Take what is at a path: a directory with all in it, else a program with what it needs."""
        found = self.view.take(path)
        if found is None:
            raise UserError(path, f"is not in {self._sysroot}", "correct the path, or install it there")
        if stat.S_ISDIR(found.mode):
            self.add_files(self.view.take_all(found))
        else:
            self._add_program(path, found)

    def add_extra(self, name: str) -> None:
        """Take what an extra consists of, as far as it is there."""
        paths = [path for path in EXTRAS[name] if self.view.find(path)]
        libraries = list(_LIBRARIES_OF_EXTRAS.get(name, ()))
        if name == _NSS:
            libraries += _modules_of(self.view.data(_NSSWITCH.encode(), _MAX_NSSWITCH) or b"")
        opened = [place for library in libraries for place in self._opened_by_name(library)]
        if not (paths or opened):
            shown = ", ".join([*EXTRAS[name], *map(os.fsdecode, libraries)])
            raise UserError(f"extra {name}", f"is not in {self._sysroot}", f"install one of {shown} there")
        for path in paths:
            found = self.view.take(path)
            if found and stat.S_ISDIR(found.mode):
                self.add_files(self.view.take_all(found))
        for place in opened:
            self.add(os.fsdecode(place))

    def _opened_by_name(self, library: bytes) -> Iterator[bytes]:
        """Yield where each of the programs finds a library that it opens by its name."""
        for start, linker, _ in self._users():
            places = linker.places(library, start)
            place = next((place for place in places if self.view.executable(place)), None)
            if place:
                yield place

    def add_files(self, entries: Iterable[Entry]) -> None:
        """Take what those of the files need that are programs or libraries; scripts may be of any kind."""
        for entry in entries:
            found = self.view.program(entry)
            if isinstance(found, Executable):
                self._add_executable(b"/" + entry.path, found)

    def _add_program(self, path: str, entry: Entry, depth: int = 0) -> None:
        found = self.view.program(entry) if stat.S_ISREG(entry.mode) else None
        if isinstance(found, Script):
            self._add_script(path, found, depth)
        elif found:
            self._add_executable(b"/" + entry.path, found)
        else:
            raise self._no_program(path, entry)

    def _no_program(self, path: str, entry: Entry) -> UserError:
        architecture = None
        if stat.S_ISREG(entry.mode):
            with entry.contents.opened(entry) as read_at:
                architecture = program.other_architecture(read_at)
        if architecture:
            return UserError(path, f"is for another architecture: {architecture}", "give the one for x86-64")
        problem = "is neither an x86-64 ELF program nor a script that begins with #!"
        return UserError(path, problem, "name a program; give other files as sources beside the closure")

    def _add_script(self, path: str, script: Script, depth: int) -> None:
        if depth == _MAX_SCRIPTS:
            raise UserError(path, "has an interpreter that is a script, and so on", "name the last one")
        if script.ends_in_return:
            raise UserError(path, *program.ENDS_IN_RETURN)
        interpreter = os.fsdecode(script.interpreter)
        entry = self.view.take(interpreter) if interpreter.startswith("/") else None
        if entry is None:
            raise UserError(
                path, f"is a script of {interpreter}, which is not in {self._sysroot}", "install it there"
            )
        self._add_program(interpreter, entry, depth + 1)
        if posixpath.basename(interpreter) == "env":
            self._add_by_name(path, _program_of_env(os.fsdecode(script.argument)), depth)

    def _add_by_name(self, path: str, name: str | None, depth: int) -> None:
        """Take the program that env starts for a script."""
        if not name:
            raise UserError(path, "lets env start no program", "write it as in #!/usr/bin/env python3")
        places = [name] if "/" in name else [posixpath.join(directory, name) for directory in _PATH]
        for place in places:
            entry = self.view.take(place)
            if entry and stat.S_ISREG(entry.mode) and entry.mode & 0o111:
                self._add_program(place, entry, depth + 1)
                return
        problem = f"lets env start {name}, which is in none of {':'.join(_PATH)} in {self._sysroot}"
        raise UserError(path, problem, "install it there, or name the interpreter by its path")

    def _add_executable(self, path: bytes, file: Executable) -> None:
        """Take what a program needs; a library waits until all programs are known."""
        if file.interpreter is None:
            if file.needed:
                self._opened[path] = file
            return
        start = Loaded(path, file)
        if not any(one.path == path for one, *_ in self._started):
            self._start(start, file.interpreter)

    def _start(self, start: Loaded, interpreter: bytes) -> None:
        linker = self._linker(start.path, interpreter)
        itself = self.view.executable(interpreter)
        assert itself  # noqa: S101 the linker was found
        own = Loaded(interpreter, itself)
        before = {posixpath.basename(interpreter): own, itself.soname: own}
        self._started.append((start, linker, before | self._load(start, linker, before)))

    def _linker(self, user: bytes, interpreter: bytes) -> Linker:
        if interpreter not in self._linkers:
            linker = dynamic_linker.of_interpreter(interpreter, self.view)
            path, shown = os.fsdecode(user), os.fsdecode(interpreter)
            if linker is None:
                problem = f"is of a C library that Mystikos does not run, whose dynamic linker is {shown}"
                raise UserError(path, problem, "build it with glibc or musl")
            entry = self.view.take(interpreter)
            if entry is None:
                problem = f"has the interpreter {shown}, which is not in {self._sysroot}"
                raise UserError(path, problem, "install the C library that it was built with there")
            if self.view.executable(interpreter) is None:
                raise self._no_program(shown, entry)
            for place in linker.configuration():
                self.view.take(place)
            self._linkers[interpreter] = linker
        return self._linkers[interpreter]

    def _load(self, start: Loaded, linker: Linker, before: Mapping[bytes, Loaded]) -> dict[bytes, Loaded]:
        loaded, missing = dynamic_linker.load(start, linker, self.view, before)
        self._missing += (one for one in missing if not self.view.is_excluded(one.name))
        for name, library in loaded.items():
            self.view.take(library.path)
            if library.loader and linker.found_by_cache(name, library.loader, library.path):
                self._cached[name] = library.path
        return loaded

    def _users(self) -> list[tuple[Loaded, Linker, Mapping[bytes, Loaded]]]:
        """Return the programs that may open a library, or one that stands for them where there is none."""
        if self._started:
            return self._started
        needed = {name for file in self._opened.values() for name in file.needed}
        is_musl = any(name == b"libc.so" or name.startswith(b"libc.musl") for name in needed)
        interpreter = _MUSL if is_musl else _GLIBC
        path = next(iter(self._opened), b"the closure")
        start = Loaded(path, Executable(True, interpreter))
        self._start(start, interpreter)
        return self._started

    def finish(self) -> None:
        """Take what libraries need that a program opens; raise UserError for what is missing."""
        if self._opened:
            start, linker, before = self._users()[0]
            for path, file in self._opened.items():
                self._load(Loaded(path, file, start), linker, before)
        if self._missing:
            raise self._missed()
        cache = ld_so_cache.PATH.strip("/")
        if self._cached and not self.view.is_given(cache.encode()):
            self.view.take(posixpath.dirname(ld_so_cache.PATH))
            self.view.put(written(cache, ld_so_cache.write(self._cached), "the closure's"))

    def _missed(self) -> UserError:
        users: dict[str, set[str]] = {}
        for missing in self._missing:
            users.setdefault(os.fsdecode(missing.name), set()).add(os.fsdecode(missing.user.path))
        shown = [f"{name} ({', '.join(_few(sorted(who)))} needs it)" for name, who in sorted(users.items())]
        others = [self._other(missing) for missing in self._missing]
        architecture = next((f"; {other}" for other in others if other), "")
        name = sorted(users)[0]
        return UserError(
            sorted(users[name])[0],
            f"needs what is not in {self._sysroot}: {'; '.join(_few(shown))}{architecture}",
            f"install it there, give it in a mapping, or exclude what needs it, or {name} itself",
        )

    def _other(self, missing: Missing) -> str | None:
        """Say what a file of that name is that is no x86-64 library; None where there is no such file."""
        for _, linker, _ in self._started:
            for place in linker.places(missing.name, missing.user):
                entry = self.view.find(place)
                if entry and stat.S_ISREG(entry.mode):
                    with entry.contents.opened(entry) as read_at:
                        architecture = program.other_architecture(read_at)
                    kind = f"for another architecture: {architecture}" if architecture else "no library"
                    return f"{os.fsdecode(place)} is {kind}"
        return None


def _few(items: Iterable[str]) -> list[str]:
    every = list(items)
    more = len(every) - _SHOWN
    return every[:_SHOWN] + ([f"and {more:,} more"] if more > 0 else [])


def _program_of_env(argument: str) -> str | None:
    """Return the program that ``env`` starts for what stands behind it in the first line of a script."""
    split = re.match(r"-[v0i]*S\s*|--split-string[=\s]\s*", argument)
    words = [argument]
    if split:
        try:
            words = shlex.split(argument[split.end() :])
        except ValueError:  # a quotation without end
            return None
    words.reverse()
    while words:
        word = words.pop()
        if word in ("-u", "--unset", "-C", "--chdir"):
            words = words[:-1]
        elif not (word.startswith("-") or "=" in word):
            return word
    return None


def _modules_of(nsswitch: bytes) -> list[bytes]:
    """Return the libraries of the services that a configuration of the name service switch names."""
    services: dict[bytes, None] = {}
    for line in nsswitch.split(b"\n"):
        _, _, named = line.partition(b"#")[0].partition(b":")
        services |= dict.fromkeys(re.sub(rb"\[[^]]*\]", b" ", named).split())
    return [b"libnss_" + service + b".so.2" for service in services]


def sources_of(programs: Iterable[str], files: Mapping[str, Path], sysroot: Path) -> list[Path]:
    """Return the paths of what is named: those in the sysroot, and those from elsewhere."""
    return [*(sysroot / program.lstrip("/") for program in programs), *files.values()]


def of_files(
    programs: Sequence[str],
    files: Mapping[str, Path],
    *,
    sysroot: Path = Path("/"),
    extras: Sequence[str] = (),
    exclude: tuple[str, ...] = (),
    preserve_modes: bool = False,
) -> Tree:
    """Return the closure of programs of a sysroot and of files from elsewhere, by their places in the root.

    A place that ends in a slash is the directory that a file goes into under its own name. Raises
    UserError as :class:`Closure` does, and for files that cannot be read.
    """
    given: list[Source] = []
    every = list(programs)
    for place, path in files.items():
        if lookup.is_dir(path):
            source = DirectorySource(path, exclude=exclude, preserve_modes=preserve_modes)
            given.append(PlacedSource(source, place))
            continue
        directory, _, name = place.lstrip("/").rpartition("/")
        file = scan_file(path, name or path.name, preserve_modes=preserve_modes)
        given.append(PlacedSource(file, directory) if directory else file)
        every.append(posixpath.join("/", directory, name or path.name))
    return Closure(
        every,
        given=given,
        sysroot=sysroot,
        extras=extras,
        exclude=exclude,
        preserve_modes=preserve_modes,
    ).tree()
