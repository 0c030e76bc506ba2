"""Work that is done beside a build and waited for at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]


class Uploads:
    """Does work in a few threads. Work that waits is no more than what it refers to.

    The threads do not keep the process alive: :meth:`wait` has to be called before the interpreter
    begins to end, from when on Python starts no thread, which the work may need.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []

    def add(self, work: Work) -> None:
        """Do this sometime."""
        with self._lock:
            if len(self._workers) < self._threads:
                self._workers.append(threading.Thread(target=self._run, daemon=True))
                self._workers[-1].start()
        self._work.put(work)

    def wait(self) -> None:
        """Return when all work is done."""
        workers, self._workers = self._workers, []
        for _ in workers:
            self._work.put(None)
        for worker in workers:
            worker.join()

    def _run(self) -> None:
        while work := self._work.get():
            work()
