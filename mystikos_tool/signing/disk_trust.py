"""Whether an enclave trusts a disk: by the key that signed it, or by its root hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mystikos_tool.errors import UserError
from mystikos_tool.formats import fssig
from mystikos_tool.formats.fssig import Fssig

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

BY_HASH, BY_KEY = "root hash", "public key"
_HASH_SIZE = 32


def trusted_by(disk: Fssig, pubkeys: bytes, roothashes: bytes) -> str | None:
    """Return what makes a package trust a disk, ``BY_HASH`` or ``BY_KEY``; None where nothing does.

    ``pubkeys`` and ``roothashes`` are the contents of the package's sections: PEM files, each followed
    by a NUL, and 32 bytes for each hash. As in the kernel, one of the two is enough; a list of hashes
    that is cut makes all of them void.
    """
    if len(roothashes) % _HASH_SIZE == 0 and disk.root_hash in split_hashes(roothashes):
        return BY_HASH
    if disk.signature and any(_signed(disk, pem) for pem in pubkeys.split(b"\0") if pem):
        return BY_KEY
    return None


def split_hashes(roothashes: bytes) -> list[bytes]:
    """Return the root hashes of a package's section, 32 bytes each."""
    return [roothashes[at : at + _HASH_SIZE] for at in range(0, len(roothashes), _HASH_SIZE)]


def signer_of(pem: bytes) -> str | None:
    """Return what an FSSIG names a public key by, in hexadecimal; None for what is no RSA key."""
    numbers = _numbers(pem)
    return fssig.signer_of(numbers.n).hex() if numbers else None


def _signed(disk: Fssig, pem: bytes) -> bool:
    numbers = _numbers(pem)
    return numbers is not None and fssig.verify(disk, numbers.n, numbers.e)


def _numbers(pem: bytes) -> RSAPublicNumbers | None:
    from mystikos_tool.signing.disk_key import public_numbers  # loads the cryptography library

    try:
        return public_numbers(pem)
    except UserError:
        return None  # a package of another tool's may hold anything


def check_trusted(disk: Fssig | None, pubkeys: bytes, roothashes: bytes, where: str, *, debug: bool) -> str:
    """Return what is to be told of a root's disk that is at hand, "" for nothing.

    Raises UserError for one that an enclave without Debug refuses at its start.
    """
    if disk and trusted_by(disk, pubkeys, roothashes):
        return ""
    problem = "is signed by none of the trusted keys and has none of the trusted root hashes"
    if disk is None:
        problem = "has no FSSIG, so that nothing makes it trusted"
    if debug:
        return f"{where}: {problem}; an enclave with Debug mounts it unverified"
    remedy = "trust its signer's public key or its root hash, or give the disk that is trusted"
    raise UserError(where, problem, remedy)
