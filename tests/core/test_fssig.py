"""FSSIG: as the reference writes it, and the keys that sign it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from disks import RECORDED, SIGNED, Recorded

from mystikos_tool.errors import UserError
from mystikos_tool.formats import fssig
from mystikos_tool.signing.disk_key import load_disk_key
from mystikos_tool.signing.pem import PemSigner

HASH = bytes(range(32))
DISK_SIZE = 1 << 20


@pytest.mark.parametrize("disk", RECORDED, ids=lambda disk: disk.name)
def test_the_fssig_of_a_recorded_disk_is_made_again(disk: Recorded) -> None:
    known = disk.case["fssig"]
    signer = load_disk_key(*disk.keys) if disk.case["key"] else None
    made = fssig.build(known["hash_offset"], bytes.fromhex(known["root_hash"]), signer)
    assert made == disk.image[-fssig.SIZE :]


@pytest.mark.parametrize("disk", RECORDED, ids=lambda disk: disk.name)
def test_the_fssig_of_a_recorded_disk_is_read(disk: Recorded) -> None:
    image, known = disk.image, disk.case["fssig"]
    read = fssig.parse(image[-fssig.SIZE :], len(image), "disk")
    assert read.hash_offset == known["hash_offset"]
    assert read.root_hash.hex() == known["root_hash"]
    assert read.signer.hex() == known["signer"]
    assert read.signature.hex() == known["signature"]


@pytest.mark.parametrize("disk", SIGNED, ids=lambda disk: disk.name)
def test_a_signature_is_good_for_its_key_and_root_hash_only(disk: Recorded) -> None:
    image, key = disk.image, load_disk_key(*disk.keys)
    read = fssig.parse(image[-fssig.SIZE :], len(image), "disk")
    assert fssig.verify(read, key.modulus, key.exponent)
    assert not fssig.verify(read._replace(root_hash=HASH), key.modulus, key.exponent)
    assert not fssig.verify(read._replace(signer=HASH), key.modulus, key.exponent)
    assert not fssig.verify(read._replace(signature=read.signature[:-1]), key.modulus, key.exponent)
    assert not fssig.verify(read._replace(signature=b"\xff" * len(read.signature)), key.modulus, key.exponent)


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2056, 3), (4096, 65537)])
def test_a_key_of_any_size_and_exponent_signs(bits: int, exponent: int) -> None:
    key = PemSigner(rsa.generate_private_key(exponent, bits))
    read = fssig.parse(fssig.build(4096, HASH, key), DISK_SIZE, "disk")
    assert len(read.signature) == bits // 8
    assert fssig.verify(read, key.modulus, key.exponent)


class Impostor:
    """Signs with another key than it names."""

    def __init__(self, modulus: int, exponent: int, key: PemSigner) -> None:
        self.modulus = modulus
        self.exponent = exponent
        self.sign = key.sign


def test_a_signature_that_is_not_the_signers_goes_onto_no_disk() -> None:
    named, other = (PemSigner(rsa.generate_private_key(3, 1024)) for _ in range(2))
    with pytest.raises(UserError, match="not its key's"):
        fssig.build(4096, HASH, Impostor(named.modulus, named.exponent, other))
    with pytest.raises(UserError, match="more than 8192 bits"):
        fssig.build(4096, HASH, Impostor(1 << 8192, 3, other))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"magic": 0}, "no FSSIG"),
        ({"version": 2}, "version 2"),
        ({"hash_offset": 0}, "offset"),
        ({"hash_offset": 4097}, "offset"),
        ({"hash_offset": DISK_SIZE}, "offset"),
        ({"hash_offset": 1 << 63}, "offset"),
        ({"signature_size": 1025}, "signature of 1025 bytes"),
    ],
)
def test_an_fssig_that_the_kernel_refuses_is_refused(values: dict[str, int], problem: str) -> None:
    block = fssig.FSSIG.patch(fssig.build(4096, HASH), dict(values))
    with pytest.raises(UserError, match=problem):
        fssig.parse(block, DISK_SIZE, "disk")


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def test_a_public_key_that_does_not_belong_to_the_private_one_is_refused() -> None:
    (private, _), (_, public) = SIGNED[0].keys, SIGNED[1].keys
    with pytest.raises(UserError, match="is not the public half"):
        load_disk_key(private, public)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no key", "is not PEM"),
        (pem(rsa.generate_private_key(3, 1024), b"secret"), "the passphrase is needed"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key"),
    ],
    ids=["text", "encrypted", "EC"],
)
def test_a_private_key_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UserError, match=problem):
        load_disk_key(path, SIGNED[0].keys[1])


PSS = bytes.fromhex("300b06092a864886f70d01010a")  # id-RSASSA-PSS, RFC 4055
NO_PARAMETERS = bytes.fromhex("300b06092a864886f70d010101")


@pytest.mark.parametrize("algorithm", [PSS, NO_PARAMETERS], ids=["PSS", "without parameters"])
def test_a_public_key_that_the_kernel_does_not_read_is_refused(tmp_path: Path, algorithm: bytes) -> None:
    key = serialization.load_pem_public_key(SIGNED[0].keys[1].read_bytes())
    pkcs1 = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)

    def value(tag: int, data: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(data).to_bytes(2, "big") + data

    der = value(0x30, algorithm + value(0x03, b"\0" + pkcs1))
    path = tmp_path / "public.pem"
    text = base64.encodebytes(der)
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\n" + text + b"-----END PUBLIC KEY-----\n")
    with pytest.raises(UserError, match="as Mystikos' kernel does not read it"):
        load_disk_key(SIGNED[0].keys[0], path)


def test_a_key_does_not_show_itself() -> None:
    shown = repr(load_disk_key(*SIGNED[0].keys))
    assert re.fullmatch(r"<[\w.]+\.PemSigner object at 0x[0-9a-f]+>", shown)
