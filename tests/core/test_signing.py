from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct
from mystikos_tool.signing import enclave_key, pem, trusted

KEYS = Path(__file__).parent.parent / "data" / "keys"
PEM = (KEYS / "key-a.pem").read_bytes()
OTHER_PEM = (KEYS / "key-b.pem").read_bytes()
PUBLIC_PEM = (KEYS / "key-a.pub.pem").read_bytes()

PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8


def private_pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat = PKCS8,
    password: bytes | None = None,
) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def good_key() -> rsa.RSAPrivateKey:
    return rsa_keys.read(PEM)


def der() -> bytes:
    return good_key().private_bytes(serialization.Encoding.DER, PKCS8, serialization.NoEncryption())


def pkcs12_file() -> bytes:
    return pkcs12.serialize_key_and_certificates(None, good_key(), None, None, serialization.NoEncryption())


def openssh() -> bytes:
    return private_pem(good_key(), serialization.PrivateFormat.OpenSSH)


def certificate() -> bytes:
    return b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def rsa_pem(bits: int, exponent: int) -> bytes:
    return private_pem(rsa_keys.made(bits, exponent))


def damaged_pem() -> bytes:
    lines = PEM.splitlines(keepends=True)
    return b"".join(lines[:5] + lines[6:])


def refused(load: Callable[[Path], object], path: Path) -> UserError:
    with pytest.raises(UserError) as error:
        load(path)
    return error.value


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key.pem"


# Private keys


@pytest.mark.parametrize("form", [PKCS1, PKCS8])
def test_a_key_is_read_in_either_form(key_file: Path, form: serialization.PrivateFormat) -> None:
    key_file.write_bytes(private_pem(good_key(), form))
    assert pem.load(key_file).modulus == good_key().public_key().public_numbers().n


def test_line_ends_and_text_around_a_key_do_not_matter(key_file: Path) -> None:
    key_file.write_bytes(b"Our key\r\n" + certificate() + PEM.replace(b"\n", b"\r\n") + PUBLIC_PEM)
    assert pem.load(key_file).modulus == pem.load(KEYS / "key-a.pem").modulus


@settings(max_examples=examples(10), deadline=None)
@given(st.binary(max_size=600))
def test_a_signature_raised_to_the_third_power_is_the_padded_digest(message: bytes) -> None:
    key = pem.load(KEYS / "key-b.pem")
    digest = hashlib.sha256(message).digest()
    signature = key.sign(digest)
    assert len(signature) == 384
    digest_info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    padded = b"\0\1" + b"\xff" * (384 - 3 - len(digest_info)) + b"\0" + digest_info
    assert pow(int.from_bytes(signature, "big"), 3, key.modulus).to_bytes(384, "big") == padded


def test_a_key_shows_nothing_of_itself() -> None:
    assert re.fullmatch(r"<[\w.]+\.PemSigner object at 0x[0-9a-f]+>", repr(pem.load(KEYS / "key-a.pem")))


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (lambda: b"", "is not PEM: it has no -----BEGIN PRIVATE KEY-----", "mystikos-tool keygen FILE"),
        (lambda: b"\xff\0 text", "is not PEM", "mystikos-tool keygen FILE"),
        (der, "is not PEM but DER", "openssl pkey -inform DER -in"),
        (pkcs12_file, "is PKCS#12, not PEM", "openssl pkcs12 -in"),
        (openssh, "is in OpenSSH's own form", "ssh-keygen -p -m PEM -f"),
        (lambda: private_pem(good_key(), PKCS8, b"secret"), "the passphrase is needed", "?passphrase=SOURCE"),
        (lambda: private_pem(good_key(), PKCS1, b"secret"), "the passphrase is needed", "?passphrase=SOURCE"),
        (lambda: PUBLIC_PEM, "holds only a public key", "give the private key"),
        (certificate, "holds a certificate, not a private key", "give the private key"),
        (lambda: private_pem(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key", "keygen"),
        (lambda: private_pem(ec.generate_private_key(ec.SECP256R1()), PKCS1), "is not an RSA key", "keygen"),
        (lambda: rsa_pem(2048, 3), "is an RSA key of 2048 bits, and SGX takes only 3072", "keygen"),
        (lambda: rsa_pem(3072, 65537), "is an RSA key with exponent 65537, and SGX takes only 3", "keygen"),
        (damaged_pem, "is a damaged private key", "restore the file"),
        (lambda: PEM + OTHER_PEM, "holds 2 private keys", "leave only the one in it that is to sign"),
        (lambda: PEM + PEM, "holds 2 private keys", "leave only the one"),
        (
            lambda: PEM + private_pem(good_key(), PKCS8, b"secret"),
            "holds 2 private keys",
            "leave only the one",
        ),
        (lambda: PEM[:-40], "is a damaged private key", "restore the file"),
        (lambda: PEM.replace(b"M", b"*"), "is a damaged private key", "restore the file"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("is ", "holds ")) else "",
)
def test_what_is_no_signing_key_is_told(
    key_file: Path, content: Callable[[], bytes], problem: str, remedy: str
) -> None:
    key_file.write_bytes(content())
    error = refused(pem.load, key_file)
    assert error.where == str(key_file)
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
@pytest.mark.parametrize("form", [(), ("-traditional",)], ids=["PKCS#8", "PKCS#1"])
def test_a_key_of_three_primes_is_called_what_it_is(key_file: Path, form: tuple[str, ...]) -> None:
    made = subprocess.run(
        ["openssl", "genrsa", "-3", "-primes", "3", "3072"], capture_output=True, check=True
    )
    subprocess.run(["openssl", "pkey", "-out", key_file, *form], input=made.stdout, check=True)
    error = refused(pem.load, key_file)
    assert error.problem == "is an RSA key of more than two primes, which cannot be used here"
    assert "keygen" in error.remedy


@pytest.mark.parametrize(
    ("name", "problem"), [("missing", "no such key file"), (".", "is a directory, not a key file")]
)
def test_what_is_no_key_file_is_told(tmp_path: Path, name: str, problem: str) -> None:
    assert problem in refused(pem.load, tmp_path / name).problem


@settings(max_examples=examples(75), deadline=None)
@given(place=st.integers(0, len(PEM) - 1), byte=st.binary(max_size=2))
def test_a_damaged_key_is_refused_or_is_the_same_key(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pem"
    path.write_bytes(PEM[:place] + byte + PEM[place + 1 :])
    try:
        key = pem.load(path)
    except UserError as error:
        assert error.where == str(path)
    else:
        assert key.modulus.bit_length() == 3072


# Signers


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_name_is_the_signer_in_that_file(as_text: bool) -> None:
    path = KEYS / "key-a.pem"
    key = enclave_key.signer(str(path) if as_text else path)
    assert (key.modulus, key.exponent) == (pem.load(path).modulus, 3)


def test_a_signer_is_identified_by_its_key_not_by_its_file(key_file: Path) -> None:
    key_file.write_bytes(private_pem(good_key(), PKCS1))
    identity = enclave_key.signer(key_file).identity
    assert identity == enclave_key.signer(KEYS / "key-a.pem").identity
    assert identity != enclave_key.signer(KEYS / "key-b.pem").identity


UNSIGNED = sigstruct.unsigned(bytes(32), debug=False, product_id=1, security_version=2, capture_pf_gp=True)


def test_signing_in_two_steps_on_two_days_gives_what_signing_at_once_gives() -> None:
    key, day = pem.load(KEYS / "key-a.pem"), date(2026, 11, 23)
    prepared = sigstruct.prepare(UNSIGNED, day)  # on this day; the signature may come on any other
    signature = key.sign(sigstruct.digest(prepared))
    assert sigstruct.attach(prepared, key.modulus, signature, "here") == enclave_key.sign(UNSIGNED, key, day)


class SignerOf65537:
    """A key that is good for disks and not for enclaves."""

    modulus, exponent, identity = good_key().public_key().public_numbers().n, 65537, "disks"

    def sign(self, digest: bytes) -> bytes:
        raise AssertionError("was asked to sign")


def test_a_key_with_another_exponent_is_told_before_it_signs() -> None:
    with pytest.raises(UserError, match="the signer: has a key with exponent 65537, and SGX takes only 3"):
        enclave_key.sign(UNSIGNED, SignerOf65537(), date(2026, 11, 23))


# Making keys


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pem.PemSigner]:
    path = tmp_path_factory.mktemp("made") / "new.pem"
    before = os.umask(0)
    try:
        return path, pem.generate(path)
    finally:
        os.umask(before)


def test_a_made_key_is_read_again(made: tuple[Path, pem.PemSigner]) -> None:
    path, key = made
    assert pem.load(path).modulus == key.modulus
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_a_made_key_is_for_its_owner_only_whatever_the_umask(made: tuple[Path, pem.PemSigner]) -> None:
    assert stat.S_IMODE(made[0].stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_making_a_key_never_overwrites(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    assert "is there already" in refused(pem.generate, path).problem
    assert list(tmp_path.iterdir()) == [path]
    assert kind != "file" or path.read_bytes() == b"precious"


def test_a_key_in_a_missing_directory_is_told(tmp_path: Path) -> None:
    error = refused(pem.generate, tmp_path / "a" / "key.pem")
    assert str(error).startswith(f"{tmp_path}/a/key.pem: cannot be written: no such file or directory;")


# Trusted public keys


@pytest.mark.parametrize("name", ["key-a.pub.pem", "key-b.pub.pem"])
def test_a_public_key_s_file_is_returned_unchanged(name: str) -> None:
    assert trusted.load_public_key(KEYS / name) == (KEYS / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (lambda: PEM, "is a private key, which must not go into a package", "openssl pkey -pubout -in"),
        (lambda: PUBLIC_PEM + PEM, "is a private key", "openssl pkey -pubout -in"),
        (openssh, "is a private key", "openssl pkey -pubout -in"),
        (certificate, "is a certificate", "openssl x509 -pubkey -noout -in"),
        (lambda: b"ssh-rsa AAAA", "is not one public key in PEM", "-----BEGIN PUBLIC KEY-----"),
        (lambda: PUBLIC_PEM + PUBLIC_PEM, "is not one public key in PEM", "-----BEGIN PUBLIC KEY-----"),
        (lambda: PUBLIC_PEM + b"\0", "has a NUL byte in it", "remove"),
        (lambda: PUBLIC_PEM.replace(b"A", b"B"), "the public key in it is damaged", "make it again"),
        (
            lambda: (
                ec.generate_private_key(ec.SECP256R1())
                .public_key()
                .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            ),
            "is not an RSA key",
            "the key that signs the disks",
        ),
    ],
)
def test_what_is_no_public_key_is_told(
    key_file: Path, content: Callable[[], bytes], problem: str, remedy: str
) -> None:
    key_file.write_bytes(content())
    error = refused(trusted.load_public_key, key_file)
    assert problem in error.problem
    assert remedy in error.remedy


# Root hashes


@pytest.mark.parametrize("form", ["{}", "{}\n", " \t\r\n{}\r\n\n"])
@pytest.mark.parametrize("digits", ["0123456789abcdef" * 4, "0123456789ABCDEF" * 4])
def test_a_root_hash_is_its_digits_with_any_white_space_around(
    tmp_path: Path, form: str, digits: str
) -> None:
    path = tmp_path / "disk.roothash"
    path.write_text(form.format(digits))
    assert trusted.load_root_hash(path) == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "content", [b"", b"ab" * 31, b"ab" * 33, b"ag" * 32, b"ab " * 32, b"\xff" * 64, b"0x" + b"ab" * 31]
)
def test_what_is_no_root_hash_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk.roothash"
    path.write_bytes(content)
    assert (
        "is not a root hash, a line of 64 hexadecimal digits" in refused(trusted.load_root_hash, path).problem
    )


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
def test_openssl_verifies_a_signature(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "signature").write_bytes(
        pem.load(KEYS / "key-a.pem").sign(hashlib.sha256(b"message").digest())
    )
    command = ["openssl", "dgst", "-sha256", "-verify", KEYS / "key-a.pub.pem", "-signature"]
    run = subprocess.run([*command, "signature", "message"], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    assert run.stdout == b"Verified OK\n"
