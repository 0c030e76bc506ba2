"""Digests as image manifests write them: ``sha256:`` or ``sha512:`` with lower-case hexadecimal digits."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from hashlib import _Hash

# OCI image specification, descriptor.md: the registered algorithms.
_FORM = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


class Digest(NamedTuple):
    """The digest that names a content."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def begun(self) -> _Hash:
        """Return a hash of the algorithm, of nothing so far."""
        return hashlib.new(self.algorithm)

    def is_of(self, data: bytes) -> bool:
        """Tell whether a content has the digest."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex


def parse(text: object, where: str) -> Digest:
    """Return the digest that a text is; raise UserError for any other."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if not match:
        shown = repr(text)[:80]
        raise UserError(where, f"{shown} is no digest", "give it as sha256: and 64 hexadecimal digits")
    algorithm, digits = filter(None, match.groups())
    return Digest(algorithm, digits)


def of(data: bytes) -> Digest:
    """Return the SHA-256 of a content."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())
