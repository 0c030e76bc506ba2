"""What one action made, as the action cache keeps it."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mystikos_tool.cache.remote import digest, messages
from mystikos_tool.cache.remote.digest import EMPTY, Digest

# Part of every key: raised when results of before are not to be found any more.
FORMAT = b"mystikos-tool remote cache 1"

_PERMISSIONS = 0o777
_EXECUTABLE = 0o111


class Key(NamedTuple):
    """What results are found by: the digest of an Action; ``blobs`` are the Action and what it names."""

    digest: Digest
    blobs: Mapping[Digest, bytes]


class Output(NamedTuple):
    """A file that an action made: its digest and permissions, or where a symbolic link points.

    ``content`` is what the server sent along, not verified.
    """

    path: str
    digest: Digest = EMPTY
    mode: int = 0
    target: str | None = None
    content: bytes = b""


class Result(NamedTuple):
    """The outputs of an action, and how many seconds it took."""

    outputs: tuple[Output, ...]
    seconds: float


def key(signature: str, paths: Sequence[str]) -> Key:
    """Return the key of the action that has a signature and makes files at these paths."""
    command = _encoded(messages.new("Command", arguments=["scons", signature], output_paths=sorted(paths)))
    named = digest.of(command)
    action = _encoded(
        messages.new("Action", command_digest=_message(named), input_root_digest=_message(EMPTY), salt=FORMAT)
    )
    return Key(digest.of(action), {named: command, digest.of(action): action})


def encode(result: Result) -> bytes:
    """Return a result as an ActionResult."""
    files = [
        messages.new(
            "OutputFile",
            path=output.path,
            digest=_message(output.digest),
            is_executable=bool(output.mode & _EXECUTABLE),
            node_properties={"unix_mode": {"value": output.mode}},
        )
        for output in result.outputs
        if output.target is None
    ]
    links = [
        messages.new("OutputSymlink", path=output.path, target=output.target)
        for output in result.outputs
        if output.target is not None
    ]
    nanoseconds = int(result.seconds * 10**9)
    took = messages.new("Time", seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
    return _encoded(
        messages.new(
            "ActionResult",
            output_files=files,
            output_symlinks=links,
            execution_metadata={"started": messages.new("Time"), "completed": took},
        )
    )


def decode(data: bytes, paths: Sequence[str]) -> Result | None:
    """Return a result with its outputs in the order of ``paths``; None unless it is one of just those."""
    try:
        message = messages.read("ActionResult", data)
    except ValueError:
        return None
    if message.exit_code or len(message.output_files) + len(message.output_symlinks) != len(paths):
        return None
    outputs = {file.path: _file(file) for file in message.output_files}
    outputs |= {link.path: _link(link) for link in message.output_symlinks}
    found = [outputs.get(path) for path in paths]
    if len(outputs) != len(paths) or None in found:
        return None
    return Result(tuple(output for output in found if output), _seconds(message.execution_metadata))


def is_portable(link: str) -> bool:
    """Tell whether a symbolic link says the same elsewhere, and leads out of no directory."""
    return bool(link) and not link.startswith("/") and ".." not in link.split("/") and "\0" not in link


def is_plain(mode: int) -> bool:
    """Tell whether permissions are those of a file that its owner reads and that is nothing special."""
    return not mode & ~_PERMISSIONS and bool(mode & stat.S_IRUSR)


def _file(file: Any) -> Output | None:
    named = file.digest
    if not digest.is_digest(named.hash, named.size_bytes):
        return None
    mode = 0o755 if file.is_executable else 0o644
    if file.node_properties.HasField("unix_mode"):
        mode = file.node_properties.unix_mode.value
    if not is_plain(mode):
        return None
    return Output(
        file.path, Digest(named.hash, named.size_bytes), mode | stat.S_IWUSR, content=bytes(file.contents)
    )


def _link(link: Any) -> Output | None:
    return Output(link.path, target=link.target) if is_portable(link.target) else None


def _seconds(metadata: Any) -> float:
    started, completed = metadata.started, metadata.completed
    seconds = completed.seconds - started.seconds + (completed.nanos - started.nanos) / 10**9
    return float(min(max(seconds, 0), 86400))


def _message(named: Digest) -> Any:
    return messages.new("Digest", hash=named.hash, size_bytes=named.size)


def _encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
