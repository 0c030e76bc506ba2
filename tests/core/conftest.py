"""What the tests of the core share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_audit)


@pytest.fixture
def opened() -> Iterator[Callable[[], set[str]]]:
    """What was opened since the last call, by the names of the files."""
    global _opened
    _opened = []

    def names() -> set[str]:
        global _opened
        found, _opened = _opened or [], []
        return {Path(path).name for path in found}

    yield names
    _opened = None
