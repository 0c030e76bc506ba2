"""BuildGrid is a cache server as any other, and with PostgreSQL it keeps chunks."""

from __future__ import annotations

import base64
import hmac
import json
import random
import time
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


def jwt(secret: bytes, seconds: float) -> str:
    """A token that expires after so many seconds (RFC 7519)."""
    payload = {"sub": "somebody", "exp": time.time() + seconds}
    parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, payload)]
    signed = ".".join(parts)
    return f"{signed}.{_encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@needs_buildgrid_with_chunks
def test_a_token_that_buildgrid_finds_expired_is_read_again_and_one_that_stays_so_costs_a_warning(
    make_once: MakeOnce, tmp_path: Path
) -> None:
    secret, tokens = tmp_path / "secret", tmp_path / "tokens"
    secret.write_bytes(b"0123456789abcdef" * 2)
    expired, good = (jwt(secret.read_bytes(), seconds) for seconds in (-60, 600))
    give = tmp_path / "give"
    give.write_text(f"#!/bin/sh\nhead -n 1 {tokens}\nsed -i 1d {tokens}\n")
    give.chmod(0o755)
    environment = installed(make_once, chunks=True)
    with buildgrid(environment, tmp_path / "server", chunks=True, secret=secret) as server:
        url = f"{server.url}?token-command={give}"
        one, other = Machine(tmp_path / "one", url), Machine(tmp_path / "other", url)
        tokens.write_text(f"{expired}\n{good}\n")
        one.store()
        assert one.client.figures.stored == 1 and one.warnings == [] and not tokens.read_text()
        tokens.write_text(f"{expired}\n{expired}\n")
        assert not other.fetch()
        assert len(other.warnings) == 1 and "it does not accept the credentials" in other.warnings[0]
