"""Signers and digests that somebody expects, in the notations in which they are given."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import KEY_SIZE, mrsigner
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing.pem_blocks import PUBLIC, blocks

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")


def digest(given: bytes | str, name: str) -> bytes:
    """Return a digest of 32 bytes, given so or as 64 hexadecimal digits; raise UserError for others."""
    if isinstance(given, str):
        if not _DIGEST.fullmatch(given):
            raise UserError(name, f"{given!r} is no digest", "give 64 hexadecimal digits")
        return bytes.fromhex(given)
    if len(given) != 32:
        raise UserError(
            name, f"has {len(given)} bytes, and a digest has 32", "give MRENCLAVE or MRSIGNER whole"
        )
    return given


def signer(given: str | os.PathLike[str] | None, expected: bytes | None = None) -> bytes | None:
    """Return MRSIGNER of a signer: 64 hexadecimal digits, or a PEM file with a public or private key.

    Without one it is ``expected``. Raises UserError for a file that holds no key, for a key that
    signs no enclaves, and where both are given and differ.
    """
    if given is None:
        return expected
    text = os.fspath(given)
    found = bytes.fromhex(text) if _DIGEST.fullmatch(text) else _of_file(Path(text))
    if expected not in (None, found):
        raise UserError(text, f"has another MRSIGNER than {expected.hex()}", "expect one of the two")
    return found


def _of_file(path: Path) -> bytes:
    data = read_input(path, "key file")
    found = blocks(data)
    if len(found) != 1 or found[0].label not in PUBLIC:
        from mystikos_tool.signing import pem  # loads the cryptography library

        return mrsigner(pem.load(path).modulus)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_public_key(found[0].text)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != KEY_SIZE * 8:
        raise UserError(str(path), "is no public key that signs enclaves", "give one of RSA with 3072 bits")
    return mrsigner(key.public_numbers().n)
