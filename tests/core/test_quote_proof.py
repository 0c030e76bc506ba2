"""Who made a quote: what has to hold of its signatures, its certificates and what their maker says."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from quoting import NOW, Platform, certified, moment, new_key, platform_extension, signed

import mystikos_tool
from mystikos_tool import UserError, VerificationError
from mystikos_tool.packaging.quoted import CheckedQuote

VERSION_3, VERSION_35 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x22"
P_256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
ECDSA = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
ACCEPTED = ("SWHardeningNeeded",)


@pytest.fixture
def platform() -> Platform:
    return Platform()


def report(attributes: int = 5) -> bytes:
    data = bytearray(384)
    struct.pack_into("<QQ", data, 48, attributes, 7)
    return bytes(data)


def check(platform: Platform, directory: Path, quote: bytes | None = None, days: int = 0) -> CheckedQuote:
    (directory / "quote").write_bytes(platform.quote(report()) if quote is None else quote)
    return mystikos_tool.check_quote(
        directory / "quote",
        collateral=platform.collateral(directory / "collateral"),
        accepted_tcb=ACCEPTED,
        at=NOW + timedelta(days=days),
    )


def refused(platform: Platform, directory: Path, quote: bytes | None = None, days: int = 0) -> str:
    with pytest.raises(VerificationError) as error:
        check(platform, directory, quote, days)
    return str(error.value)


def test_a_quote_of_a_platform_is_proved_and_its_tcb_is_told(platform: Platform, tmp_path: Path) -> None:
    checked = check(platform, tmp_path)
    assert checked.proof == ("SWHardeningNeeded", "UpToDate", ("INTEL-SA-00615",))
    assert checked.problems == ()
    assert "signatures" not in "".join(checked.unproved)
    assert json.loads(checked.to_json())["proof"]["tcb_status"] == "SWHardeningNeeded"


def test_a_tcb_that_is_not_accepted_is_a_problem(platform: Platform, tmp_path: Path) -> None:
    checked = check(platform, tmp_path)._replace(accepted_tcb=())
    assert checked.problems == ("the TCB of the platform is SWHardeningNeeded (INTEL-SA-00615)",)


def test_the_first_level_that_is_reached_counts(platform: Platform, tmp_path: Path) -> None:
    platform.tcb["tcbLevels"].insert(0, platform.level([1] * 4 + [0] * 12, "UpToDate"))
    assert check(platform, tmp_path).proof == ("UpToDate", "UpToDate", ())


def test_a_platform_below_every_level_is_not_supported(platform: Platform, tmp_path: Path) -> None:
    platform.tcb["tcbLevels"] = [platform.level([255] * 16, "UpToDate")]
    assert check(platform, tmp_path).problems == ("the TCB of the platform is NotSupported",)


def test_an_old_quoting_enclave_is_told(platform: Platform, tmp_path: Path) -> None:
    quote = platform.quote(report(), qe_report=platform.qe_report(bytes(range(32)), version=3))
    (problem,) = check(platform, tmp_path, quote).problems
    assert problem == "the TCB of the quoting enclave is OutOfDate (INTEL-SA-00615, INTEL-SA-00202)"


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (30, "quote: its signature does not verify"),  # user data of the header
        (48 + 64, "quote: its signature does not verify"),  # MRENCLAVE
        (436, "quote: its signature does not verify"),  # the signature
        (436 + 128 + 64, "quote, report of the quoting enclave: its signature does not verify"),
        (436 + 128 + 384, "quote, report of the quoting enclave: its signature does not verify"),
        (436 + 128 + 384 + 64 + 2, "its key is not the one that the quoting enclave vouches for"),
    ],
)
def test_a_quote_that_was_changed_is_refused(
    platform: Platform, tmp_path: Path, place: int, problem: str
) -> None:
    assert problem in refused(platform, tmp_path, changed(platform.quote(report()), place))


def test_a_quote_signed_by_a_key_that_nobody_vouches_for_is_refused(
    platform: Platform, tmp_path: Path
) -> None:
    honest = platform.qe_report(bytes(range(32)))
    platform.attestation = new_key()
    quote = platform.quote(report(), qe_report=honest)
    assert "its key is not the one that the quoting enclave vouches for" in refused(platform, tmp_path, quote)


def test_a_chain_to_another_root_is_refused(platform: Platform, tmp_path: Path) -> None:
    quote = Platform().quote(report())
    assert "certificates: do not end at the root that is given" in refused(platform, tmp_path, quote)


def test_a_chain_that_is_broken_is_refused(platform: Platform, tmp_path: Path) -> None:
    foreign = certified("platform", extension=platform_extension(platform.fmspc))
    quote = platform.quote(report(), chain=foreign.pem + platform.authority.pem + platform.root.pem)
    assert "one of them is not issued by the next" in refused(platform, tmp_path, quote)


def test_a_certificate_that_may_not_issue_does_not_issue(platform: Platform, tmp_path: Path) -> None:
    platform.authority = platform.root.issue("platform CA", ca=False)
    platform.leaf = platform.authority.issue("platform", extension=platform_extension(platform.fmspc))
    assert "one of them is not issued by the next" in refused(platform, tmp_path)


def altered(certificate: bytes, old: bytes, new: bytes) -> bytes:
    """A certificate in PEM with other bytes in its DER."""
    lines = certificate.splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))
    assert old in der
    return b"\n".join([lines[0], base64.b64encode(der.replace(old, new)), lines[-1], b""])


@pytest.mark.parametrize(
    ("which", "old", "new", "problem"),
    [
        ("leaf", VERSION_3, VERSION_35, "are no certificates in PEM"),
        ("authority", VERSION_3, VERSION_35, "are no certificates in PEM"),
        ("authority", P_256, P_256[:-1] + b"\x63", "one of them is not issued by the next"),
        ("leaf", ECDSA, ECDSA[:-1] + b"\x63", "one of them is not issued by the next"),
    ],
)
def test_a_certificate_of_a_kind_that_is_not_known_is_refused(
    platform: Platform, tmp_path: Path, which: str, old: bytes, new: bytes, problem: str
) -> None:
    names = ("leaf", "authority", "root")
    pem = {name: getattr(platform, name).pem for name in names} | {
        which: altered(getattr(platform, which).pem, old, new)
    }
    with pytest.raises(UserError, match=problem):
        check(platform, tmp_path, platform.quote(report(), chain=b"".join(pem[name] for name in names)))


def test_a_list_of_revoked_certificates_of_another_version_is_refused(
    platform: Platform, tmp_path: Path
) -> None:
    platform.files["pck.crl"] = platform.authority.revoking().replace(b"\x02\x01\x01", b"\x02\x01\x22", 1)
    with pytest.raises(UserError, match=r"pck\.crl: is no list of revoked certificates"):
        check(platform, tmp_path)


def test_a_time_without_its_zone_is_refused(platform: Platform, tmp_path: Path) -> None:
    quote = tmp_path / "quote"
    quote.write_bytes(platform.quote(report()))
    collateral = platform.collateral(tmp_path / "collateral")
    with pytest.raises(UserError, match="at: has no time zone"):
        mystikos_tool.check_quote(quote, collateral=collateral, at=NOW.replace(tzinfo=None))


@pytest.mark.parametrize("which", ["leaf", "authority", "tcb_signer"])
def test_a_revoked_certificate_is_refused(platform: Platform, tmp_path: Path, which: str) -> None:
    issuer, name = (platform.authority, "pck.crl") if which == "leaf" else (platform.root, "root_ca.crl")
    platform.files[name] = issuer.revoking(getattr(platform, which))
    assert "one of them is revoked" in refused(platform, tmp_path)


def test_a_list_of_revoked_certificates_by_somebody_else_is_refused(
    platform: Platform, tmp_path: Path
) -> None:
    platform.files["pck.crl"] = certified("platform CA", ca=True).revoking()
    assert "pck.crl: is not signed by the issuer of the certificates" in refused(platform, tmp_path)


@pytest.mark.parametrize(
    ("change", "days", "problem"),
    [
        (lambda platform: None, 20, "holds from 2026-11-26 until 2026-12-06, not on 2026-12-17"),
        (lambda platform: None, -20, "not on 2026-11-07"),
        (lambda platform: platform.tcb.update(nextUpdate=moment(2)), 3, "tcb_info.json: holds from"),
        (lambda platform: platform.identity.update(nextUpdate=moment(2)), 3, "qe_identity.json: holds from"),
        (
            lambda platform: platform.files.update({"pck.crl": platform.authority.revoking(days=2)}),
            3,
            "pck.crl: holds from",
        ),
    ],
    ids=["later", "earlier", "TCB", "quoting enclave", "CRL"],
)
def test_what_is_out_of_date_is_refused(
    platform: Platform, tmp_path: Path, change: Callable[[Platform], None], days: int, problem: str
) -> None:
    change(platform)
    assert problem in refused(platform, tmp_path, days=days)


@pytest.mark.parametrize("name", ["tcb_info.json", "qe_identity.json"])
def test_collateral_that_was_edited_is_refused(platform: Platform, tmp_path: Path, name: str) -> None:
    honest = (platform.collateral(tmp_path / "honest") / name).read_bytes()
    platform.files[name] = honest.replace(b"OutOfDate", b"UpToDate")
    assert platform.files[name] != honest
    assert f"{name}: its signature does not verify" in refused(platform, tmp_path)


def test_a_statement_that_repeats_a_member_counts_as_what_is_signed(
    platform: Platform, tmp_path: Path
) -> None:
    honest = platform.statement("tcbInfo", platform.tcb)
    platform.files["tcb_info.json"] = honest[:-1] + b',"tcbInfo":{"version":3}}'
    assert check(platform, tmp_path).proof == ("SWHardeningNeeded", "UpToDate", ("INTEL-SA-00615",))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda platform: platform.tcb.update(fmspc="00" * 6), "is of another fmspc than the platform's"),
        (lambda platform: platform.tcb.update(pceId="0001"), "is of another pceId than the platform's"),
        (lambda platform: platform.identity.update(mrsigner="00" * 32), "its quoting enclave is not"),
        (lambda platform: platform.identity.update(isvprodid=2), "its quoting enclave is not"),
        (
            lambda platform: platform.identity.update(attributes="01" + "00" * 15),
            "its quoting enclave is not",
        ),
        (lambda platform: platform.identity.update(miscselect="00000001"), "its quoting enclave is not"),
    ],
)
def test_what_the_maker_says_of_another_platform_is_refused(
    platform: Platform, tmp_path: Path, change: Callable[[Platform], None], problem: str
) -> None:
    change(platform)
    assert problem in refused(platform, tmp_path)


def test_a_certificate_without_the_facts_of_a_platform_is_refused(platform: Platform, tmp_path: Path) -> None:
    platform.leaf = platform.authority.issue("platform")
    assert "its first certificate is not that of an SGX platform" in refused(platform, tmp_path)
    platform.leaf = platform.authority.issue("platform", extension=b"\x30\x82\xff\xff")
    assert "its first certificate is not that of an SGX platform" in refused(platform, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("root_ca.pem", b"none", "root_ca.pem: are no certificates in PEM"),
        ("pck.crl", b"none", "pck.crl: is no list of revoked certificates"),
        ("tcb_info.json", b'{"tcbInfo":' + b"[" * 99999, "tcb_info.json: does not begin with"),
        ("tcb_info.json", b"{}", 'tcb_info.json: does not begin with "tcbInfo" and have a signature'),
        ("qe_identity.json", b'{"enclaveIdentity":', "qe_identity.json: does not begin with"),
    ],
)
def test_collateral_that_cannot_be_read_is_told(
    platform: Platform, tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    platform.files[name] = content
    with pytest.raises(UserError, match=problem):
        check(platform, tmp_path)


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("tcb", {"version": 2}),
        ("tcb", {"issueDate": "2026-11-26T00:00:00"}),
        ("identity", {"id": "QVE"}),
        ("identity", {"version": 1}),
        ("tcb", {"tcbLevels": [{"tcb": {}}]}),
        ("tcb", {"tcbLevels": None}),
        ("tcb", {"tcbLevels": [{"tcb": {"sgxtcbcomponents": [], "pcesvn": float("inf")}}]}),
        ("identity", {"mrsigner": 5}),
        ("identity", {"attributesMask": "FF"}),
        ("identity", {"tcbLevels": [{}]}),
    ],
)
def test_signed_collateral_of_another_form_is_told(
    platform: Platform, tmp_path: Path, member: str, change: dict[str, object]
) -> None:
    getattr(platform, member).update(change)
    with pytest.raises(UserError, match=r"is not|does not"):
        check(platform, tmp_path)


def test_missing_collateral_is_told(platform: Platform, tmp_path: Path) -> None:
    directory = platform.collateral(tmp_path / "collateral")
    (directory / "pck.crl").unlink()
    (tmp_path / "quote").write_bytes(platform.quote(report()))
    with pytest.raises(UserError, match=r"pck\.crl: there is no such collateral file"):
        mystikos_tool.check_quote(tmp_path / "quote", collateral=directory, at=NOW)


def test_the_signature_of_the_platform_s_key_is_over_the_whole_report(
    platform: Platform, tmp_path: Path
) -> None:
    """A signature by the right key over something else does not count."""
    quote = bytearray(platform.quote(report()))
    quote[436:500] = signed(platform.attestation, bytes(432))
    assert "its signature does not verify" in refused(platform, tmp_path, bytes(quote))
