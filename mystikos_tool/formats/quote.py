"""Quotes of SGX enclaves with an ECDSA signature, version 3.

The layout is that of Intel's "SGX ECDSA QuoteLibReference DCAP API", appendix A.4: a header, the
report of the enclave, and the signature data, whose own parts are only told apart here. The report
is that of the SDM, volume 3D, "REPORT".
"""

from __future__ import annotations

from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.record import Field, Record

HEADER_SIZE, REPORT_SIZE = 48, 384
VERSION, ECDSA_P256 = 3, 2
ATTRIBUTE_INIT = 0x1

HEADER = Record(
    HEADER_SIZE,
    (
        Field("version", 0, "H"),
        Field("key_type", 2, "H"),
        Field("qe_svn", 8, "H"),
        Field("pce_svn", 10, "H"),
        Field("qe_vendor_id", 12, "16s"),
        Field("user_data", 28, "20s"),
    ),
)
REPORT = Record(
    REPORT_SIZE,
    (
        Field("cpu_svn", 0, "16s"),
        Field("miscselect", 16, "I"),
        Field("extended_product_id", 32, "16s"),
        Field("attributes", 48, "Q"),
        Field("xfrm", 56, "Q"),
        Field("mrenclave", 64, "32s"),
        Field("mrsigner", 128, "32s"),
        Field("config_id", 192, "64s"),
        Field("product_id", 256, "H"),
        Field("security_version", 258, "H"),
        Field("config_svn", 260, "H"),
        Field("family_id", 304, "16s"),
        Field("report_data", 320, "64s"),
    ),
)

_LENGTH = 4
_SIGNATURE_START = HEADER_SIZE + REPORT_SIZE + _LENGTH
# Signature and key, 64 bytes each, the report of the quoting enclave and the signature over that.
_FIXED = 64 + 64 + REPORT_SIZE + 64
_REMEDY = "give the quote as the platform made it"


class Quote(NamedTuple):
    """A quote's header, 48 bytes, the report in it, 384 bytes, and the type of its certification data."""

    header: bytes
    report: bytes
    certification_type: int


def parse(data: bytes, where: str) -> Quote:
    """Read a quote; zeros behind it do not count.

    Raises UserError for one of another version or kind, and for one that is cut or has anything else
    behind it.
    """
    if len(data) < HEADER_SIZE:
        raise _cut(where)
    header = HEADER.unpack(data[:HEADER_SIZE])
    if header["version"] != VERSION:
        problem = f"is a quote of version {int(header['version'])}, not {VERSION}"
        raise UserError(where, problem, "give an ECDSA quote of an SGX enclave")
    if header["key_type"] != ECDSA_P256 or data[4:8] != bytes(4):
        raise UserError(where, "is no quote of an SGX enclave signed by ECDSA P-256", _REMEDY)
    end = _SIGNATURE_START + int.from_bytes(data[_SIGNATURE_START - _LENGTH : _SIGNATURE_START], "little")
    if len(data) < _SIGNATURE_START + _FIXED or len(data) < end:
        raise _cut(where)
    if any(data[end:]):
        raise UserError(where, f"has {len(data) - end:,} bytes behind its end", _REMEDY)
    kind = _certification_type(data[_SIGNATURE_START:end], where)
    return Quote(data[:HEADER_SIZE], data[HEADER_SIZE : HEADER_SIZE + REPORT_SIZE], kind)


def _certification_type(signature: bytes, where: str) -> int:
    """Return the type of the certification data, which has to end where the signature data do."""
    place = _FIXED + 2 + int.from_bytes(signature[_FIXED : _FIXED + 2], "little")
    if len(signature) < place + 6:
        raise _cut(where)
    size = int.from_bytes(signature[place + 2 : place + 6], "little")
    if len(signature) != place + 6 + size:
        raise UserError(where, "its sizes do not fit each other", _REMEDY)
    return int.from_bytes(signature[place : place + 2], "little")


def _cut(where: str) -> UserError:
    return UserError(where, "is cut: it ends before what it says is in it", _REMEDY)
