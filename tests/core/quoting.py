"""A platform of our own: it quotes enclaves, and its maker says of it what Intel says of real ones."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SGX = "1.2.840.113741.1.13.1"
SVNS = [11, 10, 3, 3, 255, 1, 12, *[0] * 9]
PCE_SVN = 13
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def point(key: Key) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def signed(key: Key, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def pair(identifier: str, tag: int, content: bytes) -> bytes:
    dotted = x509.ObjectIdentifier(identifier)
    first, second, *rest = map(int, dotted.dotted_string.split("."))
    encoded = b""
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return der(0x30, der(0x06, encoded) + der(tag, content))


def platform_extension(fmspc: bytes) -> bytes:
    tcb = b"".join(
        pair(f"{SGX}.2.{number}", 0x02, svn.to_bytes(2, "big").lstrip(b"\0") or b"\0")
        for number, svn in enumerate([*SVNS, PCE_SVN], 1)
    )
    tcb += pair(f"{SGX}.2.18", 0x04, bytes(16))
    parts = [
        pair(f"{SGX}.1", 0x04, bytes(16)),
        pair(f"{SGX}.2", 0x30, tcb),
        pair(f"{SGX}.3", 0x04, bytes(2)),
        pair(f"{SGX}.4", 0x04, fmspc),
        pair(f"{SGX}.5", 0x0A, b"\0"),
    ]
    return der(0x30, b"".join(parts))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A certificate with its key."""

    key: Key
    certificate: x509.Certificate

    def issue(self, text: str, *, ca: bool = False, extension: bytes = b"", days: int = 9) -> Authority:
        return certified(text, self, ca=ca, extension=extension, days=days)

    def revoking(self, *revoked: Authority, days: int = 9) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(NOW - DAY).next_update(NOW + days * DAY)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(NOW - DAY).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def certified(
    text: str, issuer: Authority | None = None, *, ca: bool = False, extension: bytes = b"", days: int = 9
) -> Authority:
    key = new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(text))
        .issuer_name(issuer.certificate.subject if issuer else name(text))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + days * DAY)
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    if extension:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX), extension), False
        )
    return Authority(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def moment(days: int) -> str:
    return (NOW + days * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Platform:
    """Quotes reports; ``tcb`` and ``identity`` are what its maker says, ``files`` replace collateral."""

    fmspc: bytes = b"\0\xa0\x67\x11\0\0"
    qe_signer: bytes = b"\x8c" * 32
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = certified("root", ca=True)
        self.authority = self.root.issue("platform CA", ca=True)
        self.leaf = self.authority.issue("platform", extension=platform_extension(self.fmspc))
        self.tcb_signer = self.root.issue("TCB signing")
        self.attestation = new_key()
        self.tcb: dict[str, Any] = {
            "id": "SGX",
            "version": 3,
            "issueDate": moment(-1),
            "nextUpdate": moment(9),
            "fmspc": self.fmspc.hex().upper(),
            "pceId": "0000",
            "tcbLevels": [
                self.level([12, *SVNS[1:]], "UpToDate"),
                self.level(SVNS, "SWHardeningNeeded", "INTEL-SA-00615"),
                self.level([0] * 16, "OutOfDate", "INTEL-SA-00001"),
            ],
        }
        self.identity: dict[str, Any] = {
            "id": "QE",
            "version": 2,
            "issueDate": moment(-1),
            "nextUpdate": moment(9),
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
            "mrsigner": self.qe_signer.hex().upper(),
            "isvprodid": 1,
            "tcbLevels": [
                {"tcb": {"isvsvn": 8}, "tcbStatus": "UpToDate"},
                {"tcb": {"isvsvn": 1}, "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00202"]},
            ],
        }

    @staticmethod
    def level(svns: list[int], status: str, *advisories: str) -> dict[str, Any]:
        tcb = {"sgxtcbcomponents": [{"svn": svn} for svn in svns], "pcesvn": PCE_SVN}
        return {"tcb": tcb, "tcbStatus": status, "advisoryIDs": list(advisories)}

    def qe_report(self, authentication: bytes, version: int = 8, attributes: int = 0x15) -> bytes:
        report = bytearray(384)
        struct.pack_into("<QQ", report, 48, attributes, 0xE7)
        report[128:160] = self.qe_signer
        struct.pack_into("<HH", report, 256, 1, version)
        report[320:352] = hashlib.sha256(point(self.attestation) + authentication).digest()
        return bytes(report)

    def quote(self, report: bytes, **changes: bytes) -> bytes:
        """A quote of a report; ``changes`` replace the report of the quoting enclave, or the chain."""
        authentication = bytes(range(32))
        header = struct.pack("<HHIHH16s20s", 3, 2, 0, 10, 15, b"intel", b"")
        qe_report = changes.get("qe_report", self.qe_report(authentication))
        chain = changes.get("chain", self.leaf.pem + self.authority.pem + self.root.pem)
        data = signed(self.attestation, header + report) + point(self.attestation)
        data += qe_report + signed(self.leaf.key, qe_report)
        data += struct.pack("<H", len(authentication)) + authentication
        data += struct.pack("<HI", 5, len(chain)) + chain
        return header + report + struct.pack("<I", len(data)) + data

    def collateral(self, directory: Path) -> Path:
        """What the platform's maker says, as files."""
        directory.mkdir(exist_ok=True)
        files: Mapping[str, Callable[[], bytes]] = {
            "root_ca.pem": lambda: self.root.pem,
            "root_ca.crl": self.root.revoking,
            "pck.crl": self.authority.revoking,
            "tcb_signing_chain.pem": lambda: self.tcb_signer.pem + self.root.pem,
            "tcb_info.json": lambda: self.statement("tcbInfo", self.tcb),
            "qe_identity.json": lambda: self.statement("enclaveIdentity", self.identity),
        }
        for each, content in files.items():
            (directory / each).write_bytes(self.files.get(each) or content())
        return directory

    def statement(self, member: str, document: Mapping[str, Any]) -> bytes:
        text = json.dumps(document, separators=(",", ":"))
        signature = signed(self.tcb_signer.key, text.encode()).hex()
        return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()
