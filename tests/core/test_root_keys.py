"""Private keys in a root: that of the signer is an error, others are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from reference_cases import DATA
from tiny_runtime import DAY, inputs, key

from mystikos_tool import pipeline
from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import mrsigner
from mystikos_tool.io.content import Bytes
from mystikos_tool.root import archive
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.signing import root_keys
from mystikos_tool.signing.root_keys import RootKey

OWN, OTHER = (DATA / "keys" / f"key-{name}.pem" for name in "ab")
MRSIGNER = mrsigner(key().modulus).hex()


class Counted(Bytes):
    """Content that counts what is read of it."""

    read_bytes = 0

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        for chunk in super().chunks(size):
            Counted.read_bytes += len(chunk)
            yield chunk


def found(directory: Path, **files: bytes) -> list[RootKey]:
    (directory / "root").mkdir()
    for name, content in files.items():
        (directory / "root" / name).write_bytes(content)
    pipeline.pack(directory / "root", directory / "packed")
    return root_keys.in_archive(archive.read(directory / "packed"))


@pytest.mark.parametrize("before", [0, 1, 61, (1 << 22) - 400, (1 << 22) - 180, (1 << 22) - 140, 1 << 22])
def test_a_key_is_found_wherever_it_lies_in_a_file(tmp_path: Path, before: int) -> None:
    assert found(tmp_path, a=bytes(before) + OWN.read_bytes(), b=b"none") == [RootKey("a", MRSIGNER)]


def test_a_key_in_json_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, a=json.dumps({"key": OWN.read_text()}).encode()) == [RootKey("a", MRSIGNER)]


PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
FORMS = {
    "PKCS#8 in DER": (DER, serialization.PrivateFormat.PKCS8),
    "PKCS#1 in DER": (DER, serialization.PrivateFormat.TraditionalOpenSSL),
    "PKCS#1 in PEM": (PEM, serialization.PrivateFormat.TraditionalOpenSSL),
    "OpenSSH": (PEM, serialization.PrivateFormat.OpenSSH),
}


@pytest.mark.parametrize("before", [0, (1 << 22) - 200])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_signs_enclaves_is_found_in_every_form(tmp_path: Path, form: str, before: int) -> None:
    private = serialization.load_pem_private_key(OWN.read_bytes(), None)
    data = private.private_bytes(*FORMS[form], serialization.NoEncryption())
    assert found(tmp_path, a=bytes(before) + data) == [RootKey("a", MRSIGNER)]


def test_keys_of_other_kinds_are_found_by_their_label(tmp_path: Path) -> None:
    text = b"-----BEGIN %s-----\nProc-Type: 4,ENCRYPTED\n\n" + b"A" * 64 + b"\n-----END %s-----\n"
    kinds = [b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"RSA PRIVATE KEY"]
    for number, kind in enumerate(kinds):
        (tmp_path / str(number)).mkdir()
        assert found(tmp_path / str(number), a=text.replace(b"%s", kind)) == [RootKey("a", "")]


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----",
        b"PRIVATE KEY-----" * 100,
        (DATA / "keys" / "key-b.pub.pem").read_bytes(),
    ],
)
def test_what_only_looks_like_a_key_is_none(tmp_path: Path, content: bytes) -> None:
    assert found(tmp_path, a=content) == []


def test_of_a_changed_root_only_what_changed_is_read(tmp_path: Path, opened: Callable[[], set[str]]) -> None:
    given = {name: (OWN if name in "ac" else OTHER).read_bytes() for name in "abcd"}
    before = found(tmp_path, **given)
    (tmp_path / "root" / "a").write_bytes(b"none")  # was changed
    (tmp_path / "root" / "b").unlink()
    (tmp_path / "root" / "e").write_bytes(OTHER.read_bytes())
    pipeline.pack(tmp_path / "root", tmp_path / "packed")
    now = archive.read(tmp_path / "packed")
    keys = root_keys.in_changed(now, {b"c", b"d"}, before)
    assert keys == root_keys.in_archive(now)
    opened()
    assert root_keys.in_changed(now, {member.path for member in now.members}, keys) == keys
    assert "packed" not in opened()


def test_what_begins_as_a_key_again_and_again_takes_no_more_time_than_reading_it(tmp_path: Path) -> None:
    content = Counted(b"-----BEGIN PRIVATE KEY-----" * 100_000)
    assert list(root_keys._blocks(content)) == []
    assert content.read_bytes == content.size


def package(tmp_path: Path, content: bytes, secrets: str = "warn") -> list[str]:
    made = inputs(tmp_path)
    (tmp_path / "appdir" / "etc").mkdir()
    (tmp_path / "appdir" / "etc" / "k.pem").write_bytes(content)
    root = tmp_path / "with key"
    pipeline.pack(tmp_path / "appdir", root)
    warnings: list[str] = []
    pipeline.build(
        made._replace(root=ArchiveRoot(root)),
        key(),
        DAY,
        tmp_path / "app",
        secrets=secrets,
        warn=warnings.append,
    )
    return warnings


@pytest.mark.parametrize("secrets", root_keys.POLICIES)
def test_the_signing_key_in_the_root_is_an_error_always(tmp_path: Path, secrets: str) -> None:
    with pytest.raises(UserError) as error:
        package(tmp_path, OWN.read_bytes(), secrets)
    assert "holds the key that signs, at /etc/k.pem" in str(error.value)
    assert not (tmp_path / "app").exists()


def test_another_private_key_is_told_with_its_path(tmp_path: Path) -> None:
    assert package(tmp_path, OTHER.read_bytes()) == [
        "the root: holds private keys, which everybody gets who has the package: /etc/k.pem"
    ]


def test_another_private_key_is_an_error_or_silent_on_request(tmp_path: Path) -> None:
    (tmp_path / "silent").mkdir()
    (tmp_path / "error").mkdir()
    assert package(tmp_path / "silent", OTHER.read_bytes(), "allow") == []
    with pytest.raises(UserError, match=r"/etc/k[.]pem; take them out"):
        package(tmp_path / "error", OTHER.read_bytes(), "error")
