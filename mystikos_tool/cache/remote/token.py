"""A bearer token from a file or a command; it is never shown and never kept on disk."""

from __future__ import annotations

import shlex
import subprocess
import threading
from pathlib import Path

from mystikos_tool.cache.remote.server import ServerError, Trouble

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
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise ServerError(Trouble.REFUSED, f"the token file: {error.strerror}") from None


def _run(command: str) -> bytes:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ServerError(Trouble.REFUSED, f"the token command failed: {type(error).__name__}") from None
    return done.stdout


def _checked(data: bytes) -> str:
    """Return a token as a header can have it, which goes onto one line."""
    token = data.strip()
    if not token or len(token) >= _LONGEST or not all(0x21 <= byte <= 0x7E for byte in token):
        raise ServerError(Trouble.REFUSED, "there is no token in the token's file or command output")
    return token.decode("ascii")
