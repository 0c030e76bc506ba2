"""The package: the loader with seven sections appended (docs/formats.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mystikos_tool import runtime
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, kinds
from mystikos_tool.io import atomic, fingerprint, lookup
from mystikos_tool.io.atomic import writing
from mystikos_tool.io.content import Bytes, Content, FileContent
from mystikos_tool.runtime import MAX_IMAGE

ENCLAVE, CRT, KERNEL, ROOTFS = ".mystenc", ".libmystcrt", ".libmystkernel", ".mystrootfs"
PUBKEYS, ROOTHASHES, CONFIG = ".mystpubkeys", ".mystroothashes", ".mystconfig"
SECTIONS = (ENCLAVE, CRT, KERNEL, ROOTFS, PUBKEYS, ROOTHASHES, CONFIG)

MODE = 0o755
_LOADER_NAME = "myst"
_CHUNK = 1 << 20
_GIVE_PACKAGE = "give a file made by package-sgx"

# Bytes that a list of what is trusted may have, and a configuration: more is not read.
MAX_TRUSTED, MAX_CONFIG = 1 << 24, 1 << 20
MAX_SIZES = {
    **dict.fromkeys((ENCLAVE, CRT, KERNEL), MAX_IMAGE),
    **dict.fromkeys((PUBKEYS, ROOTHASHES), MAX_TRUSTED),
    CONFIG: MAX_CONFIG,
}


class Parts(NamedTuple):
    """The contents of the seven sections, in the order in which they are appended."""

    enclave: Content
    crt: Content
    kernel: Content
    rootfs: Content
    pubkeys: Content
    roothashes: Content
    config: Content


def pieces(loader: Path, parts: Parts) -> list[tuple[int, Content]]:
    """Return the parts and the loader around them, each with its offset in a package; nothing is at its end.

    Raises UserError for a loader that sections cannot be appended to.
    """
    sizes = zip(SECTIONS, (part.size for part in parts), strict=True)
    plan = elf.with_sections(runtime.image(loader), list(sizes))
    content = [parts[piece] if isinstance(piece, int) else Bytes(piece) for piece in plan]
    offsets = accumulate((piece.size for piece in content), initial=0)
    return list(zip(offsets, [*content, Bytes(b"")], strict=True))


def check_name(target: Path) -> None:
    """Raise UserError for the one name that a package cannot have: the loader goes by it."""
    if target.name == _LOADER_NAME:
        problem = "a package of this name acts as the loader without a package"
        raise UserError(str(target), problem, "give it another name")


def write(loader: Path, parts: Parts, target: Path) -> int:
    """Write a package, return its size in bytes; raise UserError as :func:`check_name` and :func:`pieces`."""
    return _write((piece for _, piece in pieces(loader, parts)), target)


class Written(NamedTuple):
    """A package that :func:`write` has made: the fingerprint of its file, and where its root begins in it."""

    fingerprint: bytes
    place_of_root: int


def rewrite(
    loader: Path, parts: Parts, target: Path, earlier: Written, changed: Sequence[tuple[int, int]]
) -> int | None:
    """Write the parts into an earlier package itself, of its root only what has ``changed``: offset and size.

    Return its size in bytes; None where it is not to be had alone (`atomic.rewrite`), is not that one now, or
    would get another size or its root another place. Raises UserError as :func:`pieces`, before it writes.
    """
    places = []
    for place, piece in pieces(loader, parts):
        if piece is not parts.rootfs:
            places.append((place, piece.read()))
        elif place == earlier.place_of_root:
            places += [(place + offset, piece.part(offset, size).read()) for offset, size in changed]
        else:
            return None
    [(size, _)] = fingerprint.sizes_and_modes(earlier.fingerprint)
    if place != size or not atomic.rewrite(target, earlier.fingerprint, places, MODE, unread=True):
        return None
    return size


def write_with_image(package: Package, image: Content, target: Path) -> None:
    """Write a package with another image of the same size; raise UserError as :func:`check_name` does."""
    section, whole = package.sections[ENCLAVE], FileContent.of(package.path)
    if image.size != section.size:
        raise ValueError(f"an image of {section.size} bytes was expected, not of {image.size}")
    end = section.offset + section.size
    _write((whole.part(0, section.offset), image, whole.part(end, whole.size - end)), target)


def _write(content: Iterable[Content], target: Path) -> int:
    check_name(target)
    with writing(target, MODE) as file:
        for piece in content:
            piece.write_to(file)
        return file.tell()


def is_made_of(path: Path, loader: Path, parts: Parts) -> bool:
    """Tell whether a file, no link, has the bytes of these parts; raise UserError as :func:`pieces` does."""
    placed = pieces(loader, parts)
    if lookup.is_symlink(path) or path.stat().st_size != placed[-1][0]:
        return False
    with path.open("rb") as file:
        return all(_is_at(place, piece, file, path) for place, piece in placed)


def _is_at(place: int, piece: Content, file: BinaryIO, path: Path) -> bool:
    """Tell whether a file has a piece at a place; it may be just that part of it: then it is not read."""
    file.seek(place)
    # Two bytes objects are compared at once, a memoryview byte by byte.
    return piece == FileContent(path, piece.size, place) or all(
        bytes(chunk) == file.read(len(chunk)) for chunk in piece.chunks(_CHUNK)
    )


class Package(NamedTuple):
    """A package on disk; ``sections`` gives the place of each of its seven sections."""

    path: Path
    sections: Mapping[str, elf.Section]

    def content(self, name: str) -> Content:
        """Return a section's content, read when it is used."""
        return FileContent(self.path, self.sections[name].size, self.sections[name].offset)

    def where(self, name: str) -> str:
        """Return a section's place for messages."""
        return f"{self.path}, section {name}"


def read(path: Path) -> Package:
    """Find a package's sections.

    Raises UserError for what is no package: no ELF file, a section missing, there twice, not of the type
    PROGBITS, beyond the end of the file, or larger than one of its kind may be.
    """
    content = FileContent.of(path)
    start = content.part(0, min(content.size, kinds.SIZE)).read()
    if kinds.kind(start) != kinds.ELF:
        raise UserError(str(path), kinds.instead_of(start, "package"), _GIVE_PACKAGE)
    sections = elf.read_sections(content, str(path))
    return Package(path, {name: _only(name, sections, path) for name in SECTIONS})


def _only(name: str, sections: Sequence[elf.Section], path: Path) -> elf.Section:
    found = [section for section in sections if section.name == name]
    where, again = f"{path}, section {name}", "do not use it; package it again"
    if not found:
        raise UserError(str(path), f"is no package: it has no section {name}", _GIVE_PACKAGE)
    if len(found) > 1:
        raise UserError(str(path), f"has the section {name} {len(found)} times", again)
    if found[0].type != elf.SHT_PROGBITS:
        raise UserError(where, f"is of the type {found[0].type}, not PROGBITS", again)
    if found[0].offset + found[0].size > path.stat().st_size:
        raise UserError(where, "lies beyond the end of the file", "the package is truncated: make it again")
    limit = MAX_SIZES.get(name)
    if limit is not None and found[0].size > limit:
        raise UserError(where, f"has {found[0].size:,} bytes, more than {limit:,}", again)
    return found[0]
