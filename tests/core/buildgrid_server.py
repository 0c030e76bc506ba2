"""BuildGrid in a virtual environment of its own; with PostgreSQL it keeps chunks, and executes on workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from remote_servers import becomes, free_port, running

_NOBODY = 65534
_WORKER = Path(__file__).with_name("buildgrid_worker.py")
# BuildGrid 0.9 needs Python 3.13 and, for chunks, PostgreSQL; 0.4 runs on 3.11 and has none.
WITH_CHUNKS, WITHOUT_CHUNKS = ("3.13", "buildgrid==0.9.1"), ("3.11", "buildgrid==0.4.4")
_SECONDS_TO_START = 180  # it validates its configuration again and again

_CONFIGURATION = """\
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
{connections}
storages:
  - !disk-storage &files
    path: {directory}/cas
{index}
caches:
  - !lru-action-cache &results
    storage: *{storage}
    max-cached-refs: 10000
    cache-failed-actions: false
    allow-updates: true
{schedulers}
instances:
  - name: main
    services:
      - !action-cache
        cache: *results
      - !cas
        storage: *{storage}
{chunking}
      - !bytestream
        storage: *{storage}
{execution}
{authorization}
"""
_CONNECTION = """\
connections:
  - !sql-connection &database
    connection-string: postgresql+psycopg://bgd@127.0.0.1:{database}/postgres
"""
_INDEX = """\
  - !sql-index &index
    storage: *files
    sql: *database
"""
_SCHEDULERS = """\
schedulers:
  - !sql-scheduler &scheduler
    storage: *index
    sql: *database
    action-cache: *results
    # A worker that says nothing for so many seconds is lost, and what it executes goes to another one.
    bot-session-keepalive-timeout: 5
    session-expiry-timer-interval: 1
    property-set: !dynamic-property-set
      match-property-keys: [OSFamily, sgx]
"""
_EXECUTION = """\
      - !execution
        scheduler: *scheduler
"""
# Who asks has to show a token in the form of JWT that this secret signed and that has not expired.
_AUTHORIZATION = """\
authorization:
  method: jwt
  algorithm: hs256
  secret: {secret}
"""


class BuildGrid(NamedTuple):
    """A BuildGrid that runs."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    environment: Path
    directory: Path

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def worker(self, name: str, *properties: str) -> Iterator[Worker]:
        """A worker with properties of its platform, as ``sgx=2``; it executes one action at a time."""
        log = self.directory / f"{name}.log"
        command = [str(self.environment / "bin" / "python"), str(_WORKER), f"127.0.0.1:{self.port}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "main", name, *properties], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            yield Worker(process, log)
            assert process.poll() in (None, -9), log.read_text()
        finally:
            process.kill()
            process.wait()


class Worker(NamedTuple):
    """A worker that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def executions(self) -> int:
        return self.log.read_text().count("executing ")

    def is_executing(self) -> bool:
        """Wait until it has been given something."""
        return becomes(lambda: self.executions > 0)


def python(version: str) -> str | None:
    """An interpreter of a version: this one, one on the path, or one of pyenv's."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python{version}"))]
    return next(iter(found), None) or shutil.which(f"python{version}")


def postgres(program: str) -> str | None:
    """A program of PostgreSQL, which Debian does not put on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(found[-1]) if found else None)


needs_buildgrid_with_chunks = pytest.mark.skipif(
    not (python(WITH_CHUNKS[0]) and postgres("initdb") and os.geteuid() == 0),
    reason="needs Python 3.13, PostgreSQL and root: apt-get install postgresql",
)
needs_buildgrid = pytest.mark.skipif(not python(WITHOUT_CHUNKS[0]), reason="needs Python 3.11")


def install(directory: Path, version: str, requirement: str) -> None:
    """Make a virtual environment with BuildGrid."""
    interpreter = python(version)
    assert interpreter
    subprocess.run([interpreter, "-m", "venv", str(directory)], check=True)
    database = ["psycopg[binary]"] if requirement == WITH_CHUNKS[1] else []
    command = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement, *database]
    subprocess.run(command, check=True)


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def installed(make_once: MakeOnce, *, chunks: bool) -> Path:
    """Return a virtual environment with BuildGrid, made once for all tests."""
    version, requirement = WITH_CHUNKS if chunks else WITHOUT_CHUNKS
    name = "buildgrid-with-chunks" if chunks else "buildgrid"
    return make_once(name, partial(install, version=version, requirement=requirement))


@contextmanager
def buildgrid(
    environment: Path, directory: Path, *, chunks: bool, secret: Path | None = None
) -> Iterator[BuildGrid]:
    """BuildGrid at a loopback port; where a file has a secret, it wants tokens that this signed."""
    directory.mkdir(parents=True)
    port = free_port()
    with ExitStack() as stack:
        database = stack.enter_context(_database()) if chunks else 0
        configuration = directory / "buildgrid.yml"
        configuration.write_text(
            _CONFIGURATION.format(
                port=port,
                directory=directory,
                connections=_CONNECTION.format(database=database) if chunks else "",
                index=_INDEX if chunks else "",
                storage="index" if chunks else "files",
                chunking="        enable-chunking: true" if chunks else "",
                schedulers=_SCHEDULERS if chunks else "",
                execution=_EXECUTION if chunks else "",
                authorization=_AUTHORIZATION.format(secret=secret) if secret else "",
            )
        )
        # Its own script names the directory that the environment was made in.
        bgd = [str(environment / "bin" / "python"), "-c", "from buildgrid.server.app import cli; cli()"]
        if chunks:
            address = f"postgresql+psycopg://bgd@127.0.0.1:{database}/postgres"
            subprocess.run([*bgd, "migrate", "apply", address], check=True, capture_output=True)
        command = [*bgd, "server", "start", str(configuration)]
        process = stack.enter_context(running(command, port, directory / "log", seconds=_SECONDS_TO_START))
        yield BuildGrid(f"grpc://127.0.0.1:{port}/main", port, process, environment, directory)


@contextmanager
def _database() -> Iterator[int]:
    """PostgreSQL at a loopback port: as an ordinary user, in a directory that he reaches."""
    as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    initdb, server = postgres("initdb"), postgres("postgres")
    assert initdb and server
    with TemporaryDirectory(prefix="database-", ignore_cleanup_errors=True) as directory:
        os.chown(directory, _NOBODY, _NOBODY)
        data, port = f"{directory}/data", free_port()
        made = [*as_nobody, initdb, "-D", data, "-U", "bgd", "--auth=trust", "--no-sync", "-E", "UTF8"]
        initialized = subprocess.run(made, check=False, capture_output=True, text=True, cwd=directory)
        assert initialized.returncode == 0, initialized.stderr
        command = [*as_nobody, server, "-D", data, "-p", str(port), "-k", directory, "-F"]
        with running(command, port, Path(directory, "log")) as process:
            try:
                yield port
            finally:  # killed, it would leave its shared memory to the machine
                process.send_signal(signal.SIGINT)
                process.wait(20)
