"""SIGSTRUCT: the enclave signature structure, 1808 bytes (SDM volume 3D, "Enclave Signature Structure").

The unsigned structure says what is signed; :func:`sign` adds date, key and signature;
:func:`check` holds a finished one against the rules of EINIT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Protocol

from mystikos_tool.errors import UserError
from mystikos_tool.formats.record import Field, Record

SIGSTRUCT_SIZE = 1808
KEY_SIZE = 384
EXPONENT = 3

SIGSTRUCT = Record(
    SIGSTRUCT_SIZE,
    (
        Field("header", 0, "12s"),
        Field("type", 12, "I"),
        Field("vendor", 16, "I"),
        Field("date", 20, "I"),
        Field("header2", 24, "16s"),
        Field("swdefined", 40, "I"),
        Field("modulus", 128, "384s"),
        Field("exponent", 512, "I"),
        Field("signature", 516, "384s"),
        Field("miscselect", 900, "I"),
        Field("miscmask", 904, "I"),
        Field("family_id", 912, "16s"),
        Field("attributes", 928, "Q"),
        Field("xfrm", 936, "Q"),
        Field("attributes_mask", 944, "Q"),
        Field("xfrm_mask", 952, "Q"),
        Field("mrenclave", 960, "32s"),
        Field("extended_product_id", 1008, "16s"),
        Field("product_id", 1024, "H"),
        Field("security_version", 1026, "H"),
        Field("q1", 1040, "384s"),
        Field("q2", 1424, "384s"),
    ),
)

HEADER = bytes.fromhex("06000000E100000000000100")
HEADER2 = bytes.fromhex("01010000600000006000000001000000")

ATTRIBUTE_DEBUG = 0x2
ATTRIBUTE_MODE64BIT = 0x4
ATTRIBUTE_KSS = 0x80
XFRM_LEGACY = 0x3
MISCMASK_ALL = 0xFFFFFFFF
MISCMASK_EXINFO = 0xFFFFFFFE
ATTRIBUTES_MASK = 0xFFFFFFFFFFFFFF7B | ATTRIBUTE_DEBUG
XFRM_MASK = 0xFFFFFFFFFFFFFF1B

_VENDOR_INTEL = 0x8086
_SIGNED_RANGES = ((0, 128), (900, 1028))
_DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class Signer(Protocol):
    """Who signs: an RSA-3072 key with public exponent 3, wherever its private half is kept."""

    @property
    def modulus(self) -> int:
        """The public modulus."""

    def sign(self, message: bytes) -> bytes:
        """Return the PKCS#1 v1.5 SHA-256 signature of ``message``: 384 bytes, big-endian."""


def unsigned(
    mrenclave: bytes, *, debug: bool, product_id: int, security_version: int, capture_pf_gp: bool
) -> bytes:
    """Return a SIGSTRUCT with everything in it but date, key and signature."""
    attributes = ATTRIBUTE_MODE64BIT | (ATTRIBUTE_DEBUG if debug else 0)
    return SIGSTRUCT.pack(
        {
            "header": HEADER,
            "header2": HEADER2,
            "exponent": EXPONENT,
            "miscmask": MISCMASK_EXINFO if capture_pf_gp else MISCMASK_ALL,
            "attributes": attributes,
            "xfrm": XFRM_LEGACY,
            "attributes_mask": ATTRIBUTES_MASK & ~ATTRIBUTE_DEBUG if debug else ATTRIBUTES_MASK,
            "xfrm_mask": XFRM_MASK,
            "mrenclave": mrenclave,
            "product_id": product_id,
            "security_version": security_version,
        }
    )


def sign(structure: bytes, signer: Signer, day: date) -> bytes:
    """Return the unsigned ``structure`` dated and signed.

    q1 and q2 let EINIT check the signature without dividing (SDM volume 3D, EINIT). Raises
    UserError when the signer's numbers are not those of RSA-3072; :func:`check` tells the rest.
    """
    modulus = signer.modulus
    dated = SIGSTRUCT.patch(structure, {"date": int(f"{day:%Y%m%d}", 16)})
    signature = int.from_bytes(signer.sign(signed_bytes(dated)), "big")
    if modulus.bit_length() != KEY_SIZE * 8 or signature >= modulus:
        raise UserError("the signer", "gave no RSA-3072 signature by its key", "sign with the key it names")
    q1, remainder = divmod(signature * signature, modulus)
    q2 = signature * remainder // modulus
    numbers = {"modulus": modulus, "signature": signature, "q1": q1, "q2": q2}
    return SIGSTRUCT.patch(
        dated, {name: number.to_bytes(KEY_SIZE, "little") for name, number in numbers.items()}
    )


def signed_bytes(structure: bytes) -> bytes:
    """Return the 256 bytes that the signature covers: 0-127 and 900-1027."""
    return b"".join(structure[start:end] for start, end in _SIGNED_RANGES)


def mrsigner(structure: bytes) -> bytes:
    """Return MRSIGNER: the SHA-256 of the modulus field, 32 bytes."""
    return hashlib.sha256(SIGSTRUCT.get_bytes(structure, "modulus")).digest()


def check(structure: bytes) -> str | None:
    """Hold a signed SIGSTRUCT against EINIT's rules; return the first that it breaks, or None."""
    fields = SIGSTRUCT.unpack(structure)
    return _check_header(structure, fields) or _check_signature(structure)


def _check_header(structure: bytes, fields: Mapping[str, int | bytes]) -> str | None:
    if fields["header"] != HEADER or fields["header2"] != HEADER2:
        return "header is not that of a SIGSTRUCT"
    if fields["vendor"] not in (0, _VENDOR_INTEL):
        return "vendor is neither 0 nor 0x8086"
    if fields["type"] != 0 or any(SIGSTRUCT.reserved(structure)):
        return "a reserved field is not zero"
    if fields["exponent"] != EXPONENT:
        return "exponent is not 3"
    return None


def _check_signature(structure: bytes) -> str | None:
    modulus, signature, q1, q2 = (
        int.from_bytes(SIGSTRUCT.get_bytes(structure, name), "little")
        for name in ("modulus", "signature", "q1", "q2")
    )
    if modulus.bit_length() != KEY_SIZE * 8 or signature >= modulus:
        return "modulus or signature is out of range"
    square_rest = signature * signature - q1 * modulus
    cube_rest = signature * square_rest - q2 * modulus
    if not 0 <= square_rest < modulus:
        return "q1 does not fit the signature"
    if not 0 <= cube_rest < modulus:
        return "q2 does not fit the signature"
    digest_info = _DIGEST_INFO_SHA256 + hashlib.sha256(signed_bytes(structure)).digest()
    padding = b"\xff" * (KEY_SIZE - 3 - len(digest_info))
    if cube_rest.to_bytes(KEY_SIZE, "big") != b"\0\1" + padding + b"\0" + digest_info:
        return "signature does not verify"
    return None
