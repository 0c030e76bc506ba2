"""The embedded runtime in a project: compiled once, followed, and what it starts."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from scons_project import ALL, AS_NOBODY, DATA, TARGETS, Project, needs_setpriv_as_root
from static_programs import STATIC_COMPILER

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")

PROGRAM = """\
#include <stdio.h>
int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++)
        puts(arguments[i]);
    return count > 3 ? 7 : 0;
}
"""
SCRIPT = f"""\
env = Environment(tools=["mystikos"], toolpath=[{{site_tools!r}}])
env.Replace(MYST_CONFIG="config.json", MYST_KEY="key.pem")
compiler = {shlex.join(STATIC_COMPILER)!r}
env["ENV"]["HOME"] = {str(Path.home())!r}
env.Command("appdir/bin/hello", "hello.c", compiler + " $SOURCE -o $TARGET")
package = env.MystPackage("hello", "appdir")
env.MystRun("run", package, ["red", "blue $x 'y'"])
env.MystRun("fail", package, ["one", "two", "three"])
"""
RUNTIME = ("bin/myst", "lib/openenclave/mystenc.so", "lib/libmystkernel.so", "lib/libmystcrt.so")


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the embedded runtime, built once for all tests."""
    project = Project(tmp_path_factory.mktemp("embedded") / "hello")
    project.write("hello.c", PROGRAM)
    project.write("appdir/etc/motd", "good day\n")
    project.write(
        "config.json",
        '{"version": "0.1", "ApplicationPath": "/bin/hello", "HostApplicationParameters": true}',
    )
    project.write("key.pem", (DATA / "keys" / "key-a.pem").read_bytes())
    project.sconstruct("", head=SCRIPT)
    build = project.build("-j2")
    assert build.out.count("compiled ") == len(RUNTIME)
    assert build.stages == ALL
    return project


def test_a_package_is_started_with_its_arguments_as_they_are(hello: Project) -> None:
    build = hello.build("run")
    assert build.out == "hello red 'blue $x '\"'\"'y'\"'\"''\nred\nblue $x 'y'\n"
    assert hello.build("run").out == build.out


def test_a_status_other_than_0_fails_the_build(hello: Project) -> None:
    assert "scons: *** [fail] hello ended with status 7" in hello.fails("fail").err


def test_nothing_is_compiled_twice_not_even_in_another_place(hello: Project, tmp_path: Path) -> None:
    assert hello.build().out == "scons: `.' is up to date.\n"
    assert hello.copy(tmp_path / "copy").build(umask=0o077).out == "scons: `.' is up to date.\n"


def test_several_environments_share_one_runtime(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    project.sconstruct("env.Clone().MystPackage('second', 'appdir')\nprint(*env.MystLoader())\n", head=SCRIPT)
    build = project.build()
    assert build.out.splitlines()[0] == " ".join(f"build/mystikos-runtime/{name}" for name in RUNTIME)
    assert "compiled" not in build.out
    assert project.path("second").read_bytes() == project.path("hello").read_bytes()


def test_a_clean_removes_the_runtime_with_the_targets(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    removed = set(project.build("-c").out.splitlines())
    assert {f"Removed build/mystikos-runtime/{name}" for name in RUNTIME} <= removed
    assert {f"Removed {name}" for name in TARGETS.values()} <= removed
    assert project.path("key.pem").exists()


def test_a_changed_runtime_is_compiled_again_and_packages_follow(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    project.path("build/mystikos-runtime/lib/libmystcrt.so").unlink()
    build = project.build()
    assert build.out.count("compiled ") == 1
    assert build.stages == set()  # the compiler makes the same bytes


def test_two_compilers_for_one_runtime_directory_are_told(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    project.sconstruct("env.MystPackage('second', 'appdir', MYST_RUNTIME_CC='gcc')\n", head=SCRIPT)
    assert (
        "MYST_RUNTIME_CC differs for one runtime in build/mystikos-runtime; give each" in project.fails().err
    )


def test_a_compiler_that_is_not_there_is_told(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    project.sconstruct(
        "env.MystPackage('second', 'appdir', MYST_RUNTIME_CC='no-such-compiler', MYST_RUNTIME_DIR='other')\n",
        head=SCRIPT,
    )
    build = project.fails("second")
    assert "the compiler no-such-compiler can't be started" in build.err
    assert "correct MYST_RUNTIME_CC" in build.err
    assert not any(path.is_file() for path in project.path("other").rglob("*"))


@needs_setpriv_as_root
def test_another_user_starts_the_package(hello: Project, tmp_path: Path) -> None:
    project = hello.copy(tmp_path / "copy")
    project.give_to_nobody()
    assert project.build("run", under=AS_NOBODY).out.endswith("\nred\nblue $x 'y'\n")
