"""Transfers are watched as long as there are some, by one thread."""

from __future__ import annotations

import threading

from mystikos_tool.io import pace


def _watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_watch" in thread.name}


def test_one_thread_watches_all_transfers_and_ends_with_the_last() -> None:
    before = _watchers()
    kept = pace.Pace(60, 1)
    with kept.kept(lambda: None), kept.kept(lambda: None):
        (watcher,) = _watchers() - before
    watcher.join(5)
    assert not watcher.is_alive()


def test_a_transfer_that_begins_when_all_others_have_ended_is_watched_too() -> None:
    ended = threading.Event()
    kept = pace.Pace(0.01, 1000)
    with kept.kept(lambda: None):
        pass
    for thread in _watchers():
        thread.join(5)
    with kept.kept(ended.set) as transfer:
        assert ended.wait(5)
        assert transfer.is_late
