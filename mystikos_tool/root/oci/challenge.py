"""What a registry asks of who is not authorized: the challenges of WWW-Authenticate (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_MAX_TEXT = 1 << 13  # bytes of the fields that are looked at; challenges are a few hundred
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A parameter, its value quoted or not, or a scheme.
_PART = re.compile(
    rf'[\s,]*(?:(?P<key>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s",=]+))'
    rf"|(?P<scheme>{_WORD}))(?=[\s,]|$)"
    r"|[\s,]*[^\s,]*"  # what is neither
)
_ESCAPE = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """A way to be authorized; the names of its parameters are in lower case."""

    scheme: str
    parameters: dict[str, str]

    def is_of(self, scheme: str) -> bool:
        """Tell whether it is of a scheme, in whatever case."""
        return self.scheme.lower() == scheme


def challenges(fields: Sequence[str]) -> Iterator[Challenge]:
    """Yield what the fields of an answer offer, in their order; what is none is passed over."""
    found: Challenge | None = None
    for part in _PART.finditer(", ".join(fields)[:_MAX_TEXT]):
        if scheme := part["scheme"]:
            if found:
                yield found
            found = Challenge(scheme, {})
        elif found and part["key"]:
            value = part["plain"] or _ESCAPE.sub(r"\1", part["quoted"] or "")
            found.parameters.setdefault(part["key"].lower(), value)
    if found:
        yield found
