"""What the mounts of a configuration ask of the root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from mystikos_tool.config import Config
from mystikos_tool.errors import UserError
from mystikos_tool.root.index import Index

_MAX_NAME = 255


def mount_over(config: Config, path: str) -> str | None:
    """Return the target of the mount that a path lies in; None where it lies in none."""
    parts = _parts(path)
    for mount in config.mounts:
        target = _parts(mount.target)
        if target and parts[: len(target)] == target:
            return mount.target
    return None


def check_mounts(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    """Yield the targets that are not in the root, for the user to know.

    Raises UserError for a target that nothing can be mounted on.
    """
    for number, mount in enumerate(config.mounts):
        where = config.where(f"Mount[{number}].Target")
        if embedded:
            _check_embedded(index, config, number)
        found = index.find(mount.target)
        if found and stat.S_ISDIR(found.mode):
            continue
        problem = None if found else _obstacle(index, mount.target)
        if found or problem:
            problem = problem or f"{mount.target} is no directory in {index.where}"
            raise UserError(where, problem, "create it in the appdir")
        outer = [one.target for one in config.mounts[:number] if _is_below(mount.target, one.target)]
        if not outer:
            problem = f"{mount.target} is not in {index.where} and is made at the start, with mode 0777"
            yield UserError(where, problem, "create it in the appdir to choose its mode")


def _check_embedded(index: Index, config: Config, number: int) -> None:
    """Refuse what the embedded runtime does not mount."""
    mount = config.mounts[number]
    where, parts = config.where(f"Mount[{number}].Target"), _parts(mount.target)
    if not parts or ".." in parts:
        problem = f"{mount.target} is no directory that the embedded runtime can mount on"
        raise UserError(where, problem, "name a directory below /, without ..")
    if mount.type == "ext2" and (mount.public_key or mount.root_hash or mount.flags):
        problem = "an ext2 disk is mounted without PublicKey, RootHash and Flags, as Mystikos demands"
        raise UserError(where, problem, "leave them out, and give the package the key or the root hash")
    for end in range(1, len(parts) + 1):
        path = "/" + "/".join(parts[:end])
        entry = index.entry(path)
        if entry and stat.S_ISLNK(entry.mode):
            problem = f"{path} is a symbolic link, which the embedded runtime does not follow to a mount"
            raise UserError(where, problem, "name the directory that it leads to")


def _obstacle(index: Index, target: str) -> str | None:
    """Say why a target that is not in the root cannot be made there; None where it can."""
    parts = _parts(target)
    for end in range(1, len(parts) + 1):
        path = "/" + "/".join(parts[:end])
        if len(os.fsencode(parts[end - 1])) > _MAX_NAME:
            return f"a name in {target} has more than {_MAX_NAME} bytes"
        found, entry = index.find(path), index.entry(path)
        if found and not stat.S_ISDIR(found.mode):
            return f"{path} is no directory in {index.where}"
        if not found and entry:
            return f"{path} is a symbolic link in {index.where} that leads nowhere"
    return None


def _is_below(path: str, directory: str) -> bool:
    parts, above = _parts(path), _parts(directory)
    return len(parts) > len(above) and parts[: len(above)] == above


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
