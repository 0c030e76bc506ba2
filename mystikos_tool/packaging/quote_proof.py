"""Who made a quote: its signatures and certificates, and the TCB of its platform, by given collateral.

The chain is that of Intel's "SGX ECDSA QuoteLibReference DCAP API": the root's key signs the
certificate of the platform's key, that signs the report of the quoting enclave, that vouches for the
key which signs the quote. What Intel says of TCB levels and of the quoting enclave is as its
Provisioning Certification Service sends it, version 4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from mystikos_tool.errors import UserError
from mystikos_tool.formats.quote import REPORT, Quote
from mystikos_tool.io.atomic import read_input
from mystikos_tool.packaging.verification import VerificationError

UP_TO_DATE = "UpToDate"
FILES = (
    "root_ca.pem",
    "root_ca.crl",
    "pck.crl",
    "tcb_info.json",
    "qe_identity.json",
    "tcb_signing_chain.pem",
)

_PCK_CHAIN = 5
_SGX = "1.2.840.113741.1.13.1"
_TCB, _PCE_ID, _FMSPC = (f"{_SGX}.{number}" for number in (2, 3, 4))
_COMPONENTS, _PCE_SVN = [f"{_TCB}.{number}" for number in range(1, 17)], f"{_TCB}.17"
# What the library raises of certificates and lists that cannot be read, or whose kind it does not know.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.ExtensionNotFound,
)
_DISTRUST = "do not trust what made the quote"
_FETCH = "get it again from Intel's Provisioning Certification Service"


class Proof(NamedTuple):
    """What was proved of a quote's platform: TCB status of platform and quoting enclave, and advisories."""

    tcb_status: str
    qe_status: str
    advisories: tuple[str, ...]

    def not_accepted(self, accepted: Sequence[str]) -> list[str]:
        """Return what is not UpToDate and not accepted, a phrase each."""
        return [
            f"the TCB of the {name} is {status}{self._why()}"
            for name, status in (("platform", self.tcb_status), ("quoting enclave", self.qe_status))
            if status not in (UP_TO_DATE, *accepted)
        ]

    def _why(self) -> str:
        return f" ({', '.join(self.advisories)})" if self.advisories else ""


def prove(quote: Quote, collateral: Path, at: datetime, where: str) -> Proof:
    """Verify a quote by the files of a directory (`FILES`), as of a time.

    The root's certificate is trusted because it was given. Raises VerificationError, with what is
    wrong, for signatures, certificates and collateral that do not hold, and UserError for files
    that cannot be read.
    """
    if quote.certification_type != _PCK_CHAIN:
        problem = f"has certification data of the type {quote.certification_type}, not {_PCK_CHAIN}"
        raise UserError(where, problem, "have the platform put its certificates into the quote")
    given = _Collateral(collateral, at)
    leaf = given.chain(quote.certification, f"{where}, certificates")
    _verify(leaf, quote.qe_signature, quote.qe_report, f"{where}, report of the quoting enclave")
    vouched = REPORT.get_bytes(quote.qe_report, "report_data")
    if vouched != hashlib.sha256(quote.key + quote.authentication).digest() + bytes(32):
        raise VerificationError(
            where, "its key is not the one that the quoting enclave vouches for", _DISTRUST
        )
    _verify(_point(quote.key, where), quote.signature, quote.header + quote.report, where)
    tcb, tcb_advisories = _tcb_status(leaf, given.signed("tcb_info.json", "tcbInfo"), where)
    qe, qe_advisories = _qe_status(
        quote.qe_report, given.signed("qe_identity.json", "enclaveIdentity"), where
    )
    return Proof(tcb, qe, tuple(dict.fromkeys((*tcb_advisories, *qe_advisories))))


class _Collateral:
    """Files of a directory, each held to the root's certificate when it is asked for."""

    def __init__(self, directory: Path, at: datetime) -> None:
        self._directory = directory
        self._at = at
        self._root = _certificates(self._read("root_ca.pem"), str(directory / "root_ca.pem"))[0]
        self._signer: x509.Certificate | None = None

    def _read(self, name: str) -> bytes:
        return read_input(self._directory / name, "collateral file", 1 << 22)

    def chain(self, pem: bytes, where: str) -> x509.Certificate:
        """Return the first certificate of a chain to the root; raise VerificationError for others."""
        certificates = _certificates(pem.rstrip(b"\0"), where)
        if certificates[-1] != self._root:
            raise VerificationError(where, "do not end at the root that is given", _DISTRUST)
        for number, certificate in enumerate(certificates):
            self._check_time(certificate.not_valid_before_utc, certificate.not_valid_after_utc, where)
            issuer = certificates[min(number + 1, len(certificates) - 1)]
            self._check_issued(certificate, issuer, where)
            if number + 1 < len(certificates):
                # The root tells which of its own are revoked, and an authority below it which of its.
                self._check_not_revoked(
                    certificate, issuer, "root_ca.crl" if issuer == self._root else "pck.crl", where
                )
        return certificates[0]

    def _check_issued(self, certificate: x509.Certificate, issuer: x509.Certificate, where: str) -> None:
        try:
            certificate.verify_directly_issued_by(issuer)
            is_authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (*_UNREADABLE, InvalidSignature):
            is_authority = False
        if not is_authority:
            raise VerificationError(where, "one of them is not issued by the next", _DISTRUST)

    def _check_not_revoked(
        self, certificate: x509.Certificate, issuer: x509.Certificate, name: str, where: str
    ) -> None:
        data, place = self._read(name), str(self._directory / name)
        try:
            load = x509.load_pem_x509_crl if data.startswith(b"-----") else x509.load_der_x509_crl
            crl = load(data)
            public_key = issuer.public_key()
            is_valid = crl.issuer == issuer.subject and crl.is_signature_valid(public_key)  # type: ignore[arg-type]
        except _UNREADABLE:
            raise UserError(place, "is no list of revoked certificates", _FETCH) from None
        if not is_valid:
            raise VerificationError(place, "is not signed by the issuer of the certificates", _FETCH)
        self._check_time(crl.last_update_utc, crl.next_update_utc, place)
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise VerificationError(where, "one of them is revoked", _DISTRUST)

    def _check_time(self, start: datetime, end: datetime | None, where: str) -> None:
        if self._at < start or (end is not None and self._at > end):
            until = f" until {end:%Y-%m-%d}" if end else ""
            problem = f"holds from {start:%Y-%m-%d}{until}, not on {self._at:%Y-%m-%d}"
            raise VerificationError(where, problem, _FETCH)

    def signed(self, name: str, member: str) -> dict[str, Any]:
        """Return what Intel signed of a JSON file: its first member, byte for byte."""
        where = str(self._directory / name)
        chain = "tcb_signing_chain.pem"
        self._signer = self._signer or self.chain(self._read(chain), str(self._directory / chain))
        text = self._read(name).decode(errors="replace")
        start = re.match(rf'\s*\{{\s*"{member}"\s*:\s*', text)
        try:
            if start is None:
                raise ValueError
            document, end = json.JSONDecoder().raw_decode(text, start.end())
            signature = bytes.fromhex(json.loads(text)["signature"])
            start_time, end_time = (_time(document[key]) for key in ("issueDate", "nextUpdate"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            problem = f'does not begin with "{member}" and have a signature'
            raise UserError(where, problem, _FETCH) from None
        _verify(self._signer, signature, text[start.end() : end].encode(), where)
        self._check_time(start_time, end_time, where)
        return dict(document)


def _time(text: str) -> datetime:
    """Return a time with its zone; raise ValueError for one without."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError
    return found


def _certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return list(x509.load_pem_x509_certificates(pem))
    except _UNREADABLE:
        raise UserError(where, "are no certificates in PEM", _FETCH) from None


def _point(key: bytes, where: str) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + key)
    except ValueError:
        raise VerificationError(where, "its key is no point of P-256", _DISTRUST) from None


def _verify(
    signer: x509.Certificate | ec.EllipticCurvePublicKey, signature: bytes, data: bytes, where: str
) -> None:
    """Raise VerificationError unless a signature, r and s, is that of a P-256 key over data."""
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key = signer.public_key() if isinstance(signer, x509.Certificate) else signer
        if not isinstance(key, ec.EllipticCurvePublicKey) or len(signature) != 64:
            raise InvalidSignature
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except (*_UNREADABLE, InvalidSignature):
        raise VerificationError(where, "its signature does not verify", _DISTRUST) from None


def _tcb_status(leaf: x509.Certificate, info: dict[str, Any], where: str) -> tuple[str, Sequence[str]]:
    """Return the status of the first TCB level that a platform reaches, and its advisories."""
    platform = _platform(leaf, where)
    try:
        if (info["id"], info["version"]) != ("SGX", 3):
            raise UserError("tcb_info.json", "is not of SGX and version 3", _FETCH)
        for name, oid in (("fmspc", _FMSPC), ("pceId", _PCE_ID)):
            if bytes.fromhex(info[name]) != platform[oid]:
                raise VerificationError("tcb_info.json", f"is of another {name} than the platform's", _FETCH)
        have = [int.from_bytes(platform[oid], "big") for oid in (*_COMPONENTS, _PCE_SVN)]
        for level in info["tcbLevels"]:
            tcb = level["tcb"]
            need = [*(int(part["svn"]) for part in tcb["sgxtcbcomponents"]), int(tcb["pcesvn"])]
            if len(need) == len(have) and all(has >= least for has, least in zip(have, need, strict=True)):
                return str(level["tcbStatus"]), tuple(map(str, level.get("advisoryIDs", ())))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError("tcb_info.json", "is not as version 3 has it", _FETCH) from None
    return "NotSupported", ()


def _qe_status(report: bytes, identity: dict[str, Any], where: str) -> tuple[str, Sequence[str]]:
    """Return the status of the quoting enclave that Intel knows, and its advisories."""
    fields = REPORT.unpack(report)
    try:
        if (identity["id"], identity["version"]) != ("QE", 2):
            raise UserError("qe_identity.json", "is not of the quoting enclave and version 2", _FETCH)
        facts = [
            (bytes(fields["mrsigner"]), bytes.fromhex(identity["mrsigner"]), None),
            (
                int(fields["product_id"]).to_bytes(2, "big"),
                int(identity["isvprodid"]).to_bytes(2, "big"),
                None,
            ),
            (report[48:64], bytes.fromhex(identity["attributes"]), bytes.fromhex(identity["attributesMask"])),
            (
                _number(fields["miscselect"], 4),
                bytes.fromhex(identity["miscselect"]),
                bytes.fromhex(identity["miscselectMask"]),
            ),
        ]
        if any(_masked(found, mask) != _masked(wanted, mask) for found, wanted, mask in facts):
            raise VerificationError(where, "its quoting enclave is not the one that Intel names", _DISTRUST)
        for level in identity["tcbLevels"]:
            if int(fields["security_version"]) >= int(level["tcb"]["isvsvn"]):
                return str(level["tcbStatus"]), tuple(map(str, level.get("advisoryIDs", ())))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError("qe_identity.json", "is not as version 2 has it", _FETCH) from None
    return "NotSupported", ()


def _number(value: Any, size: int) -> bytes:
    return int(value).to_bytes(size, "big")


def _masked(value: bytes, mask: bytes | None) -> bytes:
    if mask is None:
        return value
    return bytes(one & other for one, other in zip(value, mask, strict=True))


def _platform(leaf: x509.Certificate, where: str) -> dict[str, bytes]:
    """Return what a platform's certificate says of it: values by object identifiers, in DER's form."""
    try:
        extension = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(_SGX)).value
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise ValueError
        ((_, content),) = _items(extension.value)
        facts = dict(_pairs(content))
        if {*_COMPONENTS, _PCE_SVN, _PCE_ID, _FMSPC} - facts.keys():
            raise ValueError
    except (*_UNREADABLE, IndexError):
        raise VerificationError(
            where, "its first certificate is not that of an SGX platform", _DISTRUST
        ) from None
    return facts


def _pairs(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield identifiers and values of pairs, of those too that are the value of one."""
    for _, pair in _items(content):
        (kind, identifier), (tag, value) = _items(pair)
        if kind != _IDENTIFIER:
            raise ValueError
        if tag == _SEQUENCE:
            yield from _pairs(value)
        else:
            yield _dotted(identifier), value


_SEQUENCE, _IDENTIFIER = 0x30, 0x06


def _items(data: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each item of DER (X.690, 8.1), one after the other."""
    items, place = [], 0
    while place < len(data):
        tag, size = data[place], data[place + 1]
        place += 2
        if size & 0x80:
            count = size & 0x7F
            size, place = int.from_bytes(data[place : place + count], "big"), place + count
        if place + size > len(data):
            raise ValueError
        items.append((tag, data[place : place + size]))
        place += size
    return items


def _dotted(identifier: bytes) -> str:
    """Return an object identifier's content as numbers with dots (X.690, 8.19)."""
    numbers, value = [], 0
    for byte in identifier:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def now() -> datetime:
    """Return the time."""
    return datetime.now(timezone.utc)
