"""An image, wherever it is: its configuration, and its layers as they are to be had."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.root.oci import blobs, layout
from mystikos_tool.root.oci import digest as digests
from mystikos_tool.root.oci import manifest as manifests
from mystikos_tool.root.oci.blobs import Blobs
from mystikos_tool.root.oci.digest import Digest
from mystikos_tool.root.oci.image_archive import ImageArchive
from mystikos_tool.root.oci.layer_cache import PackedLayer
from mystikos_tool.root.oci.manifest import LAYERS, Descriptor, ImageConfig, Process


class Image(NamedTuple):
    """An image whose configuration is known; ``layers`` are the lowest first."""

    where: str
    config: ImageConfig
    layers: tuple[PackedLayer, ...]

    @property
    def process(self) -> Process:
        """What the image says of the program to start."""
        return self.config.process


def in_file(path: Path, name: str = "") -> Image:
    """Return the image of an OCI layout directory or of an archive, the one called ``name`` of several.

    No layer is read. Raises UserError for what is no image, and for one that is not for linux/amd64.
    """
    if lookup.is_dir(path):
        return of_descriptors(*layout.descriptors(path), name)
    archive = ImageArchive(path)
    if layout.LAYOUT in archive:
        return of_descriptors(*archive.descriptors(), name)
    return _saved(archive, name)


def of_descriptors(source: Blobs, descriptors: Sequence[Descriptor], name: str) -> Image:
    """Return the one image among what an index lists."""
    chosen = manifests.chosen(descriptors, source.where, name)
    manifest = blobs.manifest_of(source, chosen)
    where = f"{source.where}, {manifest.config.digest}"
    config = manifests.config(blobs.document(source, manifest.config), where)
    _check_layers(len(manifest.layers), config.diff_ids, where)
    layers = (
        PackedLayer(
            diff_id,
            partial(source.opened, descriptor),
            f"{source.where}, layer {descriptor.digest}",
            LAYERS[descriptor.media_type],
            descriptor.digest,
            descriptor.size,
        )
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return Image(source.where, config, tuple(layers))


def _saved(archive: ImageArchive, name: str) -> Image:
    saved = archive.saved(name)
    where = f"{archive.where}, {saved.config}"
    data = archive.document(saved.config)
    _check_name(saved.config, data, where)
    config = manifests.config(data, where)
    _check_layers(len(saved.layers), config.diff_ids, where)
    layers = (
        PackedLayer(diff_id, partial(archive.member, member), f"{archive.where}, {member}")
        for member, diff_id in zip(saved.layers, config.diff_ids, strict=True)
    )
    return Image(archive.where, config, tuple(layers))


def _check_name(name: str, data: bytes, where: str) -> None:
    """Hold a configuration to the digest that docker save names it by."""
    named = name.rpartition("/")[2].removesuffix(".json")
    if len(named) == len(digests.of(b"").hex) and not digests.parse(f"sha256:{named}", where).is_of(data):
        raise blobs.mismatch(where, digests.parse(f"sha256:{named}", where))


def _check_layers(count: int, diff_ids: Sequence[Digest], where: str) -> None:
    if count != len(diff_ids):
        problem = f"has {len(diff_ids)} digests of layers, and the image {count} layers"
        raise UserError(where, problem, "make or fetch the image again")
