"""The store: what was kept is there for the next build, or nothing is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mystikos_tool.cache.store import Store

LARGE = [b"a large value", list(range(1000))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a table and two values."""
    store = Store(tmp_path / "store")
    store.change("table", "key", (1, b"one"))
    store.keep("large", LARGE)
    store.keep("other", b"other")
    store.save()
    return tmp_path / "store"


def test_what_was_kept_is_there_for_the_next_build(path: Path) -> None:
    store = Store(path)
    assert store.table("table") == {"key": (1, b"one")}
    assert (store.value("large"), store.value("other"), store.value("none")) == (LARGE, b"other", None)


def test_what_did_not_change_is_kept_beside_what_did(path: Path) -> None:
    store = Store(path)
    store.keep("other", b"another")
    store.save()
    assert (Store(path).value("large"), Store(path).value("other")) == (LARGE, b"another")


def test_what_was_removed_is_gone(path: Path) -> None:
    store = Store(path)
    store.forget("large")
    store.forget("never there")
    assert store.value("large") is None
    store.save()
    assert Store(path).value("large") is None
    assert path.stat().st_size < 1000


def test_a_store_in_which_nothing_changed_is_not_written(path: Path) -> None:
    before = path.stat()
    store = Store(path)
    store.value("large")
    store.save()
    assert path.stat() == before


def test_a_value_of_a_store_that_another_build_replaced_is_not_taken_for_its_own(path: Path) -> None:
    one, other = Store(path), Store(path)
    other.keep("large", b"something else of another size")
    other.save()
    assert one.value("large") in (None, LARGE)
    one.change("table", "key", 2)
    one.save()
    assert Store(path).table("table") == {"key": 2}
    assert Store(path).value("large") in (None, LARGE)


def test_every_part_of_it_is_looked_at(path: Path) -> None:
    """A store with a byte changed anywhere has what was kept, or nothing, and never raises."""
    data = path.read_bytes()
    for place in range(0, len(data), 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        store = Store(path)
        assert store.table("table") in ({}, {"key": (1, b"one")})
        assert store.value("large") in (None, LARGE)
        assert store.value("other") in (None, b"other")


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:30], os.urandom],
    ids=["empty", "half", "head", "noise"],
)
def test_a_damaged_store_holds_less_and_can_be_saved(path: Path, damage: Callable[..., bytes]) -> None:
    data = path.read_bytes()
    path.write_bytes(damage(len(data) if damage is os.urandom else data))
    store = Store(path)
    assert store.value("other") in (None, b"other")
    store.change("table", "key", 3)
    store.save()
    assert Store(path).table("table") == {"key": 3}


def test_a_store_without_a_path_forgets(tmp_path: Path) -> None:
    store = Store(None)
    store.keep("large", LARGE)
    store.save()
    assert store.value("large") == LARGE
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store")
    store.change("table", "key", 1)
    store.save()
    assert store.table("table") == {"key": 1}
