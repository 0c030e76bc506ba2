"""Keys that are restricted to RSA-PSS, which sign no PKCS#1 v1.5, wherever a key is taken."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from mystikos_tool.errors import UserError
from mystikos_tool.signing import disk_key, enclave_key, expectation, key_forms, rsa_public, trusted

KEYS = Path(__file__).parent.parent / "data" / "keys"
PRIVATE = rsa_keys.read((KEYS / "key-a.pem").read_bytes())
PROBLEM = "is an RSA key that is restricted to RSA-PSS"

RSA = "300d06092a864886f70d0101010500"
PSS = "300b06092a864886f70d01010a"
# As `openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_pss_keygen_md:sha256` writes it.
PSS_OF_SHA256 = (
    "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
    "a11a301806092a864886f70d010108300b0609608648016503040201a203020120"
)

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
algorithms = pytest.mark.parametrize("algorithm", [PSS, PSS_OF_SHA256], ids=["any hash", "SHA-256"])


def value(tag: int, data: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(data).to_bytes(2, "big") + data


def private_pem(algorithm: str) -> bytes:
    pkcs1 = PRIVATE.private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    der = value(0x30, b"\x02\x01\x00" + bytes.fromhex(algorithm) + value(0x04, pkcs1))
    return _pem(b"PRIVATE KEY", der)


def public_pem(algorithm: str) -> bytes:
    pkcs1 = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return _pem(b"PUBLIC KEY", value(0x30, bytes.fromhex(algorithm) + value(0x03, b"\0" + pkcs1)))


def _pem(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, base64.encodebytes(der), label)


def openssl(*words: str, data: bytes) -> bytes:
    return subprocess.run(["openssl", *words], input=data, stdout=subprocess.PIPE, check=True).stdout


def certificate(key: Path, *options: str) -> bytes:
    return openssl("req", "-x509", "-key", str(key), "-subj", "/CN=release", *options, data=b"")


def refused(take: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as error:
        take()
    assert PROBLEM in error.value.problem
    return error.value


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY_PASSPHRASE", "secret")
    return tmp_path / "key.pem"


def test_the_same_numbers_of_an_unrestricted_key_are_taken(file: Path) -> None:
    file.write_bytes(private_pem(RSA))
    assert enclave_key.signer(str(file)).modulus == PRIVATE.public_key().public_numbers().n
    file.write_bytes(public_pem(RSA))
    assert rsa_public.load(file).modulus == PRIVATE.public_key().public_numbers().n


@algorithms
def test_a_private_key_is_refused(file: Path, algorithm: str) -> None:
    file.write_bytes(private_pem(algorithm))
    error = refused(lambda: enclave_key.signer(str(file)))
    assert error.where == str(file)
    assert error.remedy == "make a key with: mystikos-tool keygen FILE"


@needs_openssl
@algorithms
@pytest.mark.parametrize(
    "options",
    [(), ("-v2", "aes-128-cbc"), ("-v2prf", "hmacWithSHA1"), ("-v2prf", "hmacWithSHA512", "-iter", "99999")],
    ids=["default", "AES-128", "SHA-1", "SHA-512"],
)
def test_an_encrypted_private_key_is_refused(file: Path, algorithm: str, options: tuple[str, ...]) -> None:
    command = ("pkcs8", "-topk8", "-passout", "pass:secret", *options)
    file.write_bytes(openssl(*command, data=private_pem(algorithm)))
    refused(lambda: enclave_key.signer(f"file:{file}?passphrase=env:KEY_PASSPHRASE"))
    file.write_bytes(openssl(*command, data=private_pem(RSA)))
    assert enclave_key.signer(f"file:{file}?passphrase=env:KEY_PASSPHRASE").exponent == 3


@needs_openssl
def test_a_private_key_in_openssl_s_traditional_form_is_refused(file: Path) -> None:
    file.write_bytes(openssl("rsa", "-traditional", data=private_pem(PSS)))
    assert b"BEGIN RSA-PSS PRIVATE KEY" in file.read_bytes()
    refused(lambda: enclave_key.signer(str(file)))
    with pytest.raises(UserError, match="is a private key, which must not go into a package"):
        trusted.load_public_key(file)
    small = openssl("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:1024", data=b"")
    in_root = b"text" + openssl("rsa", "-traditional", data=small)
    assert [at for form in key_forms.FORMS for at, _ in form.find(in_root)] == [len("text")]


@algorithms
def test_a_public_key_is_refused(file: Path, algorithm: str) -> None:
    file.write_bytes(public_pem(algorithm))
    error = refused(lambda: rsa_public.load(file))
    assert error.remedy == "give the public half of an RSA key that is not"
    refused(lambda: expectation.signer(file))
    refused(lambda: enclave_key.signer(f"exec:public-key={file} false"))


@needs_openssl
def test_the_key_in_a_certificate_is_refused_and_not_how_the_certificate_is_signed(file: Path) -> None:
    file.write_bytes(private_pem(PSS))
    restricted = certificate(file)
    file.write_bytes(private_pem(RSA))
    signed_with_pss = certificate(file, "-sigopt", "rsa_padding_mode:pss")
    file.write_bytes(restricted)
    refused(lambda: rsa_public.load(file))
    file.write_bytes(signed_with_pss)
    assert rsa_public.load(file).exponent == 3


def test_a_key_that_signs_disks_is_refused_and_a_public_one_trusts_none(file: Path) -> None:
    file.write_bytes(private_pem(PSS))
    refused(lambda: disk_key.load_disk_key(file, KEYS / "key-a.pub.pem"))
    assert disk_key.public_numbers(public_pem(RSA)).e == 3
    with pytest.raises(UserError, match="is no RSA key in PEM"):
        disk_key.public_numbers(public_pem(PSS))
