"""What of a root cannot work in an enclave, from its files alone: each thing that is found with its severity.

An installed Mystikos is the measure. What its embedded counterpart lets a program do beyond that, for
development, is told here too. Each file's headers are read and no more of it than names: the work
grows with the number of files and the size of their tables, whatever these say.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mystikos_tool.config import Config
from mystikos_tool.errors import UserError
from mystikos_tool.formats import cpio, program
from mystikos_tool.formats.program import Executable, Script
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root import functions
from mystikos_tool.root.functions import Behaviour, Severity
from mystikos_tool.root.index import Index, Member
from mystikos_tool.root.program import loaded
from mystikos_tool.root.requirements import CHECKS
from mystikos_tool.root.tree import boot_fault

_SET_ID = stat.S_ISUID | stat.S_ISGID
_OF_THE_HOST = (b"etc/hosts", b"etc/resolv.conf")
_C_LIBRARIES = ("ld-", "libc.", "libc-", "libm.", "libdl.", "libpthread.", "librt.", "libutil.", "libresolv.")
_MUSL = "ld-musl-"
# A configuration of 1 MiB does not boot, and one of 8 MiB does.
_TOO_SMALL = 1 << 20
_USERS = ({b"getpwnam", b"getpwnam_r", b"getpwuid", b"getpwuid_r"}, "/etc/passwd")
_GROUPS = ({b"getgrnam", b"getgrnam_r", b"getgrgid", b"getgrgid_r", b"initgroups"}, "/etc/group")


class Finding(NamedTuple):
    """What is wrong with a file of the root, or with a key of the configuration.

    ``severity`` is "error" for what certainly fails, "warning" for what fails where it is used, "note"
    for what is another thing in the enclave. ``kind`` is one word for programs, ``where`` a path in the
    root, with its ``/``, or the place of a key.
    """

    severity: Severity
    kind: str
    where: str
    problem: str
    remedy: str


def findings(index: Index, config: Config | None, *, is_disk: bool = False) -> Iterator[Finding]:
    """Yield what of a root cannot work, or works differently, in an enclave with a configuration.

    Without one nothing is known of the program to start, and ForkMode and the like have their defaults.
    """
    at_start: Mapping[str, Executable] = {}
    if config:
        at_start = loaded(index, config)
        yield from _of_configuration(index, config, is_disk=is_disk)
        yield from _of_memory(config, at_start)
    started = index.find(config.application_path) if config else None
    yield from _Files(index, started, functions.behaviours(config)).findings()


def _of_configuration(index: Index, config: Config, *, is_disk: bool) -> Iterator[Finding]:
    """Yield why the package does not start under an installed Mystikos, or may not."""
    for doubts in CHECKS:
        try:
            for doubt in doubts(index, config, embedded=False, is_disk=is_disk):
                yield Finding("warning", "start", doubt.where, doubt.problem, doubt.remedy)
        except UserError as error:
            yield Finding("error", "start", error.where, error.problem, error.remedy)
    for number, mount in enumerate(config.mounts):
        if mount.flags or mount.public_key or mount.root_hash:
            where = config.where(f"Mount[{number}]")
            problem = "Mystikos starts no package that has a mount with Flags, PublicKey or RootHash"
            yield Finding("error", "mount", where, problem, "leave them out")


def _of_memory(config: Config, at_start: Mapping[str, Executable]) -> Iterator[Finding]:
    where, remedy = config.where("MemorySize"), "give more"
    if config.memory_size <= _TOO_SMALL:
        problem = f"{config.memory_size:,} bytes do not suffice for Mystikos to boot"
        yield Finding("error", "memory", where, problem, remedy)
        return
    needed = config.main_stack_size + sum(one.memory for one in at_start.values())
    if needed >= config.memory_size:
        problem = f"the program, its libraries and its main stack have {needed:,} bytes, and all memory"
        problem += f" is {config.memory_size:,}"
        yield Finding("error", "memory", where, problem, remedy)


class _Files:
    """The files of a root, one after the other; how ``started`` starts is reported elsewhere."""

    def __init__(self, index: Index, started: Member | None, behaviours: tuple[Behaviour, ...]) -> None:
        self._index = index
        self._started = started
        self._behaviours = behaviours
        self._missing = [(names, path) for names, path in (_USERS, _GROUPS) if not index.find(path)]

    def findings(self) -> Iterator[Finding]:
        with self._index.reading() as data_of:
            for member in self._index.members:
                path = "/" + os.fsdecode(member.path)
                yield from self._of_entry(member, path)
                if stat.S_ISLNK(member.mode):
                    yield from self._of_link(path, self._index.data(member))
                elif stat.S_ISREG(member.mode):
                    yield from self._of_file(path, member, data_of(member))

    def _of_entry(self, member: Member, path: str) -> Iterator[Finding]:
        if len(member.path) > cpio.MAX_BOOTED_PATH:
            severity: Severity = "error" if len(member.path) > cpio.MAX_BOOTED_PATH + 1 else "warning"
            problem, _, remedy = boot_fault(path[1:]).rpartition("; ")
            yield Finding(severity, "path", path, problem, remedy)
        if member.mode & _SET_ID and stat.S_ISREG(member.mode):
            problem = "is set-id, and a program is no other user's for that in the enclave"
            yield Finding("warning", "set-id", path, problem, "let the program change its user itself")
        if member.path in _OF_THE_HOST and not stat.S_ISDIR(member.mode):
            problem = "is replaced by the host's file at the start"
            yield Finding("note", "replaced", path, problem, "leave it out, or read another file")
        if member.path == b"etc" and not stat.S_ISDIR(member.mode):
            yield Finding("warning", "replaced", path, "is replaced by a directory", "make it one")
        if member.path == b"tmp" and not stat.S_ISDIR(member.mode):
            problem = "is no directory, and using it crashes Mystikos"
            yield Finding("warning", "crash", path, problem, "make it one, or leave it out")

    def _of_link(self, path: str, target: bytes) -> Iterator[Finding]:
        named = posixpath.join(posixpath.dirname(path), os.fsdecode(target))
        if posixpath.normpath(named) == path:
            problem = "is a symbolic link to itself, and opening it crashes Mystikos"
            yield Finding("warning", "crash", path, problem, "leave it out")

    def _of_file(self, path: str, member: Member, read_at: ReadAt) -> Iterator[Finding]:
        found = program.read(read_at)
        if isinstance(found, Script) and member.mode & 0o111 and len(found.argument.split()) > 1:
            problem = "its first line has several words behind the interpreter, which come as one on Linux"
            remedy = "let one word follow the interpreter"
            yield Finding("note", "script", path, f"{problem} and one by one in the enclave", remedy)
        if isinstance(found, Script) and member.mode & 0o111 and found.ends_in_return:
            yield Finding("warning", "script", path, *program.ENDS_IN_RETURN)
        if not isinstance(found, Executable) or posixpath.basename(path).startswith(_C_LIBRARIES):
            return
        if found.is_program:
            starts = found.interpreter is not None and found.position_independent
            if starts or member != self._started:
                yield from self._of_program(path, found)
        yield from self._of_imports(path, program.imports(read_at))

    def _of_program(self, path: str, found: Executable) -> Iterator[Finding]:
        interpreter = os.fsdecode(found.interpreter or b"")
        if found.interpreter is None:
            problem = "is statically linked, and Mystikos starts no such program"
            yield Finding("warning", "static", path, problem, "link it dynamically, against musl")
        elif not found.position_independent:
            problem = "is not position-independent, and Mystikos starts no such program"
            yield Finding("warning", "no-pie", path, problem, "link it with -pie")
        elif not posixpath.basename(interpreter).startswith(_MUSL):
            problem = f"is linked for {interpreter}, and Mystikos loads it with its own C library, musl"
            yield Finding("warning", "c-library", path, problem, "build it for musl")

    def _of_imports(self, path: str, imports: frozenset[bytes] | None) -> Iterator[Finding]:
        if imports is None:
            problem = "has more symbols than are looked at: what it uses is not known"
            yield Finding("warning", "unknown", path, problem, "find out what it is")
            return
        for behaviour, names in functions.used(imports, self._behaviours):
            problem = f"uses {', '.join(names)}: {behaviour.problem}"
            yield Finding(behaviour.severity, behaviour.kind, path, problem, behaviour.remedy)
        for names_of_file, file in self._missing:
            if used := sorted(name.decode() for name in imports & names_of_file):
                problem = f"uses {', '.join(used)}, and there is no {file}, so that nobody is found"
                yield Finding("note", "users", path, problem, f"put an {file} into the appdir")
