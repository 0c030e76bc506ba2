"""Key pairs that sign disks: RSA of any size up to 8192 bits and any exponent, unlike an enclave's key."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mystikos_tool.errors import UserError
from mystikos_tool.formats.fssig import MAX_SIGNATURE
from mystikos_tool.signing import notation
from mystikos_tool.signing.signer import Signer
from mystikos_tool.signing.trusted import load_public_key


def load_disk_key(private: str | Path, public: Path) -> Signer:
    """Return the signer that ``private`` names (`notation`), whose public half is in a PEM file.

    Raises UserError for files that are no such keys, for a key that no FSSIG holds a signature of,
    and for a public key that does not belong to the private one: a package that trusts it would
    not trust the disk.
    """
    named = notation.parse(private)
    key = named.open()
    bits = key.modulus.bit_length()
    if bits > MAX_SIGNATURE * 8:
        raise UserError(named.shown, f"has {bits} bits, and an FSSIG holds 8192", "sign with a shorter key")
    numbers = load_public_numbers(public)
    if (numbers.n, numbers.e) != (key.modulus, key.exponent):
        made = f": openssl pkey -pubout -in {private} -out public.pem" if named.keeps_secret else ""
        raise UserError(str(public), f"is not the public half of {named.shown}", f"give that{made}")
    return key


def load_public_numbers(path: Path) -> rsa.RSAPublicNumbers:
    """Return modulus and exponent of a public key; raise UserError as `trusted.load_public_key` does."""
    key = serialization.load_pem_public_key(load_public_key(path))
    assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 load_public_key takes no other
    return key.public_numbers()
