"""RSA keys of the tests, each of them made or read where it is needed, and quickly."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def read(pem: bytes) -> rsa.RSAPrivateKey:
    """Read a good key without the proof that its factors are primes, which takes 0.1 s."""
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@cache  # one of 3072 bits takes half a second
def made(bits: int, exponent: int) -> rsa.RSAPrivateKey:
    """Return this process's key of a size in bits and with an exponent."""
    return rsa.generate_private_key(exponent, bits)
