"""Packages of an installed Mystikos, started without SGX by its own exec-linux."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from scons_project import Project
from static_programs import STATIC_COMPILER

from mystikos_tool.packaging import exec_linux

pytestmark = [
    pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package"),
    pytest.mark.skipif(exec_linux.has_sgx(), reason="starts enclaves itself where there is SGX"),
]

# A loader that tells its arguments and what is in the files that they name.
RECORDER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show(const char *path)
{
    char data[7] = "";
    FILE *file = fopen(path, "r");
    if (file && fread(data, 1, 6, file))
        printf("%.6s\n", data);
}

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++)
        puts(arguments[i][0] == '/' ? strrchr(arguments[i], '/') : arguments[i]);
    if (count > 4 && !strcmp(arguments[1], "exec-linux"))
        show(arguments[4]);
    return getenv("STATUS") ? atoi(getenv("STATUS")) : 0;
}
"""
STARTED = "exec-linux\n--app-config-path\n/config.json\n/rootfs\n/hello\nred\n070701\n"


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("loader")
    (directory / "myst.c").write_text(RECORDER)
    subprocess.run([*STATIC_COMPILER, "myst.c", "-o", "myst"], cwd=directory, check=True)
    return (directory / "myst").read_bytes()


@pytest.fixture
def recorded(project: Project, loader: bytes) -> Project:
    """A project whose installed Mystikos tells how it is started."""
    project.write("rt/bin/myst", loader, 0o755)
    return project


def starting(project: Project, *calls: str) -> None:
    project.sconstruct(
        "hello = env.MystPackage('hello', 'appdir')\n" + "".join(f"{call}\n" for call in calls)
    )


def test_run_starts_the_root_by_exec_linux_and_tells_so_in_a_line(recorded: Project) -> None:
    starting(recorded, "env.MystRun('run', hello, ['red'])")
    build = recorded.build("run")
    assert STARTED in build.out
    told = re.findall(
        r"^mystikos: hello is started without SGX by rt/bin/myst exec-linux; .*$", build.err, re.M
    )
    assert len(told) == 1
    assert not list(Path("/tmp").glob("mystikos-*/rootfs"))


def test_the_exit_status_is_passed_on(recorded: Project) -> None:
    starting(recorded, "env.MystRun('run', hello, ['red'], ENV={'STATUS': '7'})")
    assert "hello ended with status 7" in recorded.fails("run").err


def test_a_test_runs_by_exec_linux_too(recorded: Project) -> None:
    expected = f"environment={{'STATUS': '3'}}, status=3, stdout={STARTED!r}"
    starting(recorded, f"env.MystTest('red', hello, args=['red'], {expected})")
    assert "check: 1 passed" in recorded.build("check").out


def test_the_package_itself_is_started_where_that_is_asked_for(recorded: Project) -> None:
    starting(recorded, "env.MystRun('run', hello, ['red'], MYST_START='package')")
    build = recorded.build("run")
    assert "exec-linux" not in build.text
    assert "\nred\n" in build.out


def test_another_way_to_start_runs_a_test_again(recorded: Project) -> None:
    starting(recorded, "env.MystTest('red', hello, args=['red'])")
    recorded.build("check")
    starting(recorded, "env.MystTest('red', hello, args=['red'], MYST_START='package')")
    assert "(0 of them unchanged)" in recorded.build("check").out


def test_exec_linux_cannot_be_asked_for_without_an_installed_mystikos(recorded: Project) -> None:
    recorded.write("program", "#!/bin/sh\n", 0o755)
    recorded.sconstruct("env.MystRun('run', 'program', MYST_START='exec-linux')\n")
    assert "is not made with an installed Mystikos" in recorded.fails("run").err
    recorded.sconstruct("env.MystRun('run', 'program', MYST_START='sgx')\n")
    assert "MYST_START cannot be 'sgx'" in recorded.fails("run").err
