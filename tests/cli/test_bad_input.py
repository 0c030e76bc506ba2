"""Bad keys, signatures, statements and quotes: a clear error, no file left, nothing secret in the message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rsa_keys
from certificates import certificate_of
from cli_support import DATA, Run
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from soft_token import LOGIN, PIN, SoftToken, built, in_front, needs_token
from test_relying_party import quote_of

from mystikos_tool.signing import pem

KEYS = DATA / "keys"
COMMON = ("config.json", "--runtime=runtime")
SECRETS = (PIN, "s3cret", (KEYS / "key-a.pem").read_text().splitlines()[1])


def refused(run: Run, project: Path, *arguments: str | Path, status: int = 2) -> str:
    """What is said of an input in one line; nothing is written, and nothing secret is in it."""
    before = {path: path.stat().st_mtime_ns for path in project.iterdir()}
    result = run(*arguments)
    assert result.status == status, result
    assert {path: path.stat().st_mtime_ns for path in project.iterdir()} == before
    assert not [secret for secret in SECRETS if secret in result.out + result.err]
    assert "Traceback" not in result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("mystikos-tool: error: ")
    assert "; " in last  # what to do about it
    return last


# Keys in tokens


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    directory = tmp_path_factory.mktemp("token")
    made = SoftToken(directory).make()
    made.add(KEYS / "key-a.pem")
    made.add(KEYS / "key-b.pem", label="twin", identifier="b1")
    made.add(KEYS / "key-b.pem", label="twin", identifier="b2")
    wrong = {"curve": ec.generate_private_key(ec.SECP256R1()), "short": rsa_keys.made(2048, 3)}
    for number, (label, key) in enumerate(wrong.items()):
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        path = directory / label
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        made.add(path, label=label, identifier=f"e{number}")
    return made


def bad_tokens(token: SoftToken, directory: Path) -> Iterator[tuple[str, str]]:
    """Tokens and keys in them that give no signature, and what is said of each."""
    yield token.uri(pin="env:WRONG"), "the PIN is wrong"
    locked = in_front(directory / "locked.so", LOGIN, "return 0xA4;")
    yield token.uri(module=locked), "the token has locked its PIN"
    yield SoftToken(token.directory, "gone").uri(), "there is no such token"
    yield token.uri(module=Path("/nowhere.so")), "its module cannot be loaded"
    hangs = built(directory / "hangs.so", "int C_GetFunctionList(void **list) { for (;;) pause(); }")
    yield token.uri(module=hangs, more="&timeout=1"), "did not end within 1 s"
    yield token.uri(object="curve"), "is no RSA key but EC"
    yield token.uri(object="short"), "is an RSA key of 2048 bits, and SGX takes only 3072"
    yield token.uri(object="twin"), "names no single key: 2 match"


@needs_token
def test_a_token_that_gives_no_signature_is_told(
    run: Run, project: Path, tmp_path: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**token.environment, "WRONG": "s3cret"}.items():
        monkeypatch.setenv(name, value)
    for key, problem in bad_tokens(token, tmp_path):
        assert problem in refused(run, project, "package-sgx", "appdir", key, *COMMON, "-o", "hello")


# Commands


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("sleep 60", "did not end within 1 s"),
        ("kill -9 $$", "was ended by signal 9"),
        ("exit 3", "ended with status 3"),
        ("echo rubbish", "wrote 8 bytes, and a signature by its key has 384"),
        ("head -c 384 /dev/urandom", "wrote what is no PKCS#1 v1.5 signature over the digest"),
    ],
)
def test_a_command_that_gives_no_signature_is_told(
    run: Run, project: Path, tmp_path: Path, body: str, problem: str
) -> None:
    command = tmp_path / "sign"
    command.write_text(f"#!/bin/sh\n{body}\n")
    command.chmod(0o755)
    key = f"exec:public-key={KEYS}/key-a.pub.pem timeout=1 {command} --password s3cret"
    assert problem in refused(run, project, "package-sgx", "appdir", key, *COMMON, "-o", "hello")


# Signatures that were made elsewhere


@pytest.fixture
def stated(run: Run, project: Path) -> Path:
    """A package of a development key with its statement, signed elsewhere."""
    assert run("package-sgx", "appdir", KEYS / "key-b.pem", *COMMON, "-o", "hello").status == 0
    assert run("digest", "hello").status == 0
    signature = pem.load(KEYS / "key-a.pem").sign((project / "hello.digest").read_bytes())
    (project / "signature").write_bytes(signature)
    (project / "public.pem").write_bytes((KEYS / "key-a.pub.pem").read_bytes())
    return project


def attach(run: Run, project: Path) -> str:
    files = ("hello.statement.json", "signature", "public.pem")
    return refused(run, project, "attach", "hello", *files, "-o", "release")


def test_a_signature_over_something_else_is_refused(run: Run, stated: Path) -> None:
    (stated / "signature").write_bytes(pem.load(KEYS / "key-a.pem").sign(bytes(32)))
    assert "is no signature over the statement" in attach(run, stated)


def test_a_certificate_for_another_key_is_refused(run: Run, stated: Path) -> None:
    (stated / "public.pem").write_bytes(certificate_of(KEYS / "key-b.pem"))
    assert "is no signature over the statement" in attach(run, stated)


def test_a_statement_that_was_edited_after_signing_is_refused(run: Run, stated: Path) -> None:
    statement = stated / "hello.statement.json"
    whole = json.loads(statement.read_text())
    statement.write_text(json.dumps({**whole, "security_version": 9}))
    assert "hello.statement.json: " in attach(run, stated)
    later = bytes.fromhex(whole["signed_data"]).replace(b"\x02\x01\x26\x20", b"\x03\x01\x26\x20")
    statement.write_text(json.dumps({**whole, "date": "2026-01-03", "signed_data": later.hex()}))
    assert "hello.statement.json: " in attach(run, stated)


# Quotes


def test_a_quote_that_is_cut_of_another_version_or_of_a_debug_enclave_is_told(run: Run, stated: Path) -> None:
    whole = quote_of(stated / "hello")
    quote = stated / "quote"
    for content, problem in ((whole[:-1], "is cut"), (b"\4" + whole[1:], "is a quote of version 4, not 3")):
        quote.write_bytes(content)
        assert problem in refused(run, stated, "check-quote", "quote")
    assert run("policy", "hello", "-o", "policy.json").status == 0
    policy = json.loads((stated / "policy.json").read_text())
    (stated / "policy.json").write_text(json.dumps({**policy, "debug": False}))
    quote.write_bytes(quote_of(stated / "hello", attributes=0x7))
    result = run("check-quote", "quote", "--policy=policy.json")
    assert result.status == 1
    assert "error: quote: the enclave may be debugged, which is not expected" in result.err
