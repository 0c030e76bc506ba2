"""An image in one tar archive: an OCI layout (``oci-archive``) or what ``docker save`` writes.

Members are read where they lie in the file. What ``docker save`` wrote has no digests of the layers as
they are in the archive, only those of the configuration, of the layers decompressed.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import tar
from mystikos_tool.root.oci import compression, layout
from mystikos_tool.root.oci import manifest as manifests
from mystikos_tool.root.oci.blobs import Blobs, Stream, opened_file
from mystikos_tool.root.oci.manifest import NONE, Descriptor

MANIFEST = "manifest.json"
_AGAIN = "make the archive again"
_MAX_MEMBERS = 100_000


class Saved(NamedTuple):
    """An image of ``docker save``: names of members of the archive."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


class ImageArchive:
    """The members of an archive by their names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)
        with self._file() as file:
            self._check_form(file)
            size = file.seek(0, os.SEEK_END)
            found = tar.members(lambda offset, size: os.pread(file.fileno(), size, offset), size, self.where)
            self._members = dict(_places(found, self.where))

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def document(self, name: str) -> bytes:
        """Return a small member; raise UserError where there is none, and for a large one."""
        with self.member(name) as stream:
            data = b"".join(iter(lambda: stream.read(manifests.MAX_DOCUMENT), b""))
        if len(data) > manifests.MAX_DOCUMENT:
            raise UserError(f"{self.where}, {name}", f"has {len(data):,} bytes, too many", _AGAIN)
        return data

    @contextmanager
    def member(self, name: str) -> Iterator[Stream]:
        """Begin to read a member; raise UserError where there is none."""
        place = self._members.get(name)
        if place is None:
            raise UserError(self.where, f"has no {name}", _AGAIN)
        with self._file() as file:
            file.seek(place[0])
            yield _Part(file, place[1])

    @contextmanager
    def opened(self, descriptor: Descriptor) -> Iterator[Stream]:
        """Begin to read a blob of a layout; see Blobs."""
        with self.member(layout.blob_path(descriptor)) as stream:
            yield stream

    def descriptors(self) -> tuple[Blobs, tuple[Descriptor, ...]]:
        """Return the blobs of a layout and what its index lists."""
        layout.check_version(self.document(layout.LAYOUT), f"{self.where}, {layout.LAYOUT}")
        return self, manifests.index(self.document(layout.INDEX), f"{self.where}, {layout.INDEX}")

    def saved(self, name: str) -> Saved:
        """Return the image of ``docker save`` that has a name, or the only one."""
        where = f"{self.where}, {MANIFEST}"
        value = manifests.json_value(self.document(MANIFEST), where)
        if not (isinstance(value, list) and value and all(isinstance(item, dict) for item in value)):
            raise UserError(where, "is no list of images", _AGAIN)
        images = [_saved(item, where) for item in value]
        found = [image for image in images if not name or name in image.tags]
        if len(found) != 1:
            names = ", ".join(tag for image in images for tag in image.tags) or "some without a name"
            problem = f"has {'several images' if found else f'no image {name!r}'}: {names}"
            raise UserError(self.where, problem, "say which one by its name")
        return found[0]

    def _check_form(self, file: FileIO) -> None:
        kind = compression.of(file.read(4))
        if kind != NONE:
            raise UserError(
                self.where,
                f"is compressed by {kind}, and is read at many places",
                f"decompress it first: {kind} -d",
            )

    def _file(self) -> FileIO:
        return opened_file(self._path, "give an OCI layout or an archive of an image")


class _Part:
    """Some bytes of a file, from its position on."""

    def __init__(self, file: FileIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _places(members: Iterable[tar.Member], where: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the offset and size of every file of an archive by its name, those of links too."""
    places: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    for count, found in enumerate(members):
        if count > _MAX_MEMBERS:
            raise UserError(where, f"has more than {_MAX_MEMBERS:,} members", _AGAIN)
        name = posixpath.normpath(os.fsdecode(found.name))
        if found.kind == tar.FILE:
            places[name] = (found.offset, found.size)
        elif found.kind == tar.SYMBOLIC_LINK:  # docker save has a layer once, and links to it
            target = posixpath.join(posixpath.dirname(name), os.fsdecode(found.target))
            links[name] = posixpath.normpath(target)
        elif found.kind == tar.HARD_LINK:  # tar of a layout whose blobs are shared with another one
            links[name] = posixpath.normpath(os.fsdecode(found.target))
    yield from places.items()
    yield from ((name, places[target]) for name, target in links.items() if target in places)


def _saved(item: Mapping[str, Any], where: str) -> Saved:
    config, layers, tags = item.get("Config"), item.get("Layers"), item.get("RepoTags") or []
    texts = [
        config,
        *(layers if isinstance(layers, list) else [None]),
        *(tags if isinstance(tags, list) else []),
    ]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(where, "does not say of an image which configuration and layers it has", _AGAIN)
    return Saved(str(config), tuple(map(posixpath.normpath, layers or ())), tuple(tags))
