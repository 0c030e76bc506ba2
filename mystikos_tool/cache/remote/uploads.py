"""Work that is done beside a build and waited for at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]


class Uploads:
    """Does work in a few threads; ``ended`` is called when the main thread has ended and all is done.

    The threads keep the process alive until then, also when a thread that does not began them. Work that
    waits is no more than what it refers to.
    """

    def __init__(self, threads: int, ended: Work) -> None:
        self._threads = threads
        self._ended = ended
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._is_watched = False

    def watch(self) -> None:
        """See to it that ``ended`` is called, even if there is no work."""
        with self._lock:
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._wait, args=(threading.main_thread(),), daemon=False).start()

    def add(self, work: Work) -> None:
        """Do this sometime."""
        self.watch()
        with self._lock:
            if len(self._workers) < self._threads:
                self._workers.append(threading.Thread(target=self._run, daemon=False))
                self._workers[-1].start()
        self._work.put(work)

    def _run(self) -> None:
        while work := self._work.get():
            work()

    def _wait(self, main: threading.Thread) -> None:
        main.join()
        for _ in self._workers:
            self._work.put(None)
        for worker in self._workers:
            worker.join()
        self._ended()
