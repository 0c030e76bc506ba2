"""Make disks, and packages whose root or data is on one, for the tests of the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging import DATA, write_appdir

from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import nodes_of
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.signing.disk_key import load_disk_key

BLOCK = 4096
SIGNED = DATA / "disks" / "p2-names-signed"
DISK_KEY, DISK_PUBLIC_KEY = SIGNED / "rsa2048.pem", SIGNED / "rsa2048.pub"


def make_disk(
    directory: Path,
    files: Mapping[str, bytes | Path],
    *,
    keys: tuple[Path, Path] | None = (DISK_KEY, DISK_PUBLIC_KEY),
    **options: Any,
) -> Path:
    """Write a disk of executable files, signed by the private one of ``keys`` unless that is None."""
    directory.mkdir(parents=True, exist_ok=True)
    return make_disk_of(write_appdir(directory / "tree", files), directory / "disk", keys=keys, **options)


def make_disk_of(
    tree: Path,
    disk: Path,
    *,
    keys: tuple[Path, Path] | None = (DISK_KEY, DISK_PUBLIC_KEY),
    preserve_modes: bool = True,
    **options: Any,
) -> Path:
    """Write a disk of a directory."""
    signer = load_disk_key(*keys) if keys else None
    nodes = nodes_of(DirectorySource(tree, preserve_modes=preserve_modes).tree())
    writer.write(nodes, disk, writer.Options(signer=signer, **options))
    return disk


def change(disk: Path, offset: int, data: bytes) -> None:
    """Write over some bytes of a disk."""
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def root_hash_file(disk: Path, target: Path) -> Path:
    """Write the root hash of a disk as a package takes it."""
    fssig = disk.read_bytes()[-BLOCK:]
    target.write_text(fssig[24:56].hex() + "\n")
    return target
