"""SIGSTRUCT: the enclave signature structure, 1808 bytes (SDM volume 3D, "Enclave Signature Structure").

Three steps make one: :func:`unsigned` says what the enclave is, :func:`prepare` adds the date, and
:func:`attach` adds key and signature. Between the last two, whoever has the key signs :func:`digest`, on any
machine and on any day.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1
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

ATTRIBUTE_DEBUG, ATTRIBUTE_MODE64BIT, ATTRIBUTE_KSS = 0x2, 0x4, 0x80
ATTRIBUTES_MASK = 0xFFFFFFFFFFFFFF7B | ATTRIBUTE_DEBUG
MISCMASK_ALL, MISCMASK_EXINFO = 0xFFFFFFFF, 0xFFFFFFFE
XFRM_LEGACY, XFRM_MASK = 0x3, 0xFFFFFFFFFFFFFF1B

_VENDOR_INTEL = 0x8086
_SIGN_AGAIN = "sign with the key it names"
_SIGNED = (slice(0, 128), slice(900, 1028))


class Identity(NamedTuple):
    """Who an enclave is when attested: MRENCLAVE, MRSIGNER (32 bytes), ISVPRODID, ISVSVN (16 bits), DEBUG."""

    mrenclave: bytes
    mrsigner: bytes
    product_id: int
    security_version: int
    debug: bool


def unsigned(
    mrenclave: bytes, *, debug: bool, product_id: int, security_version: int, capture_pf_gp: bool
) -> bytes:
    """Return a SIGSTRUCT with everything in it but date, key and signature."""
    return SIGSTRUCT.pack(
        {
            "header": HEADER,
            "header2": HEADER2,
            "exponent": EXPONENT,
            "miscmask": MISCMASK_EXINFO if capture_pf_gp else MISCMASK_ALL,
            "attributes": ATTRIBUTE_MODE64BIT | (ATTRIBUTE_DEBUG if debug else 0),
            "xfrm": XFRM_LEGACY,
            "attributes_mask": ATTRIBUTES_MASK & ~ATTRIBUTE_DEBUG if debug else ATTRIBUTES_MASK,
            "xfrm_mask": XFRM_MASK,
            "mrenclave": mrenclave,
            "product_id": product_id,
            "security_version": security_version,
        }
    )


def prepare(structure: bytes, day: date) -> bytes:
    """Return the unsigned ``structure`` with its date: all that a signature covers is in it."""
    return SIGSTRUCT.patch(structure, {"date": int(f"{day:%Y%m%d}", 16)})


def attach(prepared: bytes, modulus: int, signature: bytes, where: str) -> bytes:
    """Return a prepared structure with the key's modulus and the signature of :func:`digest`.

    ``signature`` is big-endian, as signers give it. q1 and q2 let EINIT check it without dividing (SDM volume
    3D, EINIT). Raises UserError for a signature that :func:`check` refuses, and for one that is not RSA-3072.
    """
    number = int.from_bytes(signature, "big")
    if modulus.bit_length() != KEY_SIZE * 8 or number >= modulus:
        raise UserError(where, "gave no RSA-3072 signature by its key", _SIGN_AGAIN)
    q1, remainder = divmod(number * number, modulus)
    q2 = number * remainder // modulus
    numbers = {"modulus": modulus, "signature": number, "q1": q1, "q2": q2}
    values = {name: number.to_bytes(KEY_SIZE, "little") for name, number in numbers.items()}
    finished = SIGSTRUCT.patch(prepared, values)
    if broken := check(finished):
        raise UserError(where, f"gave a SIGSTRUCT whose {broken}", _SIGN_AGAIN)
    return finished


def digest(prepared: bytes) -> bytes:
    """Return what a signer signs: the SHA-256 of :func:`signed_bytes`, 32 bytes."""
    return hashlib.sha256(signed_bytes(prepared)).digest()


def signed_bytes(structure: bytes) -> bytes:
    """Return the 256 bytes that the signature covers: 0-127 and 900-1027."""
    return b"".join(structure[part] for part in _SIGNED)


def of_signed_bytes(signed: bytes) -> bytes:
    """Return the prepared structure whose :func:`signed_bytes` these 256 are; ValueError for others."""
    if len(signed) != 256:
        raise ValueError(f"a signature covers 256 bytes, not {len(signed)}")
    data = bytearray(SIGSTRUCT_SIZE)
    data[_SIGNED[0]], data[_SIGNED[1]] = signed[:128], signed[128:]
    return SIGSTRUCT.patch(bytes(data), {"exponent": EXPONENT})


def mrsigner(modulus: int) -> bytes:
    """Return MRSIGNER of what a key signs: the SHA-256 of its modulus, 384 bytes little-endian."""
    return hashlib.sha256(modulus.to_bytes(KEY_SIZE, "little")).digest()


def identity(structure: bytes) -> Identity:
    """Return the identity that a SIGSTRUCT states, whether it is true or not."""
    return Identity(
        mrenclave=SIGSTRUCT.get_bytes(structure, "mrenclave"),
        mrsigner=mrsigner(int.from_bytes(SIGSTRUCT.get_bytes(structure, "modulus"), "little")),
        product_id=SIGSTRUCT.get_int(structure, "product_id"),
        security_version=SIGSTRUCT.get_int(structure, "security_version"),
        debug=bool(SIGSTRUCT.get_int(structure, "attributes") & ATTRIBUTE_DEBUG),
    )


def check(structure: bytes) -> str | None:
    """Hold a signed SIGSTRUCT against EINIT's rules; return the first that it breaks, or None."""
    return _check_header(structure) or _check_signature(structure)


def _check_header(structure: bytes) -> str | None:
    fields = SIGSTRUCT.unpack(structure)
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
    values = (SIGSTRUCT.get_bytes(structure, name) for name in ("modulus", "signature", "q1", "q2"))
    modulus, signature, q1, q2 = (int.from_bytes(value, "little") for value in values)
    if modulus.bit_length() != KEY_SIZE * 8 or signature >= modulus:
        return "modulus or signature is out of range"
    square_rest = signature * signature - q1 * modulus
    cube_rest = signature * square_rest - q2 * modulus
    if not 0 <= square_rest < modulus:
        return "q1 does not fit the signature"
    if not 0 <= cube_rest < modulus:
        return "q2 does not fit the signature"
    if cube_rest.to_bytes(KEY_SIZE, "big") != pkcs1.encoded(digest(structure), KEY_SIZE):
        return "signature does not verify"
    return None
