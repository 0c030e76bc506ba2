"""What is expected of a test, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from SCons.Util import is_String

from mystikos_tool.scons import arguments
from mystikos_tool.scons.arguments import is_usable

_SIGNALS = 64
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # the others stand for bytes that are no text
_LONGEST = 10**8  # seconds; the system's clocks count no endless time


@dataclass(frozen=True)
class Expectation:
    """How a package is run and what it shall do; ``timeout`` is in seconds.

    An output that is None is not looked at; ``*_pattern`` is a regular expression that is
    searched in it. ``strict`` lets no note of the embedded runtime pass, which tells what works
    here and not under Mystikos.
    """

    args: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    stdin: str = ""
    status: int = 0
    stdout: str | None = None
    stdout_pattern: str | None = None
    stderr: str | None = None
    stderr_pattern: str | None = None
    timeout: float = 60
    strict: bool = False

    def signature(self) -> str:
        """Return what stands for the expectation in signatures."""
        return json.dumps(asdict(self), sort_keys=True)


def expectation(**given: Any) -> Expectation:
    """Return an expectation; raise SCons' UserError for a value that a field cannot have."""
    for field, value in given.items():
        accepted = _CHECKS[field](value) if field in _CHECKS else None
        if accepted:
            raise arguments.wrong(f"MystTest: {field}", value, accepted)
    environment = given.get("environment")
    if environment is not None:
        given["environment"] = {str(name): str(value) for name, value in environment.items()}
    return Expectation(**given)


def _text(value: Any) -> str | None:
    is_text = is_String(value) and not _LONE_SURROGATE.search(str(value))
    return None if is_text else "a string"


def _output(value: Any) -> str | None:
    return None if value is None else _text(value)


def _pattern(value: Any) -> str | None:
    accepted = "a regular expression in a string"
    if value is None or not is_String(value):
        return None if value is None else accepted
    try:
        re.compile(value)
    except re.error as error:
        return f"a regular expression; this one is none: {error}"
    return None


def _status(value: Any) -> str | None:
    is_status = type(value) is int and -_SIGNALS <= value <= 255
    return None if is_status else "the number that the program ends with, or -N where signal N ends it"


def _seconds(value: Any) -> str | None:
    is_number = type(value) in (int, float) and 0 < value <= _LONGEST
    return None if is_number else f"a number of seconds greater than 0, at most {_LONGEST:,}"


def _environment(value: Any) -> str | None:
    accepted = 'a dictionary of variables, as in {"GREETING": "hi"}'
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return accepted
    names = all(is_String(name) and name and "=" not in name and is_usable(name) for name in value)
    values = all(type(item) is int or (is_String(item) and is_usable(item)) for item in value.values())
    return None if names and values else accepted


_CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "environment": _environment,
    "stdin": _text,
    "status": _status,
    "stdout": _output,
    "stdout_pattern": _pattern,
    "stderr": _output,
    "stderr_pattern": _pattern,
    "timeout": _seconds,
    "strict": lambda value: None if isinstance(value, bool) else "True or False",
}


@dataclass(frozen=True)
class Outcome:
    """What came of a test that ran: how long it took, in seconds, and what was not as expected."""

    seconds: float
    wrong: tuple[str, ...] = ()
