"""rebuild: a third party makes a package again from the inputs that its provenance names."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import DATA, Run

KEYS = DATA / "keys"
STATED = "hello.provenance.json"
REBUILT = "proved: it is, byte for byte, what the inputs of the statement give"

GIVEN = (
    *("--runtime=runtime", "--set=SecurityVersion=3", "--pubkey=disk.pem"),
    *("--exclude=*.tmp", "--overlay=more", "--chmod=motd=0600"),
)
MADE = pytest.StashKey[dict[str, bytes]]()

Document = dict[str, Any]


@pytest.fixture
def published(run: Run, project: Path, request: pytest.FixtureRequest) -> Path:
    """A package, its provenance, signed and bare, and its inputs, in the current directory."""
    (project / "appdir" / "notes.tmp").write_bytes(b"1")
    (project / "more").mkdir()
    (project / "more" / "extra").write_bytes(b"more\n")
    shutil.copy(KEYS / "key-b.pub.pem", project / "disk.pem")
    made = request.config.stash.setdefault(MADE, {})
    if not made:  # the same in every test
        assert run("package-sgx", "appdir", "key.pem", "config.json", *GIVEN, "-o=hello").status == 0
        provenance = ("provenance", "hello", "appdir", "config.json", *GIVEN)
        assert run(*provenance, "--key=key.pem", "-o", STATED).status == 0
        assert run(*provenance, "-o=bare.json").status == 0
        made.update({name: (project / name).read_bytes() for name in ("hello", STATED, "bare.json")})
    for name, content in made.items():
        (project / name).write_bytes(content)
    return project


def edited(path: Path, change: Callable[[Document], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refused(run: Run, *arguments: str | Path, statement: str = STATED) -> str:
    result = run("rebuild", "hello", "--from", statement, *arguments)
    assert (result.status, result.out) == (2, ""), result
    return result.err


def test_a_package_is_what_its_inputs_give(run: Run, published: Path) -> None:
    result = run("rebuild", "hello", "--from", STATED, "--signer", KEYS / "key-a.pub.pem")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("hello: rebuilt and verified\nMRENCLAVE ")
    assert REBUILT in result.out
    assert "proved: the statement is signed by the package's signer" in result.out
    assert "proved: the host program is the given loader" in result.out
    assert "proved: signer, measurement and versions are as expected" in result.out


def test_the_inputs_are_looked_for_where_they_are_said_to_be(
    run: Run, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(published / "runtime", tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    at = ("--directory", published, "--input", "runtime=installed")
    result = run("rebuild", published / "hello", "--from", published / STATED, *at)
    assert result.status == 0, result.err


def test_a_bare_statement_proves_nothing_of_who_made_it(run: Run, published: Path) -> None:
    result = run("rebuild", "hello", "--from", "bare.json")
    assert result.status == 0
    assert REBUILT in result.out
    assert "not proved: who made the statement (--statement-signer KEY)" in result.out
    told = refused(run, "--statement-signer=key.pem", statement="bare.json")
    assert "bare.json: is not signed; take the signed one, or leave --statement-signer out" in told


def test_a_package_that_was_changed_is_explained(run: Run, published: Path) -> None:
    (published / "appdir" / "motd").write_bytes(b"hullo\n")
    changed = ("appdir", "key.pem", "config.json", "--runtime=runtime", "--set=SecurityVersion=3")
    assert run("package-sgx", *changed, "--pubkey=disk.pem", "--exclude=*.tmp", "-o=hello").status == 0
    (published / "appdir" / "motd").write_bytes(b"hello\n")
    result = run("rebuild", "hello", "--from", STATED)
    assert result.status == 1
    assert f"error: hello: is not what the inputs of {STATED} give; B is what they give" in result.err
    assert result.out.startswith("another enclave\n")
    assert f"\nB: the inputs of {STATED} (package, MRENCLAVE " in result.out
    assert "* motd: mode 0644 in A, 0600 in B; content from byte 1" in result.out
    assert "+ extra" in result.out


def test_another_host_program_is_told(run: Run, published: Path) -> None:
    package = bytearray((published / "hello").read_bytes())
    package[15] ^= 1
    (published / "hello").write_bytes(package)
    result = run("rebuild", "hello", "--from", STATED)
    assert result.status == 1
    assert result.out.startswith("the same enclave: only host program differs\n")


def test_a_release_signature_is_another_one_of_the_same_enclave(run: Run, published: Path) -> None:
    assert run("package-sgx", "appdir", KEYS / "key-b.pem", "config.json", *GIVEN, "-o=hello").status == 0
    result = run("rebuild", "hello", "--from", STATED)
    assert result.status == 0
    assert REBUILT in result.out
    assert "not proved: that this file was published: the statement is of one with the SHA-256" in result.out
    assert "not proved: who made the statement" in result.out
    signed = run("rebuild", "hello", "--from", STATED, "--statement-signer", KEYS / "key-a.pub.pem")
    assert "proved: the statement is signed by the key that is expected" in signed.out


def test_another_signer_than_expected_is_not_accepted(run: Run, published: Path) -> None:
    result = run("rebuild", "hello", "--from", STATED, "--signer", KEYS / "key-b.pub.pem")
    assert (result.status, result.out) == (1, "")
    assert "MRSIGNER is" in result.err
    told = refused(run, "--statement-signer", KEYS / "key-b.pub.pem")
    assert f"{STATED}: is not signed by the key that is expected" in told


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("appdir", "source"),
        ("config.json", "config"),
        ("runtime", "runtime"),
        ("disk.pem", "pubkey/0"),
        ("more", "overlay/0"),
    ],
)
def test_an_input_that_is_missing_is_told(run: Run, published: Path, name: str, role: str) -> None:
    (published / name).rename(published / "gone")
    told = refused(run)
    assert (
        f"error: {name}: is missing, and {STATED} names it as {role}; put it there, or say where it is"
        in told
    )
    assert run("rebuild", "hello", "--from", STATED, f"--input={role}=gone").status == 0


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "appdir/bin/hello",
            b"#!/bin/other\n",
            "appdir: is not the root that {}: bin/hello has the SHA-256 ",
        ),
        ("appdir/new", b"", "appdir: is not the root that {}: new is not in the statement; take the source"),
        ("appdir/motd", None, "appdir: is not the root that {}: motd is missing; take the source"),
        (
            "config.json",
            b'{"version": "0.1", "ApplicationPath": "/bin/hello"}',
            "config.json: is not what {}",
        ),
        (
            "runtime/lib/libmystcrt.so",
            b"\x7fELF",
            "runtime: is not what {}: runtime/libmystcrt.so has the SHA-256",
        ),
        ("runtime/bin/myst", b"\x7fELF", "runtime: is not what {}: runtime/myst has the SHA-256"),
        (
            "disk.pem",
            (KEYS / "key-a.pub.pem").read_bytes(),
            "disk.pem: is not what {}: pubkey/0 has the SHA-256",
        ),
    ],
)
def test_an_input_that_is_another_one_is_told_before_anything_is_made(
    run: Run, published: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is None:
        (published / name).unlink()
    else:
        (published / name).write_bytes(content)
    assert told.format(f"{STATED} names") in refused(run)


def test_another_mode_is_told(run: Run, published: Path) -> None:
    (published / "appdir" / "bin" / "hello").chmod(0o644)
    assert "bin/hello has the mode 100644, stated is 100755" in refused(run)


def test_of_many_other_files_the_first_ones_are_told(run: Run, published: Path) -> None:
    for number in range(9):
        (published / "appdir" / f"new{number}").write_bytes(b"")
    told = refused(run)
    assert "new4 is not in the statement and 4 more" in told
    assert "new5" not in told


def in_payload(change: Callable[[Document], object]) -> Callable[[Document], object]:
    def changed(document: Document) -> None:
        payload = json.loads(base64.b64decode(document["payload"]))
        change(payload)
        document["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    return changed


def definition(statement: Document) -> Document:
    found: Document = statement["predicate"]["buildDefinition"]
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            in_payload(lambda stated: stated["subject"].reverse()),
            "has a signature that is not over this statement",
        ),
        (
            lambda one: one["signatures"][0].update(sig="AAAA"),
            "has a signature that is not over this statement",
        ),
        (lambda one: one.update(payload="?"), "is a damaged envelope"),
        (lambda one: one.pop("signatures"), "is a damaged envelope"),
        (lambda one: one.update(payloadType="text/plain"), "is an envelope of something else"),
    ],
)
def test_a_signed_statement_that_was_changed_is_refused(
    run: Run, published: Path, change: Callable[[Document], object], told: str
) -> None:
    edited(published / STATED, change)
    assert f"error: {STATED}: {told}" in refused(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda stated: stated["subject"][1]["digest"].update(sha256="0" * 64), "states MRENCLAVE 0000"),
        (
            lambda stated: stated.pop("subject"),
            "is no statement of mystikos-tool: it is not what it has to be",
        ),
        (lambda stated: stated.update(predicateType="x"), "predicateType is not what it has to be"),
        (
            lambda stated: definition(stated)["resolvedDependencies"][0]["digest"].update(sha256="1"),
            "resolvedDependencies/0/digest/sha256 is not what it has to be",
        ),
        (
            lambda stated: definition(stated)["resolvedDependencies"].append(
                definition(stated)["resolvedDependencies"][0]
            ),
            "names an input twice",
        ),
        (
            lambda stated: definition(stated)["externalParameters"].update(config="/etc/passwd"),
            "names config by '/etc/passwd', which is not below a directory; say where it is: --input config=",
        ),
        (
            lambda stated: definition(stated)["externalParameters"].update(source="a/../../b"),
            "names source by 'a/../../b', which is not below a directory",
        ),
    ],
)
def test_a_bare_statement_that_does_not_hold_together_is_refused(
    run: Run, published: Path, change: Callable[[Document], object], told: str
) -> None:
    edited(published / "bare.json", change)
    err = refused(run, statement="bare.json")
    assert err.startswith("mystikos-tool: error: bare.json: ")
    assert told in err


def test_a_digest_that_was_edited_in_a_bare_statement_is_told(run: Run, published: Path) -> None:
    def change(stated: Document) -> None:
        (one,) = (one for one in definition(stated)["resolvedDependencies"] if one["name"] == "configuration")
        one["digest"]["sha256"] = "1" * 64

    edited(published / "bare.json", change)
    assert "config.json: is not what bare.json names: configuration has the SHA-256" in refused(
        run, statement="bare.json"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b'"text"', b"\xff"])
def test_what_is_no_statement_is_refused(run: Run, published: Path, content: bytes) -> None:
    (published / STATED).write_bytes(content)
    assert refused(run).startswith(f"mystikos-tool: error: {STATED}: is no ")


def test_what_is_given_and_not_named_is_told(run: Run, published: Path) -> None:
    assert f"--input pubkey/1: is no input that {STATED} names" in refused(run, "--input=pubkey/1=disk.pem")
    assert run("rebuild", "hello", "--from", STATED, "--input=config").status == 2
    assert "error: hello:" in refused(run, "--input=config=hello")
    assert "gone.json: there is no such statement" in refused(run, statement="gone.json")
    (published / "hello").unlink()
    assert "hello: " in refused(run)


def test_a_package_whose_root_is_on_a_disk_is_rebuilt_without_the_disk(run: Run, project: Path) -> None:
    assert run("mkext2", "appdir", "app.disk").status == 0
    (project / "roothash").write_text("ab" * 32)
    given = ("config.json", "--runtime=runtime", "--roothash=roothash")
    assert run("package-sgx", "key.pem", *given, "-o=hello").status == 0
    assert run("provenance", "hello", "app.disk", *given, "-o", STATED).status == 0
    (project / "app.disk").unlink()
    result = run("rebuild", "hello", "--from", STATED)
    assert result.status == 0, result.err
    assert REBUILT in result.out
    assert "not proved: what is on the disk that is its root" in result.out
