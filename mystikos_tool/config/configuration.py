"""Read and check a Mystikos configuration (docs/configuration.md, schema version "0.1").

    config = load(Path("config.json"))
    config.memory_size             # bytes, a multiple of the page size
    config.data                    # what goes into the package
    config.where("ApplicationPath")  # "config.json:7:24: ApplicationPath", for later messages

The keys, their accepted values and their defaults stand in one table, ``KEYS``.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool.config import jsonc
from mystikos_tool.config.jsonc import Document, Member, Node
from mystikos_tool.errors import UserError
from mystikos_tool.io.atomic import read_input
from mystikos_tool.io.pages import PAGE, page_up

DEFAULT_MEMORY_SIZE = 64 << 20
DEFAULT_MAIN_STACK_SIZE = 1536 << 10
MAX_SIZE = 1 << 46  # half of a process's address space on x86-64
MAX_INT = (1 << 63) - 1  # the reference holds integers in a signed 64-bit variable


class ConfigError(UserError):
    """All mistakes of one configuration, in the order of the file, one a line."""

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


@dataclass(frozen=True)
class Config:
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

    name: str = field(default="config.json", compare=False)
    data: bytes = field(default=b"", compare=False, repr=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

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


def load(path: Path) -> Config:
    """Read a configuration file. Raises UserError for a file that cannot be read, else as `parse`."""
    return parse(read_input(path, "configuration file"), str(path))


def parse(data: bytes, name: str) -> Config:
    """Check the bytes of a configuration; ``name`` is what messages call the file.

    Raises ConfigError with all mistakes in keys and values, or UserError with the first place
    that is not JSON (see `jsonc.read`).
    """
    reading = _Reading(jsonc.read(data, name))
    root = reading.document.root
    if not isinstance(root.value, tuple):
        raise UserError(
            reading.document.place(root.start),
            f"expected an object, found {_show(root)}",
            'write { "ApplicationPath": "/bin/app" }',
        )
    fields = reading.members(root.start, root.value, KEYS, "")
    _check_together(reading, fields)
    reading.raise_problems()
    if reading.bare:
        data = _canonical(root, reading.bare)
    return Config(
        **{name: value for name, value in fields.items() if value is not None},
        name=name,
        data=data,
        warnings=reading.warnings(),
        places={path: reading.document.place(node.start) for path, node in reading.given.items()},
    )


def memory_size_of(data: bytes, name: str) -> int:
    """The memory of a configuration that may be wrong in everything else, in bytes.

    An installed Mystikos packages configurations that `parse` refuses; to measure such a package
    only this is needed of it. As there, the last of several values counts. Raises UserError for
    what is not JSON, and for a size that is none.
    """
    reading = _Reading(jsonc.read(data, name))
    root = reading.document.root.value
    members = root if isinstance(root, tuple) else ()
    sizes = [
        _size(reading, member.node, member.key)
        for member in members
        if member.key in ("MemorySize", "UserMemSize")
    ]
    reading.raise_problems()
    return next(reversed(sizes), None) or DEFAULT_MEMORY_SIZE


class _Reading:
    """One pass over a document: the problems and notes so far, and each value by its path.

    ``bare`` has the starts of strings that stand for lists, ``targets`` the path of the first
    mount by its normalised target.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[tuple[int, UserError]] = []
        self.notes = [(note.start, "", note.problem, note.remedy) for note in document.notes]
        self.given: dict[str, Node] = {}
        self.bare: set[int] = set()
        self.targets: dict[str, str] = {}

    def problem(self, start: int, path: str, problem: str, remedy: str) -> None:
        where = self.document.place(start)
        self.problems.append((start, UserError(f"{where}: {path}" if path else where, problem, remedy)))

    def problem_at(self, path: str, problem: str, remedy: str) -> None:
        self.problem(self.given[path].start, path, problem, remedy)

    def refuse(self, node: Node, path: str, form: str) -> None:
        self.problem(node.start, path, f"cannot be {_show(node)}", f"give {form}")

    def note(self, start: int, path: str, problem: str, remedy: str) -> None:
        self.notes.append((start, path, problem, remedy))

    def note_at(self, path: str, problem: str, remedy: str) -> None:
        self.note(self.given[path].start, path, problem, remedy)

    def raise_problems(self) -> None:
        if self.problems:
            raise ConfigError(problem for _, problem in sorted(self.problems, key=lambda item: item[0]))

    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"{self.document.place(start)}: {path + ': ' if path else ''}{problem}; {remedy}"
            for start, path, problem, remedy in sorted(self.notes)
        )

    def members(
        self, start: int, members: tuple[Member, ...], keys: tuple[Key, ...], path: str
    ) -> dict[str, Any]:
        """Values by field name of an object at ``start``; ``None`` where the default applies."""
        known = {key.name: key for key in keys}
        seen: dict[str, Member] = {}
        fields: dict[str, Any] = {}
        for member in members:
            key = known.get(member.key)
            if key is None:
                problem = f"unknown key {_quote(member.key)}"
                self.problem(member.start, path, problem, _nearest(member.key, known))
                continue
            full = f"{path}.{key.name}" if path else key.name
            first = seen.setdefault(key.name, member)
            if first is not member:
                line = self.document.line(first.start)
                self.problem(member.start, full, f"is given in line {line} already", "remove one of the two")
                continue
            self.given[full] = member.node
            fields[key.field] = key.accept(self, member.node, full)
        for key in keys:
            if key.required and key.name not in seen:
                self.problem(start, path, f"{key.name} is missing", f'add "{key.name}": {key.required}')
        return fields


Accept = Callable[[_Reading, Node, str], Any]


class Key(NamedTuple):
    """A row of the table: the key, the field of the dataclass, what is accepted.

    ``accept`` returns the field's value, or ``None`` where the default applies or a problem was
    reported. ``required`` is an example value for a key that must be there.
    """

    name: str
    field: str
    accept: Accept
    required: str = ""


def _flag(reading: _Reading, node: Node, path: str) -> bool | None:
    if isinstance(node.value, int) and abs(node.value) <= MAX_INT:
        return bool(node.value)
    reading.refuse(node, path, "true or false")
    return None


def _boolean(reading: _Reading, node: Node, path: str) -> bool | None:
    if isinstance(node.value, bool):
        return node.value
    reading.refuse(node, path, "true or false")
    return None


def _integer(low: int, high: int, multiple: int = 1) -> Accept:
    form = f"an integer from {low} to {high}" if high < MAX_INT else f"an integer of {low} or more"
    if multiple > 1:
        form = f"a multiple of {multiple} above 0"

    def accept(reading: _Reading, node: Node, path: str) -> int | None:
        value = node.value
        if type(value) is int and low <= value <= high and value % multiple == 0:
            return value
        reading.refuse(node, path, form)
        return None

    return accept


_SIZE = re.compile(r"([0-9]{1,20})([kKmMgG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _size(reading: _Reading, node: Node, path: str) -> int | None:
    """Bytes, rounded up to a page; zero means the default."""
    value = node.value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match:
        value = int(match[1]) * _UNITS[match[2].lower()]
    if type(value) is int and 0 <= value <= MAX_SIZE:
        return page_up(value) or None
    reading.refuse(node, path, 'a number of bytes or a string such as "64m" (k, m or g), at most "65536g"')
    return None


def _text(pattern: str, form: str) -> Accept:
    matches = re.compile(pattern, re.DOTALL).fullmatch

    def accept(reading: _Reading, node: Node, path: str) -> str | None:
        if isinstance(node.value, str) and matches(node.value):
            return node.value
        reading.refuse(node, path, form)
        return None

    return accept


def _one_of(*words: str) -> Accept:
    form = (
        ", ".join(f'"{word}"' for word in words[:-1]) + (" or " if len(words) > 1 else "") + f'"{words[-1]}"'
    )
    return _text("|".join(re.escape(word) for word in words), form)


def _nullable(accept: Accept) -> Accept:
    def accept_null(reading: _Reading, node: Node, path: str) -> Any:
        return None if node.value is None else accept(reading, node, path)

    return accept_null


def _strings(item: Accept, form: str) -> Accept:
    """A list of strings, or one string in place of a list of one; ``form`` describes an element."""

    def accept(reading: _Reading, node: Node, path: str) -> tuple[str, ...] | None:
        if isinstance(node.value, list):
            elements = [item(reading, element, f"{path}[{i}]") for i, element in enumerate(node.value)]
        elif isinstance(node.value, str):
            reading.bare.add(node.start)
            reading.note(
                node.start,
                path,
                "an installed Mystikos crashes on a string where it expects a list, so a canonical form"
                " of this file, with a list and no comments, goes into the package",
                f"write [{_quote(node.value)}]",
            )
            elements = [item(reading, node, path)]
        else:
            reading.refuse(node, path, f"a list, each element {form}")
            return None
        return tuple(element for element in elements if element is not None)

    return accept


def _texts(pattern: str, form: str) -> Accept:
    return _strings(_text(pattern, form), form)


def _environment() -> Accept:
    form = '"NAME=VALUE", where NAME is not MYST_TARGET'
    variable = _text(r"(?!MYST_TARGET=)[^=]+=.*", form)

    def accept(reading: _Reading, node: Node, path: str) -> Any:
        if node.value == "":  # found in configurations of Mystikos' own samples
            reading.note(node.start, path, "an empty string sets no variable", "remove it")
            return None
        return variable(reading, node, path)

    return _strings(accept, form)


def _objects(
    keys: tuple[Key, ...],
    make: Callable[..., Any],
    check: Callable[[_Reading, str, Any], None] | None = None,
) -> Accept:
    """A list of objects with these keys; ``check`` sees each good one with its path."""
    form = "with the keys " + ", ".join(key.name for key in keys)

    def element(reading: _Reading, node: Node, path: str) -> Any:
        if not isinstance(node.value, tuple):
            reading.refuse(node, path, f"an object {form}")
            return None
        before = len(reading.problems)
        fields = reading.members(node.start, node.value, keys, path)
        if len(reading.problems) > before:
            return None
        made = make(**{name: value for name, value in fields.items() if value is not None})
        if check:
            check(reading, path, made)
        return made

    def accept(reading: _Reading, node: Node, path: str) -> tuple[Any, ...] | None:
        if not isinstance(node.value, list):
            reading.refuse(node, path, f"a list of objects {form}")
            return None
        made = [element(reading, item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        return tuple(item for item in made if item is not None)

    return accept


def _check_mount(reading: _Reading, path: str, mount: Mount) -> None:
    first = reading.targets.setdefault(posixpath.normpath(mount.target), path)
    if first != path:
        line = reading.document.line(reading.given[f"{first}.Target"].start)
        reading.problem_at(
            f"{path}.Target", f"is the target of {first} in line {line} too", "give another one"
        )
    if mount.flags:
        reading.note_at(
            f"{path}.Flags", "an installed Mystikos starts no package with mount flags", "remove it"
        )
    for key, value in (("PublicKey", mount.public_key), ("RootHash", mount.root_hash)):
        if value is None:
            continue
        if mount.type == "ext2":
            reading.note_at(
                f"{path}.{key}", f"an installed Mystikos starts no package with {key}", "remove it"
            )
        else:
            reading.problem_at(f"{path}.{key}", f"means nothing for {mount.type}", "remove it")


def _check_secret(reading: _Reading, path: str, secret: Secret) -> None:
    if (
        (verbose := reading.given.get(f"{path}.Verbose"))
        and verbose.value == 0
        and verbose.value is not False
    ):
        reading.note_at(f"{path}.Verbose", "an installed Mystikos refuses 0", "write false")


_ANY = _text(r".+", "a string that is not empty")
_ABSOLUTE = _text(r"/.*", "an absolute path")

_MOUNT = (
    Key("Target", "target", _ABSOLUTE, required='"/mnt/data"'),
    Key("Type", "type", _one_of("ext2", "hostfs", "ramfs"), required='"hostfs"'),
    Key("Flags", "flags", _texts(r"ro|rw", '"ro" or "rw"')),
    Key("PublicKey", "public_key", _nullable(_ANY)),
    Key("RootHash", "root_hash", _nullable(_text(r"[0-9A-Fa-f]{64}", "64 hexadecimal digits"))),
)

_SECRET = (
    Key("ID", "id", _ANY, required='"name of the secret"'),
    Key("SrsAddress", "srs_address", _ANY, required='"https://address of the release service"'),
    Key("SrsApiVersion", "srs_api_version", _nullable(_ANY)),
    Key("LocalPath", "local_path", _ABSOLUTE, required='"/path for the secret"'),
    Key("ClientLib", "client_lib", _ANY, required='"name of the client library"'),
    Key("Verbose", "verbose", _flag),
)

KEYS = (
    Key("version", "version", _one_of("0.1")),
    Key("Debug", "debug", _flag),
    Key("ProductID", "product_id", _integer(0, 65534)),
    Key("SecurityVersion", "security_version", _integer(0, 65534)),
    Key("CreateZeroBaseEnclave", "create_zero_base_enclave", _boolean),
    Key("EnclaveStartAddress", "enclave_start_address", _integer(1, MAX_INT, PAGE)),
    Key("MemorySize", "memory_size", _size),
    Key("UserMemSize", "memory_size", _size),
    Key("MainStackSize", "main_stack_size", _size),
    Key("ThreadStackSize", "thread_stack_size", _size),
    Key("MaxAffinityCPUs", "max_affinity_cpus", _integer(1, MAX_INT)),
    Key("NoBrk", "no_brk", _flag),
    Key("ExecStack", "exec_stack", _flag),
    Key(
        "ApplicationPath",
        "application_path",
        _text(r"/(?:.*/)?(?!\.{1,2}\Z)[^/]+", "the absolute path of a file in the root file system"),
        required='"/path/of/the/program"',
    ),
    Key("HostApplicationParameters", "host_application_parameters", _flag),
    Key("ApplicationParameters", "application_parameters", _texts(r".*", "a string")),
    Key("EnvironmentVariables", "environment_variables", _environment()),
    Key(
        "HostEnvironmentVariables",
        "host_environment_variables",
        _texts(r"(?!MYST_TARGET\Z)[^=]+", "the name of a variable, not MYST_TARGET"),
    ),
    Key("CurrentWorkingDirectory", "current_working_directory", _ABSOLUTE),
    Key("Hostname", "hostname", _text(r"[A-Za-z0-9.-]{1,64}", "1 to 64 of the characters a-z A-Z 0-9 - .")),
    Key("ForkMode", "fork_mode", _one_of("none", "pseudo", "pseudo_wait_for_exit_exec")),
    Key("Mount", "mounts", _objects(_MOUNT, Mount, _check_mount)),
    Key("UnhandledSyscallEnosys", "unhandled_syscall_enosys", _flag),
    Key("HostUDS", "host_uds", _flag),
    Key(
        "SyslogLevel",
        "syslog_level",
        _one_of("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"),
    ),
    Key("Secret", "secrets", _objects(_SECRET, Secret, _check_secret)),
)


def _check_together(reading: _Reading, fields: dict[str, Any]) -> None:
    """What no single key shows, and values that an installed Mystikos misreads."""
    given = reading.given
    if "version" not in given:
        reading.note(
            reading.document.root.start, "", 'there is no version, "0.1" is taken', 'add "version": "0.1"'
        )
    if "MemorySize" in given and "UserMemSize" in given:
        line = reading.document.line(given["MemorySize"].start)
        reading.problem_at("UserMemSize", f"is the old name of MemorySize, given in line {line}", "remove it")
    if fields.get("create_zero_base_enclave") is False and "EnclaveStartAddress" in given:
        reading.note_at(
            "EnclaveStartAddress", "has no effect when CreateZeroBaseEnclave is false", "remove it"
        )
    uds = given.get("HostUDS")
    if uds and type(uds.value) is int:
        right = "true" if uds.value else "false"
        reading.note_at(
            "HostUDS", f"an installed Mystikos takes {uds.value} for the opposite", f"write {right}"
        )


def _canonical(root: Node, bare: set[int]) -> bytes:
    """The same members in the same order as plain JSON, with a list around each string in ``bare``."""

    def plain(node: Node) -> Any:
        if isinstance(node.value, tuple):
            return {member.key: plain(member.node) for member in node.value}
        if isinstance(node.value, list):
            return [plain(element) for element in node.value]
        return [node.value] if node.start in bare else node.value

    return (json.dumps(plain(root), ensure_ascii=False, indent=4) + "\n").encode()


def _nearest(key: str, known: Iterable[str]) -> str:
    """What to do about an unknown key: the real one that it most resembles, if any does."""
    import difflib  # slow to import, and needed for mistakes only

    lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(key.lower(), lower, n=1)
    return f'write "{lower[matches[0]]}"' if matches else "remove it"


def _show(node: Node) -> str:
    if isinstance(node.value, tuple):
        return "an object"
    if isinstance(node.value, list):
        return "a list"
    return _quote(node.value)


def _quote(value: bool | int | float | str | None) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]}..."
