"""What is to be reached, as limits on figures measured in the same run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.figures import BYTES, SECONDS, TIMES, Figures
from bench.inputs import HUNDRED_APPS, MANY_FILES, MOST_FILES, THOUSAND_APPS
from bench.projects import OURS
from bench.rows import (
    AS_PACKAGE,
    COMMAND_LINE,
    CPIO,
    EMPTY,
    FILE,
    FLOOR,
    FULL,
    HASH,
    HASH_OF_HELLO,
    HELLO,
    HUGE,
    INSTALLED,
    INTERPRETER,
    LARGE,
    MACHINE,
    MEASURE_HELLO,
    NOTHING,
    PLAIN_PROCESS,
    SIGN_ANEW,
    STAGES,
    STARTS,
    TOGETHER,
    UNPACK,
    WALK,
    WRITE,
    from_nothing,
    memory,
    two_jobs,
)

_MB = 1_000_000
_CORES = os.cpu_count() or 1
_MANY, _MOST = MANY_FILES.name, MOST_FILES.name
_HUNDRED, _THOUSAND = HUNDRED_APPS.name, THOUSAND_APPS.name

# What an empty SConstruct takes on the machines on which limits in seconds were set: those of the first
# version, and those for an installed Mystikos and for what changes nothing. Elsewhere they grow with it.
_FIRST_MACHINE, _SECOND_MACHINE = 0.11, 0.17

_Parts = tuple[tuple[float, tuple[str, str, str]], ...]

# The version of 25 November 2026: what it took is known of the machines on which some limits were set.
EARLIER = "5f099c6"


@dataclass(frozen=True)
class Beside:
    """A ``limit`` where it was set and what EARLIER took there, in seconds; ``here`` are its figures here."""

    limit: float
    seconds: float
    here: _Parts


@dataclass(frozen=True)
class Target:
    """``value`` (a sum of figures) may be no more than ``limit`` (another sum) plus ``constant``.

    A constant of seconds is for a machine on which an empty SConstruct takes ``machine`` seconds, or for
    any. Where the earlier version was measured, too, the limit is that of ``beside`` instead: the same share
    of its time.
    """

    name: str
    limit_text: str
    unit: str
    value: _Parts
    limit: _Parts = ()
    constant: float = 0
    machine: float | None = _FIRST_MACHINE
    beside: Beside | None = None


@dataclass(frozen=True)
class Verdict:
    """A target with what was measured of it."""

    target: Target
    value: float
    limit: float
    limit_text: str

    @property
    def met(self) -> bool:
        """Tell whether the target was reached."""
        return self.value <= self.limit


def _one(scenario: str, row: str, column: str, factor: float = 1) -> _Parts:
    return ((factor, (scenario, row, column)),)


def _floor(scenario: str, row: str, factor: float) -> _Parts:
    return _one(scenario, row, FLOOR, factor)


def _start(row: str) -> _Parts:
    """The package's time less the application's own, where that was measured."""
    return _one(STARTS, row, AS_PACKAGE) + _one(STARTS, row, PLAIN_PROCESS, -1)


TARGETS = (
    Target(
        "20,000 files, nothing to do",
        "1.5 x (empty SConstruct + stat walk)",
        SECONDS,
        _one(_MANY, NOTHING, OURS),
        _floor(_MANY, EMPTY, 1.5) + _floor(_MANY, WALK, 1.5),
    ),
    Target(
        "20,000 files, one changed",
        "1.5 x (hash 1.27 x + write twice) + nothing to do",
        SECONDS,
        _one(_MANY, FILE, OURS),
        _floor(_MANY, HASH, 1.5) + _floor(_MANY, WRITE, 3) + _one(_MANY, NOTHING, OURS),
    ),
    Target(
        "100,000 files, nothing to do",
        "1.3 x (empty SConstruct + stat walk)",
        SECONDS,
        _one(_MOST, NOTHING, OURS),
        _floor(_MOST, EMPTY, 1.3) + _floor(_MOST, WALK, 1.3),
    ),
    Target(
        "1,000 apps, nothing to do, an app",
        "0.6 ms",
        SECONDS,
        _one(_THOUSAND, NOTHING, OURS, 1 / THOUSAND_APPS.apps),
        constant=0.0006,
        machine=_SECOND_MACHINE,
        beside=Beside(0.0006, 0.00113, _one(_THOUSAND, NOTHING, EARLIER, 1 / THOUSAND_APPS.apps)),
    ),
    Target(
        "100 apps from nothing, an app and core",
        "40 ms",
        SECONDS,
        _one(_HUNDRED, FULL, OURS, _CORES / HUNDRED_APPS.apps),
        constant=0.040,
        beside=Beside(0.040, 0.0261, _one(_HUNDRED, FULL, EARLIER, _CORES / HUNDRED_APPS.apps)),
    ),
    *(
        Target(
            f"20,000 files, {row}, memory above an empty SConstruct",
            "60 MB",
            BYTES,
            _one(_MANY, memory(row), OURS),
            constant=60 * _MB,
        )
        for row in (NOTHING, FILE, FULL)
    ),
    Target(
        "stages on 5,000 files and 200 MB",
        "3 x (hash 1.27 x + write twice)",
        SECONDS,
        _one(STAGES, TOGETHER, OURS),
        _floor(STAGES, HASH, 3) + _floor(STAGES, WRITE, 6),
    ),
    Target("stages, peak memory", "150 MB", BYTES, _one(STAGES, memory(TOGETHER), OURS), constant=150 * _MB),
    Target(
        "signing anew after a key change",
        "0.3 s + write once",
        SECONDS,
        _one(STAGES, SIGN_ANEW, OURS),
        _floor(STAGES, WRITE, 1),
        0.3,
    ),
    Target(
        "installed runtime: measuring hello",
        "1.5 x hash of the same bytes",
        SECONDS,
        _one(INSTALLED, MEASURE_HELLO, OURS),
        _one(INSTALLED, HASH_OF_HELLO, FLOOR, 1.5),
    ),
    Target(
        "installed runtime: hello from the command line",
        "interpreter start + hash of the same bytes + 0.12 s",
        SECONDS,
        _one(INSTALLED, COMMAND_LINE, OURS),
        _one(INSTALLED, INTERPRETER, FLOOR) + _one(INSTALLED, HASH_OF_HELLO, FLOOR),
        0.12,
        machine=None,
    ),
    Target(
        "installed runtime: 100 apps from nothing, an app and core",
        "60 ms",
        SECONDS,
        _one(INSTALLED, from_nothing(100, 2), OURS, 2 / 100),
        constant=0.060,
        machine=_SECOND_MACHINE,
        beside=Beside(0.060, 0.172, _one(INSTALLED, from_nothing(100, 1), EARLIER, 1 / 100)),
    ),
    Target(
        "installed runtime: 100 apps from nothing, two jobs",
        "one job's time / 1.7",
        TIMES,
        _one(INSTALLED, two_jobs(100), OURS),
        constant=1 / 1.7,
    ),
    Target("hello, what the loader adds", "20 ms", SECONDS, _start(HELLO), constant=0.020),
    *(
        Target(
            f"start of {row}",
            "2 x hash 1.27 x + 10 ms",
            SECONDS,
            _start(row),
            _floor(STARTS, f"{row}: {HASH}", 2),
            0.010,
        )
        for row in (HELLO, LARGE, HUGE)
    ),
    Target(
        "unpacking 5,000 files, 200 MB into tmpfs",
        "2 x cpio -i",
        SECONDS,
        _one(STARTS, UNPACK, OURS),
        _one(STARTS, UNPACK, CPIO, 2),
    ),
    Target(
        "start of 1 GB, peak memory",
        "root file system + 20 MB",
        BYTES,
        _one(STARTS, memory(HUGE), AS_PACKAGE),
        _floor(STARTS, f"{HUGE}: root file system", 1),
        20 * _MB,
    ),
)


def verdicts(figures: Figures) -> list[Verdict]:
    """Hold what was measured against the targets; those that were not measured are left out."""
    found = []
    for target in TARGETS:
        value, limit = figures.total(target.value), _limit(target, figures)
        if value is not None and limit is not None:
            found.append(Verdict(target, value, *limit))
    return found


def _limit(target: Target, figures: Figures) -> tuple[float, str] | None:
    """Return a target's limit on this machine and what it is; None where what it needs was not measured."""
    beside = target.beside
    if beside and (here := figures.total(beside.here)) is not None:
        slower = here / beside.seconds
        set_at = f"{beside.limit * 1e3:g} ms x {slower:.2f}"
        return beside.limit * slower, f"{set_at}: {EARLIER} takes {slower:.2f} x as long as where it was set"
    limit = figures.total(target.limit)
    if limit is None:
        return None
    slower = _slower(target, figures)
    text = f"{target.limit_text}; {slower:.1f} x as many seconds here"
    return limit + target.constant * slower, text if slower > 1 else target.limit_text


def _slower(target: Target, figures: Figures) -> float:
    """Return by how much the seconds of a target's constant grow here; 1 on a machine as fast or faster."""
    empty = figures.median(MACHINE, EMPTY, FLOOR)
    if empty is None or target.machine is None or not target.constant or target.unit != SECONDS:
        return 1.0
    return max(1.0, empty / target.machine)
