"""Keys that sign enclaves: RSA of 3072 bits with the exponent 3, as SGX takes them.

    key = signer("private.pem")
    structure = sign(unsigned, key, day)     # the SIGSTRUCT of an enclave

One notation names a key wherever one is taken (`notation`): a file name, or a scheme, a colon and what
the scheme needs.
"""

from __future__ import annotations

import os
from datetime import date

from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct
from mystikos_tool.signing import notation, rsa_public
from mystikos_tool.signing.named_key import NamedKey
from mystikos_tool.signing.signer import Signer

_KEYGEN = "make a key with: mystikos-tool keygen FILE"


def signer(key: str | os.PathLike[str]) -> Signer:
    """Return the signer of enclaves that ``key`` names, in the notation of `notation`.

    Raises UserError where there is none, and for a key that SGX does not take.
    """
    return for_enclaves(notation.parse(key))


def for_enclaves(named: NamedKey) -> Signer:
    """Return the signer of a key that was named; raise UserError as :func:`signer` does."""
    found = named.open()
    remedy = _KEYGEN if named.keeps_secret else "name a key of RSA with 3072 bits and exponent 3"
    rsa_public.check_for_enclave(found.modulus, found.exponent, named.shown, remedy)
    return found


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
