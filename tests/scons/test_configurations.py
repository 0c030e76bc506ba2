"""What a build does about its configurations."""

from __future__ import annotations

from pathlib import Path

from scons_project import A_NEW_PYTHON, MEASURE, PACKAGE_HELLO, Project

from mystikos_tool.cache.configurations import KnownInStore
from mystikos_tool.cache.store import Store
from mystikos_tool.config import schema

SAY_WHETHER_IT_WAS_CHECKED = """\
import atexit, sys
atexit.register(lambda: print("checked" if "jsonschema" in sys.modules else "not checked"))
"""


def test_a_configuration_that_was_found_valid_is_not_held_against_the_schema_again(project: Project) -> None:
    project.sconstruct(PACKAGE_HELLO + SAY_WHETHER_IT_WAS_CHECKED)
    assert project.build(environment=A_NEW_PYTHON).out.endswith("\nchecked\n")
    digest = schema.digest(Path(project.path("config.json")).read_bytes())
    (store,) = project.directory.glob(".sconsign*.mystikos")
    assert digest in KnownInStore(Store(store))

    project.write("appdir/etc/new", "content")
    build = project.build(environment=A_NEW_PYTHON)
    assert MEASURE in build.stages
    assert build.out.endswith("\nnot checked\n")


def test_a_wrong_configuration_is_told_in_every_build(project: Project) -> None:
    project.sconstruct(PACKAGE_HELLO)
    project.write("config.json", '{"version": "0.1",\n "MemorySize": "a b", "ApplicationPath": "/bin/hello"}')
    for _ in range(2):
        assert "config.json:2:16: MemorySize: cannot be" in project.fails().text
