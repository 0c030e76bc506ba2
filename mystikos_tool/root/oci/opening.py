"""The image that a text names: a directory, an archive, or one on a registry."""

from __future__ import annotations

from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.root.oci import image, lock, reference
from mystikos_tool.root.oci.image import Image
from mystikos_tool.root.oci.reference import Reference


def on_registry(text: str) -> Reference | None:
    """Return the reference that a text is; None where it is the path of a layout or an archive.

    What is there is a path, and so is what begins with ``/`` or ``.``. Raises UserError as
    :func:`reference.parse` does.
    """
    if text.startswith(("/", ".")) or lookup.exists(Path(text)):
        return None
    return reference.parse(text)


def files_of(text: str) -> list[Path]:
    """Return the archive that a text names, which nothing may be written over; none for another image."""
    return [Path(text)] if lookup.is_file(Path(text)) else []


def of_registry(asked: Reference, locked: Path) -> Image:
    """Return an image of a registry; a tag is the image that the lock file has for it.

    Raises UserError for a tag that it has not, and for what the registry does or does not do.
    """
    from mystikos_tool.root.oci.registry import Registry

    pinned = lock.pinned(asked, locked)
    registry = Registry(pinned)
    return image.of_descriptors(registry, [registry.descriptor()], "")


def named(text: str, name: str, locked: Path) -> Image:
    """Return the image that a text names; raise UserError as the other functions do."""
    asked = on_registry(text)
    if asked is None:
        return image.in_file(Path(text), name)
    if name:
        raise UserError(text, f"is one image, and none of several called {name!r}", "leave the name out")
    return of_registry(asked, locked)
