"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"
EPOCH_OF_VECTORS = "1767312000"  # 2026-01-02


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


Run = Callable[..., Result]


def configure(project: Path, **members: object) -> None:
    """Write config.json, with these members on the second line; None leaves one out."""
    given = {"version": "0.1", "MemorySize": "1m", "ApplicationPath": "/bin/hello", "Debug": 1}
    shown = {key: value for key, value in {**given, **members}.items() if value is not None}
    (project / "config.json").write_text("{\n" + json.dumps(shown)[1:] + "\n")
