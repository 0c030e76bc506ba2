"""One key, whoever has it: the same package of every signer, from package-sgx or in two steps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import rsa_keys
from cli_support import DATA, Run
from cryptography.hazmat.primitives import serialization
from soft_token import SoftToken, needs_token

from mystikos_tool.signing import pem

KEYS = DATA / "keys"
COMMON = ("config.json", "--runtime=runtime")
PASSPHRASE = b"corr3ct horse"

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture
def signers(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Keys by their notation, all of them the same key."""
    token = SoftToken(tmp_path / "token").make()
    token.add(KEYS / "key-a.pem")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    key = rsa_keys.read((KEYS / "key-a.pem").read_bytes())
    (project / "encrypted.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSPHRASE),
        )
    )
    (project / "encrypted.pem").chmod(0o600)
    (project / "passphrase").write_bytes(PASSPHRASE)
    shutil.copy(KEYS / "key-a.pub.pem", project / "public.pem")
    return {
        "a file": "key.pem",
        "an encrypted file": "file:encrypted.pem?passphrase=file:passphrase",
        "a command": "exec:public-key=public.pem openssl pkeyutl -sign -inkey key.pem -pkeyopt digest:sha256",
        "a token": token.uri(),
    }


@needs_token
@needs_openssl
def test_every_signer_gives_the_same_package(run: Run, project: Path, signers: Mapping[str, str]) -> None:
    packages = {}
    for name, key in signers.items():
        result = run("package-sgx", "appdir", key, *COMMON, "-o", "package")
        assert (result.status, result.err) == (0, ""), name
        packages[name] = (project / "package").read_bytes()
    assert run("package-sgx", "appdir", KEYS / "key-b.pem", *COMMON, "-o", "development").status == 0
    packages["elsewhere"] = in_two_steps(run, project)
    assert len(set(packages.values())) == 1, packages.keys()


def in_two_steps(run: Run, project: Path) -> bytes:
    assert run("digest", "development").status == 0
    command = ["openssl", "pkeyutl", "-sign", "-inkey", "key.pem", "-pkeyopt", "digest:sha256"]
    subprocess.run([*command, "-in", "development.digest", "-out", "signature"], cwd=project, check=True)
    files = ("development.statement.json", "signature", "public.pem")
    result = run("attach", "development", *files, "-o", "release")
    assert (result.status, result.err) == (0, "")
    return (project / "release").read_bytes()


@needs_token
@needs_openssl
def test_every_signer_signs_a_disk_alike(run: Run, project: Path, signers: Mapping[str, str]) -> None:
    disks = set()
    for key in signers.values():
        result = run("mkext2", "appdir", "disk", "--force", "--sign", f"public.pem:{key}")
        assert (result.status, result.err) == (0, "")
        disks.add((project / "disk").read_bytes())
    assert len(disks) == 1


@pytest.mark.parametrize("place", ["release.signed", "development.signed"])
@pytest.mark.parametrize("root", ["root.cpio", "root.ext2"])
def test_a_signed_directory_gets_its_signature_from_elsewhere_too(
    run: Run, project: Path, place: str, root: str
) -> None:
    verb = "mkcpio" if root == "root.cpio" else "mkext2"
    assert run(verb, "appdir", root).status == 0
    for key, directory in ((KEYS / "key-b.pem", "development.signed"), ("key.pem", "expected")):
        assert run("sign-sgx", root, key, *COMMON, "-d", directory).status == 0
    assert run("digest", "development.signed").status == 0
    digest = (project / "development.signed.digest").read_bytes()
    (project / "signature").write_bytes(pem.load(project / "key.pem").sign(digest))
    files = ("development.signed.statement.json", "signature", KEYS / "key-a.pub.pem")
    result = run("attach", "development.signed", *files, "-o", place)
    assert (result.status, result.err) == (0, "")
    assert contents(project / place) == contents(project / "expected")


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): (path.stat().st_mode, path.read_bytes()) for path in files}


def test_a_signed_directory_whose_root_holds_the_key_gets_no_signature_by_it(run: Run, project: Path) -> None:
    shutil.copy(KEYS / "key-a.pem", project / "appdir" / "forgotten.pem")
    assert run("mkcpio", "appdir", "root.cpio").status == 0
    assert run("sign-sgx", "root.cpio", KEYS / "key-b.pem", *COMMON, "-d", "made").status == 0
    assert run("digest", "made").status == 0
    digest = (project / "made.digest").read_bytes()
    (project / "signature").write_bytes(pem.load(project / "key.pem").sign(digest))
    result = run("attach", "made", "made.statement.json", "signature", KEYS / "key-a.pub.pem", "-o", "out")
    assert "made/rootfs: holds the key that signs, at /forgotten.pem" in result.err
    assert not (project / "out").exists()


def test_what_is_to_be_signed_is_shown_and_written(run: Run, project: Path) -> None:
    assert run("package-sgx", "appdir", "key.pem", *COMMON, "-o", "hello").status == 0
    result = run("digest", "hello", "-o", "out")
    assert result.status == 0
    assert "date             2026-01-02\n" in result.out
    assert (project / "out.digest").read_bytes().hex() in result.out
    assert (project / "out.statement.json").exists()


@pytest.mark.parametrize(
    "key",
    [
        "pkcs11:object=a;pin-value=s3cret?module-path=/m.so",
        "pkcs11:object=a?module-path=/nowhere.so&pin-source=env:PIN",
        "exec:public-key=key.pem sign s3cret",
        "file:key.pem?passphrase=s3cret",
        "vault:s3cret",
    ],
)
def test_a_key_that_is_not_to_be_had_leaves_no_file_and_shows_no_secret(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("PIN", "s3cret")
    before = set(project.iterdir())
    result = run("package-sgx", "appdir", key, *COMMON, "-o", "hello")
    assert result.status == 2
    assert result.err.startswith("mystikos-tool: error: ")
    assert "s3cret" not in result.err + result.out
    assert set(project.iterdir()) == before


@pytest.mark.parametrize("option", ["--signing-engine-name", "--signing-engine-path", "--signing-engine-key"])
@pytest.mark.parametrize("verb", ["package-sgx", "sign-sgx"])
def test_the_reference_s_signing_engine_is_told_what_to_use_instead(
    run: Run, project: Path, verb: str, option: str
) -> None:
    assert run("mkcpio", "appdir", "root.cpio").status == 0
    source = "appdir" if verb == "package-sgx" else "root.cpio"
    result = run(verb, source, "key.pem", *COMMON, f"{option}=pkcs11")
    assert result.status == 2
    assert f"{option}: is for an OpenSSL engine, and none is loaded here; give the key itself" in result.err


@pytest.mark.parametrize("end", ["digest", "statement.json"])
def test_what_is_to_be_signed_is_not_written_over_the_package(run: Run, project: Path, end: str) -> None:
    package = project / f"hello.{end}"
    assert run("package-sgx", "appdir", "key.pem", *COMMON, "-o", package.name).status == 0
    before = package.read_bytes()
    result = run("digest", package.name, "-o", "hello")
    assert (result.status, result.out) == (2, "")
    assert f"hello.{end}: is one of the inputs; choose another place for the output" in result.err
    assert package.read_bytes() == before
    assert len([*project.glob("hello.*")]) == 1


def test_a_package_is_not_attached_over_what_is_read_for_it(run: Run, project: Path) -> None:
    assert run("package-sgx", "appdir", "key.pem", *COMMON, "-o", "hello").status == 0
    assert run("digest", "hello").status == 0
    (project / "signature").write_bytes(bytes(384))
    files = ("hello.statement.json", "signature", KEYS / "key-a.pub.pem")
    result = run("attach", "hello", *files, "-o", "signature")
    assert result.status == 2
    assert "signature: is one of the inputs; choose another place for the output" in result.err
    assert (project / "signature").read_bytes() == bytes(384)
