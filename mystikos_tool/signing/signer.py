"""Whoever has a key and signs with it, wherever its private half is kept."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """An RSA key that signs. For an enclave SGX takes 3072 bits and the public exponent 3 only."""

    @property
    def modulus(self) -> int:
        """The public key's modulus."""

    @property
    def exponent(self) -> int:
        """The public key's exponent."""

    @property
    def identity(self) -> str:
        """What stands for the key in signatures of builds: another one for another key, and no secret."""

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature over a SHA-256 digest of 32 bytes, big-endian.

        It has as many bytes as the modulus: 384 with a key for enclaves.
        """
