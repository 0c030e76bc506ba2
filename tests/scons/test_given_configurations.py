"""Configurations that an SConstruct gives: a dictionary, or keys in place of those of a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scons_project import MEASURE, PACKAGE, SIGN, Project

from mystikos_tool import inspect

WHOLE = '{"version": "0.1", "ApplicationPath": "/bin/hello", "MemorySize": "1m"}'


def package(project: Project, *variables: str, before: str = "") -> None:
    arguments = ", ".join(['"hello"', '"appdir"', *variables])
    project.sconstruct(f"{before}env.MystPackage({arguments})\n")


def packaged(project: Project) -> dict[str, Any]:
    """The configuration in the package."""
    found: dict[str, Any] = json.loads(inspect(project.path("hello")).config)
    return found


def test_a_dictionary_is_a_configuration(project: Project) -> None:
    project.path("config.json").unlink()
    package(project, f"MYST_CONFIG={WHOLE}")
    project.build()
    assert packaged(project) == json.loads(WHOLE)
    assert project.build().stages == set()
    package(project, 'MYST_CONFIG={"MemorySize": "1m", "ApplicationPath": "/bin/hello", "version": "0.1"}')
    assert project.build().stages == set()
    package(project, f"MYST_CONFIG={WHOLE.replace('1m', '2m')}")
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}


def test_keys_that_are_set_take_the_place_of_those_of_the_file(project: Project) -> None:
    package(project)
    project.build()
    package(project, 'MYST_CONFIG_SET={"SecurityVersion": 3, "MemorySize": "2m", "Debug": None}')
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}
    expected = {"version": "0.1", "MemorySize": "2m", "ApplicationPath": "/bin/hello", "SecurityVersion": 3}
    assert packaged(project) == expected
    assert list(packaged(project)) == list(expected)
    assert inspect(project.path("hello")).identity.security_version == 3
    assert project.build().stages == set()
    package(project, 'MYST_CONFIG_SET="SecurityVersion=4,MemorySize=2m,Debug=false"')
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}
    assert packaged(project) == {**expected, "Debug": False, "SecurityVersion": 4}


def test_a_file_with_keys_set_is_tracked_as_a_file_is(project: Project) -> None:
    package(project, 'MYST_CONFIG_SET={"SecurityVersion": 3}')
    project.build()
    text = project.path("config.json").read_text()
    project.write("config.json", text.replace("1m", "3m"))
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}
    assert packaged(project)["MemorySize"] == "3m"
    project.sconstruct(
        'made = env.Command("made.json", "config.json", Copy("$TARGET", "$SOURCE"))\n'
        'env.MystPackage("hello", "appdir", MYST_CONFIG=made, MYST_CONFIG_SET={"SecurityVersion": 3})\n'
    )
    project.build("hello")
    project.write("config.json", text)
    assert project.build("hello").stages == {MEASURE, SIGN, PACKAGE}
    assert packaged(project)["MemorySize"] == "1m"


def test_one_file_makes_packages_with_several_settings(project: Project) -> None:
    project.sconstruct(
        "for number in (1, 2):\n"
        '    env.MystPackage(f"hello{number}", "appdir", MYST_CONFIG_SET={"ProductID": number})\n'
    )
    project.build()
    assert [inspect(project.path(f"hello{number}")).identity.product_id for number in (1, 2)] == [1, 2]
    assert project.build().stages == set()


def test_variables_in_strings_are_put_in(project: Project) -> None:
    package(
        project,
        'MYST_CONFIG_SET={"EnvironmentVariables": ["RELEASE=$RELEASE", "PRICE=5$$  or  so"]}',
        before='env["RELEASE"] = "1.2"\n',
    )
    project.build()
    assert packaged(project)["EnvironmentVariables"] == ["RELEASE=1.2", "PRICE=5$  or  so"]


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ('MYST_CONFIG_SET={"SecurityVersion": 70000}', "MYST_CONFIG_SET: SecurityVersion: cannot be 70000; "),
        ('MYST_CONFIG_SET={"SecurtyVersion": 7}', 'MYST_CONFIG_SET: unknown key "SecurtyVersion"; write "S'),
        ('MYST_CONFIG_SET={"SecurtyVersion": None}', "SecurtyVersion: is no key that could be taken away"),
        (
            'MYST_CONFIG_SET={"UserMemSize": "1m"}',
            "UserMemSize: is the old name of MemorySize, given in line",
        ),
        ('MYST_CONFIG_SET={"Hostname": "$NONE"}', "MYST_CONFIG_SET: Hostname: $NONE is not set; set it, or"),
        ('MYST_CONFIG_SET={"Hostname": "a\\0"}', "MYST_CONFIG_SET: Hostname: a string with a NUL in it"),
        ('MYST_CONFIG_SET={"Hostname": {1}}', "MYST_CONFIG_SET cannot be {'Hostname': {1}}; give a dict"),
        ('MYST_CONFIG_SET="Hostname"', "MYST_CONFIG_SET cannot be 'Hostname'; give a dictionary"),
        ('MYST_CONFIG={"version": "0.1"}', "MYST_CONFIG: ApplicationPath is missing"),
        ('MYST_CONFIG={"ApplicationPath": "/no"}', "MYST_CONFIG: ApplicationPath: /no is not in hello.cpio"),
        ("MYST_CONFIG={1: 2}", "MYST_CONFIG cannot be {1: 2}; give a dictionary as in"),
        ('MYST_CONFIG="confg.json", MYST_CONFIG_SET={"Debug": 1}', "did you mean config.json?"),
        ("MYST_CONFIG=3", "MYST_CONFIG cannot be 3; give a file name, a file node or a dictionary"),
    ],
)
def test_a_mistake_names_the_key_and_the_variable(project: Project, variable: str, told: str) -> None:
    package(project, variable)
    error = project.fails().err
    assert told in error
    assert "SConstruct:3" in error or f'{project.path("SConstruct")}", line 3' in error


def test_a_mistake_in_the_file_names_its_line_where_another_key_is_set(project: Project) -> None:
    project.write("config.json", '{"version": "0.1", "ApplicationPath": "/bin/hello",\n "NoBrk": "x"}\n')
    package(project, 'MYST_CONFIG_SET={"Debug": 1}')
    assert "config.json:2:11: NoBrk: cannot be" in project.fails().err
    package(project, 'MYST_CONFIG_SET={"NoBrk": True}')
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}
