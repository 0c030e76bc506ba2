"""The library: its example runs, its page is complete, and it gives the bytes of a build."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from reference_cases import DATA
from tiny_runtime import DAY, build, inputs, key

import mystikos_tool
from mystikos_tool import UserError, runtime
from mystikos_tool.cli import main
from mystikos_tool.enclave.image import reopen
from mystikos_tool.formats import sigstruct
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root import archive

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """An appdir, its archive, a configuration, a key and a runtime in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "keys" / "key-a.pem", "private.pem")
    return inputs(tmp_path, ProductID=7, SecurityVersion=2)


def trusted(made: Inputs) -> dict[str, Any]:
    return {"runtime": "runtime", "pubkeys": made.pubkeys, "roothashes": made.roothashes}


# The module


def test_the_example_of_the_module_runs(made: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PREBUILT", Path("runtime").resolve())  # as a wheel has it
    result = doctest.testmod(mystikos_tool, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 3
    assert result.failed == 0


def test_every_public_name_is_there_and_is_listed() -> None:
    assert len(set(mystikos_tool.__all__)) == len(mystikos_tool.__all__)
    for name in mystikos_tool.__all__:
        assert getattr(mystikos_tool, name)
        assert name in dir(mystikos_tool)


def test_type_checkers_are_given_the_objects_that_are_loaded() -> None:
    tree = ast.parse(Path(mystikos_tool.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {
        name.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert sorted([*shown, "__version__"]) == sorted(mystikos_tool.__all__)
    for name, module in shown.items():
        assert getattr(mystikos_tool, name) is getattr(importlib.import_module(str(module)), name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mystikos_tool' has no attribute 'pakage'"):
        mystikos_tool.pakage  # noqa: B018


def new_modules(code: str) -> set[str]:
    """The modules that ``code`` loads in an interpreter of its own."""
    command = f"import sys; before = {{*sys.modules}}; {code}; print(*{{*sys.modules}} - before)"
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_it_loads_nothing_else() -> None:
    assert new_modules("import mystikos_tool; mystikos_tool.__version__") <= {"mystikos_tool", "__future__"}


def test_the_page_has_every_public_name_with_the_first_line_of_its_docstring() -> None:
    table = PAGE.read_text().split("\n## Names\n")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    rows.pop("__version__")
    expected = {
        name: (getattr(mystikos_tool, name).__doc__ or "").splitlines()[0].replace("``", "`")
        for name in mystikos_tool.__all__
        if name != "__version__"
    }
    assert rows == expected


def test_the_page_shows_the_example_of_the_module() -> None:
    parse = doctest.DocTestParser().get_examples
    shown, expected = (
        [(example.source, example.want) for example in parse(text)]
        for text in (PAGE.read_text().replace("```", ""), mystikos_tool.__doc__ or "")
    )
    assert shown == expected


# The functions


@pytest.mark.parametrize("source", ["appdir", "root.cpio"])
def test_a_package_has_the_bytes_that_the_stages_give(made: Inputs, source: str) -> None:
    measured = mystikos_tool.package(
        "app", source, config="config.json", key="private.pem", day=DAY, **trusted(made)
    )
    before = {*Path().iterdir()}
    assert Path("app").read_bytes() == build(made, Path("expected")).read_bytes()
    assert mystikos_tool.verify("app").mrenclave == measured.mrenclave
    assert {*Path().iterdir()} - before == {Path("expected")}


def test_the_stages_one_by_one_give_what_is_in_the_package(made: Inputs) -> None:
    mystikos_tool.pack("archive", "appdir")
    measured = mystikos_tool.measure("archive", config="config.json", **trusted(made))
    image = mystikos_tool.sign(measured, config="config.json", key="private.pem", runtime="runtime", day=DAY)
    assert Path("archive").read_bytes() == Path("root.cpio").read_bytes()
    assert mystikos_tool.measure("appdir", config="config.json", **trusted(made)) == measured
    build(made, Path("app"))
    assert mystikos_tool.inspect("app").identity == sigstruct.identity(reopen(image, "image")[1])


def test_a_configuration_and_a_signer_are_taken_as_they_are(made: Inputs) -> None:
    loaded = mystikos_tool.Config.load("config.json")
    mystikos_tool.package("app", Path("appdir"), config=loaded, key=key(), day=DAY, **trusted(made))
    assert Path("app").read_bytes() == build(made, Path("expected")).read_bytes()


def test_an_ext2_disk_is_a_root_by_its_content(made: Inputs) -> None:
    mystikos_tool.disk("disk", "appdir")
    trusting = {**trusted(made), "roothashes": ["disk"]}
    measured = mystikos_tool.measure("disk", config="config.json", **trusting)
    region = next(region for region in measured.layout["regions"] if region["name"] == "rootfs")
    assert region["file_size"] == 4096


def test_a_disk_is_made_as_the_command_line_makes_it(made: Inputs) -> None:
    disk = mystikos_tool.disk("disk", "appdir", key="private.pem", room=0, exclude=["*.conf"])
    public = "openssl", "pkey", "-pubout", "-in", "private.pem", "-out", "public.pem"
    subprocess.run(public, check=True)
    options = ["--sign", "public.pem:private.pem", "--room", "0", "--exclude", "*.conf"]
    assert main(["mkext2", "appdir", "other", *options]) == 0
    assert Path("other").read_bytes() == Path("disk").read_bytes()
    assert mystikos_tool.verify_disk("disk", signer="public.pem").root_hash == disk.root_hash


def test_keys_on_a_disk_are_what_they_are_in_a_package(
    made: Inputs, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy("private.pem", "appdir/k.pem")
    with pytest.raises(UserError, match=r"holds the key that signs, at /k\.pem"):
        mystikos_tool.disk("disk", "appdir", key="private.pem")
    with pytest.raises(UserError, match="holds private keys"):
        mystikos_tool.disk("disk", "appdir", secrets="error")
    assert not Path("disk").exists()
    caplog.clear()
    mystikos_tool.disk("disk", "appdir")
    assert "holds private keys, which everybody gets who has the package: /k.pem" in caplog.text
    caplog.clear()
    mystikos_tool.disk("disk", "appdir", secrets="allow")
    assert caplog.text == ""


def test_keys_of_a_disk_that_others_may_read_are_told(made: Inputs, caplog: pytest.LogCaptureFixture) -> None:
    Path("master.key").write_bytes(bytes(range(64)))
    keys = ("private.pem", "master.key")
    for name in keys:
        Path(name).chmod(0o640)
    mystikos_tool.disk("disk", "appdir", key="private.pem", encrypt="master.key")
    for name in keys:
        assert f"{name}: others may read or change this key (mode 0640)" in caplog.text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"passphrase": b"x" * 14}, "with encrypt only"),
        ({"room": 0, "size": 1 << 20}, "no effect with a size"),
    ],
)
def test_options_of_a_disk_that_do_not_go_together_are_refused(
    made: Inputs, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        mystikos_tool.disk("disk", "appdir", **options)


def test_the_date_is_that_of_source_date_epoch_where_none_is_given(
    made: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86399")
    mystikos_tool.package("app", "appdir", config="config.json", key="private.pem", runtime="runtime")
    assert mystikos_tool.inspect("app").date == "19700101"


def test_what_is_excluded_is_not_in_the_root_and_modes_are_kept_on_request(made: Inputs) -> None:
    Path("appdir/bin/app").chmod(0o700)
    plain = mystikos_tool.measure("appdir", config="config.json", runtime="runtime")
    kept = mystikos_tool.measure("appdir", config="config.json", runtime="runtime", modes="preserve")
    assert kept.mrenclave != plain.mrenclave
    with pytest.raises(UserError, match="/bin/app is not in"):
        mystikos_tool.measure("appdir", config="config.json", runtime="runtime", exclude=["app"])


@pytest.mark.parametrize("option", [{"exclude": ["app"]}, {"modes": "preserve"}], ids=["exclude", "modes"])
def test_an_option_that_could_not_matter_is_refused(made: Inputs, option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"root\.cpio: is no directory, and exclude, modes"):
        mystikos_tool.measure("root.cpio", config="config.json", runtime="runtime", **option)


@pytest.mark.parametrize(
    "option", [{"accepted_tcb": ["OutOfDate"]}, {"at": datetime(2026, 11, 27, tzinfo=timezone.utc)}]
)
def test_what_is_said_of_a_platform_is_of_use_with_collateral_only(option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is of use with collateral only"):
        mystikos_tool.check_quote("quote", **option)


@pytest.mark.parametrize(
    ("call", "option", "told"),
    [
        (
            mystikos_tool.policy,
            {"any_version": "no"},
            "any_version: cannot be a value of str; give one of bool",
        ),
        (mystikos_tool.verify, {"no_debug": 1}, "no_debug: cannot be a value of int; give one of bool"),
        (
            mystikos_tool.verify,
            {"product_id": "1"},
            "product_id: cannot be a value of str; give one of int",
        ),
        (
            mystikos_tool.verify,
            {"min_security_version": True},
            "min_security_version: cannot be a value of bool;",
        ),
        (mystikos_tool.disk, {"source": "appdir", "size": "16m"}, "size: cannot be a value of str;"),
        (mystikos_tool.disk, {"source": "appdir", "time": 1.5}, "time: cannot be a value of float;"),
        (
            mystikos_tool.disk,
            {"source": "appdir", "passphrase": "x" * 14},
            "passphrase: cannot be a value of str;",
        ),
        (
            mystikos_tool.statement,
            {"day": "2026-11-27"},
            "day: cannot be a value of str; give one of date",
        ),
        (mystikos_tool.check_quote, {"at": date(2026, 11, 27)}, "at: cannot be a value of date;"),
    ],
)
def test_a_value_of_another_type_is_not_taken_for_one(
    call: Callable[..., object], option: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        call("file", **option)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mystikos_tool.pack("archive", "appdir"),
        lambda: mystikos_tool.measure("appdir", config="config.json", runtime="runtime"),
    ],
    ids=["pack", "measure"],
)
def test_what_builders_warn_of_is_logged(
    made: Inputs, caplog: pytest.LogCaptureFixture, make: Callable[[], object]
) -> None:
    os.mkfifo("appdir/pipe")
    make()
    (record,) = caplog.records
    assert record.name == "mystikos_tool"
    assert record.message.startswith("appdir/pipe: is left out")


def test_a_missing_source_is_no_disk(made: Inputs) -> None:
    with pytest.raises(UserError, match="missing: "):
        mystikos_tool.measure("missing", config="config.json", runtime="runtime")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"exclude": "*.pyc"}, r"exclude: is '\*\.pyc', where a list is expected; give \['\*\.pyc'\]"),
        ({"overlays": Path("over")}, "overlays: is PosixPath.'over'., where a list is expected"),
        (
            {"overlays": {"over", "under"}},
            "overlays: is a set, whose order changes from run to run; give a list",
        ),
        ({"modes": "presrve"}, """modes: cannot be 'presrve'; give "canonical" or "preserve\""""),
        ({"source": ""}, "source: is empty; name what belongs there, or leave it out"),
        ({"target": "appdir/root.cpio"}, r"appdir/root\.cpio: lies in appdir, which is packed"),
    ],
)
def test_what_would_be_taken_for_something_else_is_refused(
    made: Inputs, arguments: dict[str, Any], told: str
) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=told):
        mystikos_tool.pack(**{"target": "packed", "source": "appdir", **arguments})
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_the_keys_of_a_mapping_have_an_order(made: Inputs) -> None:
    for name in ("under", "over"):
        Path(name).mkdir()
        Path(name, "motd").write_text(name)
    mystikos_tool.pack("packed", "appdir", overlays=dict.fromkeys(["under", "over"]).keys())
    mystikos_tool.pack("expected", "appdir", overlays=["under", "over"])
    assert Path("packed").read_bytes() == Path("expected").read_bytes()


def test_what_can_be_read_only_once_is_no_list(made: Inputs) -> None:
    with pytest.raises(UserError, match="pubkeys: can be read only once; give a list"):
        mystikos_tool.package(
            "target",
            "appdir",
            config="config.json",
            key="private.pem",
            runtime="runtime",
            pubkeys=iter(made.pubkeys),
        )
    assert not Path("target").exists()


@pytest.mark.parametrize("target", ["private.pem", "config.json"])
def test_no_package_is_written_over_what_it_is_made_of(made: Inputs, target: str) -> None:
    content = Path(target).read_bytes()
    with pytest.raises(UserError, match=f"{target}: is one of the inputs"):
        mystikos_tool.package(target, "appdir", config="config.json", key="private.pem", runtime="runtime")
    assert Path(target).read_bytes() == content


def test_a_configuration_whose_fields_are_not_what_would_go_into_the_package_is_refused(made: Inputs) -> None:
    read = mystikos_tool.Config.load("config.json")
    for config in (mystikos_tool.Config("/bin/app"), read._replace(debug=True)):
        with pytest.raises(UserError, match="give a file, or a mapping with the members"):
            mystikos_tool.measure("appdir", config=config, runtime="runtime")


def test_a_closure_of_nothing_and_a_disk_with_less_than_no_room_are_refused(made: Inputs) -> None:
    with pytest.raises(UserError, match="programs: names none"):
        mystikos_tool.closure("closure", [])
    with pytest.raises(UserError, match="room: cannot be -1"):
        mystikos_tool.disk("disk", "appdir", room=-1)


# Inspections


def test_an_inspection_renders_the_same_facts_as_text_and_as_json(made: Inputs) -> None:
    inspection = mystikos_tool.inspect(build(made, Path("app")))
    text, facts = inspection.to_text().splitlines(), json.loads(inspection.to_json())
    assert text[:4] == ["product_id=7", "security_version=2", "debug=0", "xfrm=0000000000000000"]
    assert (facts["xfrm"], facts["zero_base"], facts["start_address"]) == (0, False, inspection.start_address)
    assert f"mrenclave={facts['mrenclave']}" in text
    assert bytes.fromhex(facts["modulus"]) == inspection.modulus
    for name, section in facts["sections"].items():
        assert f"{name}={section['size']} bytes" in text
        assert inspection.sections[name].sha256 == section["sha256"]
    assert text[-1] == facts["config"] == inspection.config


def test_xfrm_is_printed_as_the_reference_does(made: Inputs) -> None:
    inspection = replace(mystikos_tool.inspect(build(made, Path("app"))), xfrm=3)
    assert "\nxfrm=0x00000000000003\n" in inspection.to_text()


# What is packed


def test_a_directory_is_packed_as_it_is_asked_for(made: Inputs, tmp_path: Path) -> None:
    (tmp_path / "over" / "etc").mkdir(parents=True)
    (tmp_path / "over" / "etc" / "key").write_text("secret")
    packing = {"overlays": ["over"], "chmod": {"etc/key": "0600"}, "exclude": ["*.pyc"], "strip": True}
    mystikos_tool.pack("packed", "appdir", **packing)
    found = archive.read(Path("packed"))
    assert found.by_path[b"etc/key"].mode & 0o777 == 0o600
    whole = mystikos_tool.measure("packed", config="config.json", runtime="runtime")
    assert mystikos_tool.measure("appdir", config="config.json", runtime="runtime", **packing) == whole
    for name, value in packing.items():
        with pytest.raises(UserError, match="are for what is packed"):
            mystikos_tool.measure("packed", config="config.json", runtime="runtime", **{name: value})


def test_a_configuration_may_be_a_mapping(made: Inputs) -> None:
    members = json.loads(Path("config.json").read_text())
    measured = mystikos_tool.measure("appdir", config=members, runtime="runtime")
    assert len(measured.mrenclave) == 32
    with pytest.raises(UserError, match="the configuration: ProductID: cannot be 70000"):
        mystikos_tool.measure("appdir", config={**members, "ProductID": 70000}, runtime="runtime")
