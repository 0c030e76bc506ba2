"""Which image each tag stands for: a file that is committed, so that a tag is the same image everywhere.

{
    "version": 1,
    "images": {
        "docker.io/library/nginx:1.27": "sha256:…"
    }
}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic
from mystikos_tool.root.oci import blobs, manifest
from mystikos_tool.root.oci import digest as digests
from mystikos_tool.root.oci.digest import Digest
from mystikos_tool.root.oci.reference import Reference, needed

FILE = "mystikos-images.lock.json"
_VERSION = 1
_REMOVE = "remove it, and lock the images anew"


def read(path: Path) -> dict[str, Digest]:
    """Return the digests by references with a tag; none where there is no file.

    Raises UserError for a file that is damaged.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return {}
    except OSError:
        pass  # reading it says why
    where = str(path)
    members = manifest.json_object(atomic.read_input(path, "lock file"), where, _REMOVE)
    images = members.get("images")
    if members.get("version") != _VERSION or not isinstance(images, dict):
        raise UserError(where, f"is no lock file of version {_VERSION}", _REMOVE)
    return {str(needed(name)): digests.parse(value, f"{where}: {name}") for name, value in images.items()}


def write(path: Path, images: Mapping[str, Digest]) -> None:
    """Write a lock file, its images in order."""
    locked = {name: str(digest) for name, digest in sorted(images.items())}
    atomic.write(path, (json.dumps({"version": _VERSION, "images": locked}, indent=4) + "\n").encode())


def renew(path: Path, texts: Sequence[str]) -> dict[str, tuple[Digest | None, Digest]]:
    """Ask registries which images tags stand for now, all that are locked without any, and write that down.

    Returns for each reference the digest that it had, None where it is new, and the one that it has. Raises
    UserError for what is no tag on a registry, for a tag that is no image for linux/amd64, and for what a
    registry does or does not do; the file is then as it was.
    """
    locked = read(path)
    asked = [needed(text) for text in texts or locked]
    if not asked:
        raise UserError(str(path), "has no images yet", "name one, as docker.io/library/nginx:1.27")
    for each in asked:
        if each.digest:
            raise UserError(str(each), "has a digest, which is always the same image", "leave the digest out")
    found = {str(each): _now(each) for each in asked}
    write(path, {**locked, **found})
    return {name: (locked.get(name), digest) for name, digest in found.items()}


def _now(reference: Reference) -> Digest:
    """Return what a registry has for a tag now; raise UserError for what no build could take."""
    from mystikos_tool.root.oci.registry import Registry  # loads what speaks HTTP

    registry = Registry(reference)
    descriptor = registry.descriptor()
    blobs.manifest_of(registry, descriptor)
    return descriptor.digest


def pinned(reference: Reference, path: Path) -> Reference:
    """Return a reference with the digest that counts for it.

    Raises UserError for a tag that is not locked.
    """
    if reference.digest:
        return reference
    digest = read(path).get(str(reference))
    if digest is None:
        problem = f"is a tag, which may be another image tomorrow, and {path} has no digest for it"
        raise UserError(str(reference), problem, f"run: mystikos-tool image lock {reference} --lock {path}")
    return reference._replace(digest=digest)
