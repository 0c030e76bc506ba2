"""The host program of a package: what there is of it around the sections, and which loader it was.

Nothing measures it. Appending sections to a loader is a function of the two, which is undone here and
done again: a package that comes of it byte for byte holds nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.io.content import FileContent
from mystikos_tool.packaging.sections import SECTIONS, Package
from mystikos_tool.packaging.verification import VerificationError
from mystikos_tool.runtime import MAX_IMAGE

_REMEDY = "do not use the package; make it again"


def digest(package: Package) -> str:
    """Return the SHA-256, in hexadecimal, of the loader that the sections were appended to.

    Raises VerificationError for a package with bytes in it that belong neither to a section nor to
    the loader, as its headers tell them apart, and for a loader of more than MAX_IMAGE bytes.
    """
    where = str(package.path)
    start, rest = _around(package)
    bodies = [(name, package.sections[name].size) for name in SECTIONS]
    try:
        loader = elf.without_sections(start, rest, bodies)
        pieces = elf.with_sections(elf.Image(loader, f"{where}, the host program"), bodies)
    except (ValueError, UserError):
        raise _foreign(where) from None
    before, after = pieces[: pieces.index(0)], pieces[pieces.index(0) + len(bodies) :]
    if [b"".join(map(bytes, around)) for around in (before, after)] != [start, rest]:
        raise _foreign(where)
    return hashlib.sha256(loader).hexdigest()


def _around(package: Package) -> tuple[bytes, bytes]:
    """Return what comes before the first section and what follows the last."""
    where, size = str(package.path), package.path.stat().st_size
    start = end = package.sections[SECTIONS[0]].offset
    for name in SECTIONS:
        section = package.sections[name]
        if section.size and section.offset != end:
            raise _foreign(where)
        end += section.size
    if start + size - end > MAX_IMAGE:
        raise _too_large(where)
    return FileContent(package.path, start).read(), FileContent(package.path, size - end, end).read()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a loader that is a file of its own; raise as :func:`digest`."""
    content = FileContent.of(path)
    if content.size > MAX_IMAGE:
        raise _too_large(str(path))
    return hashlib.sha256(content.read()).hexdigest()


def _too_large(where: str) -> VerificationError:
    return VerificationError(where, f"has a host program of more than {MAX_IMAGE:,} bytes", _REMEDY)


def _foreign(where: str) -> VerificationError:
    problem = "has bytes in it that belong neither to its sections nor to a loader that they were appended to"
    return VerificationError(where, problem, _REMEDY)


def known_as(sha256: str, given: Path | None, embedded: str | None) -> str | None:
    """Return which loader a host program is, as :class:`HostProgram` has it.

    Raises VerificationError where it is not the one that was given, and UserError where that
    cannot be read.
    """
    if given is None:
        return "embedded" if sha256 == embedded else None
    content = FileContent.of(given)
    if content.size > MAX_IMAGE:
        raise UserError(str(given), f"has more than {MAX_IMAGE:,} bytes, as no loader", "give the loader")
    if hashlib.sha256(content.read()).hexdigest() != sha256:
        raise VerificationError(
            "the host program", f"is not {given}, but has the SHA-256 {sha256}", "do not start the package"
        )
    return "given"
