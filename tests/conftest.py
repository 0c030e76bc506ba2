"""Under CI a test that is skipped because a tool is not installed fails: the set-up installs them all."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from examples import examples

LONG = "long"
_MISSING = "is not installed"
# Their tests share what takes long to make: they begin first, so that one process has them all.
_FIRST = ("test_wheel.py",)

# Thousands of tests stay in memory for the whole run: the collector need not look at them so often.
gc.set_threshold(50_000, 20, 20)

settings.register_profile("untimed", deadline=None, max_examples=examples(25))
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Declare what `./sconsw long` runs, and no other run; what is tested starts as from a terminal."""
    # A shell's job in the background, and nohup, ignore signals, and what they start inherits that.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    config.addinivalue_line("markers", f"{LONG}: takes minutes, or installs what it needs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long tests out unless they are asked for; begin with those of which one process has all."""
    items.sort(key=lambda item: item.path.name not in _FIRST)
    if LONG in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker(LONG)]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn such a skip into a failure."""
    report = yield
    reason: Any = report.longrepr
    if os.environ.get("CI") and report.skipped and isinstance(reason, tuple) and _MISSING in reason[2]:
        report.outcome = "failed"
        report.longrepr = f"{reason[2]}; .ci/install-tools is to install it"
    return report


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Let one of the processes that run the tests fill a directory, for all of them."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        directory = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not directory.exists():
                unfinished = shared / f"{name}.unfinished"
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(directory)
        return directory

    return make_once
