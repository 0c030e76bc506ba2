"""RSA signatures over a SHA-256 digest, RSASSA-PKCS1-v1_5 (RFC 8017, 8.2 and 9.2)."""

from __future__ import annotations

_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


def digest_info(digest: bytes) -> bytes:
    """Return DigestInfo of a SHA-256 digest of 32 bytes, in DER: 51 bytes."""
    return _SHA256 + digest


def encoded(digest: bytes, size: int) -> bytes:
    """Return EMSA-PKCS1-v1_5 of a SHA-256 digest: what a signature is, raised to the public exponent.

    ``size`` is that of the modulus in bytes, at least 62.
    """
    info = digest_info(digest)
    return b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info


def verifies(signature: bytes, digest: bytes, modulus: int, exponent: int) -> bool:
    """Tell whether a signature, big-endian and as long as the modulus, is that of a key over a digest."""
    size = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= modulus or size < 62:
        return False
    return pow(number, exponent, modulus).to_bytes(size, "big") == encoded(digest, size)
