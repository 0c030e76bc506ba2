"""Configurations that an SConscript gives: a dictionary, or members in place of those of a file."""

from __future__ import annotations

import hashlib
import json
import re
from collections import UserList
from collections.abc import Mapping
from typing import Any

import SCons.Errors
import SCons.Node.Python
import SCons.Subst
from SCons.Util import is_String

from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import UNREADABLE
from mystikos_tool.scons.input_file import InputFile
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.stages import CONFIG, GivenMembers

_NAMES = re.compile(r"\$(?:\$|\{?([A-Za-z_]\w*))")

_nodes: dict[tuple[Any, str], Any] = {}


class GivenConfig(InputNode):
    """A configuration that is a dictionary of an SConscript, by the digest of its content."""

    def __init__(self, text: str) -> None:
        super().__init__(SCons.Node.Python.Value(text, name=CONFIG))
        self._text = text

    def __str__(self) -> str:
        return CONFIG

    def signature(self) -> str:
        """Return the digest in hexadecimal."""
        return hashlib.sha256(self._text.encode()).hexdigest()


class ChangedConfig(InputFile):
    """A configuration file with members in place of its own, by the digest of both."""

    def __init__(self, origin: Any, text: str) -> None:
        super().__init__(origin, CONFIG)
        self._text = text

    def signature(self) -> str | None:
        """Return the digest in hexadecimal."""
        file = super().signature()
        if file in (None, UNREADABLE, scons_internals.NOT_MADE):
            return file
        return hashlib.sha256(f"{file} {self._text}".encode()).hexdigest()


def config_input(given: GivenMembers, origin: Any = None) -> Any:
    """Return the one input node of what an SConscript gives, beside the file ``origin`` if there is one."""
    text = json.dumps(given.values, sort_keys=True)
    key = (origin, text)
    if key not in _nodes:
        _nodes[key] = ChangedConfig(origin, text) if origin else GivenConfig(text)
    return _nodes[key]


def fault(value: Any) -> str | None:
    """Return what is accepted where a dictionary's value is none that JSON has."""
    try:
        plain(value, lambda text: text)
        return None
    except TypeError as error:
        return f'a dictionary as in {{"SecurityVersion": 3}}; JSON has no {error}'


def plain(value: Any, subst: Any) -> Any:
    """Return a value as JSON has it, with substituted strings; raise TypeError for one that it has not."""
    if isinstance(value, Mapping):
        if not all(is_String(key) for key in value):
            raise TypeError("keys but strings")
        return {str(key): plain(inner, subst) for key, inner in value.items()}
    if isinstance(value, list | tuple | UserList):
        return [plain(inner, subst) for inner in value]
    if is_String(value):
        return subst(str(value))
    if value is None or type(value) in (bool, int, float):
        return value
    raise TypeError(f"{type(value).__name__} such as {value!r}")


def substituted(env: Any, variable: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's members with the construction variables in its strings put in.

    Raises SCons' UserError for a name that is not set: nothing would stand for it, without a word.
    """

    def member(key: str, value: Any) -> Any:
        def subst(text: str) -> str:
            for match in _NAMES.finditer(text):
                if match[1] and match[1] not in env:
                    raise SCons.Errors.UserError(
                        f"{variable}: {key}: ${match[1]} is not set; set it, or write $$ for a dollar sign"
                    )
            return str(env.subst(text, SCons.Subst.SUBST_RAW)) if "$" in text else text

        return plain(value, subst)

    return {str(key): member(key, value) for key, value in values.items()}
