"""Digests as REAPI names content: SHA-256 and size."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Digest(NamedTuple):
    """What names a content: its SHA-256 in lower-case hexadecimal, and its size in bytes."""

    hash: str
    size: int


def of(data: bytes | memoryview) -> Digest:
    """Return a content's digest."""
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


EMPTY = of(b"")


def is_digest(hash: str, size: int) -> bool:
    """Tell whether what a server calls a digest can be one."""
    return len(hash) == 64 and not hash.strip("0123456789abcdef") and 0 <= size < 1 << 50
