"""Keys that sign disks: RSA of any size up to 8192 bits and any exponent, unlike an enclave's key."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mystikos_tool.errors import UserError
from mystikos_tool.formats.fssig import MAX_SIGNATURE
from mystikos_tool.signing import notation, pss
from mystikos_tool.signing.named_key import NamedKey
from mystikos_tool.signing.pem_blocks import PUBLIC, blocks
from mystikos_tool.signing.signer import Signer
from mystikos_tool.signing.trusted import load_public_key


def for_disks(named: NamedKey) -> Signer:
    """Return who signs disks with a key; raise UserError where there is nobody, or the key is too long."""
    key = named.open()
    bits = key.modulus.bit_length()
    if bits > MAX_SIGNATURE * 8:
        raise UserError(named.shown, f"has {bits} bits, and an FSSIG holds 8192", "sign with a shorter key")
    return key


def load_disk_key(private: str | Path, public: Path) -> Signer:
    """Return the signer that ``private`` names (`notation`), whose public half is in a PEM file.

    Raises UserError for files that are no such keys, for a key that no FSSIG holds a signature of,
    and for a public key that does not belong to the private one: a package that trusts it would
    not trust the disk.
    """
    named = notation.parse(private)
    key = for_disks(named)
    numbers = load_public_numbers(public)
    if (numbers.n, numbers.e) != (key.modulus, key.exponent):
        made = f": openssl pkey -pubout -in {private} -out public.pem" if named.keeps_secret else ""
        raise UserError(str(public), f"is not the public half of {named.shown}", f"give that{made}")
    return key


def load_public_numbers(path: Path) -> rsa.RSAPublicNumbers:
    """Return modulus and exponent of a public key; raise UserError as `trusted.load_public_key` does."""
    return public_numbers(load_public_key(path))


def public_numbers(pem: bytes) -> rsa.RSAPublicNumbers:
    """Return modulus and exponent of the first public key in PEM; raise UserError for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
        ders = [block.content() for block in blocks(pem) if block.label in PUBLIC]
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or any(map(pss.is_restricted, ders[:1])):
        raise UserError("the public key", "is no RSA key in PEM", "give the public half of the signing key")
    return key.public_numbers()


def public_pem(key: Signer) -> bytes:
    """Return the public half of a key in PEM, as a package holds it to trust disks."""
    public = rsa.RSAPublicNumbers(key.exponent, key.modulus).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
