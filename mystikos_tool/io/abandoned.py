"""What a killed process leaves beside its targets, told from what a living one still writes.

Temporary files and directories have names that nothing else has, and are locked (flock(2)) by the
process that writes them until they are gone. One that is this user's and not locked is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mystikos_tool.io import lookup

SUFFIX = ".mystikos-part"  # of files
PREFIX = ".mystikos-"  # of directories

_FILE = re.compile(r"\..+" + re.escape(SUFFIX))
_DIRECTORY = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")


def lock(descriptor: int, path: Path) -> bool:
    """Lock an open file or directory; tell whether it is this user's own, still to be found at ``path``.

    A file with another link is not.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, found = os.fstat(descriptor), path.lstat()
    except OSError:
        return False
    is_plain = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1
    return (
        os.path.samestat(opened, found)
        and (is_plain or stat.S_ISDIR(opened.st_mode))
        and opened.st_uid == os.geteuid()
    )


def found(directory: Path, target: str = "") -> list[Path]:
    """Return what was left in a directory; of files, with a ``target``'s name, only what was to become it."""
    paths = []
    for path in _candidates(directory, target):
        with _locked(path) as is_nobody_s:
            if is_nobody_s:
                paths.append(path)
    return paths


def sweep(directory: Path) -> None:
    """Remove what was left in a directory; what cannot be removed stays."""
    for path in _candidates(directory):
        with _locked(path) as is_nobody_s:
            if is_nobody_s and lookup.is_dir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif is_nobody_s:
                path.unlink(missing_ok=True)


def _candidates(directory: Path, target: str = "") -> list[Path]:
    with suppress(OSError), os.scandir(directory) as entries:
        return sorted(
            directory / entry.name
            for entry in entries
            if (_FILE.fullmatch(entry.name) and entry.name.startswith(f".{target}"))
            or _DIRECTORY.fullmatch(entry.name)
        )
    return []


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file or directory meanwhile; tell whether that could be done, so that nobody else has it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield lock(descriptor, path)
    finally:
        os.close(descriptor)
