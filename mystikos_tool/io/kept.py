"""What was read of a file, kept in the process for as long as the file stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

from mystikos_tool.io import fingerprint

_T = TypeVar("_T")


def kept(files: int) -> Callable[[Callable[[Path], _T]], Callable[[Path], _T]]:
    """Let a function of a file return what it did before, for the ``files`` files that were used last.

    The file is read again when its fingerprint is another one, and where that is racy.
    """

    def decorate(read: Callable[[Path], _T]) -> Callable[[Path], _T]:
        @lru_cache(maxsize=files)
        def version_of(path: Path, _: bytes) -> _T:
            return read(path)

        @wraps(read)
        def of(path: Path) -> _T:
            try:
                version = fingerprint.of(path.stat())
            except (OSError, ValueError):
                return read(path)  # and say what is wrong with it
            return read(path) if fingerprint.is_racy(version, time.time_ns()) else version_of(path, version)

        return of

    return decorate
