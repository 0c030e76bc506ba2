"""Signers and digests that somebody expects, in the notations in which they are given."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import mrsigner
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing import enclave_key, notation, rsa_public
from mystikos_tool.signing.pem_blocks import blocks

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")


def digest(given: bytes | str, name: str) -> bytes:
    """Return a digest of 32 bytes, given so or as 64 hexadecimal digits; raise UserError for others."""
    if isinstance(given, str):
        if not _DIGEST.fullmatch(given):
            raise UserError(name, f"{given!r} is no digest", "give 64 hexadecimal digits")
        return bytes.fromhex(given)
    if len(given) != 32:
        raise UserError(name, f"has {len(given)} bytes, and a digest has 32", "give the digest whole")
    return given


def signer(given: str | os.PathLike[str] | None, expected: bytes | None = None) -> bytes | None:
    """Return MRSIGNER of a signer: 64 hexadecimal digits, or what `modulus` takes.

    Without one it is ``expected``. Raises UserError as `modulus` does, and where both are given and differ.
    """
    if given is None:
        return expected
    text = os.fspath(given)
    found = bytes.fromhex(text) if _DIGEST.fullmatch(text) else mrsigner(modulus(given))
    if expected not in (None, found):
        raise UserError(text, f"has another MRSIGNER than {expected.hex()}", "expect one of the two")
    return found


def modulus(given: str | os.PathLike[str]) -> int:
    """Return the modulus of a key that signs enclaves.

    It is given by a PEM file with a public key, a certificate or a private key, or in the notation of
    keys, as ``pkcs11:…``. Of a certificate the key counts, not who issued it or until when. Raises
    UserError for a file that holds no key, and for a key that signs no enclaves.
    """
    if not isinstance(given, str) or notation.is_file(given):
        found = blocks(read_input(Path(given), "key file"))
        if found and not any(block.holds_private_key for block in found):
            return rsa_public.for_enclave(Path(given)).modulus
    return enclave_key.signer(given).modulus
