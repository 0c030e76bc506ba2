"""What `verify` proves, what it says that it did not prove, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import tiny_elf
from certificates import Authority, certificate_of
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import DATA
from soft_token import SoftToken, needs_token
from tiny_runtime import build, inputs, key, root_path

import mystikos_tool
from examples import examples
from mystikos_tool import VerificationError, pipeline, proof
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, sigstruct
from mystikos_tool.packaging import sections, verification
from mystikos_tool.packaging.verification import Verification
from mystikos_tool.pipeline import Inputs

DISTRUST = "; do not use the package; make it again"


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    return inputs(tmp_path, ProductID=7, SecurityVersion=9)


@pytest.fixture
def app(tmp_path: Path, made: Inputs) -> Path:
    return build(made, tmp_path / "app")


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(VerificationError) as error:
        call()
    return str(error.value)


# The host program


def test_the_host_program_is_held_to_the_loader_that_is_given(made: Inputs, app: Path) -> None:
    verified = mystikos_tool.verify(app, loader=made.runtime.loader)
    assert verified.host_program.known == "given"
    assert "the host program is the given loader" in verified.proved
    assert not any("host program" in fact for fact in verified.unproved)


def test_a_host_program_that_nothing_is_known_of_is_named_as_not_checked(made: Inputs, app: Path) -> None:
    verified = mystikos_tool.verify(app)
    digest = hashlib.sha256(made.runtime.loader.read_bytes()).hexdigest()
    assert verified.host_program == (digest, None)
    assert any(digest in fact and "host program" in fact for fact in verified.unproved)


def test_the_embedded_host_program_is_recognized_by_its_digest(made: Inputs, app: Path) -> None:
    digest = hashlib.sha256(made.runtime.loader.read_bytes()).hexdigest()
    assert proof.verify(app, embedded=digest).host_program.known == "embedded"


def test_a_host_program_that_was_replaced_is_refused(tmp_path: Path, made: Inputs, app: Path) -> None:
    trojan, data = tmp_path / "trojan", bytearray(made.runtime.loader.read_bytes())
    data[0x200] ^= 1
    trojan.write_bytes(data)
    image = pipeline.sign(pipeline.measure(made), made.runtime, made.config, key(), pipeline.signing_day("0"))
    sections.write(trojan, pipeline.package_parts(made, sections.Bytes(image)), app)
    assert mystikos_tool.verify(app).host_program.known is None
    assert refused(lambda: mystikos_tool.verify(app, loader=made.runtime.loader)) == (
        f"the host program: is not {made.runtime.loader}, but has the SHA-256"
        f" {hashlib.sha256(data).hexdigest()}; do not start the package"
    )


# A signed directory


@pytest.fixture
def signed(tmp_path: Path, made: Inputs) -> Path:
    directory = tmp_path / "signed"
    pipeline.build_directory(made, root_path(made), key(), pipeline.signing_day("0"), directory)
    return directory


def test_a_signed_directory_is_verified_as_the_package_of_the_same_enclave(
    tmp_path: Path, made: Inputs, app: Path, signed: Path
) -> None:
    package, directory = (mystikos_tool.verify(path, loader=made.runtime.loader) for path in (app, signed))
    assert (directory.identity, directory.host_program) == (package.identity, package.host_program)
    whole = "every byte of the package belongs to a section or to its host program"
    assert directory.proved == tuple(fact for fact in package.proved if fact != whole)
    assert directory.unproved == package.unproved
    assert mystikos_tool.policy(signed) == mystikos_tool.policy(app)
    for path, stream in ((app, "a"), (signed, "b")):
        proof.export_sgxs(path, tmp_path / stream)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lib/openenclave/mystenc.so", "MRENCLAVE is"),
        ("lib/libmystkernel.so", "MRENCLAVE is"),
        ("lib/libmystcrt.so", "MRENCLAVE is"),
        ("rootfs", "MRENCLAVE is"),
        ("pubkeys", "MRENCLAVE is"),
        ("roothashes", "MRENCLAVE is"),
        ("config.json", "is not the configuration in the enclave"),
        ("bin/myst", "has the SHA-256"),
    ],
)
def test_a_file_of_a_signed_directory_that_was_changed_is_refused(
    made: Inputs, signed: Path, name: str, problem: str
) -> None:
    data = bytearray((signed / name).read_bytes() or bytes(4096))
    loads = elf.Image(bytes(data), name).loads if name.endswith(".so") else ()
    data[loads[0].file_size - 1 if loads else -1] ^= 1
    (signed / name).write_bytes(data)
    assert problem in refused(lambda: mystikos_tool.verify(signed, loader=made.runtime.loader))


def test_what_else_lies_in_a_signed_directory_is_named_as_not_proved(signed: Path) -> None:
    for number in range(7):
        (signed / f"{number}\n").write_bytes(b"")
    unproved = mystikos_tool.verify(signed).unproved
    assert r"what else is in the directory: 0\x0a, 1\x0a, 2\x0a, 3\x0a, 4\x0a and 2 more" in unproved


def test_a_host_program_that_is_too_large_is_not_read(signed: Path) -> None:
    os.truncate(signed / "bin" / "myst", (1 << 28) + 1)
    assert refused(lambda: mystikos_tool.verify(signed)) == (
        f"{signed}/bin/myst: has a host program of more than 268,435,456 bytes{DISTRUST}"
    )


@pytest.mark.parametrize("name", ["bin/myst", "rootfs"])
def test_a_directory_that_lacks_a_file_of_a_signed_one_is_told_so(signed: Path, name: str) -> None:
    (signed / name).unlink()
    with pytest.raises(UserError, match=f"{name}"):
        mystikos_tool.verify(signed)


# Bytes that belong to nothing


FOREIGN = "has bytes in it that belong neither to its sections nor to a loader that they were appended to"


@pytest.mark.parametrize("size", [1, 64, 100_000])
def test_bytes_that_were_appended_are_refused(app: Path, size: int) -> None:
    with app.open("ab") as file:
        file.write(bytes(size))
    assert refused(lambda: mystikos_tool.verify(app)) == f"{app}: {FOREIGN}{DISTRUST}"


@settings(deadline=None, max_examples=examples(30))
@given(st.data())
def test_a_bit_that_changed_anywhere_is_refused_or_is_in_the_loader(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("bits")
    made = inputs(directory)
    app = build(made, directory / "app")
    content = bytearray(app.read_bytes())
    package = sections.read(app)
    start = package.sections[sections.ENCLAVE].offset
    end = package.sections[sections.CONFIG].offset + package.sections[sections.CONFIG].size
    around = [*range(start), *range(end, len(content))]
    content[data.draw(st.sampled_from(around))] ^= 1 << data.draw(st.integers(0, 7))
    app.write_bytes(content)
    with pytest.raises(UserError):
        mystikos_tool.verify(app, loader=made.runtime.loader)


def test_a_package_whose_names_of_sections_lie_before_all_of_them_is_refused(app: Path) -> None:
    data = app.read_bytes()
    header = tiny_elf.section_header(data, ".shstrtab")
    offset, size = struct.unpack_from("<QQ", data, header + 24)
    moved = tiny_elf.patched(data, header + 24, "Q", 64)
    app.write_bytes(moved[:64] + data[offset : offset + size] + moved[64 + size :])
    assert refused(lambda: mystikos_tool.verify(app)) == f"{app}: {FOREIGN}{DISTRUST}"


@pytest.mark.parametrize("without", ["nothing", "pubkeys", "roothashes", "both"])
def test_a_package_without_trusted_keys_or_hashes_has_no_foreign_bytes(
    tmp_path: Path, made: Inputs, without: str
) -> None:
    if without in ("pubkeys", "both"):
        made = made._replace(pubkeys=())
    if without in ("roothashes", "both"):
        made = made._replace(roothashes=())
    app = build(made, tmp_path / "app")
    assert mystikos_tool.verify(app, loader=made.runtime.loader).host_program.known == "given"


# Expectations


MRSIGNER = sigstruct.mrsigner(key().modulus)


@pytest.mark.parametrize(
    "expected",
    [
        {"signer": DATA / "keys/key-a.pem"},
        {"signer": MRSIGNER.hex()},
        {"signer": MRSIGNER.hex().upper()},
        {"mrsigner": MRSIGNER},
        {"mrsigner": MRSIGNER.hex()},
        {"product_id": 7},
        {"min_security_version": 9},
        {"min_security_version": 0},
        {"no_debug": True},
    ],
)
def test_what_is_as_expected_is_verified(app: Path, expected: dict[str, object]) -> None:
    assert mystikos_tool.verify(app, **expected).mrsigner == MRSIGNER  # type: ignore[arg-type]


@pytest.fixture
def signer_files(tmp_path: Path) -> dict[str, bytes]:
    """What a signer is known by, in PEM."""
    public = (DATA / "keys/key-a.pub.pem").read_bytes()
    private = (DATA / "keys/key-a.pem").read_bytes()
    certificate = certificate_of(DATA / "keys/key-a.pem")
    return {
        "a public key": public,
        "a certificate": certificate,
        "a certificate of the old form": certificate.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        "a private key": private,
        "a private key with its certificate": private + certificate,
    }


def test_a_signer_is_expected_by_its_public_key_its_certificate_or_its_private_key(
    tmp_path: Path, app: Path, signer_files: dict[str, bytes]
) -> None:
    for name, content in signer_files.items():
        (tmp_path / name).write_bytes(content)
        assert mystikos_tool.verify(app, signer=tmp_path / name).mrsigner == MRSIGNER, name
        assert mystikos_tool.verify(app, signer=str(tmp_path / name)).mrsigner == MRSIGNER, name


def test_a_signer_is_expected_by_the_notation_of_keys(app: Path) -> None:
    keys = DATA / "keys"
    named = [f"file:{keys}/key-a.pem", f"exec:public-key={keys}/key-a.pub.pem false"]
    for signer in named:
        assert mystikos_tool.verify(app, signer=signer).mrsigner == MRSIGNER
    with pytest.raises(UserError, match="names a key by a scheme that is not known"):
        mystikos_tool.verify(app, signer="vault:release")


@needs_token
def test_a_signer_is_expected_by_its_key_in_a_token_without_a_pin(
    tmp_path: Path, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = SoftToken(tmp_path / "token").make()
    token.add(DATA / "keys/key-a.pem")
    token.add(DATA / "keys/key-b.pem", label="other", identifier="b1")
    monkeypatch.setenv("SOFTHSM2_CONF", token.environment["SOFTHSM2_CONF"])
    assert mystikos_tool.verify(app, signer=token.uri(pin=None)).mrsigner == MRSIGNER
    other = token.uri(pin=None, object="other")
    assert "MRSIGNER is " in refused(lambda: mystikos_tool.verify(app, signer=other))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ((DATA / "keys/key-a.pub.pem").read_bytes() * 2, "holds 2 public keys and certificates, not one"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the public key in it is damaged",
        ),
        (b"no key", "is not PEM"),
    ],
)
def test_a_file_that_names_no_single_signer_is_told(
    tmp_path: Path, app: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "signer.pem").write_bytes(content)
    with pytest.raises(UserError, match=problem) as error:
        mystikos_tool.verify(app, signer=tmp_path / "signer.pem")
    assert not isinstance(error.value, VerificationError)


def test_a_certificate_of_a_version_that_there_is_not_is_told(tmp_path: Path, app: Path) -> None:
    lines = certificate_of(DATA / "keys/key-a.pem").splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))
    changed = base64.b64encode(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x22", 1))
    path = tmp_path / "signer.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % changed)
    with pytest.raises(UserError, match="the public key in it is damaged"):
        mystikos_tool.verify(app, signer=path)


def test_a_certificate_of_a_key_that_signs_no_enclaves_is_told(tmp_path: Path, app: Path) -> None:
    (tmp_path / "authority.pem").write_bytes(Authority(tmp_path, "authority").ca.read_bytes())
    with pytest.raises(UserError, match="is not an RSA key"):
        mystikos_tool.verify(app, signer=tmp_path / "authority.pem")


def test_another_signer_s_certificate_is_not_as_expected(tmp_path: Path, app: Path) -> None:
    (tmp_path / "other.pem").write_bytes(certificate_of(DATA / "keys/key-b.pem"))
    assert "MRSIGNER is " in refused(lambda: mystikos_tool.verify(app, signer=tmp_path / "other.pem"))


def test_mrenclave_is_expected_as_bytes_or_in_hexadecimal(made: Inputs, app: Path) -> None:
    mrenclave = pipeline.measure(made).mrenclave
    assert mystikos_tool.verify(app, mrenclave=mrenclave).mrenclave == mrenclave
    assert mystikos_tool.verify(app, mrenclave=mrenclave.hex()).mrenclave == mrenclave


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"signer": "0" * 64}, f"MRSIGNER is {MRSIGNER.hex()}, expected is {'0' * 64}"),
        ({"mrsigner": bytes(32)}, f"MRSIGNER is {MRSIGNER.hex()}, expected is {'0' * 64}"),
        ({"mrenclave": bytes(32)}, f", expected is {'0' * 64}"),
        ({"product_id": 8}, "the product is 7, expected is 8"),
        ({"min_security_version": 10}, "the security version is 9, expected is at least 10"),
    ],
)
def test_what_is_not_as_expected_is_refused(app: Path, expected: dict[str, object], told: str) -> None:
    message = refused(lambda: mystikos_tool.verify(app, **expected))  # type: ignore[arg-type]
    assert told in message
    assert message.endswith("; take the package that was expected")


def test_a_debug_enclave_is_refused_where_none_is_expected(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    app = build(inputs(tmp_path / "given", Debug=True), tmp_path / "app")
    assert mystikos_tool.verify(app).debug
    assert "debugging is on" in refused(lambda: mystikos_tool.verify(app, no_debug=True))


def test_a_signer_and_another_mrsigner_are_no_expectation(app: Path) -> None:
    with pytest.raises(UserError, match=f"has another MRSIGNER than {'0' * 64}; expect one of the two"):
        mystikos_tool.verify(app, signer=MRSIGNER.hex(), mrsigner=bytes(32))
    assert mystikos_tool.verify(app, signer=MRSIGNER.hex(), mrsigner=MRSIGNER).mrsigner == MRSIGNER


@pytest.mark.parametrize(
    "wrong", [{"mrenclave": "12"}, {"mrsigner": b"12"}, {"signer": "missing.pem"}, {"mrenclave": "g" * 64}]
)
def test_an_expectation_that_is_none_is_the_caller_s_mistake(app: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        mystikos_tool.verify(app, **wrong)  # type: ignore[arg-type]
    assert not isinstance(error.value, VerificationError)


def test_expectations_are_checked_before_anything_is_measured(tmp_path: Path, app: Path) -> None:
    """A package of another signer's is refused for that, whatever else is wrong with it."""
    data = bytearray(app.read_bytes())
    data[sections.read(app).sections[sections.ROOTFS].offset + 200] ^= 1
    app.write_bytes(data)
    assert "MRSIGNER is " in refused(lambda: mystikos_tool.verify(app, signer="0" * 64))
    assert "MRENCLAVE is " in refused(lambda: mystikos_tool.verify(app))


# What is told


def test_without_an_expected_signer_it_is_said_that_anybody_may_have_signed(app: Path) -> None:
    assert any(fact.startswith("who signed it") for fact in mystikos_tool.verify(app).unproved)
    trusted = mystikos_tool.verify(app, signer=MRSIGNER.hex())
    assert not any(fact.startswith("who signed it") for fact in trusted.unproved)


def test_the_content_of_a_disk_is_named_as_not_proved(tmp_path: Path, made: Inputs) -> None:
    disk = build(made._replace(root=pipeline.DiskRoot()), tmp_path / "disk")
    assert "what is on the disk that is its root (--disk FILE)" in mystikos_tool.verify(disk).unproved


def documents(app: Path) -> list[str]:
    verified = mystikos_tool.verify(app)
    assert isinstance(verified, Verification)
    with pytest.raises(VerificationError) as error:
        mystikos_tool.verify(app, product_id=1)
    return [verified.to_json(), verification.refusal(error.value)]


def test_what_is_told_to_programs_follows_its_schema(app: Path) -> None:
    schema = json.loads(verification.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    sound, wrong = map(json.loads, documents(app))
    assert (sound["verified"], wrong["verified"]) == (True, False)
    for document in (sound, wrong):
        jsonschema.validate(document, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "more": 1}, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "verified": not document["verified"]}, schema)


# Bounded work


def test_memory_that_nobody_can_measure_is_refused_at_once(tmp_path: Path, made: Inputs) -> None:
    huge = made._replace(config=made.config._replace(data=b'{"MemorySize": "32000g"}'))
    image = pipeline.prepare(made.runtime, huge.config)
    measured = pipeline.measure(made)
    from mystikos_tool.signing import enclave_key

    signed = image.file(enclave_key.sign(measured.sigstruct, key(), pipeline.signing_day("0")))
    pipeline.package(huge, sections.Bytes(signed), tmp_path / "app")
    message = refused(lambda: mystikos_tool.verify(tmp_path / "app"))
    assert "too large to be measured" in message


@pytest.mark.parametrize("name", [name for name in sections.SECTIONS if name != sections.ROOTFS])
def test_a_section_that_is_too_large_for_its_kind_is_not_read(app: Path, name: str) -> None:
    """Its header says so, and the file, which has a hole, is as large."""
    tiny_elf.resize_section(app, name, 100 << 30)
    os.truncate(app, 101 << 30)
    with pytest.raises(UserError) as error:
        mystikos_tool.verify(app)
    assert f"section {name}: has 107,374,182,400 bytes, more than" in str(error.value)


def test_a_root_of_a_hundred_gigabytes_is_told_and_no_traceback(app: Path) -> None:
    tiny_elf.resize_section(app, sections.ROOTFS, 100 << 30)
    os.truncate(app, 101 << 30)
    assert refused(lambda: mystikos_tool.verify(app)).endswith(f"{FOREIGN}{DISTRUST}")
