"""A server that keeps results and blobs under ``/ac`` and ``/cas`` by HTTP, as nginx with WebDAV does.

It verifies nothing, has no batches and no chunks. A result is an encoded ActionResult.
"""

from __future__ import annotations

import http
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote
from weakref import WeakSet

from mystikos_tool.cache.remote.address import Address
from mystikos_tool.cache.remote.digest import Digest
from mystikos_tool.cache.remote.server import (
    PIECE,
    STORING_RATE,
    Limits,
    MissingError,
    ServerError,
    Traffic,
    Trouble,
)
from mystikos_tool.cache.remote.token import Token
from mystikos_tool.io.pace import Pace, Transfer

_ATTEMPTS = 3  # without progress
_LARGEST_RESULT = 1 << 20  # bytes
_MISSING = {404, 410}
_REFUSED = {403, 405}
_FULL = {413, 507}
_BROKEN = (OSError, http.client.HTTPException, ValueError, AttributeError)

_T = TypeVar("_T")


class HttpServer:
    """A server at an ``http://`` or ``https://`` address."""

    def __init__(self, address: Address, token: Token, traffic: Traffic) -> None:
        self._address = address
        self._prefix = "/" + "".join(f"{quote(part)}/" for part in address.name.split("/") if part)
        self._token = token
        self._traffic = traffic
        self._pace = Pace(address.patience, address.min_rate)
        # Bytes that are progress enough to begin anew with attempts.
        self._least = max(int(address.patience * address.min_rate), 1)
        self._context = _context(address) if address.is_encrypted else None
        self._resolved: tuple[str, int] | None = None
        self._of_thread = threading.local()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False

    def limits(self) -> Limits:
        """See Server."""
        try:
            self._resolved = _resolve(self._address)
            self._connection()
        except _BROKEN as error:
            raise _trouble(error) from None
        return Limits()

    def result(self, key: Digest, inlined: Sequence[str]) -> bytes | None:
        """See Server."""
        try:
            return self._whole(f"ac/{key.hash}", _LARGEST_RESULT)
        except MissingError:
            return None

    def put_result(self, key: Digest, result: bytes) -> None:
        """See Server."""
        self._put(f"ac/{key.hash}", len(result), lambda: [result])

    def missing(self, digests: Sequence[Digest]) -> set[Digest]:
        """See Server."""
        return {digest for digest in digests if not self._has(digest)}

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """See Server."""
        return {digest: self._whole(f"cas/{digest.hash}", digest.size) for digest in digests}

    def write_batch(self, blobs: Mapping[Digest, bytes]) -> None:
        """See Server."""
        for digest, data in blobs.items():
            self._put(f"cas/{digest.hash}", digest.size, [data].copy)

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See Server."""
        reached, attempts, counted = 0, _Attempts(self._token), 0
        while reached < digest.size:
            try:
                for data in self._body(f"cas/{digest.hash}", reached):
                    reached += len(data)
                    if reached > digest.size:
                        raise MissingError
                    if reached >= counted + self._least:
                        attempts, counted = _Attempts(self._token), reached
                    yield data
                if reached < digest.size:
                    raise http.client.HTTPException
            except (_UnauthorizedError, *_BROKEN) as error:
                attempts.failed(error)

    def write(self, digest: Digest, opened: Callable[[], BinaryIO]) -> None:
        """See Server."""

        def pieces() -> Iterator[bytes]:
            with opened() as file:
                yield from iter(lambda: file.read(PIECE), b"")

        self._put(f"cas/{digest.hash}", digest.size, pieces)

    def split(self, digest: Digest) -> list[Digest] | None:
        """See Server."""
        return None

    def splice(self, digest: Digest, chunks: Sequence[Digest]) -> None:
        """See Server."""
        raise ServerError(Trouble.REFUSED, "it knows no chunks")

    def close(self) -> None:
        """See Server."""
        with self._lock:
            self._is_closed = True
            for opened in list(self._sockets):
                _shut(opened)

    def _has(self, digest: Digest) -> bool:
        def ask(exchange: _Exchange) -> bool:
            length = self._answer(exchange, "HEAD", f"cas/{digest.hash}").getheader("Content-Length")
            return length is None or length == str(digest.size)

        try:
            return self._retried(ask)
        except MissingError:
            return False

    def _whole(self, path: str, limit: int) -> bytes:
        def ask(exchange: _Exchange) -> bytes:
            data = self._answer(exchange, "GET", path).read(limit + 1)
            if len(data) > limit:
                raise ServerError(Trouble.FAILED, "it sends more than a file has")
            self._traffic.received += len(data)
            return data

        return self._retried(ask)

    def _body(self, path: str, offset: int) -> Iterator[bytes]:
        """Yield what is at a path from an offset on; HTTPException where it ends too early."""
        with self._exchange() as exchange:
            response = self._answer(exchange, "GET", path, {"Range": f"bytes={offset}-"} if offset else {})
            if offset and response.status != http.HTTPStatus.PARTIAL_CONTENT:
                raise ServerError(Trouble.FAILED, "it does not send a part of a file")
            while data := response.read(PIECE):
                exchange.transfer.moved += len(data)
                self._traffic.received += len(data)
                with exchange.transfer.paused():
                    yield data
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)

    def _put(self, path: str, size: int, content: Callable[[], Iterable[bytes]]) -> None:
        def send(exchange: _Exchange) -> None:
            def counted() -> Iterator[bytes]:
                for data in content():
                    yield data
                    exchange.transfer.moved += len(data)
                    self._traffic.sent += len(data)
                exchange.transfer.allow(size / STORING_RATE)

            self._answer(exchange, "PUT", path, {"Content-Length": str(size)}, counted())

        self._retried(send)

    def _retried(self, request: Callable[[_Exchange], _T]) -> _T:
        attempts = _Attempts(self._token)
        while True:
            try:
                with self._exchange() as exchange:
                    return request(exchange)
            except (_UnauthorizedError, *_BROKEN) as error:
                attempts.failed(error)

    def _answer(
        self,
        exchange: _Exchange,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request; return what answers it, unless that is an error."""
        token = self._token.value()
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        sent = {**authorization, **(headers or {})}
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have refused before it had read all
            exchange.connection.request(method, self._prefix + path, body, sent)
        response = exchange.connection.getresponse()
        status = response.status
        if method != "GET" or status in _MISSING:
            if len(response.read(PIECE)) == PIECE:
                raise http.client.HTTPException
            if status in _MISSING and method != "PUT":
                raise MissingError
        if not http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status, token)
        return response

    @contextmanager
    def _exchange(self) -> Iterator[_Exchange]:
        """Yield this thread's connection, for one request; it is closed where the request fails.

        Raises TimeoutError when the request falls behind.
        """
        connection = self._connection()
        with self._pace.kept(lambda: _shut(connection.sock)) as transfer:
            try:
                yield _Exchange(connection, transfer)
                if transfer.is_late:  # an answer that was cut may look like a whole one
                    raise TimeoutError
            except MissingError:
                raise
            except BaseException as error:
                self._drop(connection)
                if transfer.is_late and isinstance(error, _BROKEN):
                    raise TimeoutError from None
                raise

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None or connection.sock is None:
            connection = self._connect()
        self._of_thread.connection = connection
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        if self._resolved is None:
            raise OSError
        opened = socket.create_connection(self._resolved[:2], self._address.patience)
        host = self._address.place.rpartition(":")[0].strip("[]")
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                opened = self._context.wrap_socket(
                    opened, do_handshake_on_connect=False, server_hostname=host
                )
                with self._pace.kept(lambda: _shut(opened)):
                    opened.do_handshake()
        except BaseException:
            opened.close()
            raise
        connection = http.client.HTTPConnection(self._address.place)
        connection.response_class = _Response
        connection.sock = opened
        connection.auto_open = 0
        with self._lock:
            self._sockets.add(opened)
            if self._is_closed:
                _shut(opened)
        return connection

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._of_thread.connection = None


class _Response(http.client.HTTPResponse):
    """An answer without chunks of a negative size: of such a one the library would hold all that comes."""

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError
        return size


class _Exchange(NamedTuple):
    """One request on a connection."""

    connection: http.client.HTTPConnection
    transfer: Transfer


class _UnauthorizedError(ServerError):
    """A token that the server does not accept."""

    def __init__(self, token: str | None) -> None:
        super().__init__(Trouble.REFUSED, "it does not accept the credentials")
        self.token = token


class _Attempts:
    """What a request has left of attempts."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._failures = 0
        self._renews = True

    def failed(self, error: Exception) -> None:
        """Tell of an attempt that failed; raise ServerError where there is no other one."""
        if isinstance(error, _UnauthorizedError):
            if not self._renews or not self._token.is_renewed(error.token):
                raise error
            self._renews = False
            return
        self._failures += 1
        if self._failures >= _ATTEMPTS or isinstance(error, TimeoutError):
            raise _trouble(error) from None


def _refusal(status: int, token: str | None) -> ServerError:
    if status == http.HTTPStatus.UNAUTHORIZED:
        return _UnauthorizedError(token)
    if status in _REFUSED:
        return ServerError(Trouble.REFUSED, "it does not permit this")
    if status in _FULL:
        return ServerError(Trouble.FULL, "it takes nothing more")
    return ServerError(Trouble.FAILED, f"it answers with status {status}")


def _trouble(error: Exception) -> ServerError:
    if isinstance(error, ServerError):
        return error
    if isinstance(error, TimeoutError):
        return ServerError(Trouble.GONE, "it does not answer in time")
    if isinstance(error, ssl.SSLError):
        return ServerError(Trouble.GONE, "its certificate or ours is not accepted")
    if isinstance(error, OSError):
        return ServerError(Trouble.GONE, "it cannot be reached")
    return ServerError(Trouble.FAILED, "it breaks its answers off")


def _context(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.cert and address.key:
            context.load_cert_chain(address.cert, address.key, password="")  # asks nobody for one
    except ssl.SSLError:
        raise ServerError(Trouble.GONE, "a certificate or key file holds none") from None
    except OSError as error:
        raise ServerError(Trouble.GONE, f"a certificate or key file: {error.strerror}") from None
    return context


def _resolve(address: Address) -> tuple[str, int]:
    """Return a host's numeric address and the port, without waiting longer than the patience."""
    host, _, port = address.place.rpartition(":")
    found: list[tuple[str, int]] = []

    def resolve() -> None:
        with suppress(OSError, UnicodeError):  # the latter for what can be no host's name
            *_, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            found.append((str(place[0]), int(port)))

    resolving = threading.Thread(target=resolve, daemon=True)
    resolving.start()
    resolving.join(address.patience)
    if not found:
        raise OSError
    return found[0]


def _shut(opened: socket.socket | None) -> None:
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
