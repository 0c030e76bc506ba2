"""Envelopes around a statement, as DSSE has them, signed by RSA PKCS#1 v1.5 over SHA-256.

https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1
from mystikos_tool.formats.sigstruct import EXPONENT
from mystikos_tool.signing.signer import Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_AGAIN = "take it as it was published"
_FROM_URLS = str.maketrans("-_", "+/")


def key_id(modulus: int) -> str:
    """Return what names a key in an envelope: the SHA-256 of its modulus, big-endian, in hexadecimal."""
    return hashlib.sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).hexdigest()


def sealed(payload: bytes, signer: Signer) -> bytes:
    """Return a statement in an envelope, as JSON.

    Raises UserError as the signer does, and for a signature that does not verify.
    """
    digest = _digest(PAYLOAD_TYPE, payload)
    signature = signer.sign(digest)
    if not pkcs1.verifies(signature, digest, signer.modulus, signer.exponent):
        problem = "gave a signature of the statement that does not verify"
        raise UserError("the signer", problem, "sign with the key it names")
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(signer.modulus), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def is_envelope(document: Any) -> bool:
    """Tell whether a value of JSON is an envelope and not a bare statement."""
    return isinstance(document, dict) and "payload" in document


def opened(document: Any, modulus: int, where: str) -> tuple[bytes, bool]:
    """Return the statement in an envelope, and whether the key with ``modulus`` signed it.

    The names of keys in it are hints: each signature may be that key's, except that one which names it
    has to be. Raises UserError where it is not, for what is no envelope and for one of something else.
    """
    try:
        payload = _decoded(document["payload"])
        signatures = [(one.get("keyid"), _decoded(one["sig"])) for one in document["signatures"]]
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        raise UserError(where, "is a damaged envelope", _AGAIN) from None
    if document.get("payloadType") != PAYLOAD_TYPE:
        raise UserError(where, "is an envelope of something else than a statement of in-toto", _AGAIN)
    digest = _digest(PAYLOAD_TYPE, payload)
    names = [name for name, one in signatures if not pkcs1.verifies(one, digest, modulus, EXPONENT)]
    if key_id(modulus) in names:
        problem = "has a signature that is not over this statement: one of the two was changed"
        raise UserError(where, problem, _AGAIN)
    return payload, len(names) < len(signatures)


def _decoded(text: str) -> bytes:
    """Return what base64 stands for, in the alphabet of RFC 4648, 4 or 5: an envelope may have either."""
    return base64.b64decode(text.translate(_FROM_URLS), validate=True)


def _digest(kind: str, payload: bytes) -> bytes:
    """Return the SHA-256 of the PAE, which is what is signed."""
    return hashlib.sha256(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)).digest()
