"""Real servers that are killed in the middle of a transfer, or have no space left, cost only a miss."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import pytest
from remote_machine import FILES, Machine
from remote_servers import Kill, killable_casd, killable_nginx, needs_casd, needs_nginx

pytestmark = pytest.mark.long

SIZE = 60_000_000
PATIENCE = 100  # seconds; no machine is so busy that what waits for nothing takes them
needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
SERVERS = [pytest.param(killable_casd, marks=needs_casd), pytest.param(killable_nginx, marks=needs_nginx)]


@cache
def large() -> dict[str, tuple[bytes, int]]:
    return {"large": (random.Random(1).randbytes(SIZE), 0o755)}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Kill]]:
    with request.param(tmp_path / "server") as (url, kill):
        yield f"{url}?patience={PATIENCE}", kill


@contextmanager
def killed_when(moved: Callable[[], int], kill: Kill) -> Iterator[None]:
    """Kill the server once a tenth of a transfer has moved."""
    ended = threading.Event()

    def watch() -> None:
        while moved() < SIZE // 10 and not ended.wait(0.0005):
            pass
        kill()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_server_that_is_killed_while_it_is_read_is_a_miss(server: tuple[str, Kill], tmp_path: Path) -> None:
    url, kill = server
    Machine(tmp_path / "one", url).store(large())
    other = Machine(tmp_path / "other", url)
    with killed_when(lambda: other.client.traffic.received, kill):
        assert not other.fetch(list(large()))
    assert other.files() == {}
    assert other.seconds < PATIENCE
    assert not other.fetch(list(large())) and len(other.warnings) == 1


def test_a_server_that_is_killed_while_it_is_written_costs_a_warning(
    server: tuple[str, Kill], tmp_path: Path
) -> None:
    url, kill = server
    one = Machine(tmp_path / "one", url)
    with killed_when(lambda: one.client.traffic.sent, kill):
        one.store(large())
    assert len(one.warnings) == 1
    assert one.seconds < PATIENCE
    assert one.client.figures.stored == 0


@contextmanager
def full_disk(directory: Path) -> Iterator[Path]:
    """A file system with little space."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@needs_mount
@pytest.mark.parametrize("start", SERVERS)
def test_a_server_without_space_is_still_read(
    start: Callable[[Path], AbstractContextManager[tuple[str, Kill]]], tmp_path: Path
) -> None:
    with full_disk(tmp_path / "disk") as disk, start(disk / "server") as (url, _):
        one, other = Machine(tmp_path / "one", url), Machine(tmp_path / "other", url)
        one.store(FILES, "before")
        one.store(large())
        assert one.client.figures.stored == 1 and len(one.warnings) <= 1
        assert not other.fetch(list(large()))
        assert other.fetch(list(FILES), "before")
