"""Private keys in a root, which go with the package to everybody who has it.

They are found by their content: PEM blocks (RFC 7468) of private keys, in whatever file, with the
line ends of text or those that JSON writes. A label without a key behind it, as programs have that
read keys, is none. A key that signs enclaves is found in DER too (RFC 8017, A.1.2), which PKCS#8 has
inside.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.cpio import Member
from mystikos_tool.formats.sigstruct import KEY_SIZE, mrsigner
from mystikos_tool.io.content import Content
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.root import DiskRoot, Root

WARN, ERROR, ALLOW = POLICIES = ("warn", "error", "allow")

_MARK = b"PRIVATE KEY-----"
_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ ){0,3}PRIVATE KEY)-----"
    rb"((?:[A-Za-z0-9+/=\s:,]|-(?!-)|\\[rn]){64,})-----END \1-----"
)
# The version 0, a modulus of 3072 bits, the exponent 3, and the beginning of the private exponent.
_DER_MARK = b"\x02\x01\x00\x02\x82\x01\x81\x00"
_DER = re.compile(re.escape(_DER_MARK) + rb"([\x80-\xff].{383})\x02\x01\x03\x02\x82\x01", re.DOTALL)
_OPENSSH = b"-----BEGIN OPENSSH "
_LONGEST_KEY = 1 << 15  # bytes of a block
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
    blocks = ((members[bisect_right(starts, at) - 1], block) for at, block in _blocks(archive.content))
    return _found(blocks)


def in_changed(archive: Archive, unchanged: Collection[bytes], before: Iterable[RootKey]) -> list[RootKey]:
    """Return the private keys in an archive, of which only what is not ``unchanged`` is read.

    ``before`` are the keys of the archive that the unchanged paths are from.
    """
    known: dict[str, list[RootKey]] = {}
    for key in before:
        known.setdefault(key.path, []).append(key)
    keys: list[RootKey] = []
    for member in archive.members:
        if member.path not in unchanged:
            keys += _found((member, block) for _, block in _blocks(archive.content_of(member)))
        elif known:
            keys += known.get(_shown(member), ())
    return keys


def _found(blocks: Iterable[tuple[Member, bytes]]) -> list[RootKey]:
    return list(dict.fromkeys(RootKey(_shown(member), _mrsigner(block)) for member, block in blocks))


def _shown(member: Member) -> str:
    return member.path.decode(errors="backslashreplace")


def _blocks(content: Content) -> Iterator[tuple[int, bytes]]:
    """Yield each block of a private key and its offset; some twice, where pieces overlap."""
    data = b""
    end = 0
    for chunk in content.chunks(_CHUNK):
        data = data[-_LONGEST_KEY:] + bytes(chunk)
        end += len(chunk)
        if _MARK in data:
            yield from ((end - len(data) + match.start(), match[0]) for match in _KEY.finditer(data))
        if _DER_MARK in data:
            yield from ((end - len(data) + match.start(), match[0]) for match in _DER.finditer(data))


def _mrsigner(block: bytes) -> str:
    """Return MRSIGNER of a key that signs enclaves, in hexadecimal; "" for any other key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if der := _DER.match(block):
        return mrsigner(int.from_bytes(der[1], "big")).hex()
    pem = block.replace(b"\\r", b"").replace(b"\\n", b"\n")
    try:
        if pem.startswith(_OPENSSH):
            key: object = serialization.load_ssh_private_key(pem, None)
        else:
            key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ""
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != KEY_SIZE * 8:
        return ""
    return mrsigner(key.public_key().public_numbers().n).hex()


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
