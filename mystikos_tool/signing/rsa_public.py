"""Public keys in PEM files, as keys or in certificates."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import EXPONENT, KEY_SIZE, mrsigner
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing.pem_blocks import CERTIFICATE, PUBLIC, Block, blocks


class RsaPublicKey(NamedTuple):
    """The numbers of an RSA public key."""

    modulus: int
    exponent: int


def load(path: Path) -> RsaPublicKey:
    """Read the RSA public key of a PEM file that holds one, or one certificate of it.

    Raises UserError for a file that cannot be read, holds none or several, or holds a private key,
    which has no place where a public one is asked for. A certificate's own signature and dates are
    not looked at: it is taken for the key in it.
    """
    where = str(path)
    found = blocks(read_input(path, "public key file"))
    if any(block.holds_private_key for block in found):
        remedy = f"give its public half: openssl pkey -pubout -in {path} -out public.pem"
        raise UserError(where, "holds a private key, and only its public half is needed", remedy)
    keys = [block for block in found if block.label in PUBLIC | CERTIFICATE]
    if len(keys) != 1:
        problem = f"holds {len(keys)} public keys and certificates, not one"
        raise UserError(where, problem, "give a PEM file with the public key or its certificate")
    return _parsed(keys[0], where)


def for_enclave(path: Path) -> RsaPublicKey:
    """Read the public key of one that signs enclaves; raise UserError as :func:`load`, and for another."""
    key = load(path)
    check_for_enclave(key.modulus, key.exponent, str(path), "give the key that signs enclaves")
    return key


def check_for_enclave(modulus: int, exponent: int, where: str, remedy: str) -> None:
    """Raise UserError for a key that SGX does not take: it takes RSA with 3072 bits and exponent 3."""
    bits = modulus.bit_length()
    if bits != KEY_SIZE * 8:
        raise UserError(where, f"is an RSA key of {bits} bits, and SGX takes only {KEY_SIZE * 8}", remedy)
    if exponent != EXPONENT:
        problem = f"is an RSA key with exponent {exponent}, and SGX takes only {EXPONENT}"
        raise UserError(where, problem, remedy)


def identity(modulus: int) -> str:
    """Return what stands for a key in signatures of builds, in hexadecimal: MRSIGNER of what it signs."""
    if modulus.bit_length() <= KEY_SIZE * 8:
        return mrsigner(modulus).hex()
    import hashlib

    return hashlib.sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8, "little")).hexdigest()


def _parsed(block: Block, where: str) -> RsaPublicKey:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from mystikos_tool.signing import pss

    key: object
    try:
        if block.label in CERTIFICATE:
            text = block.text.replace(b" X509 CERTIFICATE-", b" CERTIFICATE-")
            certificate = x509.load_pem_x509_certificate(text)
            key, der = certificate.public_key(), certificate.tbs_certificate_bytes
        else:
            key, der = serialization.load_pem_public_key(block.text), block.content()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise UserError(where, "the public key in it is damaged", "make it again") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise UserError(where, "is not an RSA key", "give the public half of the key that signs")
    if pss.is_restricted(der):
        raise UserError(where, pss.PROBLEM, "give the public half of an RSA key that is not")
    numbers = key.public_numbers()
    return RsaPublicKey(numbers.n, numbers.e)


class KnowsPublicKey:
    """What a signer says of itself whose public key, ``_key``, is in numbers; see `signer.Signer`."""

    _key: RsaPublicKey

    @property
    def modulus(self) -> int:
        """The public key's modulus."""
        return self._key.modulus

    @property
    def exponent(self) -> int:
        """The public key's exponent."""
        return self._key.exponent

    @property
    def identity(self) -> str:
        """MRSIGNER of what the key signs, in hexadecimal."""
        return identity(self.modulus)
