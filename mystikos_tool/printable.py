"""Names and texts that may be a hostile package's, made fit to be shown: the one place where that is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MAX_SHOWN = 400
_FEW = 5
_OF_BYTES = range(0xDC80, 0xDD00)  # what Python makes of each byte of a name that is not UTF-8


def printable(text: bytes | str, limit: int = _MAX_SHOWN) -> str:
    r"""Return text on one line, with ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN`` for what prints nothing.

    That is what Unicode does not call printable: control characters, line and paragraph separators, those
    that are invisible or turn the direction of writing, and spaces other than the usual one; and what is
    not UTF-8. Of more than ``limit`` characters the rest is left out, which an ellipsis says.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode(errors="backslashreplace")
    return one_line(text) if len(text) <= limit else one_line(text[: limit + 1])[:limit] + "…"


def one_line(text: str) -> str:
    """Return text as :func:`printable`, whatever its length."""
    return text if text.isprintable() else "".join(_escaped(text))


def lines(text: str) -> str:
    """Return text as :func:`one_line`, with its line ends and tabs."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def few(names: Sequence[str], shown: int = _FEW) -> str:
    """Return the first of some names as a part of a sentence, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def named_file(path: str, kind: str, target: str | None) -> str:
    """Return a file as lists show it: a directory with a slash, a symbolic link with its target."""
    return f"{path} -> {target}" if target is not None else f"{path}/" if kind == "directory" else path


def _escaped(text: str) -> Iterator[str]:
    for character in text:
        number = ord(character)
        if character.isprintable():
            yield character
        elif number < 1 << 8 or number in _OF_BYTES:
            yield f"\\x{number & 0xFF:02x}"
        else:
            yield f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
