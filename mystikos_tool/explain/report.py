"""All that there is to show of a package: what it says of itself, its page layout, its files."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mystikos_tool.enclave import layout
from mystikos_tool.enclave.layout import SECINFO_REG, Layout, Repeat, Run
from mystikos_tool.explain.areas import HEAP, IMAGE, RELOCATIONS, THREADS, Area, areas
from mystikos_tool.explain.difference import configuration_values
from mystikos_tool.explain.stream import permissions
from mystikos_tool.explain.subject import archive_of
from mystikos_tool.io.pages import PAGE
from mystikos_tool.packaging import inspection, opened, sections
from mystikos_tool.packaging.inspection import Inspection
from mystikos_tool.packaging.opened import Opened
from mystikos_tool.printable import named_file, printable
from mystikos_tool.root.archive import Archive
from mystikos_tool.signing import disk_trust

# The schema of what to_json returns.
SCHEMA = Path(__file__).with_name("report.schema.json")

FORMAT = 1

_CHUNK = 1 << 20
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link"}
_THREAD = ("stack", "TCS", "SSA frames", "thread-local storage")
_MEANINGS = {
    IMAGE: "the enclave image, with the configuration and its record",
    RELOCATIONS: "relocations of the enclave image",
    "kernel": "the kernel's segments",
    "kernel.reloc": "relocations of the kernel",
    "kernel.symtab": "symbols of the kernel",
    "kernel.dynsym": "dynamic symbols of the kernel",
    "kernel.strtab": "names of the symbols",
    "kernel.dynstr": "names of the dynamic symbols",
    "crt": "the C runtime's segments",
    "crt.reloc": "relocations of the C runtime",
    "rootfs": "the root file system",
    "fdmappings": "table of memory that is mapped from files",
    "pubkeys": "public keys that are trusted on disks",
    "roothashes": "root hashes of disks that are trusted",
    "mman": "the application's memory (MemorySize)",
    "config": "the configuration",
    "kernel.enter.stack": "the stack that the kernel is entered on",
    "mman.pids": "table of who owns which page of memory",
    HEAP: "the enclave image's heap",
    THREADS: "stack, TCS, SSA frames and local storage of each thread",
}


@dataclass(frozen=True)
class Pages:
    """Pages of one kind, and what they are.

    ``offset`` counts bytes in the enclave range; ``permissions`` are such as "r-x" or "TCS".
    """

    offset: int
    pages: int
    permissions: str
    measured: bool
    what: str


@dataclass(frozen=True)
class ShownArea:
    """An area of the enclave: offset and size in bytes, and its pages; those of one of ``count`` threads."""

    name: str
    meaning: str
    offset: int
    size: int
    count: int
    pages: tuple[Pages, ...]


@dataclass(frozen=True)
class ShownFile:
    """A file of the root: mode in octal digits, size in bytes, SHA-256 of its content, target of a link."""

    path: str
    type: str
    mode: str
    size: int
    sha256: str | None
    target: str | None


@dataclass(frozen=True)
class Trusted:
    """What makes disks trusted, in hexadecimal."""

    root_hashes: tuple[str, ...]
    signers: tuple[str | None, ...]


@dataclass(frozen=True)
class Report:
    """What is in a package.

    ``inspection`` is what it says of itself, ``configuration`` its keys and values as JSON. ``size``
    is the enclave's as ECREATE gets it, ``loaded_size`` what is in use behind ``base``, in bytes.
    ``files`` is None for a root that is a disk. ``trusted`` are the root hashes of disks that are trusted,
    and of the public keys SHA-256 of the modulus, None for what is no RSA key.
    """

    path: str
    inspection: Inspection
    configuration: Mapping[str, str]
    size: int
    loaded_size: int
    base: int
    areas: tuple[ShownArea, ...]
    files: tuple[ShownFile, ...] | None
    trusted: Trusted

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "path": self.path,
            **json.loads(self.inspection.to_json()),
            "configuration": dict(self.configuration),
            "enclave": {"size": self.size, "loaded_size": self.loaded_size, "base": self.base},
            "areas": [asdict(area) for area in self.areas],
            "files": None if self.files is None else [asdict(file) for file in self.files],
            "trusted": asdict(self.trusted),
        }
        return json.dumps(document, indent=1)

    def to_text(self) -> str:
        """Return lines for people: the facts, the page layout, the files."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        identity = self.inspection.identity
        yield f"{self.path}: MRENCLAVE {identity.mrenclave.hex()}"
        yield f"MRSIGNER {identity.mrsigner.hex()}, signed on {self.inspection.date}"
        yield (
            f"product {identity.product_id}, security version {identity.security_version},"
            f" debug {'on' if identity.debug else 'off'}"
        )
        yield "\nconfiguration"
        yield from (f"  {name}: {value}" for name, value in self.configuration.items())
        trusted = [f"root hash {one}" for one in self.trusted.root_hashes]
        trusted += [f"signer {one or 'unknown: no RSA key'}" for one in self.trusted.signers]
        if trusted:
            yield "\ntrusted on disks"
            yield from (f"  {one}" for one in trusted)
        yield f"\npage layout: {self.loaded_size:,} bytes from {self.base:#x}, of an enclave of {self.size:,}"
        for area in self.areas:
            times = f", for each of {area.count:,}" if area.count > 1 else ""
            yield f"  {area.name}: {area.size:,} bytes at {area.offset:#x}{times}"
            for pages in area.pages:
                kind = f"{pages.permissions}  {'measured' if pages.measured else 'not measured':12}"
                yield f"    {pages.offset:#14x} {pages.pages:>12,}  {kind}  {pages.what}".rstrip()
        if self.files is None:
            yield "\nfiles: the root is a disk, which is not in the package"
            return
        yield f"\nfiles: {len(self.files):,}"
        for file in self.files:
            name = named_file(file.path, file.type, file.target)
            yield f"  {file.mode} {file.size:>13,}  {file.sha256 or '-':64}  {name}"


def report(path: Path) -> Report:
    """Read a package, or a signed directory, once; nothing of it is checked.

    Raises UserError for what is neither, for an enclave that cannot be laid out, and for a root that
    cannot be read.
    """
    package = opened.of(path)
    laid_out = layout.lay_out(package.parts())
    root = archive_of(package)
    return Report(
        path=printable(str(path)),
        inspection=inspection.of(package),
        configuration=configuration_values(package.config),
        size=laid_out.size,
        loaded_size=laid_out.loaded_size,
        base=laid_out.base,
        areas=tuple(_shown_area(area, laid_out) for area in areas(laid_out)),
        files=None if root is None else tuple(_files(root)),
        trusted=_trusted(package),
    )


def _trusted(package: Opened) -> Trusted:
    hashes = disk_trust.split_hashes(package.content(sections.ROOTHASHES).read())
    keys = [pem for pem in package.content(sections.PUBKEYS).read().split(b"\0") if pem]
    return Trusted(tuple(one.hex() for one in hashes), tuple(map(disk_trust.signer_of, keys)))


def _shown_area(area: Area, laid_out: Layout) -> ShownArea:
    count, runs = 1, [run for run in area.stream if isinstance(run, Run)]
    for part in area.stream:
        if isinstance(part, Repeat):
            count, runs = part.times, list(part.runs)
    names = _THREAD if area.name == THREADS else ("",) * len(runs)
    regions = {region.name for region in laid_out.regions}
    end = area.offset + area.size - PAGE if area.name in regions else None
    pages = [_pages(run, name, end) for run, name in zip(runs, names, strict=True)]
    return ShownArea(area.name, _MEANINGS.get(area.name, ""), area.offset, area.size, count, tuple(pages))


def _pages(run: Run, name: str, trailer: int | None) -> Pages:
    if run.offset == trailer:
        name = "trailer: name and size of the region"
    elif run.flags == SECINFO_REG:
        name = "guard page"
    return Pages(run.offset, run.pages, permissions(run.flags), run.measured, name)


def _files(root: Archive) -> Iterator[ShownFile]:
    with root.content.at_any_offset() as read_at:
        for member in sorted(root.members):
            kind = stat.S_IFMT(member.mode)
            digest = hashlib.sha256()
            for start in range(0, member.size, _CHUNK):
                digest.update(read_at(member.offset + start, min(_CHUNK, member.size - start)))
            target = read_at(member.offset, member.size) if kind == stat.S_IFLNK else None
            yield ShownFile(
                printable(member.path),
                _TYPES[kind],
                f"{stat.S_IMODE(member.mode):04o}",
                0 if kind == stat.S_IFDIR else member.size,
                digest.hexdigest() if kind == stat.S_IFREG else None,
                None if target is None else printable(target),
            )
