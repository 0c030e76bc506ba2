"""The embedded runtime compiled once into the user's cache, for use without a build system."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, lookup, user_cache
from mystikos_tool.runtime import build, digests


def compiled() -> Path:
    """Return the directory of the runtime that these sources make, compiling it when it is not there.

    The directory is named after the digest of the sources and the compiler's version, and it
    appears whole: several processes may compile at once. ``XDG_CACHE_HOME`` says where.

    What is packed and signed comes from there. Raises UserError where others than the user could
    put something in, and for an image that has another digest than these sources give.
    """
    directory = place()
    home = directory.parent
    if os.path.lexists(directory):
        check(directory)
        return directory
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(home)
    except OSError as error:
        raise UserError(
            str(home), f"cannot be written: {error.strerror}", "set XDG_CACHE_HOME to a directory that can be"
        ) from error
    with atomic.scratch(directory) as scratch:
        made = scratch / "runtime"
        build.build(made)
        for path in (made, *made.rglob("*")):
            path.chmod(0o755)  # whatever the umask lets others do
        try:
            made.rename(directory)
        except OSError:
            if not lookup.is_dir(directory):
                raise
    check(directory)
    return directory


def place() -> Path:
    """Return the directory of the compiled runtime, which need not be there."""
    return user_cache.directory() / f"runtime-{build.sources_digest()[:16]}"


def check(directory: Path) -> None:
    """Raise UserError unless a compiled runtime is the user's own, and its images have their digests.

    Where no digests are known of these sources, owner and permissions are all that is checked.
    """
    for path in (directory.parent, directory, *sorted(directory.rglob("*"))):
        _check_owner(path)
    for output, digest in digests.expected().items():
        path = directory / output
        if not lookup.is_file(path) or digests.of(path) != digest:
            problem = "is not what the runtime's sources give"
            raise UserError(str(path), problem, f"remove it, after asking who made it: rm -r {directory}")


def _check_owner(path: Path) -> None:
    """Raise UserError for what another user has made or could change, and for a symbolic link."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        problem = "is a symbolic link, and the runtime's cache has none"
    elif status.st_uid != os.geteuid():
        problem = f"belongs to another user (uid {status.st_uid})"
    elif status.st_mode & 0o022:
        problem = "may be written by other users"
    else:
        return
    raise UserError(
        str(path),
        f"{problem}, so that the runtime in it could be another's",
        f"remove it and: chmod go-w {path.parent}; or set XDG_CACHE_HOME to a directory of your own",
    )
