"""What a relying party gets: policies in every form, quotes held to them, and the measured stream."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import tiny_runtime
from hypothesis import given
from hypothesis import strategies as st

import mystikos_tool
from mystikos_tool import proof
from mystikos_tool.errors import UserError
from mystikos_tool.formats import quote as quotes
from mystikos_tool.formats.sigstruct import ATTRIBUTES_MASK, SIGSTRUCT
from mystikos_tool.packaging import policy as policies
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.packaging.policy import Policy


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    made = tiny_runtime.inputs(directory, ProductID=7, SecurityVersion=2)
    return tiny_runtime.build(made, directory / "package")


@pytest.fixture(scope="module")
def policy(package: Path) -> Policy:
    return mystikos_tool.policy(package)


@pytest.fixture(scope="module")
def debuggable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("debuggable")
    return tiny_runtime.build(tiny_runtime.inputs(directory, Debug=True), directory / "package")


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


# Policies


def test_a_policy_has_the_facts_of_the_enclave_by_its_schema(package: Path, policy: Policy) -> None:
    document = json.loads(policy.to_json())
    jsonschema.validate(document, json.loads(policies.SCHEMA.read_text()))
    verified = mystikos_tool.verify(package)
    assert document["mrenclave"] == verified.mrenclave.hex()
    assert document["mrsigner"] == verified.mrsigner.hex()
    assert (document["product_id"], document["security_version"], document["debug"]) == (7, 2, False)
    assert document["attributes_mask"] == f"{ATTRIBUTES_MASK:#x}"


def test_a_policy_is_read_back(policy: Policy) -> None:
    for each in (policy, policy._replace(mrenclave=None)):
        assert Policy.from_json(each.to_json().encode(), "here") == each


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 99999, b'{"format": 1}'])
def test_what_is_no_policy_is_told(data: bytes) -> None:
    assert "policy: is no policy of this version" in refused(lambda: Policy.from_json(data, "policy"))


@pytest.mark.parametrize("name", ["mrsigner", "mrenclave"])
def test_a_policy_with_a_digest_of_another_size_is_refused(policy: Policy, name: str) -> None:
    document = json.loads(policy.to_json())
    document[name] = document[name][:62]
    told = refused(lambda: Policy.from_json(json.dumps(document).encode(), "policy"))
    assert "policy: has a digest of another size than 32 bytes" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("product_id", "security_version")
            for value in (-1, 65536, 1.0, True, 1e999)
        ),
        *(("attributes", value) for value in ("-0x1", "0x1" + "0" * 16)),
        *(("miscmask", "0x1" + "0" * 8), ("debug", 0), ("format", True)),
    ],
)
def test_a_policy_that_no_enclave_could_have_is_refused(policy: Policy, name: str, value: object) -> None:
    data = json.dumps({**json.loads(policy.to_json()), name: value}).encode()
    assert "policy: is no policy of this version" in refused(lambda: Policy.from_json(data, "policy"))


def test_no_policy_is_made_of_a_package_that_was_changed(package: Path, tmp_path: Path) -> None:
    data = bytearray(package.read_bytes())
    data[data.index(b"#!/bin/app")] ^= 1
    (tmp_path / "changed").write_bytes(data)
    assert "MRENCLAVE is" in refused(lambda: mystikos_tool.policy(tmp_path / "changed"))


def test_a_policy_for_every_version_leaves_mrenclave_out_in_every_form(package: Path) -> None:
    pinned = mystikos_tool.policy(package)
    assert pinned.mrenclave is not None
    digest = pinned.mrenclave.hex()
    loose = mystikos_tool.policy(package, any_version=True)
    for form in policies.FORMS:
        text = loose.render(form)
        assert digest not in text
        assert form == "c" or digest in pinned.render(form)
        if form != "c":
            assert pinned.mrsigner.hex() in text


@pytest.mark.skipif(not shutil.which("sh"), reason="sh is not installed")
def test_a_shell_reads_the_environment(policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "policy.env").write_text(policy.render("env"))
    script = ". ./policy.env; echo $MYST_MRSIGNER $MYST_PRODUCT_ID $MYST_SECURITY_VERSION $MYST_DEBUG"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{policy.mrsigner.hex()} 7 2 0\n"


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
def test_a_c_program_reads_the_header(policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "policy.h").write_text(policy.render("c"))
    (tmp_path / "main.c").write_text(
        """
        #include <stdio.h>
        #include "policy.h"
        #include "policy.h"
        static const unsigned char enclave[32] = MYST_MRENCLAVE, signer[32] = MYST_MRSIGNER;
        int main(void) {
            for (int i = 0; i < 32; i++) printf("%02x", enclave[i]);
            for (int i = 0; i < 32; i++) printf("%02x", signer[i]);
            printf(" %d %d %d", MYST_PRODUCT_ID, MYST_SECURITY_VERSION, MYST_DEBUG);
            printf(" %#llx", MYST_ATTRIBUTES_MASK);
        }
        """
    )
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-pedantic", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False).stdout
    assert policy.mrenclave
    assert said == f"{policy.mrenclave.hex()}{policy.mrsigner.hex()} 7 2 0 {ATTRIBUTES_MASK:#x}"


def test_a_policy_of_azure_attestation_permits_what_has_every_claim(policy: Policy) -> None:
    assert policy.mrenclave
    assert policy.render("maa") == (
        "version= 1.0;\n"
        "authorizationrules\n"
        "{\n"
        '    [ type=="x-ms-sgx-is-debuggable", value==false ] &&\n'
        '    [ type=="x-ms-sgx-product-id", value==7 ] &&\n'
        '    [ type=="x-ms-sgx-svn", value>=2 ] &&\n'
        f'    [ type=="x-ms-sgx-mrsigner", value=="{policy.mrsigner.hex()}" ] &&\n'
        f'    [ type=="x-ms-sgx-mrenclave", value=="{policy.mrenclave.hex()}" ]\n'
        "    => permit();\n"
        "};\n"
    )


def test_the_claims_of_open_enclave_have_its_forms(policy: Policy, debuggable: Path) -> None:
    claims = json.loads(policy.render("oe"))
    assert claims["product_id"] == "07" + "00" * 15
    assert (claims["security_version"], claims["attributes"]) == (2, 2)
    assert json.loads(mystikos_tool.policy(debuggable).render("oe"))["attributes"] == 3


def test_gramine_and_ego_get_their_names(policy: Policy, debuggable: Path) -> None:
    assert policy.mrenclave
    assert policy.render("gramine").splitlines() == [
        f"RA_TLS_MRENCLAVE={policy.mrenclave.hex()}",
        f"RA_TLS_MRSIGNER={policy.mrsigner.hex()}",
        "RA_TLS_ISV_PROD_ID=7",
        "RA_TLS_ISV_SVN=2",
    ]
    assert "RA_TLS_MRENCLAVE=any\n" in policy._replace(mrenclave=None).render("gramine")
    assert "RA_TLS_ALLOW_DEBUG_ENCLAVE_INSECURE=1\n" in mystikos_tool.policy(debuggable).render("gramine")
    assert json.loads(policy.render("ego")) == {
        "UniqueID": policy.mrenclave.hex(),
        "SignerID": policy.mrsigner.hex(),
        "ProductID": 7,
        "SecurityVersion": 2,
        "Debug": False,
    }


# Quotes


def quote_of(package: Path, **changes: int | bytes) -> bytes:
    """A quote as a platform makes one of a running enclave, written by the offsets of Intel's document."""
    fields = SIGSTRUCT.unpack(OpenedPackage(package).sigstruct)
    report = bytearray(384)
    struct.pack_into("<I", report, 16, int(fields["miscselect"]))
    struct.pack_into("<QQ", report, 48, int(fields["attributes"]) | 1, int(fields["xfrm"]) | 4)
    report[64:96] = bytes(fields["mrenclave"])  # type: ignore[arg-type]
    report[128:160] = mystikos_tool.verify(package).mrsigner
    struct.pack_into("<HH", report, 256, int(fields["product_id"]), int(fields["security_version"]))
    report[320:384] = b"report data".ljust(64, b"\0")
    for name, value in changes.items():
        field = quotes.REPORT.fields[name]
        struct.pack_into(f"<{field.format}", report, field.offset, value)
    header = struct.pack("<HHIHH16s20s", 3, 2, 0, 5, 13, b"intel", b"")
    signature = (
        bytes(64 + 64 + 384 + 64) + struct.pack("<H", 32) + bytes(32) + struct.pack("<HI", 5, 7) + b"chain.."
    )
    return header + bytes(report) + struct.pack("<I", len(signature)) + signature


@pytest.fixture
def quote(package: Path, tmp_path: Path) -> Path:
    path = tmp_path / "quote"
    path.write_bytes(quote_of(package))
    return path


def test_a_quote_of_the_enclave_is_as_its_policy_says(quote: Path, policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(policy.to_json())
    for held_to in (policy, tmp_path / "policy.json", policy._replace(mrenclave=None, security_version=1)):
        checked = mystikos_tool.check_quote(quote, policy=held_to)
        assert checked.problems == ()
        assert json.loads(checked.to_json())["as_expected"] is True


def test_what_was_not_verified_of_a_quote_is_said(quote: Path, policy: Policy) -> None:
    unheld, held = mystikos_tool.check_quote(quote), mystikos_tool.check_quote(quote, policy=policy)
    for checked in (unheld, held):
        assert "not proved: that an SGX platform made the quote" in checked.to_text()
    assert "not proved: that the enclave is the expected one" in unheld.to_text()
    assert [len(json.loads(each.to_json())["unproved"]) for each in (unheld, held)] == [2, 1]


def test_the_fields_of_a_quote_are_shown(quote: Path) -> None:
    shown = json.loads(mystikos_tool.check_quote(quote).to_json())["quote"]
    assert (shown["version"], shown["product_id"], shown["security_version"]) == (3, 7, 2)
    assert bytes.fromhex(shown["report_data"]).startswith(b"report data")
    assert (shown["debug"], shown["certification_type"], shown["attributes"]) == (False, 5, "0x5")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mrenclave": bytes(32)}, f"MRENCLAVE is {'00' * 32}, expected is "),
        ({"mrsigner": bytes(32)}, f"MRSIGNER is {'00' * 32}, expected is "),
        ({"product_id": 8}, "the product is 8, expected is 7"),
        ({"security_version": 1}, "the security version is 1, expected is at least 2"),
        ({"attributes": 0x7}, "the enclave may be debugged, which is not expected"),
        ({"attributes": 0x15}, "ATTRIBUTES is 0x14, expected is 0x4 under the mask"),
        ({"xfrm": 0x11}, "XFRM is 0x11, expected is 0x3 under the mask"),
        ({"miscselect": 2}, "MISCSELECT is 0x2, expected is 0x0 under the mask"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_quote_of_another_enclave_is_told(
    package: Path, policy: Policy, tmp_path: Path, changes: dict[str, int | bytes], problem: str
) -> None:
    (tmp_path / "quote").write_bytes(quote_of(package, **changes))
    checked = mystikos_tool.check_quote(tmp_path / "quote", policy=policy)
    assert any(each.startswith(problem) for each in checked.problems), checked.problems
    assert json.loads(checked.to_json())["as_expected"] is False


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:47], "is cut"),
        (lambda data: data[:435], "is cut"),
        (lambda data: data[:-1], "is cut"),
        (lambda data: b"\4" + data[1:], "is a quote of version 4, not 3"),
        (lambda data: data[:2] + b"\1" + data[3:], "is no quote of an SGX enclave signed by ECDSA P-256"),
        (lambda data: data[:4] + b"\x81" + data[5:], "is no quote of an SGX enclave signed by ECDSA P-256"),
        (lambda data: data + b"more", "has 4 bytes behind its end"),
        (lambda data: data[:-11] + b"\x06" + data[-10:], "its sizes do not fit each other"),
        (lambda data: b"", "is cut"),
    ],
)
def test_what_is_no_quote_is_told(quote: Path, change: Callable[[bytes], bytes], problem: str) -> None:
    quote.write_bytes(change(quote.read_bytes()))
    assert problem in refused(lambda: mystikos_tool.check_quote(quote))


def test_zeros_behind_a_quote_do_not_count(quote: Path, policy: Policy) -> None:
    quote.write_bytes(quote.read_bytes() + bytes(100))
    assert mystikos_tool.check_quote(quote, policy=policy).problems == ()


@given(data=st.binary(max_size=2000))
def test_rubbish_is_a_quote_or_refused(data: bytes) -> None:
    try:
        quotes.parse(b"\3\0\2\0\0\0\0\0" + data, "quote")
    except UserError as error:
        assert error.where == "quote"


# The measured stream


def operations(data: bytes) -> list[tuple[bytes, int]]:
    """The operations of an SGXS file and where in the enclave they are."""
    found, place = [], 0
    while place < len(data):
        name, first = struct.unpack_from("<8sQ", data, place)
        found.append((name.rstrip(b"\0"), first))
        place += 64 + (256 if name == b"EEXTEND\0" else 0)
    assert place == len(data)
    return found


def test_the_digest_of_the_exported_stream_is_mrenclave(package: Path, tmp_path: Path) -> None:
    size = proof.export_sgxs(package, tmp_path / "sgxs")
    data = (tmp_path / "sgxs").read_bytes()
    assert size == len(data)
    assert hashlib.sha256(data).digest() == mystikos_tool.verify(package).mrenclave


def test_the_exported_stream_is_one_of_creation_pages_and_their_blocks(package: Path, tmp_path: Path) -> None:
    proof.export_sgxs(package, tmp_path / "sgxs")
    (name, _), *rest = operations((tmp_path / "sgxs").read_bytes())
    assert name == b"ECREATE"
    page = -1
    for name, place in rest:
        assert name in (b"EADD", b"EEXTEND")
        if name == b"EADD":
            assert place % 4096 == 0
            page = place
        else:
            assert page <= place < page + 4096


def test_nothing_is_exported_of_a_package_that_was_changed(package: Path, tmp_path: Path) -> None:
    data = bytearray(package.read_bytes())
    data[data.index(b"#!/bin/app")] ^= 1
    (tmp_path / "changed").write_bytes(data)
    said = refused(lambda: proof.export_sgxs(tmp_path / "changed", tmp_path / "sgxs"))
    assert "MRENCLAVE is" in said
    assert {path.name for path in tmp_path.iterdir()} == {"changed"}
