"""What lies at a path, asked without an error: of what may not be looked at, whoever opens it tells why.

Path.exists and its like raise OSError before Python 3.14 where a directory on the way may not be searched
or a name is too long.
"""

from __future__ import annotations

import stat
from pathlib import Path

from mystikos_tool.errors import reason_of


def exists(path: Path) -> bool:
    """Tell whether there is something, symbolic links followed."""
    return _mode(path) is not None


def is_dir(path: Path) -> bool:
    """Tell whether there is a directory, symbolic links followed."""
    return stat.S_ISDIR(_mode(path) or 0)


def is_file(path: Path) -> bool:
    """Tell whether there is a regular file, symbolic links followed."""
    return stat.S_ISREG(_mode(path) or 0)


def is_fifo(path: Path) -> bool:
    """Tell whether there is a named pipe, symbolic links followed."""
    return stat.S_ISFIFO(_mode(path) or 0)


def is_symlink(path: Path) -> bool:
    """Tell whether there is a symbolic link."""
    return stat.S_ISLNK(_mode(path, follow=False) or 0)


def lost_target(path: Path) -> str | None:
    """Return where a symbolic link leads if nothing is there, else None."""
    if not is_symlink(path) or exists(path) or why_hidden(path):
        return None
    return str(path.readlink())


def why_hidden(path: Path) -> str | None:
    """Return what the system says where it does not tell whether there is something, else None."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return reason_of(error)
    return None


def _mode(path: Path, *, follow: bool = True) -> int | None:
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except (OSError, ValueError):
        return None
