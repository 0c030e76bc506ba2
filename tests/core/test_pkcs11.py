"""Keys in real tokens, of SoftHSM: by their module, and through a socket as on another machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from soft_token import KEYS, LOGIN, MODULE, PIN, SIGN, SoftToken, built, in_front, needs_token

from mystikos_tool.errors import UserError
from mystikos_tool.signing import enclave_key, pem

pytestmark = needs_token

DIGEST = hashlib.sha256(b"what is signed").digest()
CLIENT = next(Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"), None)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    made = SoftToken(tmp_path_factory.mktemp("token")).make()
    made.add(KEYS / "key-a.pem")
    made.add(KEYS / "key-b.pem", label="twin", identifier="b1")
    made.add(KEYS / "key-b.pem", label="twin", identifier="b2")
    made.add(KEYS / "key-a.pem", label="first", identifier="c1")
    made.add(KEYS / "key-b.pem", label="second", identifier="c1", force=True)
    return made


@pytest.fixture(autouse=True)
def reached(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)


def refused(uri: str) -> str:
    """What is said of a URI that gives no signature; never the PIN."""
    with pytest.raises(UserError) as error:
        enclave_key.signer(uri).sign(DIGEST)
    assert PIN not in str(error.value)
    return str(error.value)


def signature_of_the_file(name: str = "key-a.pem") -> bytes:
    return pem.load(KEYS / name).sign(DIGEST)


@pytest.mark.parametrize(
    "attributes", [{"object": "signer"}, {"id": "%A1"}, {"object": "signer", "id": "%a1", "type": "private"}]
)
def test_a_key_in_a_token_signs_as_its_file_does(token: SoftToken, attributes: dict[str, str]) -> None:
    key = enclave_key.signer(token.uri(**attributes))
    assert (key.identity, key.exponent) == (pem.load(KEYS / "key-a.pem").identity, 3)
    assert key.sign(DIGEST) == signature_of_the_file()


def test_the_pin_comes_from_a_file_or_a_command_too(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN + "\n")
    for source in (
        f"file:{tmp_path}/pin",
        f"file://{tmp_path}/pin",
        f"{tmp_path}/pin",
        f"|cat%20{tmp_path}/pin",
        f"exec:cat%20{tmp_path}/pin",
    ):
        assert enclave_key.signer(token.uri(pin=source)).sign(DIGEST) == signature_of_the_file()


def test_who_asks_for_the_public_half_only_needs_no_pin(token: SoftToken) -> None:
    assert enclave_key.signer(token.uri(pin=None)).identity == pem.load(KEYS / "key-a.pem").identity


def test_a_key_is_known_by_a_file_where_the_token_is_not_there(token: SoftToken) -> None:
    absent = replace(token, label="at home")
    named = absent.uri(more=f"&public-key={KEYS}/key-a.pub.pem")
    assert enclave_key.signer(named).identity == pem.load(KEYS / "key-a.pem").identity
    assert "there is no such token: there are ['release']" in refused(named)


def test_a_wrong_pin_is_told_and_not_tried_again(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", "not-the-pin")
    key = enclave_key.signer(token.uri(pin="env:WRONG"))
    for _ in range(2):
        with pytest.raises(UserError, match="the PIN is wrong; correct its source before the token locks"):
            key.sign(DIGEST)
        monkeypatch.setenv("SOFTHSM2_CONF", "/nowhere")  # whoever tried again would find no token


def test_without_a_pin_the_key_is_not_said_to_be_missing(token: SoftToken) -> None:
    assert "the PIN is needed, and there is no terminal" in refused(token.uri(pin=None))


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"object": "nobody"}, "there is no such private key in the token"),
        ({"object": "twin"}, "names no single key: 2 match"),
        ({"id": "%C1"}, "names no single key: 2 match"),
        ({}, "there is no such token"),
        ({"object": "signer", "serial": "0"}, "there is no such token"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_names_no_single_key_is_refused(
    token: SoftToken, attributes: dict[str, str], problem: str
) -> None:
    given = token if attributes else replace(token, label="other")
    assert problem in refused(given.uri(**attributes))


def test_label_and_id_together_tell_two_keys_apart(token: SoftToken) -> None:
    uri = token.uri(object="second", id="%C1")
    assert enclave_key.signer(uri).sign(DIGEST) == signature_of_the_file("key-b.pem")


def test_a_key_that_is_not_the_expected_one_does_not_sign(token: SoftToken) -> None:
    uri = token.uri(more=f"&public-key={KEYS}/key-b.pub.pem")
    assert "the private key is another one than the public key that was found or named" in refused(uri)


def test_a_key_of_another_kind_or_size_is_refused(token: SoftToken, tmp_path: Path) -> None:
    keys = {
        "curve": (ec.generate_private_key(ec.SECP256R1()), "is no RSA key but EC"),
        "short": (rsa.generate_private_key(3, 2048), "is an RSA key of 2048 bits, and SGX takes only 3072"),
        "usual": (rsa.generate_private_key(65537, 3072), "with exponent 65537, and SGX takes only 3"),
    }
    for number, (label, (key, problem)) in enumerate(keys.items()):
        path = tmp_path / label
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        token.add(path, label=label, identifier=f"e{number}")
        assert problem in refused(token.uri(object=label))


@pytest.mark.parametrize(
    ("module", "problem"),
    [("/nowhere.so", "No such file or directory"), ("/etc/passwd", "invalid ELF header")],
)
def test_a_module_that_cannot_be_loaded_is_told(token: SoftToken, module: str, problem: str) -> None:
    said = refused(token.uri(module=Path(module)))
    assert f"its module cannot be loaded: {module}: " in said
    assert problem in said


def test_the_library_is_asked_for_where_it_is_not_installed(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])
    assert "pip install 'mystikos-tool[pkcs11]'" in refused(token.uri())


def compiled(path: Path, body: str) -> Path:
    """A module of one function."""
    source = f"#include <stdlib.h>\n#include <unistd.h>\nint C_GetFunctionList(void **list) {{ {body} }}"
    return built(path, source)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("for (;;) pause();", "did not end within 1 s"),
        ("abort();", "was ended by signal 6"),
        ("_exit(3);", "ended with status 3"),
        ("return 5;", "its module cannot be loaded: GeneralError"),
    ],
    ids=["hangs", "aborts", "exits", "fails"],
)
def test_a_module_that_misbehaves_is_bounded(
    token: SoftToken, tmp_path: Path, body: str, problem: str
) -> None:
    module = compiled(tmp_path / "module.so", body)
    start = time.monotonic()
    assert problem in refused(token.uri(module=module, more="&timeout=1"))
    assert time.monotonic() - start < 10


def test_what_a_module_prints_is_not_taken_for_the_answer(token: SoftToken, tmp_path: Path) -> None:
    module = compiled(tmp_path / "module.so", 'write(1, "{}", 2); return 5;')
    assert "its module cannot be loaded" in refused(token.uri(module=module))


@pytest.mark.parametrize(
    ("place", "instead", "problem"),
    [
        (LOGIN, "return 0xA4;", "the token has locked its PIN"),
        (LOGIN, "return 0x102;", "the token has no PIN yet"),
        (LOGIN, "return 0x30;", "the device reports an error"),
        (
            SIGN,
            "if (out) memset(out, 7, 384); *out_size = 384; return 0;",
            "gave a signature that is not its key's",
        ),
        (SIGN, "return 0x32;", "the token was removed"),
        (SIGN, "return 0x70;", "the token does not sign by CKM_RSA_PKCS"),
    ],
    ids=["locked", "without a PIN", "broken", "signs otherwise", "pulled out", "without RSA"],
)
def test_what_a_token_refuses_is_told(
    token: SoftToken, tmp_path: Path, place: int, instead: str, problem: str
) -> None:
    assert problem in refused(token.uri(module=in_front(tmp_path / "module.so", place, instead)))


@pytest.fixture
def socket(token: SoftToken, tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the token, as another machine may have it."""
    if not shutil.which("p11-kit") or CLIENT is None:
        pytest.skip("p11-kit is not installed")
    path = tmp_path / "socket"
    command = ["p11-kit", "server", "--foreground", f"--provider={MODULE}", f"--name={path}"]
    server = subprocess.Popen(
        [*command, f"pkcs11:token={token.label}"],
        stdout=subprocess.PIPE,
        env={**os.environ, **token.environment},
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it says its address when it listens
        yield f"unix:path={path}"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_token_elsewhere_signs_through_a_socket(
    token: SoftToken, socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOFTHSM2_CONF")
    monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", socket)
    assert CLIENT is not None
    assert enclave_key.signer(token.uri(module=CLIENT)).sign(DIGEST) == signature_of_the_file()
