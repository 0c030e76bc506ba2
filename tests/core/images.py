"""Container images made by hand: layers as tar archives, in a layout, an archive or on a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from mystikos_tool.root.tree import Tree

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "+gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "+zstd": zstandard.ZstdCompressor(level=1).compress,
}

Made = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> Made:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(data), target
    info.uid, info.gid = 1000, 1000
    return info, data


def file(name: str, data: bytes | str = b"", mode: int = 0o644) -> Made:
    return member(name, tarfile.REGTYPE, mode, data.encode() if isinstance(data, str) else data)


def directory(name: str, mode: int = 0o755) -> Made:
    return member(name, tarfile.DIRTYPE, mode)


def symlink(name: str, target: str) -> Made:
    return member(name, tarfile.SYMTYPE, 0o777, target=target)


def hard_link(name: str, target: str) -> Made:
    return member(name, tarfile.LNKTYPE, 0o644, target=target)


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> Made:
    return member(name, kind, 0o666)


def whiteout(name: str) -> Made:
    above, _, last = name.rpartition("/")
    return file(f"{above}/.wh.{last}" if above else f".wh.{last}")


def opaque(name: str) -> Made:
    return file(f"{name}/.wh..wh..opq")


def layer(*members: Made) -> bytes:
    """A tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@dataclass
class MadeImage:
    """An image: its blobs by digest, and the descriptors of its manifest and of what is in it."""

    layers: Sequence[bytes]
    compression: str = "+gzip"
    process: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    blobs: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        packed = [COMPRESS[self.compression](each) for each in self.layers]
        self.config = as_json(
            {
                "os": "linux",
                "architecture": self.architecture,
                "config": self.process,
                "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in self.layers]},
            }
        )
        self.manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.added(CONFIG, self.config),
            "layers": [self.added(LAYER + self.compression, each) for each in packed],
        }
        self.descriptor = self.added(MANIFEST, as_json(self.manifest))

    def added(self, media_type: str, data: bytes) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def index(self, name: str = "") -> dict[str, Any]:
        named = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
        return {"schemaVersion": 2, "manifests": [{**self.descriptor, **named}]}

    def files(self, index: Mapping[str, Any] | None = None) -> dict[str, bytes]:
        """The files of an OCI layout."""
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": as_json(index or self.index()),
            **{f"blobs/{name.replace(':', '/')}": data for name, data in self.blobs.items()},
        }

    def layout(self, place: Path, index: Mapping[str, Any] | None = None) -> Path:
        for name, data in self.files(index).items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return place

    def oci_archive(self, place: Path) -> Path:
        place.write_bytes(layer(*(file(name, data) for name, data in self.files().items())))
        return place

    def docker_archive(self, place: Path, *tags: str) -> Path:
        """As docker save wrote it for long: a directory for each layer, and links to one that is there."""
        names = [f"{number:064x}/layer.tar" for number in range(len(self.layers))]
        first = {data: name for name, data in reversed([*zip(names, self.layers, strict=True)])}
        config = f"{digest(self.config).removeprefix('sha256:')}.json"
        listed = [{"Config": config, "RepoTags": list(tags) or None, "Layers": names}]
        layers = (
            file(name, data) if first[data] == name else symlink(name, f"../{first[data]}")
            for name, data in zip(names, self.layers, strict=True)
        )
        place.write_bytes(layer(*layers, file(config, self.config), file("manifest.json", as_json(listed))))
        return place


def described(tree: Tree) -> dict[str, tuple[str, int, bytes]]:
    """What is in a tree by path: type, permissions, and content or target."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return {
        entry.path.decode(): (
            kinds[stat.S_IFMT(entry.mode)],
            stat.S_IMODE(entry.mode),
            b"".join(map(bytes, entry.chunks())) if stat.S_ISREG(entry.mode) else entry.target,
        )
        for entry in tree.entries
    }
