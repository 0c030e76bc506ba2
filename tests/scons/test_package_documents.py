"""MystReport, MystPolicy, MystSbom and MystProvenance: what others read of a package follows it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import jsonschema
import pytest
from scons_project import CONFIG, DATA, Project

from mystikos_tool import inspect
from mystikos_tool.explain import provenance
from mystikos_tool.packaging.policy import FORMS
from mystikos_tool.scons import variables

HELLO = 'hello = env.MystPackage("hello", "appdir")\n'
UP_TO_DATE = "scons: `.' is up to date.\n"


def command(project: Project, *arguments: str) -> str:
    """What the command line prints in a project."""
    run = [sys.executable, "-m", "mystikos_tool", *arguments]
    done = subprocess.run(run, cwd=project.directory, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_told_of_a_package_is_made_again_when_it_is_another_one(project: Project) -> None:
    project.sconstruct(
        HELLO + 'env.MystReport("hello.svg", hello)\nenv.MystPolicy("hello", hello)\n'
        'env.MystSbom("hello", hello)\nenv.MystProvenance("hello", hello)\n'
    )
    lines = [
        "showed hello → hello.svg",
        "wrote the policy of hello → hello.policy.json",
        "listed what is in hello → hello.cdx.json",
        "stated what made hello → hello.provenance.json",
    ]
    out = project.build().out
    assert [line for line in lines if line in out] == lines
    assert project.build().out == UP_TO_DATE
    project.write("appdir/etc/motd", "another day\n")
    out = project.build().out
    assert [line for line in lines if line in out] == lines
    made = json.loads(project.path("hello.policy.json").read_text())
    assert made["mrenclave"] == inspect(project.path("hello")).identity.mrenclave.hex()


@pytest.mark.parametrize(
    ("suffix", "form"), [("html", "html"), ("json", "json"), ("svg", "svg"), ("txt", "text")]
)
def test_a_report_has_the_form_of_its_suffix(built: Project, suffix: str, form: str) -> None:
    built.sconstruct(HELLO + f'env.MystReport("shown.{suffix}", hello)\n')
    built.build(f"shown.{suffix}")
    assert built.path(f"shown.{suffix}").read_text() == command(built, "inspect", "hello", f"--format={form}")


def test_a_report_without_a_form_is_refused(project: Project) -> None:
    project.sconstruct(HELLO + 'env.MystReport("hello.pdf", hello)\n')
    told = "the suffix of hello.pdf names no form; end it with one of .html, .json, .svg, .txt"
    assert told in project.fails().err


def test_every_form_of_a_policy_can_be_asked_for(built: Project) -> None:
    assert tuple(variables.POLICY_SUFFIXES) == FORMS
    forms = "for form in FORMS:\n    env.MystPolicy('hello', hello, MYST_POLICY_FORMAT=form)\n"
    built.sconstruct(f"{HELLO}FORMS = {FORMS}\n{forms}")
    warned = built.build().err
    assert warned.count("accepts an enclave that may be debugged") == len(FORMS)
    for form, suffix in variables.POLICY_SUFFIXES.items():
        printed = command(built, "policy", "hello", f"--format={form}")
        assert built.path(f"hello{suffix}").read_text().rstrip("\n") == printed.rstrip("\n")


def test_a_policy_of_every_version_is_another_one(built: Project) -> None:
    built.sconstruct(HELLO + 'env.MystPolicy("hello", hello, MYST_POLICY_ANY_VERSION=ARGUMENTS.get("any"))\n')
    built.build()
    assert json.loads(built.path("hello.policy.json").read_text())["mrenclave"]
    assert "wrote the policy" in built.build("any=1").out
    assert json.loads(built.path("hello.policy.json").read_text())["mrenclave"] is None


def test_a_package_from_elsewhere_is_told_of_too(built: Project) -> None:
    built.path("hello").rename(built.path("theirs"))
    built.sconstruct('env.MystSbom("theirs", "theirs")\nenv.MystReport("theirs.txt", "theirs")\n')
    built.build()
    assert json.loads(built.path("theirs.cdx.json").read_text())["metadata"]["component"]["name"] == "theirs"
    assert built.build().out == UP_TO_DATE
    built.path("theirs").unlink()
    assert "theirs: is named by MystSbom and is not there" in built.fails().err


def test_nothing_is_told_of_what_is_no_package(built: Project) -> None:
    built.sconstruct('env.MystReport("shown.txt", "config.json")\n')
    assert "config.json: is a configuration, no package" in built.fails().err
    assert not built.path("shown.txt").exists()
    for call in ("MystReport('a.txt', root)", "MystPolicy('a', root)", "MystSbom('a', root)"):
        built.sconstruct(f'root = env.MystRootfs("hello", "appdir")\nenv.{call}\n')
        assert "takes a package; hello.cpio is something else" in built.fails().err
    built.sconstruct('env.MystProvenance("hello", "hello")\n')
    assert "MystProvenance states what MystPackage made; hello is something else" in built.fails().err


def test_a_provenance_names_the_inputs_below_the_top_and_follows_its_schema(project: Project) -> None:
    project.write("disk.roothash", "ab" * 32)
    project.sconstruct(
        'hello = env.MystPackage("out/hello", "appdir", MYST_ROOTHASHES="disk.roothash",'
        ' MYST_CONFIG_SET={"SecurityVersion": 3, "Debug": None})\n'
        'env.MystProvenance("out/hello", hello)\n'
    )
    project.build()
    stated = json.loads(project.path("out/hello.provenance.json").read_text())
    jsonschema.validate(stated, json.loads(provenance.SCHEMA.read_text()))
    parameters = stated["predicate"]["buildDefinition"]["externalParameters"]
    assert {name: value for name, value in parameters.items() if value} == {
        "source": "out/hello.cpio",
        "config": "config.json",
        "settings": {"SecurityVersion": 3, "Debug": None},
        "runtime": "rt",
        "roothashes": ["disk.roothash"],
        "modes": "canonical",
    }
    assert str(project.directory) not in json.dumps(stated)
    assert project.build().out == UP_TO_DATE


def test_a_package_is_rebuilt_from_what_a_build_states(project: Project) -> None:
    configuration = json.loads(CONFIG)
    project.sconstruct(
        f'hello = env.MystPackage("hello", "appdir", MYST_CONFIG={configuration})\n'
        'env.MystProvenance("hello", hello)\n'
    )
    project.build()
    said = command(project, "rebuild", "hello", "--from", "hello.provenance.json")
    assert "proved: it is, byte for byte, what the inputs of the statement give" in said


def test_a_key_of_a_provenance_that_others_may_read_is_warned_of(project: Project) -> None:
    project.sconstruct(HELLO + 'env.MystProvenance("hello", hello, MYST_PROVENANCE_KEY="other.pem")\n')
    project.write("other.pem", (DATA / "keys" / "key-b.pem").read_bytes(), 0o640)
    assert (
        "other.pem: others may read or change this key (mode 0640); chmod go= other.pem"
        in project.build().err
    )


def test_a_provenance_is_signed_by_the_key_that_is_named_for_it(project: Project) -> None:
    project.sconstruct(HELLO + 'env.MystProvenance("hello", hello, MYST_PROVENANCE_KEY="other.pem")\n')
    project.write("other.pem", (DATA / "keys" / "key-b.pem").read_bytes(), 0o600)
    project.build()
    first = json.loads(project.path("hello.provenance.json").read_text())
    assert json.loads(base64.b64decode(first["payload"]))["subject"][0]["name"] == "hello"
    assert project.build().out == UP_TO_DATE
    project.write("other.pem", (DATA / "keys" / "key-a.pem").read_bytes(), 0o600)
    assert project.build().stages == set()  # the package does not depend on it
    second = json.loads(project.path("hello.provenance.json").read_text())
    assert second["payload"] == first["payload"]
    assert second["signatures"] != first["signatures"]


def test_a_document_has_no_effect_on_a_package_and_takes_no_other_s_variables(project: Project) -> None:
    project.sconstruct(HELLO + 'env.MystPolicy("hello", hello, MYST_KEY="key.pem")\n')
    assert "MYST_KEY has no effect: this MystPolicy does not sign" in project.fails().err
    project.sconstruct(HELLO + 'env.MystPolicy("hello", hello, MYST_POLICY_FORMAT="xml")\n')
    assert "MYST_POLICY_FORMAT cannot be 'xml'; give one of json, env, c" in project.fails().err


def test_documents_are_printed_as_they_would_be_made_and_cleaned(built: Project) -> None:
    built.sconstruct(HELLO + 'env.MystReport("hello.html", hello)\nenv.MystProvenance("hello", hello)\n')
    out = built.build("-n").out
    assert "show hello → hello.html" in out
    assert "state what made hello → hello.provenance.json" in out
    built.build("MYSTREPORTCOMSTR=")
    built.build("-c")
    assert not {"hello.html", "hello.provenance.json"} & built.names()
