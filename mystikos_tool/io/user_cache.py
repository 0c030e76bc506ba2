"""Where this user's caches are."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

_NO_HOME = "/nonexistent"  # what Debian calls the home of who has none


def home() -> Path:
    """Return the user's cache directory (XDG base directories), made or not; it is absolute.

    ``XDG_CACHE_HOME`` counts when it is an absolute path, as the specification says, and so does ``HOME``.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if given.startswith("/") else Path(_home(), ".cache")


def directory() -> Path:
    """Return our directory in the user's cache directory, made or not."""
    return home() / "mystikos-tool"


def clear(path: Path) -> None:
    """Remove what lies at a file's place in the cache and is none.

    A cache may be another machine's that was unpacked here: a link in it would be written through, and a
    pipe waited for.
    """
    with suppress(OSError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def _home() -> str:
    given = os.environ.get("HOME", "")
    if given.startswith("/"):
        return given
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return _NO_HOME
