"""What was recorded: programs in application directories, how they were started, and how they ended.

A directory of records has ``cases.json`` and ``build.sh PYTHON OUT``, which compiles the programs with
the ziglang of PYTHON into OUT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"\b(?!4294967295\b|9223372036854775807\b)\d{12,}\b")
_ANY = "<varies>"
STOPPED, REFUSED, HANGS, ENDS, CRASH, KILLED = (
    "stopped for an unhandled system call",
    "does not start",
    "hangs",
    "ends",
    "kernel crash",
    "host process killed by signal",
)
_BY_KIND_ALONE = (STOPPED, REFUSED, HANGS)
_CRASH_STATUS = 139


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its kind, the exit status, and what it printed, by lines."""

    kind: str
    status: int | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A source on the host: a path as it is, or a directory of files that is made."""

    target: str
    source: str | None
    files: dict[str, str]
    appdir_file: str | None


@dataclass(frozen=True)
class Case:
    """One recorded run."""

    name: str
    kind: str
    group: str
    what: str
    appdir: str
    config: str  # JSON, with sorted keys
    arguments: tuple[str, ...]
    recorded: Outcome
    unordered: bool = False
    stdin: str | None = ""
    environment: dict[str, str] | None = None
    signal: tuple[int, float] | None = None
    mounts: tuple[Mount, ...] = ()
    needs: str | None = None


@dataclass(frozen=True)
class Record:
    """All of a directory."""

    directory: Path
    appdirs: dict[str, dict[str, dict[str, Any]]]
    cases: tuple[Case, ...] = field(default=())


def read(directory: Path) -> Record:
    """Read ``cases.json``; raises OSError and ValueError."""
    text = json.loads((directory / "cases.json").read_text())
    appdirs = {name: one["entries"] for name, one in text["appdirs"].items()}
    cases = tuple(_case(one, text["base_config"]) for one in text["cases"])
    return Record(directory, appdirs, cases)


def _case(one: dict[str, Any], base: dict[str, Any]) -> Case:
    config = {key: value for key, value in {**base, **one["config"]}.items() if value is not None}
    recorded, signal = one["recorded"], one.get("signal")
    return Case(
        name=one["name"],
        kind=one["class"],
        group=one["group"],
        what=one["what"],
        appdir=one["appdir"],
        config=json.dumps(config, sort_keys=True),
        arguments=tuple(_items(one["arguments"])),
        recorded=Outcome(recorded["kind"], recorded["status"], tuple(_items(recorded["stdout"]))),
        unordered=bool(one.get("unordered")),
        stdin=None if one.get("stdin", "") is None else _text(one.get("stdin", "")),
        environment=one.get("environment"),
        signal=(signal["number"], signal["after"]) if signal else None,
        mounts=tuple(_mount(mount) for mount in one.get("mounts", ())),
        needs=one.get("needs"),
    )


def _mount(one: dict[str, Any]) -> Mount:
    return Mount(one["target"], one.get("source"), one.get("directory", {}), one.get("appdir_file"))


def _text(value: str | dict[str, Any]) -> str:
    """Return a text, which may be written short: {"repeat": [TEXT, N]}."""
    if isinstance(value, str):
        return value
    text, count = value["repeat"]
    return str(text) * int(count)


def _items(values: list[Any]) -> Iterator[str]:
    for value in values:
        for _ in range(1 if isinstance(value, str) else value.get("copies", 1)):
            yield _text(value)


def outcome(status: int | None, stdout: str, stderr: str) -> Outcome:
    """Return how a run ended by its exit status, None where it had to be killed."""
    lines = tuple(_lines(stdout))
    if status is None:
        return Outcome(HANGS, None, lines)
    if status == 159 and "is not handled by" in stderr:
        return Outcome(STOPPED, status, lines)
    if status == 125 and "mystikos: " in stderr:
        return Outcome(REFUSED, status)
    return Outcome(ENDS, status, lines)


def _lines(text: str) -> list[str]:
    """Return the lines without empty ones at the end; addresses and times are all alike."""
    lines = [_NUMBER.sub("<number>", line) for line in text.strip("\n").split("\n")]
    lines = [line for line in lines if not line.startswith("GOTO=")]  # of zig's library
    while lines and not lines[-1]:
        lines.pop()
    return lines


def agrees(case: Case, seen: Outcome) -> bool:
    """Return whether a run ended as it was recorded."""
    recorded = case.recorded
    if recorded.kind in _BY_KIND_ALONE:
        return seen.kind == recorded.kind
    if recorded.kind == CRASH:
        return (seen.kind, seen.status) == (ENDS, _CRASH_STATUS)
    if seen.kind != ENDS or seen.status != recorded.status:
        return False
    old, new = recorded.lines, seen.lines
    if case.unordered:
        old, new = tuple(sorted(old)), tuple(sorted(new))
    return len(old) == len(new) and all(a in (b, _ANY) for a, b in zip(old, new, strict=True))
