"""What remembers which configurations were found valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from mystikos_tool.cache import configurations
from mystikos_tool.cache.configurations import LIMIT, KnownInFile, KnownInStore
from mystikos_tool.cache.store import Store


def digest(number: int) -> str:
    return f"{number:064x}"


def test_a_store_remembers_them_for_the_next_build(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    known = KnownInStore(store)
    assert digest(1) not in known
    known.add(digest(1))
    store.save()
    again = KnownInStore(Store(tmp_path / "store"))
    assert digest(1) in again
    assert digest(2) not in again


def test_a_file_remembers_them_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "known"
    assert digest(1) not in KnownInFile(path)
    KnownInFile(path).add(digest(1))
    KnownInFile(path).add(digest(2))
    assert digest(1) in KnownInFile(path)
    assert digest(2) in KnownInFile(path)
    assert digest(3) not in KnownInFile(path)


@pytest.mark.parametrize("content", [b"", b"\xff\n", digest(1)[:-1].encode(), digest(1).encode()])
def test_a_damaged_file_knows_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "known").write_bytes(content)
    assert digest(1) not in KnownInFile(tmp_path / "known")


def test_a_file_that_cannot_be_used_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    known = KnownInFile(tmp_path / "file" / "known")
    known.add(digest(1))
    assert digest(1) not in known


@pytest.mark.parametrize("kind", ["store", "file"])
def test_those_of_long_ago_are_forgotten(tmp_path: Path, kind: str) -> None:
    known = KnownInStore(Store(None)) if kind == "store" else KnownInFile(tmp_path / "known")
    for number in range(LIMIT):
        known.add(digest(number))
    assert digest(0) in known
    known.add(digest(LIMIT))
    assert digest(0) not in known
    assert digest(LIMIT) in known


@pytest.mark.parametrize(("given", "used"), [("{}/xdg", "xdg"), ("", ".cache"), ("relative", ".cache")])
def test_the_users_file_lies_in_the_cache_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given.format(tmp_path))
    configurations.of_user().add(digest(1))
    assert (tmp_path / used / "mystikos-tool" / "configurations").read_text() == f"{digest(1)}\n"
