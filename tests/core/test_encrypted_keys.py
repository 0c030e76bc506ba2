"""Encrypted PEM files, and where their passphrases come from."""

from __future__ import annotations

import os
import pty
import select
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization

from mystikos_tool.errors import UserError
from mystikos_tool.signing import enclave_key, pem

KEYS = Path(__file__).parent.parent / "data" / "keys"
PASSPHRASE = "corr3ct horse"
FORMS = [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]


@cache
def encrypted(form: serialization.PrivateFormat = FORMS[0]) -> bytes:
    key = rsa_keys.read((KEYS / "key-a.pem").read_bytes())
    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY_PASSPHRASE", PASSPHRASE)
    path = tmp_path / "key.pem"
    path.write_bytes(encrypted())
    return path


def refused(name: str) -> UserError:
    with pytest.raises(UserError) as error:
        enclave_key.signer(name)
    assert "corr3ct" not in str(error.value)
    return error.value


@pytest.mark.parametrize("form", FORMS, ids=["PKCS#8", "PKCS#1"])
def test_an_encrypted_key_signs_as_the_plain_one(key: Path, form: serialization.PrivateFormat) -> None:
    key.write_bytes(encrypted(form))
    digest = bytes(32)
    found = enclave_key.signer(f"file:{key}?passphrase=env:KEY_PASSPHRASE")
    assert found.sign(digest) == pem.load(KEYS / "key-a.pem").sign(digest)


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("source", ["file:{}", "exec:cat {}", "exec:cat '{}'"])
def test_a_file_or_a_command_gives_the_passphrase(key: Path, source: str, line_end: str) -> None:
    place = key.with_name("passphrase")
    place.write_bytes((PASSPHRASE + line_end).encode())
    name = f"file:{key}?passphrase={source.format(place)}"
    assert enclave_key.signer(name).identity == pem.load(KEYS / "key-a.pem").identity


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "the passphrase is needed, and there is no terminal to ask for it"),
        ("terminal:", "the passphrase is needed, and there is no terminal to ask for it"),
        ("env:NOT_SET", "the passphrase is not in the environment variable NOT_SET"),
        ("env:WRONG", "cannot be decrypted: the passphrase is another one"),
        ("env:EMPTY", "is empty"),
        ("env:LINES", "has several lines or a NUL in it"),
        ("corr3ct horse", "is given in a form that is no source"),
        ("file:/no/such/file", "there is no such file of the passphrase"),
        ("exec:false", "the command false, which gives the passphrase, ended with status 1"),
        ("exec:/no/such/command", "cannot be started"),
        ("exec:yes", "writes more than 4,096 bytes"),
    ],
)
def test_what_gives_no_passphrase_is_told(
    key: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, problem: str
) -> None:
    for name, value in {"WRONG": "other", "EMPTY": "", "LINES": "corr3ct\nhorse"}.items():
        monkeypatch.setenv(name, value)
    error = refused(str(key) if source is None else f"file:{key}?passphrase={source}")
    assert problem in error.problem


def test_where_no_source_is_named_the_remedy_says_how(key: Path) -> None:
    assert refused(str(key)).remedy == (
        f"say where its passphrase is: file:{key}?passphrase=SOURCE, a SOURCE being"
        " env:NAME, file:PATH, exec:COMMAND or terminal:"
    )


def test_a_passphrase_for_a_key_that_has_none_is_a_mistake(key: Path) -> None:
    key.write_bytes((KEYS / "key-a.pem").read_bytes())
    assert "is not encrypted" in refused(f"file:{key}?passphrase=env:KEY_PASSPHRASE").problem


ASKS_TWICE = """
import sys
from mystikos_tool.signing import enclave_key, pem
keys = [enclave_key.signer(sys.argv[1]) for _ in range(2)]
print("MRSIGNER", keys[1].identity)
"""


def in_a_terminal(command: list[str], answer: Callable[[bytes], bytes | None]) -> bytes:
    """What a command shows in a terminal of its own, in which somebody answers."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 1024)
        except OSError:
            break  # the other end is closed
        if typed := answer(shown):
            os.write(terminal, typed)
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown


def test_the_terminal_is_asked_once_and_shows_nothing_of_it(key: Path) -> None:
    asked: list[bytes] = []

    def answer(shown: bytes) -> bytes | None:
        if not asked and shown.endswith(b": "):
            asked.append(shown)
            return PASSPHRASE.encode() + b"\n"
        return None

    shown = in_a_terminal([sys.executable, "-c", ASKS_TWICE, str(key)], answer)
    assert shown.count(b"The passphrase of") == 1
    assert b"corr3ct" not in shown
    assert pem.load(KEYS / "key-a.pem").identity.encode() in shown
