"""Why two enclaves are not the same, down to the page, or that they are: all facts of a comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mystikos_tool import proof
from mystikos_tool.config import jsonc
from mystikos_tool.config.jsonc import Node
from mystikos_tool.enclave import layout
from mystikos_tool.enclave.image import CONFIG_SECTION
from mystikos_tool.errors import UserError
from mystikos_tool.explain import causes, contents, roots, stream
from mystikos_tool.explain.causes import Cause
from mystikos_tool.explain.contents import SectionChange
from mystikos_tool.explain.roots import RootDifference
from mystikos_tool.explain.stream import AreaChange, Operation, Place
from mystikos_tool.explain.subject import Subject, check_comparable, subject
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.io.content import Bytes, Content
from mystikos_tool.packaging import sections
from mystikos_tool.packaging.opened import Opened
from mystikos_tool.printable import printable

# The schema of what to_json returns.
SCHEMA = Path(__file__).with_name("difference.schema.json")

FORMAT = 1

_MAX_CHANGES = 200
_MAX_EXAMPLES = 5
_ROOTFS = "rootfs"
_RUNTIME = (("kernel", sections.KERNEL), ("C runtime", sections.CRT))
# In SIGSTRUCT: MRENCLAVE is told by itself, the others follow from it and the key.
_TOLD_OTHERWISE = ("mrenclave", "signature", "q1", "q2")
# Of the record: what is said of SIGSTRUCT, and what the layout makes of the rest.
_NOT_OF_THE_FILE = ("sigstruct",)


@dataclass(frozen=True)
class Side:
    """One of the two: what it is, and the identity that it states, None where it states none.

    ``date`` is that of the signature, eight digits; MRENCLAVE and MRSIGNER are in hexadecimal.
    """

    path: str
    kind: str
    mrenclave: str | None = None
    mrsigner: str | None = None
    date: str | None = None
    product_id: int | None = None
    security_version: int | None = None
    debug: bool | None = None


@dataclass(frozen=True)
class Change:
    """A named value that is not the same in both, None where one has it not."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class ComponentChange:
    """A component of the runtime that is another one: what of it differs.

    ``sections`` are those of its ELF file; none where only what no section covers differs, as headers.
    """

    name: str
    size_a: int
    size_b: int
    sections: tuple[SectionChange, ...]


@dataclass(frozen=True)
class LikelyCause:
    """A likely cause, the remedy, the number of places where it was found, and the first of these."""

    cause: str
    remedy: str
    count: int
    places: tuple[str, ...]


@dataclass
class Difference:
    """What differs between two enclaves, or between two roots.

    ``same`` says that the page streams are equal, and so is MRENCLAVE; of two roots, that they are
    equal byte for byte. ``first_operation`` is the first of the measured stream that is another one,
    None where they are the same or where one of the two does not hold what was measured.

    ``signature`` are fields of SIGSTRUCT, and ``host_program`` the SHA-256 of the program that loads the
    enclave, which are not measured; ``record`` are those of the enclave
    image's record; ``configuration`` its keys, None for a text that means the same and has other
    bytes. ``trusted`` are public keys and root hashes. ``notes`` are sentences for people.
    """

    a: Side
    b: Side
    same: bool = False
    first_operation: Operation | None = None
    areas: list[AreaChange] = field(default_factory=list)
    signature: list[Change] = field(default_factory=list)
    host_program: Change | None = None
    record: list[Change] = field(default_factory=list)
    configuration: list[Change] = field(default_factory=list)
    components: list[ComponentChange] = field(default_factory=list)
    trusted: list[Change] = field(default_factory=list)
    root: RootDifference | None = None
    causes: list[LikelyCause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        document = {"format": FORMAT, **asdict(self)}
        if document["root"]:
            del document["root"]["causes"]  # they are with the others
        return json.dumps(document, indent=1)


def compare(a: Path, b: Path, *, exclude: tuple[str, ...] = (), preserve_modes: bool = False) -> Difference:
    """Compare two packages, signed directories, measurements, archives or application directories.

    An archive or an application directory stands for the enclave that the other one would be with
    this root; two of them are compared as roots. ``exclude`` and ``preserve_modes`` say how a
    directory is packed. Raises UserError for what cannot be read or has nothing in common.
    """
    how: dict[str, Any] = {"exclude": exclude, "preserve_modes": preserve_modes}
    with subject(a, **how) as one, subject(b, **how) as other:
        check_comparable(one, other)
        return _Comparison(one, other).difference()


class _Comparison:
    def __init__(self, a: Subject, b: Subject) -> None:
        self._a = a
        self._b = b
        self._found = Difference(_side(a), _side(b))
        self._causes: list[tuple[str, Cause]] = []

    def difference(self) -> Difference:
        a, b, found = self._a, self._b, self._found
        if a.measurement or b.measurement:
            self._compare_measurements()
        elif a.opened or b.opened:
            self._compare_enclaves()
        else:
            self._compare_roots(stream.Pages())
            found.same = found.root is not None and found.root.same
        found.signature = list(_signature(a, b))
        self._compare_host_programs()
        self._doubt()
        found.causes = _counted(self._causes)
        return found

    def _compare_measurements(self) -> None:
        """Compare what measurements hold: MRENCLAVE, and the sizes of the regions."""
        layouts, mrenclaves, images = [], [], []
        for side in (self._a, self._b):
            if side.opened:
                _, measured = proof.measure_opened(side.opened)
            elif side.measurement:
                measured = side.measurement
            layouts.append(_places(measured.layout, str(side.path)))
            mrenclaves.append(measured.mrenclave)
            images.append(measured.image_sha256)
        found = self._found
        found.same = mrenclaves[0] == mrenclaves[1]
        if found.same:
            return
        for name in dict.fromkeys([*layouts[0], *layouts[1]]):
            place, other = layouts[0].get(name), layouts[1].get(name)
            if place != other:
                found.areas.append(AreaChange(name, place, other, None, None))
        image = "the same" if images[0] == images[1] else "not the same"
        found.notes.append(f"enclave image and configuration are {image}")
        found.notes.append("a measurement holds no content: compare two packages to learn what of it differs")

    def _compare_enclaves(self) -> None:
        a, b, found = self._a, self._b, self._found
        parts = _parts(a, b), _parts(b, a)
        found_in_stream = stream.compare(*map(layout.lay_out, parts))
        found.first_operation, found.areas = found_in_stream.first, found_in_stream.changes
        found.same = found.first_operation is None
        if found.same:
            return
        known = found_in_stream.pages.get(_ROOTFS, stream.Pages())
        if a.archive and b.archive:
            self._compare_roots(known)
        elif a.archive or b.archive:
            found.notes.append("the root of one is an archive in it, that of the other a disk beside it")
        if a.opened and b.opened:
            self._compare_opened(a.opened, b.opened)
        else:
            found.notes.append("of a root alone everything else is taken to be that of the other")

    def _compare_roots(self, known: stream.Pages) -> None:
        if not (self._a.archive and self._b.archive):
            return
        root = roots.compare(self._a.archive, self._b.archive, known)
        self._found.root = root
        self._causes += root.causes
        if root.order:
            self._causes.append((root.order, causes.ORDER))
        if root.fields:
            self._causes.append((f"headers of the archive: {', '.join(root.fields)}", causes.FIELDS))

    def _compare_opened(self, a: Opened, b: Opened) -> None:
        found = self._found
        found.record = list(_record(a.record, b.record))
        found.configuration = list(_configuration(a.config, b.config))[:_MAX_CHANGES]
        found.trusted = list(_trusted(a, b))[:_MAX_CHANGES]
        images = Bytes(a.image.file()), Bytes(b.image.file())
        self._compare_component("enclave image", *images, frozenset((CONFIG_SECTION, ".oeinfo", ".shstrtab")))
        for name, section in _RUNTIME:
            self._compare_component(name, a.content(section), b.content(section), frozenset())

    def _compare_component(self, name: str, a: Content, b: Content, without: frozenset[str]) -> None:
        changed = contents.section_differences(a, b, without)
        # The image's file has configuration and record in it, which are told by themselves.
        if changed or (not without and contents.first_difference(a, b) is not None):
            self._found.components.append(ComponentChange(name, a.size, b.size, changed))
        if changed:
            self._causes.append((name, causes.of_elf(changed, a, b)))

    def _compare_host_programs(self) -> None:
        a, b, found = self._a.opened, self._b.opened, self._found
        if not (a and b):
            return
        try:
            one, other = a.host_program(), b.host_program()
        except UserError as error:
            found.notes.append(printable(f"the host programs were not compared: {error}"))
            return
        if one != other:
            found.host_program = Change("SHA-256", one, other)

    def _doubt(self) -> None:
        """Say where what was compared and what was signed do not agree."""
        a, b, found = self._a, self._b, self._found
        if not (a.opened and b.opened):
            return
        if (found.a.mrenclave == found.b.mrenclave) != found.same:
            found.notes.append(
                "the signed MRENCLAVEs say otherwise: one of the two is not what it says, verify them"
            )


def _side(one: Subject) -> Side:
    structure = one.sigstruct
    path = printable(str(one.path))
    if structure is None:
        return Side(path, one.kind)
    identity = sigstruct.identity(structure)
    signed = one.opened is not None
    return Side(
        path,
        one.kind,
        identity.mrenclave.hex(),
        identity.mrsigner.hex() if signed else None,
        f"{SIGSTRUCT.get_int(structure, 'date'):08x}" if signed else None,
        identity.product_id,
        identity.security_version,
        identity.debug,
    )


def _parts(one: Subject, other: Subject) -> layout.Parts:
    """Return what an enclave is made of; a root alone is put into the other one."""
    if one.parts:
        return one.parts
    if other.parts and one.archive:
        return other.parts._replace(rootfs=one.archive.content)
    raise UserError(str(one.path), "holds no enclave and no root", "give a package")


def _places(described: Mapping[str, Any], where: str) -> dict[str, Place]:
    """Return the places of the regions that a measurement describes."""
    try:
        places = {
            region["name"]: Place(int(region["offset"]), int(region["size"]))
            for region in described["regions"]
        }
        return {
            "enclave": Place(int(described["base"]), int(described["size"])),
            "image": Place(0, int(described["image_size"])),
            **{printable(str(name)): place for name, place in places.items()},
        }
    except (KeyError, TypeError, ValueError):
        raise UserError(where, "is a damaged measurement", "measure again") from None


def _signature(a: Subject, b: Subject) -> Iterator[Change]:
    """Yield the fields of two SIGSTRUCTs that differ and are no consequence of others."""
    if not (a.opened and b.opened):
        return
    one, other = a.opened.sigstruct, b.opened.sigstruct
    for name in SIGSTRUCT.different(one, other):
        if name == "modulus":
            yield Change("mrsigner", *(sigstruct.identity(side).mrsigner.hex() for side in (one, other)))
        elif name == "date":
            yield Change(name, *(f"{SIGSTRUCT.get_int(side, name):08x}" for side in (one, other)))
        elif name not in _TOLD_OTHERWISE:
            yield Change(name, *(_value(SIGSTRUCT.unpack(side)[name]) for side in (one, other)))


def _record(a: bytes, b: bytes) -> Iterator[Change]:
    for name in OEINFO.different(a, b):
        yield Change(name, *(_value(OEINFO.unpack(side)[name]) for side in (a, b)))


def _value(value: int | bytes) -> int | str:
    return value.hex() if isinstance(value, bytes) else value


def _configuration(a: bytes, b: bytes) -> Iterator[Change]:
    """Yield the keys whose values differ; the texts where these mean the same or are no JSON."""
    if a == b:
        return
    one, other = configuration_values(a), configuration_values(b)
    names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
    for name in names:
        yield Change(name, one.get(name), other.get(name))
    if not names:
        yield Change("bytes, as comments, spaces or the order of keys", len(a), len(b))


def configuration_values(data: bytes) -> dict[str, str]:
    """Return the values of a configuration as JSON by their paths, such as ``Mount[0].Target``.

    All are fit to be printed. There are none where it is no JSON.
    """
    try:
        values = dict(_flat(jsonc.read(data, "configuration").root, ""))
    except UserError:
        return {}
    return {printable(name): printable(value) for name, value in values.items()}


def _flat(node: Node, path: str) -> Iterator[tuple[str, str]]:
    """Yield the values of a document by their paths, such as ``Mount[0].Target``."""
    if isinstance(node.value, list):
        if not node.value:
            yield path, "[]"
        for number, element in enumerate(node.value):
            yield from _flat(element, f"{path}[{number}]")
    elif isinstance(node.value, tuple):
        seen: dict[str, int] = {}
        for member in node.value:
            seen[member.key] = seen.get(member.key, 0) + 1
            again = f" (given {seen[member.key]} times)" if seen[member.key] > 1 else ""
            yield from _flat(member.node, f"{path}.{member.key}{again}".lstrip("."))
    else:
        yield path, json.dumps(node.value, ensure_ascii=False)


def _trusted(a: Opened, b: Opened) -> Iterator[Change]:
    """Yield the public keys and root hashes that only one trusts, by their digests."""
    keys = [
        [hashlib.sha256(key).hexdigest() for key in side.content(sections.PUBKEYS).read().split(b"\0") if key]
        for side in (a, b)
    ]
    hashes = [_hashes(side.content(sections.ROOTHASHES).read()) for side in (a, b)]
    for name, (one, other) in (("public key, SHA-256 of the file", keys), ("root hash", hashes)):
        in_one, in_other = set(one), set(other)
        yield from (Change(name, digest, None) for digest in one if digest not in in_other)
        yield from (Change(name, None, digest) for digest in other if digest not in in_one)
        if one != other and in_one == in_other:
            yield Change(f"order of each {name}", len(one), len(other))


def _hashes(data: bytes) -> list[str]:
    return [data[start : start + 32].hex() for start in range(0, len(data), 32)]


def _counted(found: Sequence[tuple[str, Cause]]) -> list[LikelyCause]:
    """Return each cause once, that of most places first."""
    places: dict[Cause, list[str]] = {}
    for place, cause in found:
        places.setdefault(cause, []).append(place)
    return [
        LikelyCause(cause.cause, cause.remedy, len(where), tuple(where[:_MAX_EXAMPLES]))
        for cause, where in sorted(places.items(), key=lambda pair: -len(pair[1]))
    ]
