"""What construction variables mean: where they come from, how they are written, which call is whose."""

from __future__ import annotations

import shutil

import pytest
from scons_project import DATA, PACKAGE_HELLO, ROOTFS, SITE_TOOLS, Project

from mystikos_tool.root.archive import read
from mystikos_tool.root.disk import reader

WITH_OPTIONS = """\
from mystikos_tool.scons import options
variables = Variables(None, ARGUMENTS)
options(variables)
DefaultEnvironment(tools=[])
env = Environment(tools=["mystikos"], toolpath=[{site_tools!r}], variables=variables)
"""
PLAIN = """\
env = Environment(tools=["mystikos"], toolpath=[{site_tools!r}])
env.Replace(**{{name: value for name, value in ARGUMENTS.items() if name.startswith("MYST")}})
"""
GIVEN = ("MYST_CONFIG=config.json", "MYST_KEY=key.pem", "MYST_RUNTIME=rt")
HEAD = """\
env = Environment(
    tools=["mystikos"], toolpath=[{site_tools!r}], MYST_RUNTIME="rt", MYST_KEY="key.pem",
    MYST_CONFIG="#config.json")
"""


def packed(project: Project, name: str = "hello.cpio") -> set[str]:
    return {member.path.decode() for member in read(project.path(name)).members}


@pytest.mark.parametrize("head", [WITH_OPTIONS, PLAIN], ids=["Variables", "ARGUMENTS"])
def test_a_list_on_the_command_line_has_commas(project: Project, head: str) -> None:
    for name in ("a", "b"):
        shutil.copy(DATA / "keys" / f"key-{name}.pub.pem", project.path(f"{name}.pem"))
    project.sconstruct(PACKAGE_HELLO, head)
    project.build(*GIVEN, "MYST_ROOTFS_EXCLUDE=motd, iss*", "MYST_PUBKEYS=a.pem,b.pem")
    assert packed(project) == {"bin", "bin/hello", "etc"}
    keys = [project.path(f"{name}.pem").read_bytes() for name in ("a", "b")]
    package = project.path("hello").read_bytes()
    assert all(key in package for key in keys)
    project.build(*GIVEN, "MYST_ROOTFS_EXCLUDE=", "MYST_PUBKEYS=")
    assert "etc/motd" in packed(project)


UNUSED = "mystikos: warning: MYST_ROOTFS_EXCLUDE: {} matches nothing; correct it, or leave it out"


def test_a_pattern_that_matches_nothing_is_told(project: Project) -> None:
    project.sconstruct("env.MystPackage('hello', 'appdir', MYST_ROOTFS_EXCLUDE=['motd', '*.pcy', 'bin/x'])\n")
    err = project.build().err
    assert {UNUSED.format(repr(pattern)) in err for pattern in ("*.pcy", "bin/x")} == {True}
    assert "motd" not in err
    project.path("hello.cpio").unlink()
    project.write("appdir/x.pcy", "")
    assert "pcy" not in project.build().err


def test_a_pattern_that_is_added_and_matches_nothing_is_told_at_once(project: Project) -> None:
    project.sconstruct("env.MystPackage('hello', 'appdir')\n")
    project.build()
    chmod = "MYST_ROOTFS_CHMOD={'etc/mot': 0o600}"
    project.sconstruct(f"env.MystPackage('hello', 'appdir', MYST_ROOTFS_EXCLUDE='mot', {chmod})\n")
    build = project.build()
    assert UNUSED.format("'mot'") in build.err
    assert "MYST_ROOTFS_CHMOD has a mode for etc/mot, which no file in the root matches" in build.err
    assert build.stages == {ROOTFS}
    assert (project.build().stages, project.build().err) == (set(), "")


def test_a_pattern_that_several_roots_share_is_told_if_it_matches_in_none(project: Project) -> None:
    project.write("other/bin/hello", "#!/bin/hello\n", 0o755)
    project.sconstruct(
        "env['MYST_ROOTFS_EXCLUDE'] = ['motd', '*.pcy']\n"
        "for name in ('appdir', 'other'):\n    env.MystPackage(f'{name}.package', name)\n"
    )
    err = project.build().err
    assert err.count("matches nothing") == 1
    assert UNUSED.format("'*.pcy'") in err
    project.write("other/bin/other", "")
    assert project.build().err == ""


def test_a_pattern_is_told_once_and_not_if_it_matches_in_one_root_of_several(project: Project) -> None:
    project.write("other/bin/hello", "#!/bin/hello\n", 0o755)
    project.sconstruct(
        "env.MystPackage('first', 'appdir', MYST_ROOTFS_EXCLUDE=['motd', '*.pcy'])\n"
        "env.MystPackage('second', 'other', MYST_ROOTFS_EXCLUDE=['motd'])\n"
    )
    err = project.build().err
    assert err.count("matches nothing") == err.count(UNUSED.format("'*.pcy'")) == 1


DAYS = {
    "1767312000": "SOURCE_DATE_EPOCH='1767312000', ENV={'SOURCE_DATE_EPOCH': '86400'}",
    "86400": "ENV={'SOURCE_DATE_EPOCH': '86400'}",
    "172800": "",
}


@pytest.mark.parametrize("epoch", DAYS)
def test_the_signing_day_is_the_variable_s_or_that_of_actions_or_that_of_scons(
    project: Project, epoch: str
) -> None:
    project.sconstruct(f"env.Replace({DAYS[epoch]})\n{PACKAGE_HELLO}")
    project.build(environment={"SOURCE_DATE_EPOCH": "172800"})
    image = project.path("hello.mystenc.so").read_bytes()
    day = {"1767312000": 0x20260102, "86400": 0x19700102, "172800": 0x19700103}[epoch]
    assert day.to_bytes(4, "little") in image


PLACES_OF_A_DAY = ["SOURCE_DATE_EPOCH='-1'", "SOURCE_DATE_EPOCH=-1", "ENV={'SOURCE_DATE_EPOCH': '-1'}", ""]


@pytest.mark.parametrize("place", PLACES_OF_A_DAY)
def test_a_signing_day_that_is_none_is_refused_wherever_it_comes_from(project: Project, place: str) -> None:
    project.sconstruct(f"env.Replace({place})\n{PACKAGE_HELLO}")
    build = project.fails(environment={"SOURCE_DATE_EPOCH": "0" if place else "-1"})
    assert "SOURCE_DATE_EPOCH: '-1' is not a time in seconds since 1970" in build.err
    assert "(MystPackage at SConstruct:4)" in build.err
    assert not project.path("hello").exists()


def test_a_list_that_one_call_has_taken_is_looked_at_again_by_the_next(project: Project) -> None:
    changed = "env['MYST_ROOTFS_EXCLUDE'].append(5)\n"
    project.sconstruct(f"env.Replace(MYST_ROOTFS_EXCLUDE=['*.x'])\n{PACKAGE_HELLO}{changed}{PACKAGE_HELLO}")
    error = project.fails().err
    assert "MYST_ROOTFS_EXCLUDE cannot be ['*.x', 5]; give a list of patterns" in error
    assert f'File "{project.path("SConstruct")}", line 6, in <module>' in error


@pytest.mark.parametrize("order", [("'archive'", "None"), ("'archive'", "'disc'"), ("'disk'", "1")])
def test_a_value_that_is_wrong_is_told_whatever_an_earlier_call_was_given(
    project: Project, order: tuple[str, str]
) -> None:
    given, wrong = order
    calls = [f"env.MystMeasure('m{at}', MYST_ROOT={value})\n" for at, value in enumerate((given, wrong))]
    if given == "'archive'":
        calls[0] = f"env.MystMeasure('m0', 'appdir', MYST_ROOT={given})\n"
    project.sconstruct("".join(calls))
    error = project.fails().err
    assert f'MYST_ROOT cannot be {wrong}; give "archive" or "disk"' in error
    assert f'File "{project.path("SConstruct")}", line 4, in <module>' in error


def test_a_name_that_only_begins_like_ours_is_nobody_s_business(project: Project) -> None:
    project.sconstruct("env.Replace(MYSTERY='x', MYSTIC=1, MYST='y')\n" + PACKAGE_HELLO)
    project.build()


@pytest.mark.parametrize("name", ["MYSTKEY", "myst_key", "MYST_KEYFILE", "MYSTKEYSCOMSTR"])
def test_a_slip_in_a_name_of_ours_is_told(project: Project, name: str) -> None:
    project.sconstruct(f"env.Replace({name}='x')\n{PACKAGE_HELLO}")
    assert f"there is no construction variable {name}; did you mean MYST" in project.fails().err


BELOW = {
    "the environment itself": ("", "env"),
    "a clone": ("", "env.Clone()"),
    "a value set later": ("env['MYST_KEY'] = 'key.pem'\n", "env.Clone()"),
}


@pytest.mark.parametrize("case", BELOW)
def test_a_key_that_the_top_names_is_that_of_the_top_in_every_sconscript(project: Project, case: str) -> None:
    later, env = BELOW[case]
    shutil.copy(DATA / "keys" / "key-b.pem", project.path("other.pem"))
    project.write("sub/key.pem", project.path("other.pem").read_bytes())
    project.write("sub/SConscript", f"Import('env')\n{env}.MystPackage('hello', '#appdir')\n")
    project.sconstruct(f"{later}SConscript('sub/SConscript', exports='env')\n", HEAD)
    assert "signed with key.pem → sub/hello.mystenc.so" in project.build().out


def test_a_key_that_an_sconscript_names_itself_is_its_own(project: Project) -> None:
    project.write("sub/key.pem", project.path("key.pem").read_bytes())
    project.write(
        "sub/SConscript",
        "Import('env')\n"
        "env.MystPackage('one', '#appdir', MYST_KEY='key.pem')\n"
        "env = env.Clone(MYST_KEY=File('key.pem'))\n"
        "env.MystPackage('two', '#appdir')\n",
    )
    project.sconstruct("SConscript('sub/SConscript', exports='env')\n", HEAD)
    assert project.build().out.count("signed with sub/key.pem → ") == 2


def test_a_name_on_the_command_line_is_that_of_the_top(project: Project) -> None:
    project.write("sub/SConscript", "Import('env')\nenv.MystPackage('hello', '#appdir')\n")
    project.sconstruct("SConscript('sub/SConscript', exports='env')\n", PLAIN)
    assert "signed with key.pem → sub/hello.mystenc.so" in project.build(*GIVEN).out


def test_two_calls_that_are_the_same_are_one(project: Project) -> None:
    project.write("program", "#!/bin/sh\necho started\n", 0o755)
    calls = (
        "env.MystPackage('hello', 'appdir')\n"
        "env.MystPackage('other', 'appdir', MYST_KEY='key.pem')\n"
        "env.MystRootfs('root', ['appdir/etc', {'usr': 'appdir/etc'}])\n"
        "env.MystKey('made.pem')\n"
        "env.MystRun('run', 'program', ['a'])\n"
        "env.MystTest('test', 'program', stdout='started\\n')\n"
    )
    project.sconstruct(calls + calls)
    build = project.build()
    assert build.err == ""
    assert project.build("run").out.count("started") == 1
    assert "check: 1 passed (0 of them unchanged), 0 failed" in project.build("check").out
    project.sconstruct(calls)
    assert project.build().made == []


def test_a_clone_may_ask_for_the_same_key_without_a_warning(project: Project) -> None:
    project.sconstruct("env.MystKey('made.pem')\nenv.Clone(CCFLAGS='-g').MystKey('made.pem')\n")
    assert project.build().err == ""


def test_what_is_mapped_and_missing_is_told_with_its_mapping(project: Project) -> None:
    project.sconstruct("env.MystPackage('hello', ['appdir', {'etc/x': 'missing.txt'}])\n")
    assert (
        'missing.txt: no such file or directory; create it, or correct what "etc/x" is mapped to'
        in project.fails().err
    )


@pytest.mark.parametrize("sources", ["program", "[program, 'appdir/etc']"])
def test_a_program_as_a_source_is_answered_with_the_mapping_that_is_meant(
    project: Project, sources: str
) -> None:
    project.sconstruct(
        "program = env.Command('built/hello', 'appdir/bin/hello', Copy('$TARGET', '$SOURCE'))\n"
        f"env.MystPackage('hello', {sources})\n"
    )
    assert (
        'to put the file there give the mapping {"bin/hello": "built/hello"} as the source'
        in project.fails().err
    )
    project.sconstruct(
        "program = env.Command('built/hello', 'appdir/bin/hello', Copy('$TARGET', '$SOURCE'))\n"
        "env.MystPackage('hello', {'bin/hello': program})\n"
    )
    project.build()


def test_a_source_that_is_given_twice_is_taken_once(project: Project) -> None:
    project.sconstruct("env.MystPackage('hello', ['appdir', Dir('appdir')])\n")
    project.build()
    assert "bin/hello" in packed(project)


def test_a_source_that_is_given_twice_is_at_the_last_of_its_places(project: Project) -> None:
    project.write("over/etc/motd", "over")
    sources = "['appdir', 'over', Dir('appdir')], MYST_ROOTFS_OVERLAY=True"
    project.sconstruct(f"env.MystPackage('hello', {sources})\nenv.MystDisk('app', {sources})\n")
    project.build()
    motd = project.path("appdir/etc/motd").read_bytes()
    archive = read(project.path("hello.cpio"))
    assert archive.data(archive.by_path[b"etc/motd"]) == motd
    with reader.opened(project.path("app.disk")) as disk:
        files = disk.filesystem()
        [member] = [member for member in files.members if member.path == b"etc/motd"]
        assert b"".join(files.content(member)) == motd
    project.sconstruct("env.MystDisk('app', ['appdir', Dir('appdir')])\n")
    project.build()


def test_a_key_that_only_an_sconscript_has_is_found_there(project: Project) -> None:
    project.write("sub/key.pem", project.path("key.pem").read_bytes())
    project.path("key.pem").unlink()
    project.write("sub/SConscript", "Import('env')\nenv.MystPackage('hello', '#appdir')\n")
    project.sconstruct("SConscript('sub/SConscript', exports='env')\n", HEAD)
    assert "signed with sub/key.pem → " in project.build().out


@pytest.mark.parametrize(
    "load",
    [
        "env = earlier.Clone(tools=['mystikos'], toolpath=path)",
        "env = earlier; env.Tool('mystikos', toolpath=path)",
        "env = Environment(tools=['mystikos'], toolpath=path, MYST_ROOTFS_EXCLUDE=['motd', 'issue'])",
    ],
)
def test_what_an_environment_has_when_the_tool_is_loaded_stays(project: Project, load: str) -> None:
    project.sconstruct(
        f"path = [{str(SITE_TOOLS)!r}]\n"
        "earlier = Environment(tools=[], MYST_ROOTFS_EXCLUDE=['motd', 'issue'])\n"
        f"{load}\n"
        "env.Replace(MYST_RUNTIME='rt', MYST_CONFIG='config.json', MYST_KEY='key.pem')\n"
        f"{PACKAGE_HELLO}"
    )
    project.build("hello")
    assert packed(project) == {"bin", "bin/hello", "etc"}
