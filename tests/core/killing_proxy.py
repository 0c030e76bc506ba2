"""A TCP proxy before a server, which cuts connections or kills the server when a request is under way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from remote_servers import Kill

_PIECE = 1 << 16
_LONGEST_WORD = 200  # bytes
_DROP, _DRIPPING = 100, 4_000  # bytes, and bytes a second


class When(NamedTuple):
    """A request that has begun: what stands in it, and bytes that have moved since, each way.

    gRPC writes the name of a method as it is into the first request of a connection that has it.
    """

    word: str
    sent: int = 0
    answered: int = 0


class Proxy:
    """Forwards connections to a server until the last of ``times`` has come, and then kills it.

    At each one before, it cuts the connections; at the last one too where there is no ``kill``. What the
    server answers later does not pass. One that ``drips`` cuts and kills nothing, and lets 4 kB/s pass.
    """

    def __init__(self, port: int, times: Sequence[When], kill: Kill | None, *, drips: bool = False) -> None:
        self.has_struck = threading.Event()
        self.is_closed = threading.Event()
        self.drips = drips
        self._server = port
        self._kill = kill
        self._times = list(times)
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept nothing more, and end what there is."""
        self.is_closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not end an accept
        self._listener.close()
        self._cut()

    def now(self) -> When | None:
        """What is waited for."""
        return self._times[0] if self._times else None

    def arrived(self, when: When) -> None:
        """Do what is to be done at a time, once."""
        with self._lock:
            if self.now() is not when:
                return
            del self._times[0]
            if not self._times:
                if self._kill:
                    self._kill()
                    self.close()
                self.has_struck.set()
            if not self.drips:
                self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._connections.append(_Connection(self, client, self._server))

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()
        self._connections.clear()


class _Connection:
    """One connection: two threads that forward."""

    def __init__(self, proxy: Proxy, client: socket.socket, port: int) -> None:
        self._proxy = proxy
        self._client = client
        self._server = socket.create_connection(("127.0.0.1", port))
        self._seen: When | None = None
        self._last = b""
        self._left = [0, 0]
        threading.Thread(target=self._forward, args=(self._client, self._server, 0), daemon=True).start()
        threading.Thread(target=self._forward, args=(self._server, self._client, 1), daemon=True).start()

    def cut(self) -> None:
        for each in self._client, self._server:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _forward(self, source: socket.socket, target: socket.socket, way: int) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                if way == 0:
                    self._look(data)
                if way == 1 and self._proxy.drips and self._proxy.has_struck.is_set():
                    self._drip(data)
                    continue
                target.sendall(data[: self._passing(way, len(data))])
                if self._seen and not any(self._left):
                    self._proxy.arrived(self._seen)
        self.cut()

    def _drip(self, data: bytes) -> None:
        for at in range(0, len(data), _DROP):
            if self._proxy.is_closed.wait(_DROP / _DRIPPING):
                return
            self._client.sendall(data[at : at + _DROP])

    def _look(self, data: bytes) -> None:
        """Look for the word that is waited for, which may be in two pieces."""
        when, seen = self._proxy.now(), self._last + data
        self._last = seen[-_LONGEST_WORD:]
        if when and self._seen is not when and when.word.encode() in seen:
            # What comes with the word passes: the server is to be at work on it.
            self._seen, self._left = when, [when.sent and when.sent + len(data), when.answered]

    def _passing(self, way: int, size: int) -> int:
        """Return how many bytes pass before the time has come, and count them."""
        passes = min(size, self._left[1]) if way == 1 and self._seen and not self._left[0] else size
        self._left[way] = max(self._left[way] - passes, 0)
        return passes


@contextmanager
def killing(
    port: int, times: Sequence[When], kill: Kill | None = None, *, drips: bool = False
) -> Iterator[Proxy]:
    """A proxy before a server."""
    proxy = Proxy(port, times, kill, drips=drips)
    try:
        yield proxy
    finally:
        proxy.close()
