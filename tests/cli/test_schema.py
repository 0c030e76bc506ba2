"""The verb schema, and what the command line remembers of configurations."""

from __future__ import annotations

from pathlib import Path

from cli_support import Run, configure

from mystikos_tool.config import schema


def test_the_schema_is_printed_as_it_is(run: Run) -> None:
    result = run("schema")
    assert (result.status, result.err) == (0, "")
    assert result.out.encode() == schema.FILE.read_bytes()


def test_a_configuration_that_names_its_schema_is_packaged_without_a_warning(run: Run, project: Path) -> None:
    Path("config.schema.json").write_text(run("schema").out)
    configure(project, **{"$schema": "config.schema.json"})
    result = run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello")
    assert (result.status, result.err) == (0, "")
    assert '"$schema"' not in run("dump-sgx", "hello").out
    assert run("verify", "hello").status == 0


def test_a_configuration_is_held_against_the_schema_once(run: Run, project: Path, cache: Path) -> None:
    common = ["appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello"]
    assert run("package-sgx", *common).status == 0
    digest = schema.digest(Path("config.json").read_bytes())
    known = cache / "mystikos-tool" / "configurations"
    assert known.read_text().split() == [digest]
    assert run("package-sgx", *common).status == 0
    assert known.read_text().split() == [digest]
    configure(project, ProductID=70000)
    assert run("package-sgx", *common).status == 2
    assert known.read_text().split() == [digest]
