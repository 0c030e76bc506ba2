"""Transfers that are ended when they fall behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK = 0.1  # seconds


class Transfer:
    """One transfer, and how it is ended: ``moved`` counts bytes."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel
        self.moved = 0
        self.is_late = False
        self._since = time.monotonic()
        self._before = 0
        self._paused: float | None = None

    def allow(self, seconds: float) -> None:
        """Let the other side do something that moves nothing for so long."""
        self._since = time.monotonic() + seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no time, while this side does something else."""
        self._paused = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - self._paused
            self._paused = None

    def look(self, seconds: float, least: int) -> bool:
        """Tell whether it is late: fewer bytes than ``least`` moved in that many seconds."""
        now = self._paused or time.monotonic()
        if self.moved - self._before >= least:
            self._since, self._before = max(now, self._since), self.moved
        return now - self._since > seconds


class Pace:
    """Holds transfers to a rate: ``rate`` bytes a second, in every ``patience`` seconds."""

    def __init__(self, patience: float, rate: int) -> None:
        self._patience = patience
        self._least = max(int(rate * patience), 1)
        self._transfers: set[Transfer] = set()
        self._changing = threading.Lock()
        self._is_watched = False

    @contextmanager
    def kept(self, cancel: Callable[[], object]) -> Iterator[Transfer]:
        """Yield a transfer that is ended by ``cancel`` when it is late."""
        transfer = Transfer(cancel)
        with self._changing:
            self._transfers.add(transfer)
            starts, self._is_watched = not self._is_watched, True
        if starts:
            threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield transfer
        finally:
            with self._changing:
                self._transfers.discard(transfer)

    def _watch(self) -> None:
        """Look at the transfers as long as there are some."""
        while True:
            with self._changing:
                if not self._transfers:
                    self._is_watched = False
                    return
                late = [each for each in self._transfers if each.look(self._patience, self._least)]
            for transfer in late:
                transfer.is_late = True
                transfer.cancel()
            time.sleep(_LOOK)
