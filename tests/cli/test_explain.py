"""The verbs that explain: what they print, where to, and their exit status."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from cli_support import Run, configure

COMMON = ["appdir", "key.pem", "config.json", "--runtime=runtime"]


@pytest.fixture
def hello(run: Run, project: Path) -> str:
    assert run("package-sgx", *COMMON, "-o=hello").status == 0
    return "hello"


# diff


def test_diff_ends_with_0_for_the_same_1_for_another_and_2_for_what_cannot_be_read(
    run: Run, project: Path, hello: str
) -> None:
    assert run("diff", hello, hello).status == 0
    assert run("diff", hello, "appdir").status == 0
    (project / "appdir" / "motd").write_bytes(b"hullo\n")
    result = run("diff", hello, "appdir")
    assert (result.status, result.err) == (1, "")
    assert result.out.startswith("another enclave\n")
    assert "* motd: content from byte 1 (page 0x0 of the root)" in result.out
    assert "-hello" in result.out
    assert run("diff", hello, "missing").status == 2
    assert run("diff", hello, "key.pem").status == 2


def test_what_is_excluded_or_kept_of_an_appdir_is_as_it_was_packed(
    run: Run, project: Path, hello: str
) -> None:
    (project / "appdir" / "notes.tmp").write_bytes(b"1")
    (project / "appdir" / "motd").chmod(0o600)
    assert run("diff", hello, "appdir").status == 1
    assert run("diff", hello, "appdir", "--exclude=*.tmp").status == 0
    assert run("diff", hello, "appdir", "--exclude=*.tmp", "--modes=preserve").status == 1


def test_diff_tells_programs_in_json_that_follows_the_printed_schema(
    run: Run, project: Path, hello: str
) -> None:
    configure(project, ProductID=3)
    assert run("package-sgx", *COMMON, "-o=other").status == 0
    result = run("diff", "hello", "other", "--format=json", "-o", "told.json")
    assert (result.status, result.out) == (1, "")
    told = json.loads((project / "told.json").read_text())
    jsonschema.validate(told, json.loads(run("schema", "difference").out))
    assert [change["name"] for change in told["configuration"]] == ["ProductID"]


# inspect


@pytest.mark.parametrize("form", ["text", "json", "html", "svg"])
def test_inspect_prints_every_form_or_writes_it(run: Run, project: Path, hello: str, form: str) -> None:
    printed = run("inspect", hello, f"--format={form}")
    assert (printed.status, printed.err) == (0, "")
    written = run("inspect", hello, f"--format={form}", "-o", "shown")
    assert (written.status, written.out) == (0, "")
    assert (project / "shown").read_text() == printed.out
    assert "rootfs" in printed.out


def test_inspect_tells_programs_in_json_that_follows_the_printed_schema(run: Run, hello: str) -> None:
    told = json.loads(run("inspect", hello, "--format=json").out)
    jsonschema.validate(told, json.loads(run("schema", "report").out))
    assert [file["path"] for file in told["files"]] == ["bin", "bin/hello", "motd"]


def test_what_is_no_package_cannot_be_inspected(run: Run, project: Path) -> None:
    result = run("inspect", "config.json")
    assert (result.status, result.out) == (2, "")


# check


def test_check_ends_with_0_where_nothing_fails_1_where_something_does_and_2_for_what_cannot_be_read(
    run: Run, project: Path
) -> None:
    configure(project, MemorySize="64m")
    result = run("check", "appdir", "--config=config.json", "--fail-on=note")
    assert (result.status, result.out) == (0, "appdir: 0 errors, 0 warnings, 0 notes\n")
    (project / "appdir" / "etc").mkdir()
    (project / "appdir" / "etc" / "hosts").touch()
    result = run("check", "appdir", "-c=config.json")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("note     /etc/hosts: is replaced by the host's file")
    assert run("check", "appdir", "--fail-on=note").status == 1
    assert run("check", "appdir", "--exclude=hosts", "--fail-on=note").status == 0
    assert run("check", "missing").status == 2


def test_check_holds_a_package_to_its_own_configuration(run: Run, project: Path, hello: str) -> None:
    result = run("check", hello)
    assert result.status == 1
    assert "MemorySize: 1,048,576 bytes do not suffice" in result.out


def test_check_tells_programs_in_json_that_follows_the_printed_schema(run: Run, hello: str) -> None:
    run("check", hello, "--format=json", "--outfile=found.json")
    told = json.loads(Path("found.json").read_text())
    jsonschema.validate(told, json.loads(run("schema", "check").out))
    assert told["counts"]["error"] == 1


def test_options_for_packing_are_refused_where_check_packs_nothing(run: Run, hello: str) -> None:
    assert run("check", hello, "--exclude=motd").status == 2


# sbom, provenance


def test_sbom_lists_the_files_of_a_package(run: Run, hello: str) -> None:
    told = json.loads(run("sbom", hello).out)
    assert told["specVersion"] == "1.6"
    assert [one["name"] for one in told["components"] if one["type"] == "file"] == ["bin/hello", "motd"]


def test_provenance_is_stated_of_the_inputs_of_a_package_only(run: Run, project: Path, hello: str) -> None:
    result = run("provenance", hello, "appdir", "config.json", "--runtime=runtime", "--key=key.pem")
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(run("provenance", hello, "appdir", "config.json", "--runtime=runtime").out)["subject"]
    (project / "appdir" / "motd").write_bytes(b"hullo\n")
    result = run("provenance", hello, "appdir", "config.json", "--runtime=runtime", "-o=stated")
    assert (result.status, result.out) == (2, "")
    assert not (project / "stated").exists()


def test_a_key_of_a_statement_that_others_may_read_is_warned_of(run: Run, project: Path) -> None:
    arguments = ["provenance", "hello", "appdir", "config.json", "--runtime=runtime", "--key=key.pem", "-o=x"]
    run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello")
    assert run(*arguments).err == ""
    (project / "key.pem").chmod(0o640)
    told = "key.pem: others may read or change this key (mode 0640); chmod go= key.pem"
    assert run(*arguments).err == f"mystikos-tool: warning: {told}\n"
