"""Private keys in a root: that of the signer is an error, others are told."""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import random
import re
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import rsa_keys
import zstandard
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from reference_cases import DATA
from tiny_runtime import DAY, inputs, key

from mystikos_tool import pipeline
from mystikos_tool.errors import UserError
from mystikos_tool.formats import packed
from mystikos_tool.formats.sigstruct import mrsigner
from mystikos_tool.io.content import Bytes
from mystikos_tool.root import archive
from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import nodes_of
from mystikos_tool.root.root import ArchiveRoot, DiskRoot
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.signing import enclave_key, key_forms, mark_worker, root_keys
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


PRIVATE = rsa_keys.read(OWN.read_bytes())
TEXT = OWN.read_text()


def number(value: int) -> str:
    """A number of a JSON Web Key."""
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")


def string(data: bytes) -> bytes:
    """A string of SSH."""
    return len(data).to_bytes(4, "big") + data


NUMBERS = PRIVATE.private_numbers()
MODULUS = NUMBERS.public_numbers.n.to_bytes(384, "big")
PKCS_1, PKCS_8 = (
    PRIVATE.private_bytes(DER, form, serialization.NoEncryption())
    for form in (serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8)
)
SSH = string(b"ssh-rsa") + string(b"\3") + string(b"\0" + NUMBERS.public_numbers.n.to_bytes(384, "big"))


def putty() -> str:
    public = base64.encodebytes(SSH).decode()
    return (
        f"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: aes256-cbc\nComment: mine\nPublic-Lines: 9\n{public}"
        "Key-Derivation: Argon2id\nArgon2-Memory: 8192\nArgon2-Salt: 00\nPrivate-Lines: 14\nAAAA\n"
    )


def encrypted_openssh() -> str:
    protected = string(b"aes256-ctr") + string(b"bcrypt") + string(bytes(24))
    body = b"openssh-key-v1\0" + protected + b"\0\0\0\1" + string(SSH) + string(bytes(1900))
    name = "OPENSSH PRIVATE KEY"
    return f"-----BEGIN {name}-----\n{base64.encodebytes(body).decode()}-----END {name}-----\n"


WRITTEN = {
    "YAML": "key: |\n" + "".join(f"    {line}\n" for line in TEXT.splitlines()),
    "a program's source": "".join(f'    "{line}\\n"\n' for line in TEXT.splitlines()),
    "one line": " ".join(TEXT.splitlines()),
    "JSON of PHP": json.dumps({"key": TEXT}).replace("/", "\\/"),
    "JSON of Gson": json.dumps({"key": TEXT}).replace("=", "\\u003d").replace("+", "\\u002B"),
    "JSON in JSON": json.dumps(json.dumps({"key": TEXT})),
    "a secret of Kubernetes": "data:\n  key: " + base64.b64encode(OWN.read_bytes()).decode(),
    "a JSON Web Key": json.dumps(
        {"keys": [{"e": "Aw", "kty": "RSA", "n": number(NUMBERS.public_numbers.n), "d": number(NUMBERS.d)}]}
    ),
    "a comment": "".join(f"# {line}\n" for line in TEXT.splitlines()),
    "a quotation": "".join(f"> {line}\n" for line in TEXT.splitlines()),
    "a comment behind slashes": "".join(f"// {line}\n" for line in TEXT.splitlines()),
    "base64 in a comment behind slashes": "".join(
        f"  //{line}\n" for line in base64.encodebytes(PKCS_8).decode().splitlines()
    ),
    "base64 for addresses": base64.urlsafe_b64encode(PKCS_8).decode().rstrip("="),
    "base64 without a label": base64.b64encode(PKCS_1).decode(),
    "base64 in lines": base64.encodebytes(PKCS_8).decode(),
    "hexadecimal digits": PKCS_8.hex(),
    "hexadecimal digits in lines": "\n".join(re.findall(".{1,60}", PKCS_1.hex())),
    "digits with colons": PKCS_1.hex(":").upper(),
    "digits with spaces": PKCS_1.hex(" "),
    "a string in C": '"'
    + '"\n    "'.join(re.findall(".{1,64}", "".join(f"\\x{byte:02x}" for byte in PKCS_1)))
    + '"',
    "an array in C without spaces": ",".join(f"0x{byte:02X}" for byte in PKCS_8),
    "text in XML": "<key>" + TEXT.replace("\n", "&#10;").replace("=", "&#x3d;") + "</key>",
    "a form in a URL": f"key={quote(TEXT, '')}&x=1",
    "a form that is sent": urlencode({"key": TEXT, "x": "1"}),
    "an array in C": ", ".join(f"0x{byte:02x}" for byte in PKCS_1),
    "XML": f"<RSAKeyValue><Modulus>{base64.b64encode(MODULUS).decode()}</Modulus>"
    "<Exponent>Aw==</Exponent><P>AA==</P><Q>AA==</Q><D>AA==</D></RSAKeyValue>",
    "what openssl shows": f"modulus:\n    00:{MODULUS.hex(':')}\npublicExponent: 3 (0x3)\nprivateExponent:\n",
    "base32": base64.b32encode(OWN.read_bytes()).decode(),
    "base32 in lines": "\n".join(re.findall(".{1,76}", base64.b32encode(OWN.read_bytes()).decode())),
    "uuencode": codecs.encode(OWN.read_bytes(), "uu").decode(),
    "uuencode of an editor": codecs.encode(OWN.read_bytes(), "uu").decode().replace("\n", "\r\n"),
    "PuTTY's form, encrypted": putty(),
    "OpenSSH's form, encrypted": encrypted_openssh(),
}


@pytest.mark.parametrize("before", [0, (1 << 22) - 400])
@pytest.mark.parametrize("form", WRITTEN)
def test_a_key_is_found_however_it_is_written(tmp_path: Path, form: str, before: int) -> None:
    assert found(tmp_path, a=b" " * before + WRITTEN[form].encode()) == [RootKey("a", MRSIGNER)]


@pytest.mark.parametrize(
    "encoding", [f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")]
)
def test_a_key_in_wide_characters_is_found(tmp_path: Path, encoding: str) -> None:
    assert found(tmp_path, a=f"my key:\r\n{TEXT}".encode(encoding)) == [RootKey("a", MRSIGNER)]


def test_a_path_is_told_without_its_control_characters(tmp_path: Path) -> None:
    (told,) = root_keys.told(found(tmp_path, **{"a\nb\x1b": OWN.read_bytes()}), "root", "warn")
    assert told.endswith(r": /a\x0ab\x1b")


@pytest.mark.parametrize("password", [None, b"secret"])
def test_a_key_in_pkcs12_is_found_and_known_where_no_password_is_needed(
    tmp_path: Path, password: bytes | None
) -> None:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    data = pkcs12.serialize_key_and_certificates(None, PRIVATE, None, None, protection)
    keys = found(tmp_path, a=b"before" + data)
    assert RootKey("a", "") in keys
    assert (RootKey("a", MRSIGNER) in keys) == (password is None)


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_an_encrypted_key_that_signs_is_refused_wherever_its_text_is(
    tmp_path: Path, form: serialization.PrivateFormat
) -> None:
    protection = serialization.BestAvailableEncryption(b"secret")
    text = PRIVATE.private_bytes(PEM, form, protection)
    (tmp_path / "passphrase").write_bytes(b"secret")
    (tmp_path / "key.pem").write_bytes(text)
    signer = enclave_key.signer(f"file:{tmp_path}/key.pem?passphrase=file:{tmp_path}/passphrase")
    keys = found(tmp_path, a=text.replace(b"\n", b"\r\n"))
    with pytest.raises(UserError, match="holds the key that signs, at /a"):
        root_keys.refuse_signer(keys, signer.modulus, "the root", signer)
    root_keys.refuse_signer(keys, key().modulus, "the root", key())  # nobody can tell which key it is


@pytest.mark.parametrize("before", [0, (1 << 22) - 400])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_signs_enclaves_is_found_in_every_form(tmp_path: Path, form: str, before: int) -> None:
    data = PRIVATE.private_bytes(*FORMS[form], serialization.NoEncryption())
    assert found(tmp_path, a=bytes(before) + data) == [RootKey("a", MRSIGNER)]


def test_keys_of_other_kinds_are_found_by_their_label(tmp_path: Path) -> None:
    text = b"-----BEGIN %s-----\nProc-Type: 4,ENCRYPTED\n\n" + b"A" * 64 + b"\n-----END %s-----\n"
    kinds = [b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"RSA PRIVATE KEY"]
    for count, kind in enumerate(kinds):
        (tmp_path / str(count)).mkdir()
        ((path, signs, *_),) = found(tmp_path / str(count), a=text.replace(b"%s", kind))
        assert (path, signs) == ("a", "")


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----",
        b"PRIVATE KEY-----" * 100,
        (DATA / "keys" / "key-b.pub.pem").read_bytes(),
        b'{"kty": "RSA", "e": "Aw", "n": "AQAB"}',
        b'"kty" "kty" {"kty": {"d": "x"}',
        b"PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\n",
        b"LS0tLS1CRUdJTi" * 10,
        b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02",
    ],
)
def test_what_only_looks_like_a_key_is_none(tmp_path: Path, content: bytes) -> None:
    assert found(tmp_path, a=content) == []


@pytest.mark.parametrize("processes", ["as many as there are cores", "none to be had"])
def test_keys_in_a_large_root_are_found_on_all_cores_wherever_pieces_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.setattr(root_keys, "_ALONE", 4 * key_forms.LONGEST)
    monkeypatch.setattr(root_keys, "_CHUNK", 2 * key_forms.LONGEST)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    if processes == "none to be had":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "no-interpreter"))
    size, text = 50 * key_forms.LONGEST, OTHER.read_bytes()
    source = random.Random(5)
    data = bytearray(source.randbytes(size))
    for at in range(1, 24):  # over the ends of pieces, and some inside of them
        place = 2 * at * key_forms.LONGEST - source.choice((0, 1, 30, len(text) // 2, len(text) - 1, 40_000))
        data[place : place + len(text)] = text
    keys = found(tmp_path, **{f"f{number:02}": bytes(part) for number, part in enumerate(split(data, text))})
    assert [key.path for key in keys] == [f"f{number:02}" for number in range(23)]


def split(data: bytearray, text: bytes) -> list[bytes]:
    """Files with one key each."""
    ends = [match.end() for match in re.finditer(re.escape(text), data)]
    return [bytes(data[start:end]) for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def test_a_root_that_becomes_shorter_while_it_is_searched_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    assert mark_worker.marked((bytes(path), [(0, 50), (50, 60), (100, 10)], [b"b"])) == [(50, 60), (100, 10)]


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


BEGINNINGS = [
    b"-----BEGIN PRIVATE KEY-----",
    b"PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nComment: \nPublic-Lines: 1\n",
    b'{"kty":',
    b'"kty"',
    b"LS0tLS1CRUdJTi",
    "-----BEGIN PRIVATE KEY-----".encode("utf-16-le"),
    "-----BEGIN PRIVATE KEY-----".encode("utf-32-le"),
    b"FUWS2LJNIJCUOSKO",
    b'M+2TM+2U"14=)',
    b'M+2TM+2U"14=)' + b"`" * 2000 + b"\n",
    b'M+2TM+2U"14=)' + b"\n" * 2000,
    b"MIIG",
    b"MIIG" + b"A" * 2000,
    b"MIIG" + b"A" * 60 + b"\n//",
    b"MIIG" + b"-" * 2000,
    b"0201000282018100",
    b"0x02, 0x01, 0x00, 0x02, 0x82, 0x01, 0x81, 0x00",
    b"<RSAKeyValue><Modulus>" + b"A" * 64 + b"</Modulus>" + b"<P>A</P>" * 6,
    b"modulus:\n" + b"00:" * 63 + b"publicExponent: 3 privateExponent:",
    b"\x30\x80\x02\x01\x03\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01",
    b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02",
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_begins_as_a_key_again_and_again_takes_no_more_time_than_reading_it(beginning: bytes) -> None:
    content = Counted(beginning * (2_700_000 // len(beginning)))
    Counted.read_bytes = 0
    started = time.process_time()
    assert list(root_keys._blocks(content)) == []
    assert content.read_bytes == content.size
    assert time.process_time() - started < 2  # some 0.1 s; what grows with the square takes minutes


def tarred(compression: str) -> bytes:
    """An archive of tar with a key behind another file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=f"w:{compression}") as tar:
        for name, data in (("other", bytes(100_000)), ("etc/k.pem", OWN.read_bytes())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as into:
        for name, data in files.items():
            into.writestr(name, data)
    return archive.getvalue()


NOISE = random.Random(0).randbytes(3 << 20)
COMPRESSED = {
    "zlib": zlib.compress(OWN.read_bytes()),
    "gzip": gzip.compress(OWN.read_bytes()),
    "gzip of much before it": gzip.compress(NOISE + OWN.read_bytes(), 1),
    "bzip2": bz2.compress(bytes(300_000) + OWN.read_bytes()),
    "xz": lzma.compress(bytes(300_000) + OWN.read_bytes()),
    "zstd": zstandard.compress(bytes(300_000) + OWN.read_bytes()),
    "tar.zst": zstandard.compress(tarred("")),
    "tar": tarred(""),
    "tar.gz": tarred("gz"),
    "tar.bz2": tarred("bz2"),
    "tar.xz": tarred("xz"),
}


@pytest.mark.parametrize("form", COMPRESSED)
def test_a_key_in_a_compressed_file_is_found(tmp_path: Path, form: str) -> None:
    assert found(tmp_path, a=b"x", b=COMPRESSED[form], c=b"x") == [RootKey("b", MRSIGNER)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_key_in_a_zip_archive_is_found_by_its_name_there(tmp_path: Path, method: int) -> None:
    jar = zipped(
        {"Large.class": NOISE + NOISE, "META-INF/k.pem": OWN.read_bytes(), "b\n": OTHER.read_bytes()}, method
    )
    keys = found(tmp_path, **{"app.jar": jar})
    assert {key.inside: key.signer == MRSIGNER for key in keys if key.inside} == {
        "META-INF/k.pem": True,
        r"b\x0a": False,
    }
    with pytest.raises(UserError, match=r"holds the key that signs, at /app\.jar"):
        root_keys.refuse_signer(keys, key().modulus, "the root", key())
    assert "/app.jar (META-INF/k.pem)" in root_keys.told(keys, "the root", "warn")[0]


def test_no_more_than_a_bounded_part_of_what_is_packed_is_looked_into(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(root_keys.MOST_UNPACKED) + OWN.read_bytes())
    many = zipped(
        {"a": bytes(root_keys.MOST_UNPACKED), "b": bytes(root_keys.MOST_UNPACKED) + OWN.read_bytes()}
    )
    compressors = (bz2.compress, lzma.compress, zstandard.compress)
    for data in (bomb, many, *(compress(bytes(64 << 20)) for compress in compressors)):
        given = packed.unpacked(Bytes(data), root_keys.MOST_UNPACKED)
        assert sum(len(piece) for _, piece in given) == root_keys.MOST_UNPACKED
    assert found(tmp_path, a=bomb, b=many) == []


def test_what_is_damaged_encrypted_or_only_looks_packed_ends_the_look(tmp_path: Path) -> None:
    archive = bytearray(zipped({"k.pem": OWN.read_bytes()}))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # encrypted, by its general purpose bit flag
        archive[archive.index(signature) + flags] |= 1
    files = [bytes(archive), *(data[:-20] for data in COMPRESSED.values()), b"PK\3\4", b"PK\5\6" + bytes(18)]
    files += [magic + NOISE[:1000] for magic in (b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"PK\3\4")]
    for data in files:
        for size in (len(data), len(data) // 2, 7):
            assert len(list(packed.unpacked(Bytes(data[:size]), 1 << 16))) < 10
    assert found(tmp_path, a=bytes(archive)) == []


def test_of_a_changed_root_what_is_packed_in_unchanged_files_is_known(tmp_path: Path) -> None:
    before = found(tmp_path, a=COMPRESSED["gzip"], b=zipped({"k": OTHER.read_bytes()}))
    (tmp_path / "root" / "c").write_bytes(COMPRESSED["tar.gz"])
    pipeline.pack(tmp_path / "root", tmp_path / "packed")
    now = archive.read(tmp_path / "packed")
    keys = root_keys.in_changed(now, {b"a", b"b"}, before)
    assert keys == root_keys.in_archive(now)
    assert [(key.path, key.inside) for key in keys] == [("a", ""), ("b", "k"), ("c", "")]


def test_keys_on_a_disk_are_found_in_files_of_their_size(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    for name, data in (
        ("a.pem", OWN.read_bytes()),
        ("b.gz", COMPRESSED["gzip"]),
        ("large", NOISE + OWN.read_bytes()),
    ):
        (tmp_path / "root" / "etc" / name).write_bytes(data)
    tree = DirectorySource(tmp_path / "root").tree()
    writer.write(nodes_of(tree), tmp_path / "disk")
    keys = root_keys.of(DiskRoot(tmp_path / "disk"))
    assert keys == [RootKey("etc/a.pem", MRSIGNER), RootKey("etc/b.gz", MRSIGNER)]
    assert root_keys.in_entries(tree.entries) == keys
    assert root_keys.of(DiskRoot()) == []


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


def test_another_private_key_in_the_configuration_is_told_too(tmp_path: Path) -> None:
    given = inputs(tmp_path, EnvironmentVariables=["KEY=" + OTHER.read_text()])
    problem = "config.json: holds private keys, which everybody gets who has the package"

    def build(secrets: str) -> list[str]:
        warnings: list[str] = []
        pipeline.build(given, key(), DAY, tmp_path / "app", secrets=secrets, warn=warnings.append)
        return warnings

    assert [warning for warning in build("warn") if "keys" in warning] == [f"{tmp_path}/{problem}"]
    assert build("allow") == []
    with pytest.raises(UserError, match=f"{problem}; take them out, or allow them"):
        build("error")


def test_another_private_key_is_an_error_or_silent_on_request(tmp_path: Path) -> None:
    (tmp_path / "silent").mkdir()
    (tmp_path / "error").mkdir()
    assert package(tmp_path / "silent", OTHER.read_bytes(), "allow") == []
    with pytest.raises(UserError, match=r"/etc/k[.]pem; take them out"):
        package(tmp_path / "error", OTHER.read_bytes(), "error")
