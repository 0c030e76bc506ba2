"""Where this user's caches are."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """Return our directory in the user's cache directory (XDG base directories), made or not.

    ``XDG_CACHE_HOME`` counts when it is an absolute path, as the specification says.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if given.startswith("/") else Path(os.path.expanduser("~"), ".cache")  # noqa: PTH111
    return home / "mystikos-tool"
