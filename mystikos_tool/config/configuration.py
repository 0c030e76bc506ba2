"""Read and check a Mystikos configuration (docs/configuration.md, schema version "0.1").

    config = load(Path("config.json"))
    config.memory_size             # bytes, a multiple of the page size
    config.data                    # what goes into the package
    config.where("ApplicationPath")  # "config.json:7:24: ApplicationPath", for later messages

``config.schema.json`` says what a key accepts; this module has the rules between keys.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mystikos_tool.config import jsonc, schema
from mystikos_tool.config.jsonc import Document, Node
from mystikos_tool.config.schema import Finding, Steps, quote, show
from mystikos_tool.errors import UserError
from mystikos_tool.io.atomic import read_input
from mystikos_tool.io.pages import page_up

DEFAULT_MEMORY_SIZE = 64 << 20
DEFAULT_MAIN_STACK_SIZE = 1568 << 10
MAX_PROBLEMS = 100  # more are no help
_HOST_NAME_MAX = 64  # HOST_NAME_MAX of limits.h
_OF_ITS_FILE = 4  # of the fields of a Config the last ones: two may differ in them and say the same
_NOT_SHOWN = ("data", "places")
_NO_PLACES: Mapping[str, str] = {}


class ConfigError(UserError):
    """All mistakes of one configuration, at most `MAX_PROBLEMS`, in the order of the file, one a line."""

    def __init__(self, problems: Iterable[UserError]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.where, first.problem, first.remedy)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Mount(NamedTuple):
    """A file system that is mounted at the start; its source comes from the host."""

    target: str
    type: str
    flags: tuple[str, ...] = ()
    public_key: str | None = None
    root_hash: str | None = None


class Secret(NamedTuple):
    """A secret that is released to the enclave after attestation."""

    id: str
    srs_address: str
    local_path: str
    client_lib: str
    srs_api_version: str | None = None
    verbose: bool = False


class Config(NamedTuple):
    """A checked configuration. Sizes are in bytes and multiples of the page size.

    ``None`` stands for an absent key whose default belongs to the runtime. Two configurations
    are equal when they say the same, whatever their files look like.
    """

    application_path: str
    version: str = "0.1"
    debug: bool = False
    product_id: int = 0
    security_version: int = 0
    create_zero_base_enclave: bool | None = None
    enclave_start_address: int | None = None
    memory_size: int = DEFAULT_MEMORY_SIZE
    main_stack_size: int = DEFAULT_MAIN_STACK_SIZE
    thread_stack_size: int = 0
    max_affinity_cpus: int | None = None
    no_brk: bool = False
    exec_stack: bool = False
    host_application_parameters: bool = False
    application_parameters: tuple[str, ...] = ()
    environment_variables: tuple[str, ...] = ()
    host_environment_variables: tuple[str, ...] = ()
    current_working_directory: str = "/"
    hostname: str | None = None
    fork_mode: str = "none"
    mounts: tuple[Mount, ...] = ()
    unhandled_syscall_enosys: bool = False
    host_uds: bool = False
    syslog_level: str | None = None
    secrets: tuple[Secret, ...] = ()

    name: str = "config.json"
    data: bytes = b""
    warnings: tuple[str, ...] = ()
    places: Mapping[str, str] = _NO_PLACES

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self[:-_OF_ITS_FILE] == other[:-_OF_ITS_FILE]

    def __ne__(self, other: object) -> bool:  # a tuple has its own
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:-_OF_ITS_FILE])

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name not in _NOT_SHOWN)
        return f"Config({', '.join(shown)})"

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Config:
        """Read a configuration file; raise UserError with all mistakes in it."""
        return load(Path(path))

    @property
    def application_name(self) -> str:
        """The last component of ApplicationPath, after which the package is named."""
        return posixpath.basename(self.application_path)

    def where(self, key: str) -> str:
        """The place of a key's value, such as ``config.json:7:24: ApplicationPath``.

        Members of lists are written ``Mount[0].Target``. A key that the file leaves out has
        only the file's name before it.
        """
        return f"{self.places.get(key, self.name)}: {key}"


class Known(Protocol):
    """What remembers the configurations that were found valid, by `schema.digest`; a set is one.

    It may forget, which costs time, but must never hold what was not added.
    """

    def __contains__(self, digest: str, /) -> bool:
        """Tell whether a digest was added."""

    def add(self, digest: str, /) -> None:
        """Remember a digest."""


class Changes(NamedTuple):
    """Members that are given beside a configuration file; ``where`` is what messages call their place.

    A value replaces the file's or is added to it; None takes the file's away. ``defaults`` returns
    members for what the configuration, whose members it gets, says nothing of.
    """

    values: Mapping[str, Any]
    where: str
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def load(path: Path, known: Known | None = None, changes: Changes | None = None) -> Config:
    """Read a configuration file. Raises UserError for what cannot be read or is none, else as `parse`."""
    data = read_input(path, "configuration file")
    try:
        return parse(data, str(path), known, changes)
    except UserError:
        from mystikos_tool.formats import kinds  # not needed for a configuration

        if kinds.kind(data) in (kinds.CONFIGURATION, kinds.JSON, kinds.EMPTY, ""):
            raise
        problem = kinds.instead_of(data, "configuration")
        raise UserError(str(path), problem, 'give JSON, as { "ApplicationPath": "/bin/app" }') from None


def parse(data: bytes, name: str, known: Known | None = None, changes: Changes | None = None) -> Config:
    """Check the bytes of a configuration; ``name`` is what messages call the file.

    One that is in ``known`` is not held against the schema again; one that fits the schema is added.
    With ``changes`` the canonical form of what they make of it goes into the package. Raises
    ConfigError with all mistakes in keys and values, or UserError with the first place that is not
    JSON (see `jsonc.read`).
    """
    document = jsonc.read(data, name)
    changes = _with_defaults(document, changes) if changes else None
    return _checked(_changed(document, changes) if changes else document, data, known, changes)


def of(
    values: Mapping[str, Any],
    where: str,
    known: Known | None = None,
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> Config:
    """Check a configuration that is in no file, as `parse` does one with changes; ``where`` names it."""
    changes = Changes(values, where, defaults)
    changes = _with_defaults(jsonc.empty(where), changes) or changes
    return _checked(_changed(jsonc.empty(where), changes), b"", known, changes)


def setting(text: str) -> tuple[str, Any]:
    """Return the key and the value of ``SecurityVersion=3``: a value of JSON, or else a string.

    Raises UserError for text that is none.
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UserError(text, "is no key with a value", 'write it as in "SecurityVersion=3"')
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _with_defaults(document: Document, changes: Changes) -> Changes | None:
    """Return changes with the defaults among their values; None where nothing changes."""
    if changes.defaults is None:
        return changes
    members = _Reading(document).values
    given = {**(members if isinstance(members, dict) else {}), **changes.values}
    given = {key: value for key, value in given.items() if value is not None}
    values = {**changes.defaults(given), **changes.values}
    return Changes(values, changes.where) if values else None


def _changed(document: Document, changes: Changes) -> Document:
    for key, value in changes.values.items():
        if value is None and key not in schema.table()["properties"]:
            raise UserError(f"{changes.where}: {key}", "is no key that could be taken away", "correct it")
    return jsonc.changed(document, changes.values, changes.where)


def _checked(document: Document, data: bytes, known: Known | None, changes: Changes | None) -> Config:
    reading = _Reading(document)
    values = reading.values
    if not isinstance(values, dict):
        raise UserError(
            reading.document.place(reading.document.root.start),
            f"expected an object, found {show(values)}",
            'write { "ApplicationPath": "/bin/app" }',
        )
    reading.check(schema.digest(_canonical(values) if changes else data), known)
    for finding in _conflicts(reading):
        reading.problem(finding)
    reading.raise_problems()

    members = {key: value for key, value in values.items() if key != "$schema"}
    packaged = schema.lists(schema.table(), members)
    typed = schema.fields(schema.table(), packaged)
    for key, record in (("mounts", Mount), ("secrets", Secret)):
        typed[key] = tuple(record(**members) for members in typed.get(key, ()))
    # Where the canonical form goes into the package anyway, a string for a list does no harm.
    findings = [*_better_changed(values), *(() if changes else _bare_strings(values, packaged))]
    unreadable = [note for note in reading.document.notes if note.unreadable]
    as_it_is = packaged == values and not unreadable and not changes
    # Where a value has to change, what an installed Mystikos trips over in the text is gone with it.
    notes = [_with_consequence(note) for note in reading.document.notes] if packaged == values else ()
    data = data if as_it_is else _canonical(packaged)
    if changes and len(data) > jsonc.MAX_SIZE:
        raise UserError(document.name, f"has more than {jsonc.MAX_SIZE:,} bytes", "write a smaller one")
    return Config(
        **typed,
        name=document.name,
        data=data,
        warnings=reading.warnings(notes, findings),
        places=reading.places(),
    )


def check_as_read(config: Config) -> None:
    """Raise UserError for a configuration that says something else than its ``data``: none that was read."""
    if not config.data or parse(config.data, config.name) != config:
        problem = "the Config was not read as it is, and its fields are not what would go into the package"
        raise UserError(config.name, problem, "give a file, or a mapping with the members")


def members(config: Config) -> dict[str, Any]:
    """Return what goes into the package as the values of JSON, by their keys, to be changed and parsed."""
    return dict(_Reading(jsonc.read(config.data, config.name)).values)


def memory_size_of(data: bytes, name: str) -> int:
    """The memory of a configuration that may be wrong in everything else, in bytes.

    An installed Mystikos packages configurations that `parse` refuses; to measure such a package
    only this is needed of it. As there, the last of several values counts. Raises UserError for
    what is not JSON, and for a size that is none.
    """
    document = jsonc.read(data, name)
    root, size = document.root.value, 0
    for member in root if isinstance(root, tuple) else ():
        if member.key in ("MemorySize", "UserMemSize"):
            given = schema.size(member.node.value)
            if given is None:
                where = f"{document.place(member.node.start)}: {member.key}"
                raise UserError(where, *schema.refusal(member.node.value, schema.definition("size")))
            size = given
    return page_up(size) or DEFAULT_MEMORY_SIZE


class _Reading:
    """A document's value, with the place of each part of it and what is wrong so far.

    Of a key that is given twice the first value counts.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faulty: set[Steps] = set()
        self._problems: list[tuple[int, UserError]] = []
        self._starts: dict[Steps, int] = {}
        self._key_starts: dict[Steps, int] = {}
        self.values = self._plain(document.root, ())

    def _plain(self, node: Node, steps: Steps) -> Any:
        self._starts[steps] = node.start
        if isinstance(node.value, list):
            return [self._plain(element, (*steps, number)) for number, element in enumerate(node.value)]
        if not isinstance(node.value, tuple):
            return node.value
        values: dict[str, Any] = {}
        for member in node.value:
            inner = (*steps, member.key)
            if member.key in values:
                line = self.document.line(self._key_starts[inner])
                again = Finding(inner, f"is given in {line} already", "remove one of the two")
                self._problems.append((member.start, self._error(member.start, again)))
                continue
            self._key_starts[inner] = member.start
            values[member.key] = self._plain(member.node, inner)
        return values

    def check(self, digest: str, known: Known | None) -> None:
        """Hold the value against the schema, unless it is known to fit."""
        if known is not None and digest in known:
            return
        findings = list(islice(schema.check(self.values), MAX_PROBLEMS))
        for finding in findings:
            self.problem(finding)
        if len(findings) == MAX_PROBLEMS:
            self.raise_problems()
        if known is not None and not findings:
            known.add(digest)

    def problem(self, finding: Finding) -> None:
        """Take note of something that is wrong."""
        start = self._start(finding)
        self._problems.append((start, self._error(start, finding)))
        self.faulty.add(finding.steps)

    def raise_problems(self) -> None:
        """Raise ConfigError if anything is wrong."""
        if self._problems:
            in_order = sorted(self._problems, key=lambda problem: problem[0])
            raise ConfigError({str(error): error for _, error in in_order}.values())

    def warnings(self, notes: Iterable[jsonc.Note], findings: Iterable[Finding]) -> tuple[str, ...]:
        """Return what is better changed, in the order of the file."""
        told = [
            (note.start, self._error(note.start, Finding((), note.problem, note.remedy))) for note in notes
        ]
        told += [(start, self._error(start, found)) for found in findings for start in [self._start(found)]]
        return tuple(str(error) for _, error in sorted(told, key=lambda item: item[0]))

    def line(self, steps: Steps) -> str:
        """Return the line of a value, as messages name it."""
        return self.document.line(self._starts[steps])

    def places(self) -> dict[str, str]:
        """Return the place of each member's value by its name in messages."""
        return {
            _label(steps): self.document.place(start)
            for steps, start in self._starts.items()
            if steps and isinstance(steps[-1], str)
        }

    def _start(self, finding: Finding) -> int:
        if finding.key is not None:
            return self._key_starts[(*finding.steps, finding.key)]
        return self._starts[finding.steps]

    def _error(self, start: int, finding: Finding) -> UserError:
        place, label = self.document.place(start), _label(finding.steps)
        return UserError(f"{place}: {label}" if label else place, finding.problem, finding.remedy)


def _label(steps: Steps) -> str:
    """Return what messages call a value, such as ``Mount[0].Target``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _conflicts(reading: _Reading) -> Iterator[Finding]:
    """Find what no single key shows."""
    values = reading.values
    if "MemorySize" in values and "UserMemSize" in values:
        problem = f"is the old name of MemorySize, given in {reading.line(('MemorySize',))}"
        yield Finding(("UserMemSize",), problem, "remove it")
    faulty = {steps[:2] for steps in reading.faulty}
    mounts = values.get("Mount", []) if ("Mount",) not in faulty else []
    targets: dict[str, int] = {}
    for number, mount in enumerate(mounts):
        steps = ("Mount", number)
        if steps in faulty:
            continue
        first = targets.setdefault(posixpath.normpath(mount["Target"].lstrip("/")), number)
        if first != number:
            line = reading.line(("Mount", first, "Target"))
            problem = f"is the target of Mount[{first}] in {line} too"
            yield Finding((*steps, "Target"), problem, "give another one")
        if {"ro", "rw"} <= set(mount.get("Flags", ())):
            yield Finding((*steps, "Flags"), "ro and rw exclude each other", "remove one of the two")
        for key in ("PublicKey", "RootHash"):
            if mount["Type"] != "ext2" and mount.get(key) is not None:
                yield Finding((*steps, key), f"means nothing for {mount['Type']}", "remove it")


def _better_changed(values: dict[str, Any]) -> Iterator[Finding]:
    """Find what is accepted but has no effect, or is misread by an installed Mystikos."""
    if "version" not in values:
        yield Finding((), 'there is no version, "0.1" is taken', 'add "version": "0.1"')
    if values.get("CreateZeroBaseEnclave") is False and "EnclaveStartAddress" in values:
        problem = "has no effect when CreateZeroBaseEnclave is false"
        yield Finding(("EnclaveStartAddress",), problem, "remove it")
    uds = values.get("HostUDS")
    if type(uds) is int:
        problem = f"an installed Mystikos takes {uds} for the opposite"
        yield Finding(("HostUDS",), problem, f"write {'true' if uds else 'false'}")
    yield from _no_host_name(values.get("Hostname"))
    if not values.get("CurrentWorkingDirectory", "/").startswith("/"):
        problem = "is not absolute, and the application starts in no directory"
        yield Finding(("CurrentWorkingDirectory",), problem, "give an absolute path")
    yield from _no_variables(values)
    for number, mount in enumerate(values.get("Mount", [])):
        for key, name in (("Flags", "mount flags"), ("PublicKey", "PublicKey"), ("RootHash", "RootHash")):
            if mount.get(key):
                problem = f"an installed Mystikos starts no package with {name}"
                yield Finding(("Mount", number, key), problem, "remove it")
    for number, secret in enumerate(values.get("Secret", [])):
        if secret.get("Verbose") == 0 and secret["Verbose"] is not False:
            steps = ("Secret", number, "Verbose")
            yield Finding(steps, "an installed Mystikos refuses 0", "write false")


def _no_host_name(name: str | None) -> Iterator[Finding]:
    """Find what Mystikos takes for a host name and other programs do not."""
    if name is None:
        return
    if len(name.encode()) > _HOST_NAME_MAX:
        yield Finding(("Hostname",), f"is cut to {_HOST_NAME_MAX} bytes", "give a shorter name")
    if "_" in name:
        problem = "_ does not belong into a host name, and some programs refuse one with it"
        yield Finding(("Hostname",), problem, "write - for it")
    elif not re.fullmatch("[A-Za-z0-9.-]+", name):
        problem = f"{json.dumps(name)} is no host name to many programs"
        yield Finding(("Hostname",), problem, "write one of a-z A-Z 0-9 - .")


def _no_variables(values: dict[str, Any]) -> Iterator[Finding]:
    """Find strings that set no variable; empty ones are in Mystikos' own samples."""
    own, host = "EnvironmentVariables", "HostEnvironmentVariables"
    for steps, text in _strings(own, values.get(own, [])):
        if not text:
            yield Finding(steps, "an empty string sets no variable", "remove it")
        elif text.find("=") < 1:
            yield Finding(steps, f"{json.dumps(text)} sets no variable", 'write "NAME=VALUE"')
    for steps, text in _strings(host, values.get(host, [])):
        if not text or "=" in text:
            yield Finding(steps, f"{json.dumps(text)} is the name of no variable", "give the name alone")


def _strings(key: str, value: str | list[str]) -> Iterator[tuple[Steps, str]]:
    """Yield the strings of a list that may be written as one string, with their places."""
    if isinstance(value, str):
        yield (key,), value
    else:
        yield from (((key, number), text) for number, text in enumerate(value))


def _bare_strings(given: Any, packaged: Any, steps: Steps = ()) -> Iterator[Finding]:
    """Find the strings in what was given that became lists in what is packaged."""
    if isinstance(packaged, dict):
        for key, value in packaged.items():
            yield from _bare_strings(given[key], value, (*steps, key))
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from _bare_strings(value, packaged[number], (*steps, number))
    elif isinstance(packaged, list):
        yield Finding(
            steps,
            "an installed Mystikos crashes on a string where it expects a list, so a canonical form"
            " of this file, with a list and no comments, goes into the package",
            f"write [{quote(given)}]",
        )


def _with_consequence(note: jsonc.Note) -> jsonc.Note:
    """Say of what an installed Mystikos cannot read what goes into the package instead."""
    consequence = ", so a canonical form of this file, without comments, goes into the package"
    return note._replace(problem=note.problem + consequence) if note.unreadable else note


def _canonical(values: dict[str, Any]) -> bytes:
    """Return the same members in the same order as plain JSON."""
    return (json.dumps(values, ensure_ascii=False, indent=4) + "\n").encode()
