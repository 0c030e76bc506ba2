"""A web server in memory that keeps files as nginx with WebDAV does, except where a test tells it not to."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Given the handler and the method; returns whether it has answered.
Fault = Callable[["_Handler"], bool]


class WebServer(ThreadingHTTPServer):
    """``files`` by path; ``fault`` is called before each request; ``sent`` counts bytes by path."""

    daemon_threads = True

    def __init__(self, token: str = "", context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.token = token
        self.faults: dict[str, Fault] = {}
        self.calls: Counter[str] = Counter()
        self.ended = threading.Event()
        self.scheme = "https" if context else "http"
        self._context = context
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/team"

    def finish_request(self, request, client_address):  # type: ignore[no-untyped-def]
        try:
            if self._context:
                request = self._context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except OSError:
            return

    def stop(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def answers(self, status: int) -> Fault:
        def fault(handler: _Handler) -> bool:
            handler.answer(status, b"the secret of the server")
            return True

        return fault

    def breaks_off(self, after: int, times: int = 1) -> Fault:
        """Close the connection in the middle of what it sends."""
        left = [times]

        def fault(handler: _Handler) -> bool:
            data = self.files.get(handler.path, b"")
            if not left[0] or (handler.command == "GET" and len(data) <= after):
                return False
            left[0] -= 1
            if handler.command != "GET":
                return True
            handler.head(200, len(data))
            handler.wfile.write(data[:after])
            handler.close_connection = True
            return True

        return fault

    def drips(self) -> Fault:
        """Send a header, a byte at a time, for ever."""

        def fault(handler: _Handler) -> bool:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.ended.wait(0.02):
                handler.wfile.write(b"x")
            return True

        return fault

    def hangs(self) -> Fault:
        def fault(handler: _Handler) -> bool:
            self.ended.wait(60)
            return True

        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def setup(self) -> None:
        super().setup()
        self.wfile = self.connection.makefile("wb", buffering=0)

    def do_GET(self) -> None:
        self._get(True)

    def do_HEAD(self) -> None:
        self._get(False)

    def do_PUT(self) -> None:
        if self._begun():
            self.server.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201, b"")

    def _get(self, with_body: bool) -> None:
        if not self._begun():
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.answer(404, b"nothing" if with_body else b"")
            return
        begin = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        data = data[int(begin) :]
        self.head(206 if "Range" in self.headers else 200, len(data))
        if with_body:
            self.wfile.write(data)

    def _begun(self) -> bool:
        self.server.calls[self.command] += 1
        token = self.server.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            self.answer(401, f"not {self.headers.get('Authorization')}".encode())
            self.close_connection = True
            return False
        fault = self.server.faults.get(self.command)
        if fault and fault(self):
            self.close_connection = True
            return False
        return True

    def head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def answer(self, status: int, body: bytes) -> None:
        self.head(status, len(body))
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return
