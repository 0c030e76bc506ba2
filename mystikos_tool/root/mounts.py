"""What the mounts of a configuration ask of the root."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from itertools import accumulate

from mystikos_tool.config import Config, Mount
from mystikos_tool.errors import UserError
from mystikos_tool.root.index import Index

_MAX_NAME = 255
# Of Mystikos' kernel: how many mounts its table holds, and those that it makes itself before others.
_TABLE = 8
_SHARED = "/dev/shm"  # noqa: S108 in the root, not here
_ITS_OWN = ("/", "/dev", _SHARED, "/proc")
# What the embedded kernel can mount on in /dev: nothing else there is a directory or can be made.
_IN_DEV = ("/dev", "/dev/pts", _SHARED)


def mount_over(mounts: Iterable[Mount], path: str) -> str | None:
    """Return the target of the mount that a path lies in; None where it lies in none, but for one on /."""
    on_the_way = _steps(path)
    for mount in mounts:
        target = _steps(mount.target)
        if target and target[-1] in on_the_way:
            return mount.target
    return None


def check_mounts(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    """Yield the targets that are not in the root, for the user to know.

    Raises UserError for a target that nothing can be mounted on.
    """
    yield from check_declared(config, embedded=embedded)
    for number, mount in enumerate(config.mounts):
        where = config.where(f"Mount[{number}].Target")
        if embedded:
            _check_links(index, mount, where)
        found = index.find(mount.target)
        if found and stat.S_ISDIR(found.mode):
            continue
        if problem := _obstacle(index, mount.target):
            raise UserError(where, problem, "create it in the appdir")
        if not mount_over(config.mounts[:number], mount.target):
            problem = f"{mount.target} is not in {index.where} and is made at the start, with mode 0777"
            yield UserError(where, problem, "create it in the appdir to choose its mode")


def check_declared(config: Config, *, embedded: bool) -> Iterator[UserError]:
    """Yield the mounts that Mystikos refuses at the start and the embedded runtime accepts.

    Raises UserError for mounts that both refuse, whatever the root is.
    """
    for number, mount in enumerate(config.mounts):
        where = config.where(f"Mount[{number}].Target")
        if embedded:
            _check_embedded(config, number, where)
        for problem, remedy in _refused_by_mystikos(number, mount):
            if not embedded:
                raise UserError(where, f"Mystikos {problem}", remedy)
            yield UserError(where, f"starts with the embedded runtime only: Mystikos {problem}", remedy)


def _refused_by_mystikos(number: int, mount: Mount) -> Iterator[tuple[str, str]]:
    """Yield why Mystikos' kernel does not start with a mount (kernel/mount.c), and the remedy."""
    target = posixpath.normpath("/" + mount.target.lstrip("/"))
    if target in _ITS_OWN:
        yield f"mounts {target} itself, and starts with no other mount there", "name another directory"
    most = _TABLE - len(_ITS_OWN)
    if number == most:
        yield f"starts with no more than {most} mounts", "mount a directory above several of them"


def _check_embedded(config: Config, number: int, where: str) -> None:
    """Refuse what the embedded runtime does not mount, whatever the root is."""
    mount = config.mounts[number]
    steps = _steps(mount.target)
    if not steps or ".." in mount.target.split("/"):
        problem = f"{mount.target} is no directory that the embedded runtime can mount on"
        raise UserError(where, problem, "name a directory below /, without ..")
    if mount.type == "ext2" and (mount.public_key or mount.root_hash or mount.flags):
        problem = "an ext2 disk is mounted without PublicKey, RootHash and Flags, as Mystikos demands"
        raise UserError(where, problem, "leave them out, and give the package the key or the root hash")
    within = mount_over(config.mounts[:number], mount.target)
    if steps[0] == "/proc" or (steps[0] == "/dev" and steps[-1] not in _IN_DEV and not within):
        problem = f"{mount.target} lies in {steps[0]}, where the embedded runtime mounts nothing"
        raise UserError(where, problem, "name another directory")


def _check_links(index: Index, mount: Mount, where: str) -> None:
    """Refuse a target behind a symbolic link, which the embedded runtime does not follow to a mount."""
    for path in _steps(mount.target):
        entry = index.entry(path)
        if entry and stat.S_ISLNK(entry.mode):
            problem = f"{path} is a symbolic link, which the embedded runtime does not follow to a mount"
            raise UserError(where, problem, "name the directory that it leads to")


def _obstacle(index: Index, target: str) -> str | None:
    """Say why a target that is no directory in the root cannot be made there; None where it can."""
    for path in _steps(target):
        if len(os.fsencode(os.path.basename(path))) > _MAX_NAME:
            return f"a name in {target} has more than {_MAX_NAME} bytes"
        found, entry = index.find(path), index.entry(path)
        if found and not stat.S_ISDIR(found.mode):
            return f"{path} is no directory in {index.where}"
        if not found and entry:
            return f"{path} is a symbolic link in {index.where} that leads nowhere"
    return None


def _steps(path: str) -> list[str]:
    """Return the paths of the directories on the way to one, from below the root on, and its own."""
    parts = (part for part in path.split("/") if part not in ("", "."))
    return list(accumulate(parts, "{}/{}".format, initial=""))[1:]
