"""How scons shows what the tool says: on any stream, and with the line of the SConstruct that it is about."""

from __future__ import annotations

import os

import pytest
from scons_project import PACKAGE_HELLO, SITE_TOOLS, TARGETS, Project

STREAMS: dict[str, dict[str, str | None]] = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "the C locale": {
        "PYTHONIOENCODING": None,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    },
}


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stage_runs_on_a_stream_that_is_not_utf_8(project: Project, stream: str) -> None:
    project.write("program", "#!/bin/sh\n", 0o755)
    project.sconstruct(
        "env.MystPackage('hello', 'appdir', MYST_KEY=env.MystKey('made.pem'))\n"
        "env.MystTest('t', 'program')\n"
        "env.MystRun('r', 'program', MYSTRUNCOMSTR='start → $SOURCE')\n"
    )
    told = project.build("-n", environment=STREAMS[stream])
    assert "pack appdir -> hello.cpio\n" in told.out
    build = project.build("hello", "check", environment=STREAMS[stream])
    assert "made a development key -> made.pem\n" in build.out
    for name in TARGETS.values():
        assert f" -> {name}\n" in build.out
    assert "start -> program\n" in project.build("r", environment=STREAMS[stream]).out


def test_a_line_of_the_user_s_is_shown_on_a_stream_that_lacks_its_characters(project: Project) -> None:
    project.sconstruct("env['MYSTROOTFSCOMSTR'] = 'Größe → $TARGET'\n" + PACKAGE_HELLO)
    out = project.build(environment={"PYTHONIOENCODING": "ascii"}).out
    assert r"Gr\xf6\xdfe -> hello.cpio" in out


def test_scons_ninja_tool_is_refused_in_one_message(project: Project) -> None:
    pytest.importorskip("ninja", reason="needs the ninja package, which the ninja tool needs")
    project.write("hello.c", "int main(void) { return 0; }\n")
    project.sconstruct(
        PACKAGE_HELLO,
        head="SetOption('experimental', 'ninja')\n"
        "env = Environment(tools=['default', 'ninja', 'mystikos'], toolpath=[{site_tools!r}],"
        " MYST_CONFIG='config.json', MYST_KEY='key.pem', MYST_RUNTIME='rt')\n",
    )
    build = project.fails()
    assert (
        "MystPackage makes what SCons' ninja tool cannot build; leave out --experimental=ninja" in build.err
    )
    assert f'File "{project.path("SConstruct")}", line 3' in build.err
    project.build("--experimental=none", "hello")


def test_scons_ninja_tool_that_is_loaded_behind_a_call_is_refused(project: Project) -> None:
    pytest.importorskip("ninja", reason="needs the ninja package, which the ninja tool needs")
    project.sconstruct(
        f"SetOption('experimental', 'ninja')\n{PACKAGE_HELLO}"
        "env.MystRun('run', 'hello')\nEnvironment(tools=['default', 'ninja'])\n"
    )
    for arguments in ((), ("hello",), ("-h",)):
        build = project.fails(*arguments)
        assert "MystPackage makes what SCons' ninja tool cannot build; leave out" in build.err
        assert "(MystPackage at SConstruct:4)" in build.err
    assert project.build("--experimental=none", "hello").made


STARTS = ["env.MystTest('t', {0!r})", "env.MystRun('check', {0!r})", "env.MystTest('t', File({0!r}))"]


@pytest.mark.parametrize("call", STARTS)
def test_a_program_to_be_started_that_is_not_there_is_told_with_the_line_of_the_call(
    project: Project, call: str
) -> None:
    project.sconstruct(call.format("programs/none") + "\n")
    builder = call[4:12].rstrip("(")
    (line,) = project.fails("check").err.splitlines()
    assert line.startswith("scons: *** ")
    assert line.removesuffix(".").endswith(
        f"programs/none: is named by {builder} and is not there; build it, or correct the name"
        f" ({builder} at SConstruct:3)"
    )
    project.write("programs/nine", "#!/bin/sh\n", 0o755)
    assert "did you mean programs/nine?" in project.fails("check").err
    project.write("programs/none", "#!/bin/sh\necho started\n", 0o755)
    project.build("check")


CALLS = {
    "a missing configuration": (
        "env.MystPackage('hello', 'appdir', MYST_CONFIG='none.json')",
        "MystPackage",
        "none.json: is named by MYST_CONFIG and is not there",
    ),
    "a broken configuration": (
        "env.MystMeasure('hello', 'appdir', MYST_CONFIG='broken.json')",
        "MystMeasure",
        "broken.json:1:1: ",
    ),
    "a missing directory": (
        "env.MystRootfs('hello', 'none')",
        "MystRootfs",
        "none: no such file or directory",
    ),
    "a missing runtime": (
        "env.MystPackage('hello', 'appdir', MYST_RUNTIME='none')",
        "MystPackage",
        "none: there is no such runtime directory",
    ),
    "a wrong key": (
        "env.MystSign('hello', env.MystMeasure('hello', 'appdir'), MYST_KEY='config.json')",
        "MystSign",
        "config.json: is not PEM",
    ),
    "a key that is none": ("env.MystKey('config.json')", "MystKey", "config.json: is not PEM"),
    "a target in its source": (
        "env.MystPackage('appdir/hello', 'appdir')",
        "MystPackage",
        "lies in appdir, which it is made of",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_an_error_of_a_stage_names_the_line_of_the_call(project: Project, case: str) -> None:
    call, builder, message = CALLS[case]
    project.write("broken.json", "[]")
    project.sconstruct(f"\n\n{call}\n")
    build = project.fails()
    (line,) = [line for line in build.err.splitlines() if message in line]
    assert line.endswith(f" ({builder} at SConstruct:5)")


def test_an_error_names_the_sconscript_that_it_is_about(project: Project) -> None:
    project.write("sub/SConscript", "Import('env')\nenv.MystRootfs('hello', 'none')\n")
    project.sconstruct("SConscript('sub/SConscript', exports='env')\n")
    assert "sub/none: no such file or directory" in project.fails().err
    assert "(MystRootfs at sub/SConscript:2)" in project.fails().err


def test_a_warning_of_a_stage_names_the_line_of_the_call(project: Project) -> None:
    project.path("appdir/dev").mkdir()
    os.mkfifo(project.path("appdir/dev/fifo"))
    project.sconstruct(f"\n{PACKAGE_HELLO}")
    (line,) = project.build().err.splitlines()
    assert line == (
        "mystikos: warning: dev/fifo: is a device or FIFO and was left out of hello.cpio"
        " (MystPackage at SConstruct:4)"
    )


def test_a_warning_of_scons_names_the_user_s_line(project: Project) -> None:
    project.sconstruct(f"{PACKAGE_HELLO}env.Clone(){PACKAGE_HELLO.removeprefix('env')}")
    err = project.build().err
    assert "\nscons: warning: Two different environments were specified for target hello" in err
    assert f'File "{project.path("SConstruct")}", line 4, in <module>' in err
    assert str(SITE_TOOLS.parents[1] / "mystikos_tool") not in err
