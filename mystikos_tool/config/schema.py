"""The schema of the configuration, ``config.schema.json``: the one table of its keys.

    check({"Debug": "yes"})   # ApplicationPath is missing; Debug: cannot be "yes"
    fields(table(), values)   # typed values, by the names that Config gives them

Checking takes the jsonschema library, which is loaded when the first value is checked, for that
takes about as long as building a small package. Everything else needs only the table.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mystikos_tool.io.pages import page_up

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

FILE = Path(__file__).with_name("config.schema.json")

Schema = Mapping[str, Any]
"""A schema, or a part of it that is one."""

Steps = tuple[str | int, ...]
"""The keys and indices that lead from the configuration to a value."""


class Finding(NamedTuple):
    """What is wrong with the value that ``steps`` lead to, and what to do about it.

    ``key`` is the key that is wrong, where that is one of the value's keys.
    """

    steps: Steps
    problem: str
    remedy: str
    key: str | None = None


# Keys of older versions of Mystikos, which mean nothing any more.
_NO_LONGER_USED = {"KernelMemSize", "StackMemSize"}


@cache
def table() -> Schema:
    """Return the schema."""
    whole: Schema = json.loads(_data())
    return whole


@cache
def _data() -> bytes:
    return FILE.read_bytes()


def digest(data: bytes) -> str:
    """Return a digest of a configuration's bytes together with the schema that they are checked by."""
    return hashlib.sha256(hashlib.sha256(_data()).digest() + data).hexdigest()


def resolve(part: Schema) -> Schema:
    """Return the definition that a part refers to, or the part itself."""
    name = _reference(part)
    return definition(name) if name else part


def definition(name: str) -> Schema:
    """Return one of the definitions that the keys refer to."""
    found: Schema = table()["$defs"][name]
    return found


def _reference(part: Schema) -> str:
    return str(part.get("$ref", "")).rpartition("/")[2]


# Checking


def check(values: Any) -> Iterator[Finding]:
    """Yield what the schema does not accept in a configuration; some of it more than once."""
    for error in _validator().iter_errors(values):
        yield from _findings(error)


@cache
def _validator() -> Validator:
    from jsonschema.validators import Draft202012Validator, extend

    # For JSON Schema 1.0 is an integer; for an installed Mystikos it is not.
    integers = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    keywords = {
        "pattern": _check_pattern,
        "x-max-bytes": _check_max_bytes,
        "x-max-length": _check_max_length,
    }
    make: Any = extend(Draft202012Validator, keywords, type_checker=integers)  # type: ignore[no-untyped-call]
    validator: Validator = make(table())
    return validator


def _check_pattern(_: Validator, pattern: str, value: Any, __: Schema) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _search(pattern, value):
        yield _error()


def _check_max_bytes(_: Validator, limit: int, value: Any, __: Schema) -> Iterator[ValidationError]:
    if isinstance(value, str) and (_bytes(value) or 0) > limit:
        yield _error()


def _check_max_length(_: Validator, limit: int, value: Any, __: Schema) -> Iterator[ValidationError]:
    if isinstance(value, str) and len(value.encode()) > limit:
        yield _error()


def _error() -> ValidationError:
    from jsonschema import ValidationError

    return ValidationError("is not accepted")  # the words are those of x-form


def _search(pattern: str, text: str) -> re.Match[str] | None:
    """Search as ECMA-262 does: ``$`` is the end of the text only, not also before a last line feed."""
    return re.search(pattern.replace("$", r"\Z"), text)


def _findings(error: Any) -> Iterator[Finding]:
    """Yield the faults of one error: where a list may also be one string, those of its elements."""
    below = [inner for inner in error.context or () if inner.relative_path]
    if below:
        for inner in below:
            yield from _findings(inner)
        return
    steps, instance, part = tuple(error.absolute_path), error.instance, error.schema
    if error.validator == "required":
        known = part["properties"]
        misspelt = {_most_like(key, known) for key in instance if key not in known}
        for key in part["required"]:
            if key not in instance and key not in misspelt:
                example = json.dumps(part["properties"][key]["examples"][0])
                yield Finding(steps, f"{key} is missing", f'add "{key}": {example}')
    elif error.validator == "additionalProperties":
        known = part["properties"]
        for key in instance:
            if key in _NO_LONGER_USED and not steps:
                yield Finding(steps, f"{quote(key)} is no longer used", "remove it", key)
            elif key not in known:
                yield Finding(steps, f"unknown key {quote(key)}", _nearest(key, known), key)
    else:
        yield Finding(steps, *refusal(instance, part))


def refusal(value: Any, part: Schema) -> tuple[str, str]:
    """Return the problem of a value that a part does not accept, and the remedy."""
    return f"cannot be {show(value)}", f"give {part['x-form']}"


def _nearest(key: str, known: Iterable[str]) -> str:
    """Return what to do about an unknown key: take the real one that it most resembles, if any does."""
    meant = _most_like(key, known)
    return f'write "{meant}"' if meant else "remove it"


def _most_like(key: str, known: Iterable[str]) -> str | None:
    import difflib  # slow to import, and needed for mistakes only

    lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(key.lower(), lower, n=1)
    return lower[matches[0]] if matches else None


def show(value: Any) -> str:
    """Return a value as messages show it; an object may be one of `jsonc`."""
    if isinstance(value, (dict, tuple)):
        return "an object"
    return "a list" if isinstance(value, list) else quote(value)


def quote(value: bool | int | float | str | None) -> str:
    """Return the JSON of a simple value, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]}..."


# Values


def lists(part: Schema, value: Any) -> Any:
    """Return the same value with a list around each string that stands for a list of one."""
    part = resolve(part)
    if isinstance(value, dict):
        return {key: lists(part["properties"][key], member) for key, member in value.items()}
    if isinstance(value, list) and "items" in part:
        return [lists(part["items"], element) for element in value]
    return [value] if isinstance(value, str) and "anyOf" in part else value


def fields(part: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the typed values of an accepted object, with its `lists`, by the names of their fields.

    What is left out has its default: absent keys, null, and sizes of 0.
    """
    typed = {_field(key): _typed(part["properties"][key], value) for key, value in values.items()}
    return {name: value for name, value in typed.items() if value is not None}


_OTHER_FIELDS = {"Mount": "mounts", "Secret": "secrets", "UserMemSize": "memory_size"}


def _field(key: str) -> str:
    return _OTHER_FIELDS.get(key) or re.sub("(?<=[a-z])(?=[A-Z])", "_", key).lower()


def _typed(part: Schema, value: Any) -> Any:
    kind = _reference(part)
    if kind == "flag":
        return bool(value)
    if kind == "size":
        return page_up(size(value) or 0) or None
    if not isinstance(value, list):
        return value
    if kind == "variables":
        return tuple(variable for variable in value if variable)
    return tuple(
        fields(resolve(resolve(part)["items"]), element) if isinstance(element, dict) else element
        for element in value
    )


def size(value: Any) -> int | None:
    """Return the bytes of a size that the schema accepts, None for any other value."""
    part = definition("size")
    number = _bytes(value) if isinstance(value, str) else value
    return number if type(number) is int and part["minimum"] <= number <= part["maximum"] else None


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _bytes(text: str) -> int | None:
    match = _search(definition("size")["pattern"], text)
    return int(match[1]) * _UNITS[match[2].lower()] if match else None
