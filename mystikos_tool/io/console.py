"""Text for a stream whose encoding may not have every character, which is no reason to fail."""

from __future__ import annotations

from typing import Any

_PLAIN = {"→": "->", "…": "..."}


def shown(text: str, stream: Any) -> str:
    """Return text with other characters for those that a stream cannot write.

    Arrows and dots become several characters, anything else a backslash and its number, as on
    standard error. A stream that names no encoding takes every character.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for character, plain in _PLAIN.items():
            text = text.replace(character, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def write_line(text: str, stream: Any) -> None:
    """Write a line as :func:`shown`, and let it be seen at once."""
    stream.write(shown(text, stream) + "\n")
    stream.flush()
