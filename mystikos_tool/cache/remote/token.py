"""A bearer token from a file or a command; it is never shown and never kept on disk."""

from __future__ import annotations

import os
import select
import shlex
import threading
from pathlib import Path

from mystikos_tool.cache.remote.server import ServerError, Trouble
from mystikos_tool.io import commands

_LONGEST = 1 << 16  # bytes
_SECONDS = 5


class Token:
    """The token that a file has or a command prints; ``value`` is None where there is neither."""

    def __init__(self, file: Path | None, command: str | None) -> None:
        self._file = file
        self._command = command
        self._lock = threading.Lock()
        self._value: str | None = None

    def value(self) -> str | None:
        """Return the token; ServerError where it can't be had."""
        if not (self._file or self._command):
            return None
        with self._lock:
            if self._value is None:
                self._value = _checked(_read(self._file) if self._file else _run(self._command or ""))
            return self._value

    def is_renewed(self, refused: str | None) -> bool:
        """Ask for the token again after ``refused`` was; tell whether there is another one now."""
        with self._lock:
            if self._value == refused:
                self._value = None
        return self.value() != refused


def _read(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            select.select([file], [], [], _SECONDS)  # a pipe may have nothing to read, or nobody who writes
            return file.read(_LONGEST) or b""
    except OSError as error:
        raise ServerError(Trouble.REFUSED, f"the token file: {error.strerror}") from None


def _run(command: str) -> bytes:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise ServerError(Trouble.REFUSED, "the token command is none, or has a quote that is not closed")
    try:
        return commands.run(words, seconds=_SECONDS, limit=_LONGEST, silent=True)
    except commands.CommandFault as fault:
        raise ServerError(Trouble.REFUSED, f"the token command {fault}") from None


def _checked(data: bytes) -> str:
    """Return a token as a header can have it, which goes onto one line."""
    token = data.strip()
    if not token or len(token) >= _LONGEST or not all(0x21 <= byte <= 0x7E for byte in token):
        raise ServerError(Trouble.REFUSED, "there is no token in the token's file or command output")
    return token.decode("ascii")
