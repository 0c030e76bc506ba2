"""Runs of scons in processes that are forked from one that has loaded SCons and the tool already.

Loading them is most of a short run. As a program (``python preloaded_scons.py SOCKET``) it is that process:
each connection brings one run, with the standard streams as descriptors, and gets its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# What Python, the C library and SCons read once, at their start.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "SCONSFLAGS")
_LENGTH = 4
_LOADED = (
    "SCons.Script",
    "SCons.Platform.posix",
    "concurrent.futures.thread",
    "uuid",
    "mystikos_tool.cache.configurations",
    "mystikos_tool.cache.incremental_disk",
    "mystikos_tool.cache.remote.client",
    "mystikos_tool.cache.remote.executor",
    "mystikos_tool.cache.remote.grpc_executor",
    "mystikos_tool.cache.remote.grpc_server",
    "mystikos_tool.explain.check",
    "mystikos_tool.io.user_cache",
    "mystikos_tool.packaging.partial",
    "mystikos_tool.packaging.verification",
    "mystikos_tool.pipeline",
    "mystikos_tool.root.disk.reader",
    "mystikos_tool.root.oci.opening",
    "mystikos_tool.scons.remote_cache",
    "mystikos_tool.scons.testing",
    "mystikos_tool.scons.tool",
    "mystikos_tool.scons.work",
    "mystikos_tool.signing.disk_trust",
    "mystikos_tool.signing.pem",
    "mystikos_tool.signing.trusted",
)
# Of SCons' default tools on Linux those that cost time; a directory as a target loads them.
_DEFAULT_TOOLS = (
    *("ar", "as", "cc", "cxx", "f77", "filesystem", "g++", "gas", "gcc", "gfortran", "gnulink", "ifort"),
    *("jar", "javac", "latex", "lex", "link", "m4", "pdflatex", "swig", "tar", "textfile", "yacc", "zip"),
)


def _of_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


@dataclass(frozen=True)
class PreloadedScons:
    """A process that has loaded SCons, waiting at a socket."""

    path: str
    environment: Mapping[str, str]

    @classmethod
    def start(cls, environment: Mapping[str, str], directory: str) -> PreloadedScons:
        """Start the process; it ends with this one."""
        path = f"{directory}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), str(os.getpid())],
                pass_fds=[listener.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return cls(path, environment)

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Tell whether a run in this environment would not notice the difference."""
        return _of_the_start(environment) == _of_the_start(self.environment)

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], umask: int, stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """Run scons with these arguments, as ``python -m SCons`` would."""
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            streams[0].write(stdin.encode())
            streams[0].seek(0)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(self.path)
            request = json.dumps([list(arguments), str(cwd), dict(environment), umask]).encode()
            socket.send_fds(
                connection, [len(request).to_bytes(_LENGTH, "big")], [stream.fileno() for stream in streams]
            )
            connection.sendall(request)
            status = int(connection.makefile().read())
            out, err = (_content(stream.fileno()) for stream in streams[1:])
        return subprocess.CompletedProcess(list(arguments), status, out, err)


def _content(descriptor: int) -> str:
    """Return what was written, as text, wherever the writer left the position."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().replace("\r\n", "\n")


def _serve(listener: socket.socket, parent: int) -> list[str]:
    """Fork for each connection, one at a time; return the arguments of a run in the process that does it."""
    listener.settimeout(5)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            connection.setblocking(True)
            length, streams, _, _ = socket.recv_fds(connection, _LENGTH, 3)
            request = connection.makefile("rb").read(int.from_bytes(length, "big"))
            child = os.fork()
            if not child:
                return _become(json.loads(request), streams)
            for stream in streams:
                os.close(stream)
            _, ended = os.waitpid(child, 0)
            connection.sendall(str(os.waitstatus_to_exitcode(ended)).encode())
    raise SystemExit


def _become(request: tuple[list[str], str, dict[str, str], int], streams: list[int]) -> list[str]:
    """Make this process look as if it had been started for the run."""
    arguments, cwd, environment, umask = request
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if umask >= 0:
        os.umask(umask)
    sys.path[0] = cwd
    return arguments


def _main(descriptor: int, parent: int) -> None:
    from mystikos_tool.config import schema

    for name in (*_LOADED, *(f"SCons.Tool.{name}" for name in _DEFAULT_TOOLS)):
        importlib.import_module(name)
    list(schema.check({}))  # loads jsonschema, which takes longer than the rest of a build
    gc.freeze()
    with socket.socket(fileno=descriptor) as listener:
        arguments = _serve(listener, parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["SCons", *arguments]
    sys.modules["SCons.Script.SConscript"].launch_dir = str(Path.cwd())  # type: ignore[attr-defined]
    try:
        runpy.run_module("SCons", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        # Python's own end would free every module that this process has from its parent.
        for thread in set(threading.enumerate()) - {threading.current_thread()}:
            if not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else ended.code is not None)


if __name__ == "__main__":
    sys.path.insert(1, str(CHECKOUT))
    _main(int(sys.argv[1]), int(sys.argv[2]))
