"""An OCI image layout: a directory with ``oci-layout``, ``index.json`` and ``blobs`` (image-layout.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.io.atomic import read_input
from mystikos_tool.root.oci import manifest as manifests
from mystikos_tool.root.oci.blobs import Blobs, Stream, opened_file
from mystikos_tool.root.oci.manifest import Descriptor

LAYOUT, INDEX = "oci-layout", "index.json"
_VERSION = "1.0.0"


class Layout:
    """The blobs of a layout directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.where = str(directory)

    @contextmanager
    def opened(self, descriptor: Descriptor) -> Iterator[Stream]:
        """Begin to read a blob; see Blobs."""
        with opened_file(self._directory / blob_path(descriptor), "make the image again") as file:
            yield file

    def document(self, name: str) -> bytes:
        """Return one of the files that are named, not by digest."""
        return read_input(self._directory / name, "file of an OCI layout", manifests.MAX_DOCUMENT)


def blob_path(descriptor: Descriptor) -> str:
    """Return where in a layout a content is."""
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"


def descriptors(directory: Path) -> tuple[Blobs, tuple[Descriptor, ...]]:
    """Return the blobs of a layout and what its index lists; raise UserError for what is none."""
    layout = Layout(directory)
    for name in (LAYOUT, INDEX):
        if not lookup.is_file(directory / name):
            problem = f"is no image: there is no {name} in it"
            remedy = "give an OCI layout, as 'skopeo copy … oci:DIR' makes one"
            raise UserError(str(directory), problem, remedy)
    check_version(layout.document(LAYOUT), f"{directory / LAYOUT}")
    return layout, manifests.index(layout.document(INDEX), str(directory / INDEX))


def check_version(data: bytes, where: str) -> None:
    """Raise UserError for a layout of another version."""
    version = manifests.json_object(data, where).get("imageLayoutVersion")
    if version != _VERSION:
        raise UserError(where, f"is a layout of version {version!r}", f"give one of version {_VERSION}")
