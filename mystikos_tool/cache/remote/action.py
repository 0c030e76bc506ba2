"""A program that is executed elsewhere, as REAPI describes it: Action, Command and the tree of its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mystikos_tool.cache.remote import digest, messages
from mystikos_tool.cache.remote.digest import Digest
from mystikos_tool.cache.remote.results import Key

STDIN = "input/stdin"
_PROGRAM = "program"
# A Command has no standard input. The arguments stay arguments: none becomes part of what a shell reads.
_SHELL = ("/bin/sh", "-c", f'exec "$0" "$@" < {STDIN}')


class Input(NamedTuple):
    """A file of an input tree."""

    digest: Digest
    is_executable: bool = False


def program_path(name: str) -> str:
    """Return the path of the program that has this file name, from the directory that it is started in."""
    return f"{_PROGRAM}/{name}"


def describe(
    program: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    stdin: bytes,
    inputs: Mapping[str, Input],
    platform: Mapping[str, str],
    timeout: float,
) -> Key:
    """Return the Action that starts ``program``, one of ``inputs`` by path, and the blobs that it names.

    ``timeout`` is in seconds, of which whole ones count. Raises ValueError for an argument or a variable
    that is no text.
    """
    blobs: dict[Digest, bytes] = {}
    stdin_digest = _add(blobs, stdin)
    properties = messages.new("Platform", properties=_properties(platform))
    command = messages.new(
        "Command",
        arguments=[*_SHELL, f"./{program}", *arguments],
        environment_variables=_properties(environment),
        platform=properties,
    )
    root = _directory({**inputs, STDIN: Input(stdin_digest)}, blobs)
    action = messages.new(
        "Action",
        command_digest=_message(_add(blobs, _encoded(command))),
        input_root_digest=_message(root),
        timeout=messages.new("Time", seconds=math.ceil(timeout)),  # there are workers that know no others
        platform=properties,
    )
    return Key(_add(blobs, _encoded(action)), blobs)


def _directory(inputs: Mapping[str, Input], blobs: dict[Digest, bytes]) -> Digest:
    """Return the digest of a directory with these files, whose and whose directories' blobs are added."""
    below: dict[str, dict[str, Input]] = {}
    files = []
    for path, file in sorted(inputs.items()):
        name, is_deeper, rest = path.partition("/")
        if is_deeper:
            below.setdefault(name, {})[rest] = file
        else:
            files.append(
                messages.new(
                    "FileNode", name=name, digest=_message(file.digest), is_executable=file.is_executable
                )
            )
    directories = [
        messages.new("DirectoryNode", name=name, digest=_message(_directory(inner, blobs)))
        for name, inner in sorted(below.items())
    ]
    return _add(blobs, _encoded(messages.new("Directory", files=files, directories=directories)))


def _properties(values: Mapping[str, str]) -> list[Any]:
    """Return names and values as REAPI wants them: sorted by the bytes of the names."""
    ordered = sorted(values.items(), key=lambda item: item[0].encode())
    return [messages.new("Property", name=name, value=value) for name, value in ordered]


def _add(blobs: dict[Digest, bytes], data: bytes) -> Digest:
    named = digest.of(data)
    blobs[named] = data
    return named


def _message(named: Digest) -> Any:
    return messages.new("Digest", hash=named.hash, size_bytes=named.size)


def _encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
