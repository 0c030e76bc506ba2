"""Signing in two steps: what is stated, who may sign it, and what comes of a signature."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import tiny_runtime
from certificates import certificate_of

import mystikos_tool
from mystikos_tool import pipeline
from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct
from mystikos_tool.signing import pem
from mystikos_tool.signing.statement import Statement

KEYS = Path(__file__).parent.parent / "data" / "keys"
DEVELOPMENT, RELEASE = KEYS / "key-b.pem", KEYS / "key-a.pem"
PUBLIC = KEYS / "key-a.pub.pem"
DAY, ANOTHER_DAY = date(2026, 11, 23), date(2027, 2, 28)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a development key's signature."""
    path = tmp_path / "package"
    pipeline.build(tiny_runtime.inputs(tmp_path), pem.load(DEVELOPMENT), ANOTHER_DAY, path)
    return path


@pytest.fixture
def released(tmp_path: Path, package: Path) -> Path:
    """What packaging with the release key gives at once."""
    path = tmp_path / "released"
    (tmp_path / "again").mkdir()
    again = tiny_runtime.inputs(tmp_path / "again")
    pipeline.build(again, pem.load(RELEASE), DAY, path)
    return path


def signed(tmp_path: Path, statement: Statement, key: Path = RELEASE) -> Path:
    path = tmp_path / "signature"
    path.write_bytes(pem.load(key).sign(statement.digest))
    return path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def test_what_is_signed_elsewhere_is_what_is_signed_at_once(
    tmp_path: Path, package: Path, released: Path
) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    target = tmp_path / "attached"
    identity = mystikos_tool.attach(target, package, stated, signed(tmp_path, stated), PUBLIC)
    assert target.read_bytes() == released.read_bytes()
    assert identity == mystikos_tool.verify(target).identity
    assert target.stat().st_mode & 0o777 == 0o755


def test_the_date_is_that_of_the_statement_on_whichever_day_it_is_attached(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    (tmp_path / "statement").write_bytes(stated.to_json())
    signature = signed(tmp_path, stated)
    packages = []
    for epoch in ("0", "2000000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        mystikos_tool.attach(tmp_path / "out", package, tmp_path / "statement", signature, PUBLIC)
        packages.append((tmp_path / "out").read_bytes())
    assert packages[0] == packages[1]
    assert mystikos_tool.inspect(tmp_path / "out").date == "20261123"


def test_a_statement_is_the_same_whoever_signed_the_package_before(package: Path, released: Path) -> None:
    assert mystikos_tool.statement(package, day=DAY) == mystikos_tool.statement(released, day=DAY)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize("form", ["digest", "data"])
def test_openssl_signs_the_digest_or_the_data_that_it_is_of(
    tmp_path: Path, package: Path, released: Path, form: str
) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    (tmp_path / "digest").write_bytes(stated.digest)
    (tmp_path / "data").write_bytes(bytes.fromhex(json.loads(stated.to_json())["signed_data"]))
    commands = {
        "digest": ["pkeyutl", "-sign", "-inkey", RELEASE, "-pkeyopt", "digest:sha256", "-in", "digest"],
        "data": ["dgst", "-sha256", "-sign", RELEASE, "-out", "signature", "data"],
    }
    out = ["-out", "signature"] if form == "digest" else []
    subprocess.run(["openssl", *commands[form], *out], cwd=tmp_path, check=True)
    mystikos_tool.attach(tmp_path / "out", package, stated, tmp_path / "signature", PUBLIC)
    assert (tmp_path / "out").read_bytes() == released.read_bytes()


def test_a_certificate_names_the_signer_too(tmp_path: Path, package: Path, released: Path) -> None:
    (tmp_path / "certificate").write_bytes(certificate_of(RELEASE))
    stated = mystikos_tool.statement(package, day=DAY)
    signature = signed(tmp_path, stated)
    mystikos_tool.attach(tmp_path / "out", package, stated, signature, tmp_path / "certificate")
    assert (tmp_path / "out").read_bytes() == released.read_bytes()


def test_a_statement_tells_people_what_is_signed(package: Path) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    verified = mystikos_tool.verify(package)
    document = json.loads(stated.to_json())
    assert document["date"] == "2026-11-23"
    assert document["mrenclave"] == verified.mrenclave.hex()
    assert document["debug"] is verified.debug
    assert document["digest"] == stated.digest.hex()
    assert f"mrenclave        {verified.mrenclave.hex()}" in stated.to_text().splitlines()
    assert Statement.from_json(stated.to_json(), "here") == stated


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("date", "2026-11-24"),
        ("mrenclave", "00" * 32),
        ("product_id", 9),
        ("security_version", 9),
        ("debug", True),
        ("attributes", "0x0"),
        ("digest", "00" * 32),
        ("sign", "nothing"),
        ("note", "added"),
    ],
)
def test_a_statement_that_was_edited_is_refused(package: Path, name: str, value: object) -> None:
    document = json.loads(mystikos_tool.statement(package, day=DAY).to_json())
    assert document.get(name) != value
    edited = json.dumps({**document, name: value}).encode()
    said = refused(lambda: Statement.from_json(edited, "statement.json"))
    assert said.startswith(f"statement.json: was edited: '{name}'")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"[" * 99999, b'{"format": 1, "signed_data": "00"}']
)
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    assert "is no statement of what is to be signed" in refused(lambda: Statement.from_json(data, "x"))


def test_a_statement_edited_so_that_it_is_one_does_not_fit_the_signature(
    tmp_path: Path, package: Path
) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    edited = Statement(sigstruct.prepare(stated.structure, ANOTHER_DAY))
    signature = signed(tmp_path, stated)
    said = refused(lambda: mystikos_tool.attach(tmp_path / "out", package, edited, signature, PUBLIC))
    assert "signature: is no signature over the statement of 2027-02-28 by the key" in said
    assert not (tmp_path / "out").exists()


def test_a_statement_of_another_enclave_is_refused(tmp_path: Path, package: Path) -> None:
    other = tmp_path / "other"
    (tmp_path / "else").mkdir()
    inputs = tiny_runtime.inputs(tmp_path / "else", ProductID=9, SecurityVersion=3)
    pipeline.build(inputs, pem.load(DEVELOPMENT), DAY, other)
    stated = mystikos_tool.statement(other, day=DAY)
    signature = signed(tmp_path, stated)
    said = refused(lambda: mystikos_tool.attach(tmp_path / "out", package, stated, signature, PUBLIC))
    assert "the statement: is of another enclave: it differs in" in said
    assert "mrenclave, product_id, security_version" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        (b"", "has 0 bytes, and a signature has 384"),
        (b"A" * 512, "has 512 bytes, and a signature has 384; give it raw"),
        (b"\1" * 384, "is no signature over the statement"),
        (b"\xff" * 384, "is no signature over the statement"),
    ],
)
def test_what_is_no_signature_is_refused(
    tmp_path: Path, package: Path, signature: bytes, problem: str
) -> None:
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "out").write_bytes(b"earlier")
    stated = mystikos_tool.statement(package, day=DAY)
    said = refused(
        lambda: mystikos_tool.attach(tmp_path / "out", package, stated, tmp_path / "signature", PUBLIC)
    )
    assert problem in said
    assert (tmp_path / "out").read_bytes() == b"earlier"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (KEYS / "key-b.pub.pem", "is no signature over the statement"),
        (RELEASE, "holds a private key, and only its public half is needed"),
        (KEYS / "disk1.roothash", "holds 0 public keys and certificates, not one"),
    ],
)
def test_a_key_that_is_not_the_signers_is_refused(
    tmp_path: Path, package: Path, key: Path, problem: str
) -> None:
    stated = mystikos_tool.statement(package, day=DAY)
    signature = signed(tmp_path, stated)
    assert problem in refused(lambda: mystikos_tool.attach(tmp_path / "out", package, stated, signature, key))
    assert not (tmp_path / "out").exists()


def test_a_certificate_for_another_key_is_refused(tmp_path: Path, package: Path) -> None:
    (tmp_path / "certificate").write_bytes(certificate_of(DEVELOPMENT))
    stated = mystikos_tool.statement(package, day=DAY)
    signature = signed(tmp_path, stated)
    said = refused(
        lambda: mystikos_tool.attach(tmp_path / "out", package, stated, signature, tmp_path / "certificate")
    )
    assert "is no signature over the statement" in said


def test_nothing_is_stated_of_a_package_that_was_changed(package: Path) -> None:
    data = bytearray(package.read_bytes())
    place = data.index(b"#!/bin/app")
    data[place] ^= 1
    package.write_bytes(data)
    assert "MRENCLAVE is" in refused(lambda: mystikos_tool.statement(package, day=DAY))


def test_a_key_that_is_in_the_root_gets_no_package(tmp_path: Path) -> None:
    inputs = tiny_runtime.inputs(tmp_path)
    shutil.copy(RELEASE, tmp_path / "appdir" / "mnt" / "key.pem")
    pipeline.pack(tmp_path / "appdir", tiny_runtime.root_path(inputs))
    pipeline.build(inputs, pem.load(DEVELOPMENT), DAY, tmp_path / "package")
    stated = mystikos_tool.statement(tmp_path / "package", day=DAY)
    signature = signed(tmp_path, stated)
    said = refused(
        lambda: mystikos_tool.attach(tmp_path / "out", tmp_path / "package", stated, signature, PUBLIC)
    )
    assert "holds the key that signs, at /mnt/key.pem" in said
