"""What a killed build left beside targets goes with the next that makes something there, and with ``-c``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import SCons.Script

from mystikos_tool.io import abandoned


def sweep(target: Any) -> None:
    """Remove what was left where a target will be, once in a build."""
    _sweep(Path(target.get_abspath()).parent)


@lru_cache(None)
def _sweep(directory: Path) -> None:
    abandoned.sweep(directory)


@lru_cache(None)
def _cleans() -> bool:
    return bool(SCons.Script.GetOption("clean"))


def clean(env: Any, target: Any) -> None:
    """Have ``-c`` remove what was left of a target."""
    if _cleans():
        path = Path(target.get_abspath())
        found = abandoned.found(path.parent, path.name)
        env.Clean(target, [env.fs.Entry(str(each)) for each in found])
