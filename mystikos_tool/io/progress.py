"""A progress bar for what takes longer than a second, on a terminal.

    with bar("packing hello", total):
        ...                  # whoever reads or writes calls advance(size) meanwhile

The bar belongs to the thread that opened it. Where several threads have one, one is drawn.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_DELAY = 1.0
_INTERVAL = 0.1
_WIDTH = 30

_local = threading.local()
_drawing = threading.Lock()


class Bar:
    """Draws how much of ``total`` bytes is done; nothing for the first second."""

    def __init__(
        self, label: str, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = label
        self._total = max(total, 1)
        self._stream = stream
        self._clock = clock
        self._next = clock() + _DELAY
        self._done = 0
        self._drawn = False

    def advance(self, size: int) -> None:
        """Count ``size`` more bytes as done."""
        self._done += size
        now = self._clock()
        if now >= self._next and (self._drawn or _drawing.acquire(blocking=False)):
            self._next = now + _INTERVAL
            self._drawn = True
            self._draw()

    def _draw(self) -> None:
        share = min(self._done / self._total, 1)
        filled = round(share * _WIDTH)
        self._stream.write(f"\r{self._label} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}")
        self._stream.flush()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._drawn:
            self._stream.write("\r\033[K")
            self._stream.flush()
            _drawing.release()


@contextmanager
def bar(label: str, total: int) -> Iterator[None]:
    """Show the progress of what this thread does inside, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    _local.bar = Bar(label, total, sys.stderr)
    try:
        yield
    finally:
        _local.bar.close()
        _local.bar = None


def advance(size: int) -> None:
    """Tell this thread's bar, if there is one, of ``size`` more bytes."""
    current: Bar | None = getattr(_local, "bar", None)
    if current:
        current.advance(size)
