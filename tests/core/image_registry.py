"""A registry in this process, by HTTP on loopback, with what can go wrong on one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from images import MadeImage, digest

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class RegistryServer:
    """What is on it, what it was asked, and ``rule``, which may answer in its place."""

    port: int
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    rule: Callable[[str, str], Answer | None] = lambda path, authorization: None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, image: MadeImage, name: str = "app", tag: str = "1") -> str:
        """Put an image onto it; return its reference by digest."""
        for key, data in image.blobs.items():
            self.answers[f"/v2/{name}/blobs/{key}"] = ("application/octet-stream", data)
        manifest = image.blobs[image.descriptor["digest"]]
        for key in (tag, digest(manifest)):
            self.answers[f"/v2/{name}/manifests/{key}"] = (image.descriptor["mediaType"], manifest)
        return f"{self.host}/{name}@{digest(manifest)}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def serving() -> Iterator[RegistryServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            served.asked.append((self.path, authorization))
            media_type, data = served.answers.get(self.path, ("", b""))
            found = (200, {"Content-Type": media_type}, data) if media_type else (404, {}, b"")
            status, headers, body = served.rule(self.path, authorization) or found
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = RegistryServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
