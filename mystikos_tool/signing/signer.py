"""Signers: whoever has a key and signs with it, wherever its private half is kept.

    key = signer("private.pem")
    structure = sign(unsigned, key, day)     # the SIGSTRUCT of an enclave

One notation names a key wherever one is taken: a file name, or a scheme, a colon and what the
scheme needs. Files are all that is supported yet.
"""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Protocol

from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct

# Letters as in a URI's scheme (RFC 3986, 3.1); what has a slash in front of its colon is a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


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


def signer(key: str | os.PathLike[str]) -> Signer:
    """Return the signer that ``key`` names; a path object is a file, whatever its name looks like.

    Raises UserError for a scheme that is not supported, and for a file as :func:`pem.load` does.
    """
    scheme = _SCHEME.match(key) if isinstance(key, str) else None
    if scheme:  # here the schemes part: each will have a module beside pem
        # What follows the scheme may hold a PIN, and is not shown.
        raise UserError(
            f"{scheme[0]}…",
            "keys of this scheme are not supported yet",
            f"give a PEM file; one whose name begins so is written ./{scheme[0]}…",
        )
    from mystikos_tool.signing import pem  # loads the cryptography library

    return pem.load(Path(key))


def sign(structure: bytes, key: Signer, day: date) -> bytes:
    """Return an unsigned SIGSTRUCT dated and signed.

    Raises UserError when the signer's numbers are not those of a key for enclaves, or when its
    signature does not verify.
    """
    where = "the signer"
    if key.exponent != sigstruct.EXPONENT:
        problem = f"has a key with exponent {key.exponent}, and SGX takes only {sigstruct.EXPONENT}"
        raise UserError(where, problem, "sign with another key")
    prepared = sigstruct.prepare(structure, day)
    return sigstruct.attach(prepared, key.modulus, key.sign(sigstruct.digest(prepared)), where)
