"""An image as a source of a root: the entries that its layers leave when they are laid over one another."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.oci import variables, whiteout
from mystikos_tool.root.oci.image import Image
from mystikos_tool.root.oci.layer_cache import Layer, LayerCache
from mystikos_tool.root.oci.whiteout import Found
from mystikos_tool.root.source import excluding, is_excluded
from mystikos_tool.root.tree import Contents, Entry, Tree

_REVISION = b"image 1"  # another one when another tree comes of the same image
_IDENTITY = struct.Struct("=QQQ")
_UNNAMED = (0, 0, 0)


class ImageSource:
    """The root file system of an image, its modes as they are, all of it root's.

    Devices and FIFOs are left out and named in the tree's ``left_out``; a hard link is a file of its
    own. The variables of the image are in ``/appenv.json``, as Mystikos' own tools put them there, unless
    the image has such a file. What matches a pattern of ``exclude`` stays out, as of a directory.

    The fingerprint is that of the layers' digests: no layer is read for it. Raises UserError as the
    layers' cache does, when the tree is asked for.
    """

    def __init__(
        self, image: Image, *, exclude: tuple[str, ...] = (), cache: LayerCache | None = None
    ) -> None:
        self.image = image
        self._exclude = exclude
        self._cache = cache or LayerCache()

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the tree may have changed."""
        config = self.image.config
        made_of = (*map(str, config.diff_ids), "", *config.process.env, "", *self._exclude)
        return hashlib.sha256(_REVISION + b"\0".join(map(_encoded, made_of))).digest()

    def is_racy(self) -> bool:
        """Tell that nothing can be changed and the fingerprint stay as it is: it is of contents."""
        return False

    def tree(self) -> Tree:
        """Return the entries."""
        return self._tree

    @cached_property
    def _tree(self) -> Tree:
        started = time.time_ns()
        packed = self.image.layers
        by_digest = {each.diff_id: each for each in packed}
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as workers:
            try:
                layers = dict(zip(by_digest, workers.map(self._cache.layer, by_digest.values()), strict=True))
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise
        ordered = [layers[each.diff_id] for each in packed]
        found = whiteout.merged([each.members for each in ordered], [each.where for each in packed])
        excluded = excluding(self._exclude)
        kept = [each for each in found if not is_excluded(each.path, excluded)]
        files = _LayerFiles(self.image.where, ordered)
        entries = [files.entry(each) for each in kept if not stat.S_ISFIFO(each.member.mode)]
        left_out = tuple(os.fsdecode(each.path) for each in kept if stat.S_ISFIFO(each.member.mode))
        if not entries:
            raise UserError(self.image.where, "has no files", "give an image of a root file system")
        return Tree(variables.added(entries, self.image), left_out, started)


class _LayerFiles(Contents):
    """The files of layers; an entry's origin is the layer's number, the offset there, and the path."""

    def __init__(self, where: str, layers: Sequence[Layer]) -> None:
        self._where = where
        self._layers = layers
        self._identities = [
            _IDENTITY.unpack(bytes.fromhex(each.diff_id.hex)[: _IDENTITY.size]) for each in layers
        ]

    def entry(self, found: Found) -> Entry:
        """Return what is at a path as an entry.

        What stands for its content has the form of a file's status: the layer's digest, and the offset in
        place of a time. Such times are those of long ago, so that it is never racy.
        """
        path, (_, mode, size, offset, target), layer = found
        if target:
            size = len(target)
        device, inode, rest = _UNNAMED if layer is None else self._identities[layer]
        known = fingerprint.STRUCT.pack(device, inode, size, -1 - offset, -1 - (rest >> 1), mode)
        return Entry(path, mode, size, b"%d %d %s" % (layer or 0, offset, path), known, self, target)

    def name(self, entry: Entry) -> str:
        """Return the image and the path in it."""
        return f"{self._where}, {os.fsdecode(entry.origin.split(b' ', 2)[2])}"

    def identity(self, entry: Entry) -> bytes:
        """Return what hard links share: where their data are."""
        return entry.fingerprint[:16] + entry.origin.split(b" ", 2)[1]

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        number, place, _ = entry.origin.split(b" ", 2)
        layer, offset = self._layers[int(number)], int(place)
        yield lambda start, size: layer.read_at(offset + start, max(min(size, entry.size - start), 0))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
