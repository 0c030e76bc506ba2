from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from datetime import date
from functools import lru_cache
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import CASES, DATA

from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.record import Field, Record
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.signing import pem

MRENCLAVE = bytes(range(32))
DAY = date(2026, 11, 23)


@lru_cache
def key(name: str = "key-a") -> pem.PemSigner:
    return pem.load(DATA / "keys" / f"{name}.pem")


def unsigned(*, debug: bool = False, capture_pf_gp: bool = True) -> bytes:
    return sigstruct.unsigned(
        MRENCLAVE, debug=debug, product_id=0x1234, security_version=0x5678, capture_pf_gp=capture_pf_gp
    )


@lru_cache
def signed(name: str = "key-a", *, debug: bool = False) -> bytes:
    prepared = sigstruct.prepare(unsigned(debug=debug), DAY)
    signature = key(name).sign(sigstruct.digest(prepared))
    return sigstruct.attach(prepared, key(name).modulus, signature, "here")


def number(structure: bytes, name: str) -> int:
    return int.from_bytes(SIGSTRUCT.get_bytes(structure, name), "little")


# Records


RECORD = Record(16, (Field("a", 0, "H"), Field("b", 4, "4s"), Field("c", 8, "Q")))


def test_a_record_is_packed_by_its_table_with_zeros_elsewhere() -> None:
    assert RECORD.pack({"a": 0x102, "b": b"wxyz"}) == b"\2\1\0\0wxyz" + bytes(8)


def test_a_record_is_patched_in_the_named_fields_only() -> None:
    assert RECORD.patch(b"\xff" * 16, {"b": b"1234"}) == b"\xff" * 4 + b"1234" + b"\xff" * 8


def test_bytes_that_no_field_covers_are_reserved() -> None:
    assert RECORD.reserved(bytes(range(16))) == b"\2\3"


@given(st.binary(min_size=16, max_size=16))
def test_unpacking_and_packing_keeps_every_field(data: bytes) -> None:
    packed = RECORD.pack(RECORD.unpack(data))
    assert RECORD.unpack(packed) == RECORD.unpack(data)
    assert RECORD.reserved(packed) == bytes(2)


# The structure


def test_every_field_lies_where_the_sdm_puts_it() -> None:
    structure = signed()
    assert len(structure) == 1808
    assert structure[0:16].hex() == "06000000e1000000000001" + "0000000000"
    assert structure[20:24] == bytes.fromhex("23112620")  # BCD, little-endian
    assert structure[24:40].hex() == "01010000600000006000000001000000"
    assert int.from_bytes(structure[128:512], "little") == key().modulus
    assert structure[512:516] == b"\3\0\0\0"
    assert structure[960:992] == MRENCLAVE
    assert structure[1024:1028] == bytes.fromhex("34127856")
    for start, end in ((40, 128), (908, 928), (992, 1024), (1028, 1040)):
        assert not any(structure[start:end])


@pytest.mark.parametrize(
    ("debug", "attributes", "mask"), [(False, 4, 0xFFFFFFFFFFFFFF7B), (True, 6, 0xFFFFFFFFFFFFFF79)]
)
def test_debug_is_in_the_attributes_and_out_of_their_mask(debug: bool, attributes: int, mask: int) -> None:
    assert struct.unpack_from("<QQQQ", unsigned(debug=debug), 928) == (
        attributes,
        3,
        mask,
        0xFFFFFFFFFFFFFF1B,
    )


@pytest.mark.parametrize(("capture", "mask"), [(True, 0xFFFFFFFE), (False, 0xFFFFFFFF)])
def test_faults_reported_to_the_enclave_are_out_of_miscmask(capture: bool, mask: int) -> None:
    assert struct.unpack_from("<II", unsigned(capture_pf_gp=capture), 900) == (0, mask)


def test_an_unsigned_structure_has_no_date_key_or_signature() -> None:
    fields = SIGSTRUCT.unpack(unsigned())
    assert fields["date"] == 0
    assert not any(any(bytes(fields[name])) for name in ("modulus", "signature", "q1", "q2"))  # type: ignore[arg-type]


def test_preparing_sets_the_date_only() -> None:
    prepared = sigstruct.prepare(unsigned(), DAY)
    assert SIGSTRUCT.get_int(prepared, "date") == 0x20261123
    assert SIGSTRUCT.patch(prepared, {"date": 0}) == unsigned()


def test_attaching_a_signature_sets_key_and_signature_only() -> None:
    blank = {name: bytes(384) for name in ("modulus", "signature", "q1", "q2")}
    assert SIGSTRUCT.patch(signed(), blank) == sigstruct.prepare(unsigned(), DAY)


def test_what_is_signed_is_the_digest_of_the_bytes_that_the_sdm_names() -> None:
    prepared = sigstruct.prepare(unsigned(), DAY)
    assert sigstruct.digest(prepared) == hashlib.sha256(prepared[:128] + prepared[900:1028]).digest()


def test_q1_and_q2_are_the_quotients_of_the_sdm() -> None:
    signature, modulus = number(signed(), "signature"), number(signed(), "modulus")
    assert number(signed(), "q1") == signature**2 // modulus
    assert number(signed(), "q2") == (signature**3 - number(signed(), "q1") * signature * modulus) // modulus


def test_mrsigner_is_the_digest_of_the_modulus_field() -> None:
    assert sigstruct.mrsigner(key().modulus) == hashlib.sha256(signed()[128:512]).digest()


def test_a_structure_states_an_identity() -> None:
    assert sigstruct.identity(signed(debug=True)) == sigstruct.Identity(
        mrenclave=MRENCLAVE,
        mrsigner=sigstruct.mrsigner(key().modulus),
        product_id=0x1234,
        security_version=0x5678,
        debug=True,
    )
    assert not sigstruct.identity(signed()).debug


def test_cryptography_verifies_the_signature() -> None:
    public = rsa.RSAPublicNumbers(3, key().modulus).public_key()
    message = signed()[:128] + signed()[900:1028]
    public.verify(
        number(signed(), "signature").to_bytes(384, "big"), message, padding.PKCS1v15(), hashes.SHA256()
    )


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
@pytest.mark.parametrize("name", ["key-a", "key-b"])
def test_openssl_verifies_the_signature(tmp_path: Path, name: str) -> None:
    structure = signed(name, debug=True)
    (tmp_path / "message").write_bytes(structure[:128] + structure[900:1028])
    (tmp_path / "signature").write_bytes(number(structure, "signature").to_bytes(384, "big"))
    public = str(DATA / "keys" / f"{name}.pub.pem")
    command = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", "signature", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "Verified OK\n"


# EINIT's rules


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.rejected])
def test_the_recorded_structures_pass(name: str) -> None:
    assert sigstruct.check(bytes.fromhex(CASES[name].expected["sigstruct"])) is None


def test_a_signed_structure_passes() -> None:
    assert sigstruct.check(signed()) is None


def test_flipping_any_bit_breaks_a_rule() -> None:
    for byte in range(1808):
        damaged = bytearray(signed())
        damaged[byte] ^= 1 << byte % 8
        assert sigstruct.check(bytes(damaged)), f"byte {byte}"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("header", bytes(12), "header is not that of a SIGSTRUCT"),
        ("header2", bytes(16), "header is not that of a SIGSTRUCT"),
        ("type", 1, "a reserved field is not zero"),
        ("vendor", 1, "vendor is neither 0 nor 0x8086"),
        ("vendor", 0x8086, "signature does not verify"),
        ("date", 0x20260101, "signature does not verify"),
        ("swdefined", 1, "signature does not verify"),
        ("exponent", 65537, "exponent is not 3"),
        ("modulus", bytes(384), "modulus or signature is out of range"),
        ("modulus", bytes(383) + b"\x7f", "modulus or signature is out of range"),
        ("signature", b"\xff" * 384, "modulus or signature is out of range"),
        ("q1", bytes(384), "q1 does not fit the signature"),
        ("q1", b"\xff" * 384, "q1 does not fit the signature"),
        ("q2", bytes(384), "q2 does not fit the signature"),
        ("q2", b"\xff" * 384, "q2 does not fit the signature"),
        ("miscselect", 1, "signature does not verify"),
        ("attributes", 6, "signature does not verify"),
        ("mrenclave", bytes(32), "signature does not verify"),
        ("product_id", 1, "signature does not verify"),
        ("security_version", 1, "signature does not verify"),
    ],
)
def test_a_damaged_field_is_told_by_its_rule(name: str, value: int | bytes, rule: str) -> None:
    assert sigstruct.check(SIGSTRUCT.patch(signed(), {name: value})) == rule


@pytest.mark.parametrize("place", [44, 127, 908, 911, 992, 1007, 1028, 1039])
def test_a_reserved_byte_is_told(place: int) -> None:
    damaged = bytearray(signed())
    damaged[place] = 1
    assert sigstruct.check(bytes(damaged)) == "a reserved field is not zero"


def raw_signature(block: bytes) -> bytes:
    """Sign any padded block, as no honest signer does."""
    numbers = rsa_keys.read((DATA / "keys" / "key-a.pem").read_bytes()).private_numbers()
    return pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(384, "big")


SHA256_INFO = "3031300d060960864801650304020105000420"


def block(structure: bytes, prefix: bytes = b"\0\1", info: str = SHA256_INFO) -> bytes:
    digest = bytes.fromhex(info) + hashlib.sha256(sigstruct.signed_bytes(structure)).digest()
    return prefix + b"\xff" * (383 - len(prefix) - len(digest)) + b"\0" + digest


PREPARED = sigstruct.prepare(unsigned(), DAY)


def attached(signature: bytes, modulus: int | None = None) -> bytes:
    return sigstruct.attach(PREPARED, modulus or key().modulus, signature, "the signer")


def test_a_block_of_the_right_form_passes() -> None:
    assert sigstruct.check(attached(raw_signature(block(PREPARED)))) is None


@pytest.mark.parametrize(
    "wrong",
    [
        block(PREPARED, prefix=b"\0\2"),
        block(PREPARED, prefix=b"\0\0"),
        block(PREPARED, info="302f300b0609608648016503040201" + "0420"),  # without NULL parameters
        block(PREPARED, info="3021300906052b0e03021a05000414"),  # SHA-1
        block(PREPARED).replace(b"\xff\0", b"\0\0", 1),  # padding that ends early
        block(unsigned()),
    ],
)
def test_a_signature_over_a_block_of_another_form_is_not_attached(wrong: bytes) -> None:
    with pytest.raises(UserError, match="the signer: gave a SIGSTRUCT whose signature does not verify"):
        attached(raw_signature(wrong))


@pytest.mark.parametrize(
    ("modulus", "signature"),
    [
        (key().modulus, b"\xff" * 384),
        (key().modulus, b"\1" * 385),
        (key().modulus >> 1, b"\1"),
        (key().modulus << 1, b"\1"),
    ],
)
def test_numbers_that_are_not_rsa_3072_are_not_attached(modulus: int, signature: bytes) -> None:
    with pytest.raises(UserError, match="the signer: gave no RSA-3072 signature by its key"):
        attached(signature, modulus)


@settings(deadline=None)
@given(st.binary(min_size=1808, max_size=1808))
def test_noise_breaks_a_rule(noise: bytes) -> None:
    assert sigstruct.check(noise)
    assert sigstruct.check(signed()[:128] + noise[128:])
