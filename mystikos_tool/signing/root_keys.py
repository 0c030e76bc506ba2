"""Private keys in a root, which go with the package to everybody who has it.

They are found by their content: PEM blocks (RFC 7468) of private keys, in whatever file, with the
line ends of text or those that JSON writes. A label without a key behind it, as programs have that
read keys, is none.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import KEY_SIZE, mrsigner
from mystikos_tool.io.content import Content
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.root import DiskRoot, Root

WARN, ERROR, ALLOW = POLICIES = ("warn", "error", "allow")

_BEGIN = b"-----BEGIN "
_MARK = b"PRIVATE KEY-----"
_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ ){0,3}PRIVATE KEY)-----"
    rb"((?:[A-Za-z0-9+/=\s:,]|-(?!-)|\\[rn]){64,})-----END \1-----"
)
_LONGEST_KEY = 1 << 15  # bytes of a block
_LONGEST_LABEL = 64
_CHUNK = 1 << 22
_SHOWN = 10


class RootKey(NamedTuple):
    """A private key in a root: its path there, and MRSIGNER of what it signs, "" for no enclaves."""

    path: str
    mrsigner: str


def of(root: Root) -> list[RootKey]:
    """Return the private keys in an archive; those on a disk, which is in no package, are not looked for."""
    return [] if isinstance(root, DiskRoot) else in_archive(root.index())


def in_archive(archive: Archive) -> list[RootKey]:
    """Return the private keys in an archive, in its order; it is read once, in pieces."""
    members = archive.members  # in the order of their data
    starts = [member.offset for member in members]
    keys: dict[RootKey, None] = {}
    for offset, block in _blocks(archive.content):
        member = members[bisect_right(starts, offset) - 1]
        path = member.path.decode(errors="backslashreplace")
        keys[RootKey(path, _mrsigner(block))] = None
    return list(keys)


def _blocks(content: Content) -> Iterator[tuple[int, bytes]]:
    """Yield each block of a private key and its offset."""
    overlap = b""
    offset = 0
    with content.at_any_offset() as read_at:
        for chunk in content.chunks(_CHUNK):
            data = overlap + bytes(chunk)
            place = data.find(_MARK)
            while place >= 0:
                end = offset - len(overlap) + place
                start = max(end - _LONGEST_LABEL, 0)
                near = read_at(start, min(_LONGEST_KEY, content.size - start))
                begin = near.rfind(_BEGIN, 0, end - start)
                if begin >= 0 and (match := _KEY.match(near, begin)):
                    yield start + begin, match[0]
                place = data.find(_MARK, place + len(_MARK))
            offset += len(chunk)
            overlap = data[-len(_MARK) + 1 :]


def _mrsigner(block: bytes) -> str:
    """Return MRSIGNER of a key that signs enclaves, in hexadecimal; "" for any other key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = block.replace(b"\\r", b"").replace(b"\\n", b"\n")
    try:
        key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ""
    is_signer = isinstance(key, rsa.RSAPrivateKey) and key.key_size == KEY_SIZE * 8
    return mrsigner(key.public_key().public_numbers().n).hex() if is_signer else ""  # type: ignore[union-attr]


def refuse_signer(keys: Sequence[RootKey], modulus: int, where: str) -> None:
    """Raise UserError where the key that signs is in the root: who has the package would have it."""
    if not keys or modulus.bit_length() != KEY_SIZE * 8:
        return
    own = mrsigner(modulus).hex()
    paths = [key.path for key in keys if key.mrsigner == own]
    if paths:
        raise UserError(
            where,
            f"holds the key that signs, at /{paths[0]}: everybody who has the package would have it",
            "take it out of the root, and make a new key if a package with it was given away",
        )


def told(keys: Sequence[RootKey], where: str, policy: str) -> list[str]:
    """Return what is to be warned of; raise UserError where private keys are an error."""
    if not keys or policy == ALLOW:
        return []
    paths = list(dict.fromkeys(f"/{key.path}" for key in keys))
    more = len(paths) - _SHOWN
    shown = ", ".join(paths[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    problem = f"holds private keys, which everybody gets who has the package: {shown}"
    if policy == ERROR:
        raise UserError(where, problem, "take them out of the root, or allow them")
    return [f"{where}: {problem}"]
