"""The runtime that a package is made with: four files in the layout of an installed Mystikos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.io.atomic import read_input
from mystikos_tool.io.kept import kept

if TYPE_CHECKING:
    from mystikos_tool.formats import elf

LOADER = "bin/myst"
ENCLAVE = "lib/openenclave/mystenc.so"
KERNEL = "lib/libmystkernel.so"
CRT = "lib/libmystcrt.so"

MAX_IMAGE = 1 << 28  # bytes: more are not read
_KEPT = 4  # the files of one runtime
_EMBEDDED_MARK = b"--myst-mount"  # an option of the embedded runtime, which its kernel tells of

# Where a wheel has the embedded runtime; a checkout compiles it instead.
PREBUILT = Path(__file__).resolve().parent / "prebuilt"


class Runtime(NamedTuple):
    """Where a runtime's files lie."""

    loader: Path
    enclave: Path
    kernel: Path
    crt: Path

    @classmethod
    def at(cls, directory: Path) -> Runtime:
        """Name the files of a runtime without looking for them."""
        return cls(directory / LOADER, directory / ENCLAVE, directory / KERNEL, directory / CRT)

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded runtime, not an installed Mystikos: its kernel says so.

        Raises UserError where the kernel cannot be read or is damaged.
        """
        return _is_embedded(self.kernel)

    @classmethod
    def chosen(cls, directory: Path | None) -> Runtime:
        """Return the runtime in ``directory``, or without one the embedded; raise UserError as these do."""
        return embedded() if directory is None else cls.installed(directory)

    @classmethod
    def installed(cls, directory: Path) -> Runtime:
        """Return the runtime in ``directory``; raise UserError unless it is complete."""
        runtime = cls.at(directory)
        remedy = "give the directory of an installed Mystikos, or use the embedded runtime"
        if not lookup.is_dir(directory):
            is_there = "is no directory" if lookup.exists(directory) else "there is no such runtime directory"
            problem = lookup.why_hidden(directory) or is_there
            raise UserError(str(directory), problem, remedy)
        for path in runtime:
            if not lookup.is_file(path):
                raise UserError(
                    str(directory),
                    f"is no complete runtime: it lacks {path.relative_to(directory)}",
                    remedy,
                )
        return runtime


def _read(path: Path) -> bytes:
    return read_input(path, "runtime file", MAX_IMAGE)


@kept(_KEPT)
def image(path: Path) -> elf.Image:
    """Return an image of a runtime; raise UserError where it cannot be read or is damaged."""
    from mystikos_tool.formats import elf  # a build with nothing to do does without

    return elf.Image(_read(path), str(path))


@kept(_KEPT)
def _is_embedded(kernel: Path) -> bool:
    return _EMBEDDED_MARK in image(kernel).data


def embedded_loader() -> str | None:
    """Return the SHA-256 of the embedded runtime's loader, in hexadecimal; None where it is not known."""
    from mystikos_tool.runtime import digests

    if lookup.is_dir(PREBUILT):
        return digests.of(PREBUILT / LOADER)
    return digests.expected().get(LOADER)


def embedded() -> Runtime:
    """Return the embedded runtime: prebuilt in a wheel, else compiled once into the user's cache.

    Raises UserError where it has to be compiled and can't be.
    """
    if lookup.is_dir(PREBUILT):
        return Runtime.installed(PREBUILT)
    from mystikos_tool.runtime import cache

    return Runtime.installed(cache.compiled())


def yet_to_compile() -> Runtime | None:
    """Return the embedded runtime where :func:`embedded` would compile it, its files not there; else None."""
    if lookup.is_dir(PREBUILT):
        return None
    from mystikos_tool.runtime import cache

    place = cache.place()
    return None if lookup.exists(place) else Runtime.at(place)
