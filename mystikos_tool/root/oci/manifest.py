"""What describes an image: index, manifest and configuration (OCI image specification 1.1; Docker's alike).

From bytes to checked values; nothing is fetched here. Whatever is not as the specification has it
raises UserError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.root.oci import digest as digests
from mystikos_tool.root.oci.digest import Digest

MAX_DOCUMENT = 1 << 22  # bytes of an index, a manifest or a configuration: what registries accept
MAX_LAYERS = 256  # each is an open file while it is packed; Docker makes half as many

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
NONE, GZIP, ZSTD = "none", "gzip", "zstd"
LAYERS: Mapping[str, str] = {
    "application/vnd.oci.image.layer.v1.tar": NONE,
    "application/vnd.oci.image.layer.v1.tar+gzip": GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": NONE,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": GZIP,
}
OS, ARCHITECTURE = "linux", "amd64"
_PLATFORM = f"{OS}/{ARCHITECTURE}"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_DAMAGED = "make or fetch the image again"


class Descriptor(NamedTuple):
    """What an index or a manifest says of a content: ``size`` in bytes, ``names`` from its annotations.

    ``platform`` is os/architecture with a variant behind it, "" where it is not said.
    """

    media_type: str
    digest: Digest
    size: int
    platform: str = ""
    names: tuple[str, ...] = ()


class Manifest(NamedTuple):
    """The contents that make an image; the lowest layer comes first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Process(NamedTuple):
    """What an image says of the program to start: ``Env``, ``Entrypoint``, ``Cmd`` and ``WorkingDir``."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""


class ImageConfig(NamedTuple):
    """The digests of the layers, uncompressed, the lowest first; and the program to start."""

    diff_ids: tuple[Digest, ...]
    process: Process


def index(data: bytes, where: str) -> tuple[Descriptor, ...]:
    """Return what an index lists."""
    members = _object(data, where, "manifests", "layers")
    return tuple(_descriptor(item, where) for item in _list(members, "manifests", where))


def manifest(data: bytes, where: str) -> Manifest:
    """Return what a manifest says; layers of an unknown media type, or that are elsewhere, are refused."""
    members = _object(data, where, "layers", "manifests")
    config = _descriptor(members.get("config"), where)
    if config.media_type not in CONFIGS:
        problem = f"is no image of a root file system: its configuration is of type {config.media_type!r}"
        raise UserError(where, problem, "give a container image")
    layers = tuple(_descriptor(item, where) for item in _list(members, "layers", where))
    for item, layer in zip(members["layers"], layers, strict=True):
        if item.get("urls"):
            problem = f"has the layer {layer.digest} at other places than the image, by urls"
            raise UserError(where, problem, "give an image that has all of its layers")
        if layer.media_type not in LAYERS:
            problem = f"has a layer of the media type {layer.media_type!r}, which is not known"
            raise UserError(where, problem, "give an image whose layers are tar archives, gzip or zstd")
    if len(layers) > MAX_LAYERS:
        raise UserError(where, f"has {len(layers):,} layers, more than {MAX_LAYERS:,}", "squash it")
    return Manifest(config, layers)


def config(data: bytes, where: str) -> ImageConfig:
    """Return what a configuration says; one of another platform than linux/amd64 is refused."""
    members = _object(data, where, "rootfs")
    platform = f"{members.get('os')}/{members.get('architecture')}"
    if platform != _PLATFORM:
        raise UserError(where, f"is an image for {platform}", f"give one for {_PLATFORM}")
    rootfs = members["rootfs"]
    if not isinstance(rootfs, dict):
        raise _wrong(where, "rootfs", rootfs)
    diff_ids = tuple(digests.parse(item, where) for item in _list(rootfs, "diff_ids", where))
    if len(diff_ids) > MAX_LAYERS:
        raise UserError(where, f"has {len(diff_ids):,} layers, more than {MAX_LAYERS:,}", "squash it")
    return ImageConfig(diff_ids, _process(members.get("config") or {}, where))


def chosen(descriptors: Sequence[Descriptor], where: str, name: str = "") -> Descriptor:
    """Return the one image for linux/amd64 that an index lists, of those called ``name`` if it is given.

    Raises UserError where there is none, and where there are several.
    """
    named = [each for each in descriptors if not name or _is_called(each, name)]
    if name and not named:
        names = _shown(name for each in descriptors for name in each.names)
        raise UserError(where, f"has no image {name!r}, only {names}", "correct the name")
    fitting = [each for each in named if f"{each.platform}/".startswith(f"{_PLATFORM}/")]
    found = fitting or [each for each in named if not each.platform]
    if not found:
        platforms = _shown(each.platform for each in named)
        problem = f"has no image for {_PLATFORM}, only {platforms}"
        raise UserError(where, problem, f"give an image that is built for {_PLATFORM}")
    # Of several variants of the processor the least demanding one.
    lowest = min(each.platform for each in found)
    best = [each for each in found if each.platform == lowest]
    are_named_apart = len({each.names for each in found}) > 1 and len({each.digest for each in found}) > 1
    if are_named_apart or len({each.digest for each in best}) > 1:
        names = _shown(name for each in found for name in each.names)
        raise UserError(where, f"has several images: {names}", "say which one by its name")
    return best[0]


def json_object(data: bytes, where: str, remedy: str = _DAMAGED) -> dict[str, Any]:
    """Return the members of a JSON object; raise UserError for anything else."""
    value = json_value(data, where, remedy)
    if not isinstance(value, dict):
        raise UserError(where, "is no JSON object", remedy)
    return value


def json_value(data: bytes, where: str, remedy: str = _DAMAGED) -> Any:
    """Return a JSON value; raise UserError for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise UserError(where, "is no JSON", remedy) from None


def media_type(data: bytes, where: str) -> str:
    """Return what a document says that it is; one of OCI need not say it."""
    members = json_object(data, where)
    if members.get("schemaVersion") == 1:
        remedy = "push the image anew: tools of today write schema 2 or OCI"
        raise UserError(where, "is an image of Docker's schema 1, which is not read", remedy)
    said = members.get("mediaType")
    if isinstance(said, str):
        return said
    return INDEXES[0] if "manifests" in members else MANIFESTS[0]


def _object(data: bytes, where: str, key: str, other: str = "") -> dict[str, Any]:
    """Return a document that has ``key`` and not ``other``: one that two readers could take differently."""
    members = json_object(data, where)
    if key not in members:
        raise UserError(where, f"has no {key}", _DAMAGED)
    if other in members:
        raise UserError(where, f"has both {key} and {other}, so that it could be two things", _DAMAGED)
    return members


def _descriptor(item: Any, where: str) -> Descriptor:
    if not isinstance(item, dict):
        raise _wrong(where, "a descriptor", item)
    media_type, size = item.get("mediaType"), item.get("size")
    if not isinstance(media_type, str):
        raise _wrong(where, "mediaType", media_type)
    if type(size) is not int or size < 0:
        raise _wrong(where, "size", size)
    annotations = item.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise _wrong(where, "annotations", annotations)
    names = (annotations.get(key) for key in _NAMES)
    return Descriptor(
        media_type,
        digests.parse(item.get("digest"), where),
        size,
        _platform(item.get("platform"), where),
        tuple(name for name in names if isinstance(name, str)),
    )


def _platform(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise _wrong(where, "platform", value)
    parts = (value.get("os"), value.get("architecture"), value.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _process(value: Any, where: str) -> Process:
    if not isinstance(value, dict):
        raise _wrong(where, "config", value)
    working_dir = value.get("WorkingDir") or ""
    if not isinstance(working_dir, str):
        raise _wrong(where, "WorkingDir", working_dir)
    env = _texts(value, "Env", where)
    for variable in env:
        if "=" not in variable[1:]:
            raise _wrong(where, "Env", variable)
    return Process(env, _texts(value, "Entrypoint", where), _texts(value, "Cmd", where), working_dir)


def _texts(members: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = members.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise _wrong(where, key, value)
    return tuple(value)


def _list(members: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = members.get(key)
    if not isinstance(value, list):
        raise _wrong(where, key, value)
    return value


def _wrong(where: str, key: str, value: Any) -> UserError:
    return UserError(where, f"{key} cannot be {repr(value)[:80]}", _DAMAGED)


def _is_called(descriptor: Descriptor, name: str) -> bool:
    return any(own in (name, f"docker.io/library/{name}", f"docker.io/{name}") for own in descriptor.names)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(sorted({name for name in names if name})) or "some without a name"
