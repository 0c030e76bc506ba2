"""BuildGrid is a cache server as any other, and with PostgreSQL it keeps chunks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_server import (
    MakeOnce,
    buildgrid,
    installed,
    needs_buildgrid,
    needs_buildgrid_with_chunks,
)
from remote_machine import FILES, Machine

pytestmark = pytest.mark.long

PACKAGE = 200_000_000
CHUNKS_OF_ONE_CHANGE = 2_000_000  # where a change of a file reaches over the end of one chunk of 512 KiB


@pytest.fixture
def with_chunks(make_once: MakeOnce, tmp_path: Path) -> Iterator[str]:
    with buildgrid(installed(make_once, chunks=True), tmp_path / "server", chunks=True) as server:
        yield server.url


@pytest.fixture
def without_chunks(make_once: MakeOnce, tmp_path: Path) -> Iterator[str]:
    with buildgrid(installed(make_once, chunks=False), tmp_path / "server", chunks=False) as server:
        yield server.url


def check_shared(url: str, tmp_path: Path) -> None:
    one, other = Machine(tmp_path / "one", url), Machine(tmp_path / "other", url)
    assert not other.fetch()
    one.store()
    assert other.fetch()
    assert other.files() == one.files() and set(other.files()) == set(FILES)
    assert one.warnings == other.warnings == []


@needs_buildgrid
def test_buildgrid_keeps_what_one_machine_made_for_another(without_chunks: str, tmp_path: Path) -> None:
    check_shared(without_chunks, tmp_path)


@needs_buildgrid_with_chunks
def test_buildgrid_with_postgresql_does_too(with_chunks: str, tmp_path: Path) -> None:
    check_shared(with_chunks, tmp_path)


@needs_buildgrid_with_chunks
def test_a_change_of_one_file_in_a_large_package_moves_little_more_than_its_chunks(
    with_chunks: str, tmp_path: Path
) -> None:
    one, other = (Machine(tmp_path / name, f"{with_chunks}?patience=20") for name in ("one", "other"))
    before = random.Random(1).randbytes(PACKAGE)
    after = before[: PACKAGE // 2] + bytes(4000) + before[PACKAGE // 2 + 4000 :]
    one.store({"package": (before, 0o755)}, "before")
    assert other.fetch(["package"], "before")
    sent, received = one.client.traffic.sent, other.client.traffic.received
    one.store({"package": (after, 0o755)}, "after")
    assert other.fetch(["package"], "after")
    assert other.directory.joinpath("package").read_bytes() == after
    assert one.client.traffic.sent - sent <= 1.5 * CHUNKS_OF_ONE_CHANGE
    assert other.client.traffic.received - received <= 1.5 * CHUNKS_OF_ONE_CHANGE
    assert one.warnings == other.warnings == []
