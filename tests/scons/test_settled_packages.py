"""A package that SCons has found up to date: one look at it, and no other answer than SCons'."""

from __future__ import annotations

from pathlib import Path

import pytest
from scons_project import ALL, PACKAGE, PACKAGE_HELLO, ROOTFS, SIGN, Project, make_project, settle

# SCons tells of every node that it looks at.
TELLS = "Progress(lambda node: print('looks at', node))\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose package was found up to date."""
    project = make_project(tmp_path / "project")
    project.sconstruct(PACKAGE_HELLO)
    settle(project)
    return project


def looked_at(project: Project, *arguments: str) -> set[str]:
    """Build; return the targets that SCons looked at."""
    out = project.build(*arguments).out
    names = {line.removeprefix("looks at ") for line in out.splitlines() if line.startswith("looks at hello")}
    assert names <= {"hello", "hello.cpio", "hello.measurement.json", "hello.mystenc.so"}, out
    return names


def test_scons_looks_at_the_package_alone_and_after_a_change_at_all_before_it(project: Project) -> None:
    project.sconstruct(TELLS + PACKAGE_HELLO)
    assert looked_at(project) == {"hello"}
    project.write("appdir/etc/motd", "good bye\n")
    assert len(looked_at(project)) == 4
    settle(project)
    assert looked_at(project) == {"hello"}


@pytest.mark.parametrize("waits", ["hello", "hello.mystenc.so", "hello.measurement.json", "config.json"])
@pytest.mark.parametrize("how", ["Depends", "Requires"])
@pytest.mark.parametrize("source", ["appdir", "given.cpio"])
def test_what_a_package_or_anything_before_it_waits_for_is_made(
    project: Project, waits: str, how: str, source: str
) -> None:
    project.path("hello.cpio").rename(project.path("given.cpio"))
    project.write("extra.in", "one")
    extra = "env.Command('extra', 'extra.in', [Copy('$TARGET', '$SOURCE')])\n"
    project.sconstruct(f"env.MystPackage('hello', '{source}')\nenv.{how}('{waits}', 'extra')\n{extra}")
    for _ in range(3):
        project.build("hello")
    project.write("extra.in", "two")
    project.build("hello")
    assert project.path("extra").read_text() == "two"


@pytest.mark.parametrize(
    ("added", "stages"),
    [
        ("env.AlwaysBuild(hello)", {PACKAGE}),
        ("env.AlwaysBuild('hello.cpio')", {ROOTFS}),
        ("env.AddPostAction(hello, 'true')", {PACKAGE}),
        ("env.AddPreAction('hello.cpio', 'true')", {ROOTFS}),
        ("env.Depends('hello.mystenc.so', 'config.json')", {SIGN}),
        ("env.Ignore(hello, 'hello.mystenc.so')", {PACKAGE}),
    ],
)
def test_what_is_added_to_a_package_or_to_what_leads_to_it_counts_at_once(
    project: Project, added: str, stages: set[str]
) -> None:
    project.sconstruct(f"hello = {PACKAGE_HELLO}{added}\n")
    assert project.build().stages >= stages


def test_all_is_made_again_where_scons_has_lost_its_database(project: Project) -> None:
    project.path(".sconsign.dblite").unlink()
    assert project.build().stages == ALL


def test_all_is_made_again_where_scons_has_lost_the_database_of_a_directory(project: Project) -> None:
    project.sconstruct("SConsignFile(None)\n" + PACKAGE_HELLO)
    assert project.build().stages == ALL
    for _ in range(3):
        assert project.build().stages == set()
    project.path(".sconsign").unlink()
    assert project.build().stages == ALL


def test_all_targets_are_cleaned(project: Project) -> None:
    project.build("-c")
    assert not [name for name in project.names() if name.startswith("hello")]


@pytest.mark.parametrize("targets", [("hello", "hello.cpio"), ("hello.cpio", "hello"), ("hello.mystenc.so",)])
def test_scons_tells_of_each_target_that_is_asked_for(project: Project, targets: tuple[str, ...]) -> None:
    told = project.build(*targets).out.splitlines()
    assert sorted(told) == sorted(f"scons: `{name}' is up to date." for name in targets)


def test_what_is_made_of_an_intermediate_too_is_made(project: Project) -> None:
    project.sconstruct(f"hello = {PACKAGE_HELLO}env.MystIdentity('a', hello)\n")
    settle(project)
    assert project.build().out == "scons: `.' is up to date.\n"
    for name in ("a.mrenclave", "a.mrsigner"):
        project.path(name).unlink()
    built = project.build()
    assert project.path("a.mrenclave").exists() and project.path("a.mrsigner").exists()
    assert built.stages == set()


def test_a_build_that_makes_nothing_writes_nothing_but_scons_own_database(project: Project) -> None:
    before = project.snapshot()
    project.build()
    after = project.snapshot()
    assert {name for name in after if after[name] != before.get(name)} <= {".", ".sconsign.dblite"}
