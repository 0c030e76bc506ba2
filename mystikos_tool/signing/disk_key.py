"""Keys that sign disks: RSA of any size up to 8192 bits and any exponent, unlike an enclave's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mystikos_tool.errors import UserError
from mystikos_tool.formats.fssig import MAX_SIGNATURE
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing.trusted import load_public_key


@dataclass(frozen=True)
class DiskKey:
    """A private key; signs as `fssig.Signer` asks."""

    _key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def modulus(self) -> int:
        """The public modulus."""
        return self._key.public_key().public_numbers().n

    @property
    def exponent(self) -> int:
        """The public exponent."""
        return self._key.public_key().public_numbers().e

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature of a SHA-256 digest, big-endian."""
        return self._key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


def load_disk_key(private: Path, public: Path) -> DiskKey:
    """Read a key pair, each half in a PEM file.

    Raises UserError for files that are no such keys, and for a public key that does not belong to
    the private one: a package that trusts it would not trust the disk.
    """
    key = DiskKey(_load_private(private))
    numbers = load_public_numbers(public)
    if (numbers.n, numbers.e) != (key.modulus, key.exponent):
        raise UserError(
            str(public),
            f"is not the public half of {private}",
            f"make it: openssl pkey -pubout -in {private} -out public.pem",
        )
    return key


def load_public_numbers(path: Path) -> rsa.RSAPublicNumbers:
    """Return modulus and exponent of a public key; raise UserError as `trusted.load_public_key` does."""
    key = serialization.load_pem_public_key(load_public_key(path))
    assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 load_public_key takes no other
    return key.public_numbers()


def _load_private(path: Path) -> rsa.RSAPrivateKey:
    data = read_input(path, "private key file")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise UserError(
            str(path), "is encrypted", f"give a decrypted copy: openssl pkey -in {path} -out FILE"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(
            str(path), "is no private key in PEM, or a damaged one", "give the private key of the pair"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UserError(str(path), "is not an RSA key", "make one: openssl genrsa -out private.pem 3072")
    if key.key_size > MAX_SIGNATURE * 8:
        raise UserError(
            str(path), f"has {key.key_size} bits, and an FSSIG holds 8192", "sign with a shorter key"
        )
    return key
