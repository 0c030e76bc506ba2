"""Keys behind a command: what it gets, what it gives, and what becomes of one that does otherwise."""

from __future__ import annotations

import hashlib
import shutil
import stat
import time
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.signing import enclave_key, pem

KEYS = Path(__file__).parent.parent / "data" / "keys"
DIGEST = hashlib.sha256(b"what is signed").digest()
OPENSSL = "openssl pkeyutl -sign -inkey {key} -pkeyopt digest:sha256"

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def named(command: str, public: str = "key-a.pub.pem", options: str = "") -> str:
    return f"exec:public-key={KEYS / public} {options}{command}"


def refused(key: str) -> str:
    with pytest.raises(UserError) as error:
        enclave_key.signer(key).sign(DIGEST)
    assert "s3cret" not in str(error.value)
    return str(error.value)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_openssl
def test_openssl_signs_as_the_file_does() -> None:
    key = enclave_key.signer(named(OPENSSL.format(key=KEYS / "key-a.pem")))
    assert key.sign(DIGEST) == pem.load(KEYS / "key-a.pem").sign(DIGEST)
    assert (key.identity, key.exponent) == (pem.load(KEYS / "key-a.pem").identity, 3)


def test_a_command_gets_the_digest_and_nothing_else(tmp_path: Path) -> None:
    command = script(tmp_path / "sign", f"cat > {tmp_path}/given; exit 1")
    refused(named(str(command)))
    assert (tmp_path / "given").read_bytes() == DIGEST


def test_words_are_quoted_as_in_a_shell_and_no_shell_reads_them(tmp_path: Path) -> None:
    command = script(tmp_path / "a tool", f'printf "%s|" "$@" > {tmp_path}/given; exit 1')
    refused(named(f"'{command}' 'a  b' $HOME ';' c\\ d"))
    assert (tmp_path / "given").read_text() == "a  b|$HOME|;|c d|"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("exit 3", "ended with status 3; see what it does with 32 bytes on standard input"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo no signature", "wrote 13 bytes, and a signature by its key has 384"),
        ("head -c 384 /dev/zero", "wrote what is no PKCS#1 v1.5 signature over the digest"),
        ("yes", "writes more than 65,536 bytes"),
        ("sleep 60", "did not end within 1 s"),
        ("sleep 60 & echo", "did not end within 1 s"),
        ("exec >&-; sleep 60", "did not end within 1 s"),
    ],
)
def test_a_command_that_gives_no_signature_is_told(tmp_path: Path, body: str, problem: str) -> None:
    command = script(tmp_path / "sign", body)
    start = time.monotonic()
    said = refused(named(f"{command} --password s3cret", options="timeout=1 "))
    assert said.startswith(f"exec:{command}: ")
    assert problem in said
    assert time.monotonic() - start < 10


def is_running(state: Path) -> bool:
    """Tell whether a process, by its file in /proc, still runs or is yet to see that it was killed."""
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = script(tmp_path / "sign", f"sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & wait")
    refused(named(str(command), options="timeout=1 "))
    state = Path(f"/proc/{int((tmp_path / 'pid').read_text())}/stat")
    deadline = time.monotonic() + 30  # less than it sleeps
    while is_running(state):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_openssl
def test_a_signature_by_another_key_or_over_something_else_is_refused(tmp_path: Path) -> None:
    other = OPENSSL.format(key=KEYS / "key-b.pem")
    assert "no PKCS#1 v1.5 signature over the digest by the key that was named" in refused(named(other))
    again = f"openssl dgst -sha256 -sign {KEYS / 'key-a.pem'}"  # hashes the digest once more
    assert "no PKCS#1 v1.5 signature over the digest" in refused(named(again))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("exec:", "names no command"),
        ("exec:sign", "does not say which key it signs with"),
        ("exec:public-key=", "names no command"),
        ("exec:public-key=a.pem", "names no command"),
        ("exec:public-key=a.pem public-key=b.pem sign", "has public-key= twice"),
        ("exec:public-key=a.pem timeout=0 sign", "its timeout cannot be '0'"),
        ("exec:public-key=a.pem timeout=nan sign", "its timeout cannot be 'nan'"),
        ("exec:public-key=a.pem timeout=1e10 sign", "its timeout cannot be '1e10'"),
        ("exec:public-key=missing.pem sign", "there is no such public key file"),
        ("exec:public-key=a.pem 'sign", "has a quote that is not closed"),
        (named("/no/such/command"), "cannot be started: no such file or directory"),
        (named("sign", public="key-a.pem"), "holds a private key, and only its public half is needed"),
        (named("sign", public="disk1.roothash"), "holds 0 public keys and certificates"),
    ],
)
def test_what_names_no_signer_is_told(key: str, problem: str) -> None:
    assert problem in refused(key)


def test_a_signer_does_not_show_the_arguments_of_its_command() -> None:
    assert "s3cret" not in repr(enclave_key.signer(named("sign --password s3cret")))


def test_what_a_command_writes_to_standard_error_is_left_to_the_user(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused(named(str(script(tmp_path / "sign", "echo touch the token >&2; exit 1"))))
    assert capfd.readouterr().err == "touch the token\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sign"]
