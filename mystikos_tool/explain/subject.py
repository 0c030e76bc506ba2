"""What is compared: a package, a signed directory, a measurement, an archive or an application directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mystikos_tool import pipeline
from mystikos_tool.enclave import layout
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.formats import kinds
from mystikos_tool.io import atomic, lookup
from mystikos_tool.io.content import FileContent
from mystikos_tool.packaging import opened, sections, signed_directory
from mystikos_tool.packaging.opened import Opened
from mystikos_tool.root import archive
from mystikos_tool.root.archive import Archive

PACKAGE, DIRECTORY, MEASUREMENT = "package", "signed directory", "measurement"
ARCHIVE, APPDIR = "archive", "application directory"


@dataclass(frozen=True)
class Subject:
    """One side of a comparison: what of an enclave it holds, None where it does not.

    ``opened`` is there for what was signed, ``measurement`` for a measurement, and ``archive`` for
    a root that is one.
    """

    path: Path
    kind: str
    opened: Opened | None = None
    measurement: Measurement | None = None
    archive: Archive | None = None

    @property
    def sigstruct(self) -> bytes | None:
        """The SIGSTRUCT, 1808 bytes, that of a measurement not yet signed."""
        if self.opened:
            return self.opened.sigstruct
        return self.measurement.sigstruct if self.measurement else None

    @property
    def parts(self) -> layout.Parts | None:
        """What the enclave is made of."""
        return self.opened.parts() if self.opened else None


def is_appdir(path: Path) -> bool:
    """Tell whether a path is taken for an application directory."""
    return lookup.is_dir(path) and not signed_directory.is_one(path)


@contextmanager
def subject(path: Path, *, exclude: tuple[str, ...] = (), preserve_modes: bool = False) -> Iterator[Subject]:
    """Yield what ``path`` is, by its content; ``exclude`` and ``preserve_modes`` are for a directory.

    An application directory is packed, into the directory for temporary files. Raises UserError for
    what is nothing of all that or cannot be read.
    """
    if is_appdir(path):
        with atomic.scratch(Path(tempfile.gettempdir(), "rootfs")) as directory:
            pipeline.pack(path, directory / "rootfs", exclude=exclude, preserve_modes=preserve_modes)
            packed = archive.read(directory / "rootfs")._replace(where=str(path))
            yield Subject(path, APPDIR, archive=packed)
        return
    yield _file(path)


def _file(path: Path) -> Subject:
    if lookup.is_dir(path):
        return _signed(path, DIRECTORY)
    start = _start(path)
    kind = kinds.kind(start)
    if kind == kinds.ARCHIVE:
        return Subject(path, ARCHIVE, archive=archive.read(path))
    if kind in (kinds.MEASUREMENT, kinds.JSON):  # whose keys may be sorted, behind all of the layout
        data = atomic.read_input(path, "measurement")
        return Subject(path, MEASUREMENT, measurement=Measurement.from_json(data, str(path)))
    if kind == kinds.ELF:
        return _signed(path, PACKAGE)
    problem = kinds.instead_of(start, "package, archive or measurement")
    raise UserError(str(path), problem, "give one of these, a signed directory or an application directory")


def _start(path: Path) -> bytes:
    content = FileContent.of(path)
    with content.at_any_offset() as read_at:
        return read_at(0, kinds.SIZE)


def _signed(path: Path, kind: str) -> Subject:
    found = opened.of(path)
    return Subject(path, kind, opened=found, archive=archive_of(found))


def archive_of(found: Opened) -> Archive | None:
    """Return what is in the root; None where that is a disk, for which a page of zeros stands.

    Raises UserError as :func:`mystikos_tool.root.archive.index` does.
    """
    if found.is_on_disk:
        return None
    return archive.index(found.content(sections.ROOTFS), found.where(sections.ROOTFS))


def check_comparable(a: Subject, b: Subject) -> None:
    """Raise UserError for a measurement and a root, which have nothing in common."""
    for one, other in ((a, b), (b, a)):
        if one.measurement and not (other.opened or other.measurement):
            problem = f"is a measurement and holds nothing of the {other.kind} {other.path}"
            raise UserError(str(one.path), problem, "give a package or a signed directory")
