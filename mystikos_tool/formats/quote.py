"""Quotes of SGX enclaves with an ECDSA signature, version 3.

The layout is that of Intel's "SGX ECDSA QuoteLibReference DCAP API", appendix A.4: a header, the
report of the enclave, and the signature data. The report is that of the SDM, volume 3D, "REPORT".
"""

from __future__ import annotations

from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import kinds
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

_REMEDY = "give the quote as the platform made it"


class Quote(NamedTuple):
    """A quote: a header of 48 bytes, the report of 384, and the parts of the signature data.

    ``signature`` over header and report is by ``key``; ``qe_signature`` over ``qe_report`` is by the
    platform's key. Signatures are r and s, keys x and y, of P-256: 64 bytes each. The report of the
    quoting enclave vouches for ``key`` and ``authentication``; ``certification`` is of the type that is
    named, in which 5 is a chain of certificates in PEM.
    """

    header: bytes
    report: bytes
    signature: bytes
    key: bytes
    qe_report: bytes
    qe_signature: bytes
    authentication: bytes
    certification_type: int
    certification: bytes


def parse(data: bytes, where: str) -> Quote:
    """Read a quote; zeros behind it do not count.

    Raises UserError for one of another version or kind, and for one that is cut or has anything else
    behind it.
    """
    if len(data) < HEADER_SIZE:
        raise _cut(where)
    header = HEADER.unpack(data[:HEADER_SIZE])
    if header["version"] != VERSION:
        version = f"is a quote of version {int(header['version'])}, not {VERSION}"
        problem = kinds.instead_of(data, "quote") if kinds.kind(data) else version
        raise UserError(where, problem, "give an ECDSA quote of an SGX enclave")
    if header["key_type"] != ECDSA_P256 or data[4:8] != bytes(4):
        raise UserError(where, "is no quote of an SGX enclave signed by ECDSA P-256", _REMEDY)
    reader = _Reader(data, where)
    signed = reader.take(HEADER_SIZE), reader.take(REPORT_SIZE)
    signature_data = _Reader(reader.take(reader.number(4)), where)
    if any(reader.rest()):
        raise UserError(where, f"has {len(reader.rest()):,} bytes behind its end", _REMEDY)
    signature, key = signature_data.take(64), signature_data.take(64)
    qe_report, qe_signature = signature_data.take(REPORT_SIZE), signature_data.take(64)
    authentication = signature_data.take(signature_data.number(2))
    kind = signature_data.number(2)
    certification = signature_data.take(signature_data.number(4))
    if signature_data.rest():
        raise UserError(where, "its sizes do not fit each other", _REMEDY)
    return Quote(*signed, signature, key, qe_report, qe_signature, authentication, kind, certification)


class _Reader:
    """Takes what comes next of a quote; raises UserError where that is less than is asked for."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._place = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        if self._place + size > len(self._data):
            raise _cut(self._where)
        self._place += size
        return self._data[self._place - size : self._place]

    def number(self, size: int) -> int:
        """Return the next ``size`` bytes as a number."""
        return int.from_bytes(self.take(size), "little")

    def rest(self) -> bytes:
        """Return what has not been taken."""
        return self._data[self._place :]


def _cut(where: str) -> UserError:
    return UserError(where, "is cut: it ends before what it says is in it", _REMEDY)
