"""Container images as sources of root file systems."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mystikos_tool.errors import UserError
from mystikos_tool.root.oci import image, opening, reference
from mystikos_tool.root.oci.image import Image
from mystikos_tool.root.oci.process import Start
from mystikos_tool.root.oci.source import ImageSource
from mystikos_tool.root.permissions import PermittedSource
from mystikos_tool.root.source import Source
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.root_source import RootSource, SourceOptions

_sources: dict[tuple[Any, str, SourceOptions], ImageNode] = {}
_of_registries: dict[tuple[Any, str, SourceOptions], RegistryNode] = {}


class ImageNode(RootSource):
    """The root of an image, by the digests of its layers and what it says of its program.

    No layer is read for the signature.
    """

    def __init__(self, origin: Any, name: str, options: SourceOptions) -> None:
        super().__init__(origin, options)
        self._image_name = name
        self._image: ImageSource | None = None

    def unplaced_file(self) -> str | None:
        """Return nothing: an archive of an image is no file of the root."""
        return None

    def start(self) -> Start:
        """Return how the image's program is started; raise UserError as its layers do."""
        found = self._image or self._opened()
        return Start(str(self), found.image.process, found.tree())

    def _opened(self) -> ImageSource:
        found = self._found_image()._replace(where=str(self))
        self._image = ImageSource(found, exclude=self.options.exclude)
        return self._image

    def _found_image(self) -> Image:
        return image.in_file(self._image_file(), self._image_name)

    def _image_file(self) -> Path:
        self._refuse_left_behind()
        node = self.origin if self.origin.is_derived() else self.origin.srcnode()
        return Path(node.rfile().get_abspath())

    def _source(self) -> Source:
        source = self._opened()
        return PermittedSource(source, self.options.chmod) if self.options.chmod else source

    def signature(self) -> str | None:
        """Return a digest of what makes the tree and of the program to start, in hexadecimal."""
        if any(map(scons_internals.was_only_told_of, self.implicit or ())):
            return scons_internals.NOT_MADE
        try:
            source = self._source()
        except UserError:
            return None
        assert self._image is not None  # noqa: S101 it was opened just now
        self._scanned = source
        return hashlib.sha256(source.fingerprint() + repr(self._image.image.process).encode()).hexdigest()


class RegistryNode(ImageNode):
    """The root of an image on a registry; ``origin`` is the file that has the digests of tags."""

    def __init__(self, origin: Any, reference: str, options: SourceOptions) -> None:
        super().__init__(origin, reference, options)
        self._shown = reference

    def scan(self) -> None:
        """Find what has to be built before, as any source does; the name stays the reference."""
        super().scan()
        self._shown = self._image_name

    def _found_image(self) -> Image:
        return opening.of_registry(reference.needed(self._image_name), self._image_file())


def image_node(origin: Any, name: str, options: SourceOptions) -> ImageNode:
    """Return the one node of an image with these options."""
    key = (origin, name, options)
    if key not in _sources:
        _sources[key] = ImageNode(origin, name, options)
    return _sources[key]


def registry_node(lock: Any, reference: str, options: SourceOptions) -> RegistryNode:
    """Return the one node of an image on a registry; ``lock`` is the node of the file with its digest."""
    key = (lock, reference, options)
    if key not in _of_registries:
        _of_registries[key] = RegistryNode(*key)
    return _of_registries[key]
