"""MystCheck: what of a root cannot work in an enclave, as a target of the build."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from scons_project import SCONSTRUCT, Project

sys.path.append(str(Path(__file__).parents[1] / "core"))
import tiny_elf

EMBEDDED = SCONSTRUCT.replace('MYST_RUNTIME="rt"', "")


@pytest.fixture
def with_tool(project: Project) -> Project:
    """A project whose root has a static program beside the one that it starts, and enough memory."""
    project.write("appdir/bin/tool", tiny_elf.program(kind=2), 0o755)
    project.write("config.json", '{"version": "0.1", "MemorySize": "64m", "ApplicationPath": "/bin/hello"}\n')
    return project


def report(project: Project) -> dict[str, object]:
    found = json.loads(project.path("hello.check.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("source", ["'appdir'", "env.MystRootfs('root', 'appdir')", "'made.cpio'"])
def test_a_root_is_checked_against_the_configuration(with_tool: Project, source: str) -> None:
    with_tool.sconstruct(f"env.MystRootfs('made', 'appdir')\nenv.MystCheck('hello', {source})\n")
    build = with_tool.build()
    assert "/bin/tool: is statically linked" in build.err
    assert report(with_tool)["configuration"] is True
    assert report(with_tool)["counts"] == {"error": 0, "warning": 1, "note": 0}


def test_a_package_is_checked_against_its_own_configuration(with_tool: Project) -> None:
    with_tool.sconstruct("env.MystCheck('hello', env.MystPackage('hello', 'appdir'))\n")
    with_tool.build()
    assert report(with_tool)["configuration"] is True


def test_nothing_changed_means_that_nothing_is_checked_again(with_tool: Project) -> None:
    with_tool.sconstruct("env.MystCheck('hello', 'appdir')\n")
    with_tool.build()
    assert "checked" not in with_tool.build().out
    with_tool.write(
        "config.json", '{"version": "0.1", "MemorySize": "65m", "ApplicationPath": "/bin/hello"}\n'
    )
    assert "checked" in with_tool.build().out


def test_what_certainly_fails_is_an_error_of_the_build_with_every_finding(with_tool: Project) -> None:
    with_tool.write("config.json", '{"version": "0.1", "MemorySize": "1m", "ApplicationPath": "/bin/none"}\n')
    with_tool.sconstruct("env.MystCheck('hello', 'appdir')\n")
    build = with_tool.fails()
    assert "do not suffice for Mystikos to boot" in build.err
    assert "/bin/none is not in" in build.err
    assert not with_tool.path("hello.check.json").exists()


def test_the_project_says_which_severity_fails_the_build(with_tool: Project) -> None:
    with_tool.sconstruct("env.MystCheck('hello', 'appdir', MYST_CHECK_FAILS='warning')\n")
    assert "/bin/tool: is statically linked" in with_tool.fails().err
    with_tool.sconstruct("env.MystCheck('hello', 'appdir', MYST_CHECK_FAILS='none')\n")
    with_tool.build()
    with_tool.sconstruct("env.MystCheck('hello', 'appdir', MYST_CHECK_FAILS='fatal')\n")
    assert "MYST_CHECK_FAILS cannot be 'fatal'" in with_tool.fails().err


def test_a_variable_that_matters_for_no_check_is_refused(with_tool: Project) -> None:
    with_tool.sconstruct("env.MystCheck('hello', 'appdir', MYST_PUBKEYS=['key.pem'])\n")
    assert "MYST_PUBKEYS has no effect" in with_tool.fails().err


def test_a_root_without_a_configuration_is_checked_by_its_files(with_tool: Project) -> None:
    with_tool.sconstruct("env.MystCheck('hello', 'appdir', MYST_CONFIG=None)\n")
    with_tool.build()
    assert report(with_tool)["configuration"] is False


# A root on a disk

MADE_DISK = "disk = env.MystDisk('hello', 'appdir')\n"
OF_PACKAGE = "env.MystCheck('hello', env.MystPackage('hello', disk, MYST_ROOTHASHES=disk))\n"


@pytest.mark.parametrize(
    ("check", "has_configuration"),
    [
        ("env.MystCheck('hello', disk)\n", True),
        ("env.Clone(MYST_ROOT='disk').MystCheck('hello', 'hello.disk')\n", True),
        ("env.MystCheck('hello', disk, MYST_CONFIG=None)\n", False),
        (OF_PACKAGE, True),
    ],
    ids=["a disk", "a file", "without a configuration", "a package"],
)
def test_a_root_on_a_disk_is_looked_into(with_tool: Project, check: str, has_configuration: bool) -> None:
    with_tool.sconstruct(MADE_DISK + check)
    assert "/bin/tool: is statically linked" in with_tool.build().err
    found = report(with_tool)
    assert found["configuration"] is has_configuration
    assert found["counts"] == {"error": 0, "warning": 1, "note": 0}
    assert "checked" not in with_tool.build().out


@pytest.mark.parametrize("check", ["env.MystCheck('hello', disk)\n", OF_PACKAGE], ids=["disk", "package"])
def test_a_disk_that_changed_is_checked_again(with_tool: Project, check: str) -> None:
    with_tool.sconstruct(MADE_DISK + check)
    with_tool.build()
    with_tool.path("appdir/bin/tool").unlink()
    assert "is statically linked" not in with_tool.build().text
    assert report(with_tool)["counts"] == {"error": 0, "warning": 0, "note": 0}


def test_what_of_a_disk_certainly_fails_is_an_error_of_the_build(with_tool: Project) -> None:
    with_tool.write(
        "config.json", '{"version": "0.1", "MemorySize": "64m", "ApplicationPath": "/bin/none"}\n'
    )
    with_tool.sconstruct(MADE_DISK + "env.MystCheck('hello', disk)\n")
    assert "/bin/none is not in" in with_tool.fails().err
    assert not with_tool.path("hello.check.json").exists()


def test_a_disk_that_is_not_at_hand_is_asked_for(with_tool: Project) -> None:
    package = "env.MystPackage('hello', MYST_ROOT='disk', MYST_ROOTHASHES=env.MystDisk('hello', 'appdir'))"
    with_tool.sconstruct(f"env.MystCheck('hello', {package})\n")
    assert "is on a disk that is not at hand" in with_tool.fails().err
    with_tool.sconstruct("env.Clone(MYST_ROOT='disk').MystCheck('hello')\n")
    assert "MystCheck needs what to look into" in with_tool.fails().err
