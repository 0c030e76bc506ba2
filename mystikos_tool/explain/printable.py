"""Names and texts of a package that may be hostile, made fit to be printed."""

from __future__ import annotations

import re

# Control characters, line ends among them, and those that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_SHOWN = 400


def printable(text: bytes | str, limit: int = _MAX_SHOWN) -> str:
    r"""Return text on one line, with ``\xNN`` for what is not UTF-8 or would steer a terminal.

    Of more than ``limit`` characters the rest is left out, which an ellipsis says.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode(errors="backslashreplace")
    shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text[: limit + 1])
    return shown if len(text) <= limit else shown[:limit] + "…"


def named_file(path: str, kind: str, target: str | None) -> str:
    """Return a file as lists show it: a directory with a slash, a symbolic link with its target."""
    return f"{path} -> {target}" if target is not None else f"{path}/" if kind == "directory" else path
