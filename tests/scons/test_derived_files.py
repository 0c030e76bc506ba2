"""What builders put into an application directory: built first, counted, and followed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from scons_project import ALL, CONFIG, MEASURE, PACKAGE, PACKAGE_HELLO, SIGN, Project

from mystikos_tool.root.archive import read
from mystikos_tool.scons.made_directory import remove

# Copies a file in-process, as a compiler would write its output.
COPY = "Copy('$TARGET', '$SOURCE')"
COPIED = "[Delete('$TARGET'), Copy('$TARGET', '$SOURCE')]"
UNPACKED = "'mkdir -p appdir/usr/share && cat $SOURCE/* > appdir/usr/share/file && touch $TARGET'"
SOON = 4_000_000_000


def root(project: Project, name: str = "hello.cpio") -> dict[str, bytes | None]:
    """What a root file system holds: content by path, None for directories."""
    archive = read(project.path(name))
    return {
        member.path.decode(): None if member.mode >> 12 == 0o04 else archive.data(member)
        for member in archive.members
    }


def assert_source_is_followed(project: Project) -> None:
    """What is unpacked from ``source`` is in the root as it is now, and packed once for each change."""
    project.build("hello")
    assert root(project)["unpacked"] == b"one"
    project.write("source", "two")
    project.build("hello")
    assert root(project)["unpacked"] == b"two"
    assert project.build("hello").out == "scons: `hello' is up to date.\n"


def test_files_that_builders_make_are_built_first_and_counted(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"""
env.MystPackage("hello", "appdir")
env.Command("appdir/a/b/c/built", "source", {COPY})
"""
    )
    first = project.build("hello")
    assert first.out.index("Copy(") < first.out.index("packed 3 files")
    assert root(project)["a/b/c/built"] == b"one"
    project.write("source", "two")
    assert project.build("hello").stages == ALL
    assert root(project)["a/b/c/built"] == b"two"
    assert project.build("hello").out == "scons: `hello' is up to date.\n"


def test_a_file_built_by_another_sconscript_that_is_read_later_is_counted(project: Project) -> None:
    project.write("libs/source", "one")
    project.write("libs/SConscript", f"Import('env')\nenv.Command('#appdir/lib/built', 'source', {COPY})\n")
    project.sconstruct('env.MystPackage("hello", "appdir")\nSConscript("libs/SConscript", exports="env")\n')
    project.build("hello")
    assert root(project)["lib/built"] == b"one"


def test_a_directory_that_a_builder_makes_is_counted_with_all_that_is_in_it(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"""
env.MystPackage("hello", "appdir")
env.Command("tree/built", "source", {COPY})
env.Command(Dir("appdir/share"), "tree/built", [Mkdir("$TARGET"), Copy("$TARGET/deep", "$SOURCE")])
env.Command("appdir/same", "tree/built", [Mkdir("$TARGET"), Copy("$TARGET/deep", "$SOURCE")])
"""
    )
    project.build("hello")
    assert root(project)["share/deep"] == root(project)["same/deep"] == b"one"
    project.write("source", "two")
    assert project.build("hello").stages == ALL
    assert root(project)["share/deep"] == root(project)["same/deep"] == b"two"
    assert project.build("hello").stages == set()


def test_an_application_directory_that_is_made_only_by_builders_need_not_be_there(project: Project) -> None:
    project.sconstruct(
        """
env.Install("root/bin", "appdir/bin/hello")
env.InstallAs("root/etc/motd", "appdir/etc/motd")
env.MystPackage("hello", "root")
"""
    )
    project.build("hello")
    assert set(root(project)) == {"bin", "bin/hello", "etc", "etc/motd"}


UNPACK_ABOVE = """
stamp = env.Command("stamp", "source", [
    Mkdir("up/app"),
    Copy("up/app/unpacked", "$SOURCE"),
    Copy("up/config.json", "config.json"),
    Touch("$TARGET"),
])
"""


@pytest.mark.parametrize(
    "order", ["SideEffect(env.Dir('up'), stamp)", "Depends(env.Dir('up'), [stamp, package])"]
)
@pytest.mark.parametrize("source", ["'up/app'", "{'/': 'up/app', 'etc/motd': 'appdir/etc/motd'}"])
def test_what_a_directory_above_waits_for_is_made_before_what_lies_in_it_is_read(
    project: Project, order: str, source: str
) -> None:
    """Only what is made of the directory itself does not wait."""
    project.write("source", "one")
    project.write("config.json", CONFIG.replace("/bin/hello", "/unpacked"))
    project.path("source").chmod(0o755)
    project.sconstruct(
        f"package = env.MystPackage('hello', {source}, MYST_CONFIG='up/config.json')\n"
        f"{UNPACK_ABOVE}env.{order}\n"
    )
    assert_source_is_followed(project)


def test_what_lies_in_a_variant_directory_and_nobody_is_known_to_make_is_told_as_that(
    project: Project,
) -> None:
    project.write("sub/source", "one", 0o755)
    project.write(
        "sub/SConscript",
        "Import('env')\n"
        "made = env.Command('stamp', 'source', "
        "[Copy('bld/app/unpacked', '$SOURCE'), Chmod('bld/app/unpacked', 0o755), Touch('$TARGET')])\n"
        "env.Depends(env.Dir('app'), made)\nenv.MystPackage('#hello', 'app')\n",
    )
    project.sconstruct(
        "env.Replace(MYST_CONFIG='#config.json', MYST_KEY='#key.pem', MYST_RUNTIME='#rt')\n"
        "env.SConscript('sub/SConscript', exports='env', variant_dir='bld', duplicate=0)\n"
    )
    project.path("bld/app").mkdir(parents=True)
    failure = project.fails("hello").err
    assert (
        "bld/app: has nothing that a builder is known to make, and there is no sub/app; say what" in failure
    )
    assert 'SideEffect(Dir("app"), made)' in failure
    script = project.path("sub/SConscript").read_text().replace("Depends(", "SideEffect(")
    project.write("sub/SConscript", script)
    project.write("config.json", CONFIG.replace("/bin/hello", "/unpacked"))
    project.build("hello")
    assert root(project) == {"unpacked": b"one"}


def test_side_effects_of_a_builder_are_counted(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"""
made = env.Command("appdir/built", "source", [{COPY}, Copy("${{TARGET}}.map", "$SOURCE")])
env.SideEffect("appdir/built.map", made)
env.MystPackage("hello", "appdir")
"""
    )
    project.build("hello")
    assert root(project)["built.map"] == b"one"


def test_two_directories_of_one_name_in_two_folders_make_two_roots(project: Project) -> None:
    for folder in ("one", "two"):
        project.write(f"{folder}/appdir/bin/hello", folder, 0o755)
        project.write(f"{folder}/SConscript", "Import('env')\nenv.MystPackage('hello', 'appdir')\n")
    project.sconstruct(
        """
env.Replace(MYST_CONFIG="#config.json", MYST_KEY="#key.pem", MYST_RUNTIME="#rt")
SConscript(["one/SConscript", "two/SConscript"], exports="env")
"""
    )
    project.build()
    assert root(project, "one/hello.cpio") == {"bin": None, "bin/hello": b"one"}
    assert root(project, "two/hello.cpio") == {"bin": None, "bin/hello": b"two"}
    project.write("two/appdir/bin/hello", "three")
    assert [name.partition("/")[0] for name in project.build().made] == ["two"] * 4


UNPACK = "stamp = env.Command('stamp', 'source', [Copy('appdir/unpacked', '$SOURCE'), Touch('$TARGET')])\n"


@pytest.mark.parametrize(
    "order",
    [
        "env.Depends(env.Dir('appdir'), stamp)",
        "env.Requires(env.Dir('appdir'), stamp)",
        "env.Depends(env.Dir('appdir/bin'), stamp)",
        "env.Depends(env.File('appdir/unpacked'), stamp)",
        "env.SideEffect(env.Dir('appdir'), stamp)",
        "env.Depends('config.json', stamp)",
        "env.Requires('key.pem', stamp)",
        "env.Depends('rt/bin/myst', stamp)",
        "env.Depends(package, stamp)",
        "env.Requires(package, stamp)",
        "env.Depends('hello.measurement.json', stamp)",
        "env.Requires('hello.mystenc.so', stamp)",
        "env.Depends('hello.cpio', stamp)",
    ],
)
def test_what_the_directory_or_the_package_depends_on_is_made_before_the_root_is_packed(
    project: Project, order: str
) -> None:
    project.write("source", "one")
    project.sconstruct(f"package = env.MystPackage('hello', 'appdir')\n{UNPACK}{order}\n")
    assert_source_is_followed(project)


@pytest.mark.parametrize("directory", ["appdir", "appdir/lib"])
def test_every_maker_of_a_directory_that_is_a_side_effect_is_waited_for_by_jobs_in_parallel(
    project: Project, directory: str
) -> None:
    project.sconstruct(
        f"""{PACKAGE_HELLO}
for name in "one", "two", "three":
    stamp = env.Command(name, "source", [
        "mkdir -p appdir/lib; test ! -e hello.cpio; cp $SOURCE appdir/lib/$TARGET", Touch("$TARGET")
    ])
    env.SideEffect(env.Dir("{directory}"), stamp)
"""
    )
    for content in ("one", "two, longer"):
        project.write("source", content)
        project.build("-j4")
        assert {f"lib/{name}" for name in ("one", "two", "three")} <= root(project).keys()
        assert root(project)["lib/three"] == content.encode()
        project.path("hello.cpio").unlink()


def test_what_a_measurement_depends_on_is_made_before_its_root_is_packed(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        "measurement = env.MystMeasure('hello', 'appdir')\nenv.MystPackage('hello', measurement)\n"
        f"{UNPACK}env.Depends(measurement, stamp)\n"
    )
    project.build("hello")
    assert root(project)["unpacked"] == b"one"


def test_a_stage_may_depend_on_what_is_made_of_an_earlier_one_of_its_package(project: Project) -> None:
    project.sconstruct(
        f"""
env.MystPackage("hello", "appdir")
env.Depends("hello.mystenc.so", env.Command("report", "hello.measurement.json", {COPY}))
"""
    )
    project.build("hello")
    assert project.path("report").exists()
    assert project.build("hello").stages == set()


def test_what_one_package_depends_on_is_made_before_another_one_packs_the_same_directory(
    project: Project,
) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"env.MystPackage('first', 'appdir')\npackage = env.MystPackage('hello', 'appdir')\n{UNPACK}"
        "env.Depends(package, stamp)\n"
    )
    project.build("first", "hello")
    assert root(project)["unpacked"] == root(project, "first.cpio")["unpacked"] == b"one"


def test_a_package_may_depend_on_another_of_the_same_directory_and_on_what_is_made_of_its_own_stages(
    project: Project,
) -> None:
    project.sconstruct(
        f"""
first = env.MystPackage("first", "appdir")
package = env.MystPackage("hello", "appdir")
env.Depends(package, [first, env.Command("report", "hello.measurement.json", {COPY})])
"""
    )
    build = project.build("hello")
    assert build.made.index("first") < build.made.index("hello")
    assert project.path("report").exists()
    assert project.build("hello").stages == set()


@pytest.mark.parametrize("targets", [(), ("hello",), ("-j", "2")])
@pytest.mark.parametrize(
    "builder",
    [
        "env.Install('appdir/usr', env.Dir('share'))",
        "env.Command(env.Dir('appdir/usr/share'), 'share/file', 'mkdir -p $TARGET && cp $SOURCE $TARGET')",
        "env.Install('appdir/usr', env.Install('stage', env.Dir('share')))",
        "env.Command('appdir/usr/share/file', env.Dir('share'), 'cat $SOURCE/* > $TARGET')",
        "env.Install('appdir/usr/share', env.Command('stage/file', 'share', 'cat $SOURCE/* > $TARGET'))",
        f"env.Command(env.Dir('appdir/usr/share'), env.Command(env.Dir('stage'), env.Dir('share'), {COPIED}),"
        f" {COPIED})",
        "env.Depends(env.Command('appdir/usr/share/file', [], 'cat share/* > $TARGET'), env.Dir('share'))",
        "env.Depends(env.Command('appdir/usr/share/file', [], 'cat share/* > $TARGET'),"
        " env.Alias('shared', env.Dir('share')))",
        f"env.Depends('hello', env.Command('stamp', env.Dir('share'), {UNPACKED}))",
        f"s = env.Command('stamp', env.Dir('share'), {UNPACKED})\n"
        "env.Requires('hello.cpio', env.Alias('prepared', s))",
    ],
)
def test_a_directory_that_a_builder_makes_is_made_again_when_a_source_of_it_was_edited(
    project: Project, builder: str, targets: tuple[str, ...]
) -> None:
    project.write("share/file", "one")
    project.sconstruct(f"{PACKAGE_HELLO}{builder}\n")
    project.build(*targets)
    assert root(project)["usr/share/file"] == b"one"
    assert project.build(*targets).stages == set()
    project.write("share/file", "two")
    project.build(*targets)
    assert root(project)["usr/share/file"] == b"two"
    assert project.build(*targets).stages == set()


@pytest.mark.parametrize(
    ("target", "action", "packed"),
    [
        ("env.Dir('appdir/made')", "'cp -r $SOURCE $TARGET'", ["appdir"]),
        ("env.Dir('appdir/made')", "'mkdir -p $TARGET && cp -r $SOURCE/. $TARGET'", ["appdir"]),
        ("'appdir/made'", "'mkdir -p $TARGET && cp -r $SOURCE/. $TARGET'", ["appdir"]),
        ("env.Dir('made')", "Copy('$TARGET', '$SOURCE')", ["appdir", {"made": "made"}]),
    ],
)
def test_a_directory_that_is_made_again_has_nothing_that_its_builder_made_before(
    project: Project, target: str, action: str, packed: list[object]
) -> None:
    project.write("share/file", "one")
    project.write("share/deep/gone", "gone")
    project.path("share/link").symlink_to("deep")
    project.sconstruct(f"env.Command({target}, 'share', {action})\nenv.MystPackage('hello', {packed!r})\n")
    project.build("hello")
    assert root(project)["made/deep/gone"] == b"gone"
    project.write("share/file", "two")
    for path in ("share/link", "share/deep/gone"):
        project.path(path).unlink()
    project.path("share/deep").rmdir()
    project.build("hello")
    found = {path for path in root(project) if path.startswith("made")}
    assert (root(project)["made/file"], found) == (b"two", {"made", "made/file"})
    assert project.build("hello").stages == set()


def test_a_directory_that_was_there_before_is_made_again_when_a_source_that_is_just_named_was_edited(
    project: Project,
) -> None:
    project.write("appdir/made/before", "there")
    make_directory(project)
    project.write("share/file", "two")
    project.build("hello")
    assert root(project)["made/file"] == b"two"


def make_directory(project: Project, *more: str) -> None:
    """Have a builder make a directory of ``share``, and build it."""
    project.write("share/file", "one")
    command = (
        "made = env.Command(env.Dir('appdir/made'), 'share', 'mkdir -p $TARGET && cp $SOURCE/* $TARGET')"
    )
    project.sconstruct("\n".join([command, *more, PACKAGE_HELLO]))
    project.build("hello")


def test_of_a_directory_that_is_made_again_nothing_goes_that_somebody_else_wrote(project: Project) -> None:
    project.write("source", "built")
    project.write("appdir/made/before", "there")
    project.write("share/edited", "made")
    make_directory(project, f"env.Command('appdir/made/deep/built', 'source', {COPY})")
    project.write("appdir/made/mine", "my own")
    project.write("appdir/made/edited", "edited by hand")
    project.path("share/edited").unlink()
    project.build("-n", "hello")
    assert project.path("appdir/made/file").exists()
    project.write("share/file", "two")
    project.build("hello")
    found = root(project)
    expected = {"before": b"there", "edited": b"edited by hand", "mine": b"my own", "deep/built": b"built"}
    assert {name: found[f"made/{name}"] for name in expected} == expected
    assert found["made/file"] == b"two"


def test_what_somebody_wrote_in_the_place_of_a_directory_that_was_made_stays_however_often_it_is_made_again(
    project: Project,
) -> None:
    project.write("share/file", "one")
    project.write("share/folder/file", "made")
    project.sconstruct(
        f"env.Command(env.Dir('appdir/made'), 'share', 'cp -r $SOURCE/. $TARGET')\n{PACKAGE_HELLO}"
    )
    project.build("hello")
    for folder in ("share/folder", "appdir/made/folder"):
        shutil.rmtree(project.path(folder))
    project.write("appdir/made/folder", "my own")
    for content in ("two", "three"):
        project.write("share/file", content)
        project.build("hello")
        assert root(project)["made/folder"] == b"my own"


def test_a_precious_directory_keeps_what_its_builder_made_before(project: Project) -> None:
    project.write("share/gone", "gone")
    make_directory(project, "env.Precious(made)")
    project.path("share/gone").unlink()
    project.build("hello")
    assert root(project)["made/gone"] == b"gone"


def test_what_a_builder_that_failed_has_left_in_a_directory_goes_when_it_runs_again(project: Project) -> None:
    project.write("share/wrong", "wrong")
    project.write("share/file", "one")
    action = "'mkdir -p $TARGET && cp $SOURCE/* $TARGET && test ! -e $TARGET/wrong'"
    project.sconstruct(f"env.Command(env.Dir('appdir/made'), 'share', {action})\n{PACKAGE_HELLO}")
    project.fails("hello")
    project.path("share/wrong").unlink()
    project.build("hello")
    assert "made/wrong" not in root(project)


@pytest.mark.parametrize("keep_going", [(), ("-k",)])
@pytest.mark.parametrize(
    "builder", ["env.Install('appdir', env.Dir('share'))", "env.Command({}, 'share', {})"]
)
def test_a_directory_is_made_again_after_a_build_that_failed_though_its_sources_are_as_they_were(
    project: Project, builder: str, keep_going: tuple[str, ...]
) -> None:
    project.write("share/file", "one")
    action = "'mkdir -p $TARGET && cp -r $SOURCE/. $TARGET && test ! -e $TARGET/wrong'"
    fails = "env.Command('appdir/other', 'share', 'test ! -e share/wrong && touch $TARGET')"
    made = builder.format("env.Dir('appdir/share')", action)
    project.sconstruct(f"{made}\n{fails}\n{PACKAGE_HELLO}")
    project.build("hello")
    package = project.path("hello.cpio").read_bytes()
    project.write("share/wrong", "wrong")
    project.fails(*keep_going, "hello")
    project.path("share/wrong").unlink()
    project.build("hello")
    assert project.path("hello.cpio").read_bytes() == package
    assert project.build("hello").stages == set()


@pytest.mark.parametrize("builder", ["env.Install('appdir', env.Dir('share'))", "made"])
def test_a_directory_is_made_again_when_its_source_was_edited_after_it_was_made_in_the_same_build(
    project: Project, builder: str
) -> None:
    project.write("share/file", "one")
    made = "env.Command(env.Dir('appdir/share'), 'share', 'mkdir -p $TARGET && cp -r $SOURCE/. $TARGET')"
    project.sconstruct(
        f"made = {made if builder == 'made' else builder}\n{PACKAGE_HELLO}"
        "late = [Copy('share/late', 'config.json'), Touch('$TARGET')]\n"
        "env.Depends('hello.cpio', env.Command('stamp', made, late))\n"
    )
    project.build("hello")
    assert "share/late" not in root(project)
    project.build("hello")
    assert "share/late" in root(project)
    assert "is up to date" in project.build("hello").out


def test_a_directory_that_is_installed_by_way_of_another_one_is_installed_once(project: Project) -> None:
    project.write("share/folder/file", "one")
    installed = "env.Install('appdir', env.Install('stage', env.Dir('share')))"
    project.sconstruct(f"{installed}\n{PACKAGE_HELLO}")
    project.build()
    assert "is up to date" in project.build().out
    project.write("share/folder/file", "two")
    project.build()
    assert root(project)["share/folder/file"] == b"two"
    assert "is up to date" in project.build().out


def test_a_directory_is_made_again_after_a_session_in_which_its_source_was_edited(project: Project) -> None:
    project.write("share/gone", "gone")
    make_directory(project)
    project.run("--interactive", stdin="build hello\nshell rm share/gone\nbuild hello\nexit\n")
    project.build("hello")
    assert "made/gone" not in root(project)


@pytest.mark.parametrize(
    ("script", "edit"),
    [
        (
            "env.Command(env.Dir('appdir/made'), 'share', 'mkdir -p $TARGET && cp share/* $TARGET')",
            "rm share/gone",
        ),
        (
            f"env.Install('appdir', env.Dir('share'))\nenv.Command('appdir/share/built', 'file', {COPY})",
            "cp file share/kept",
        ),
        (f"env.Command('appdir/copy', 'file', {COPY})", "chmod 755 file"),
    ],
    ids=["a directory", "an installed directory that is built into", "a mode"],
)
def test_a_session_makes_again_what_a_build_of_its_own_would(
    project: Project, script: str, edit: str
) -> None:
    project.write("share/kept", "kept")
    project.write("share/gone", "gone")
    project.write("file", "one", 0o644)
    project.sconstruct(f"{script}\n{PACKAGE_HELLO}")
    plain = project.copy(project.directory.with_name("plain"))
    commands = f"build hello\nshell {edit}\nbuild hello\nbuild hello\nexit\n"
    assert project.run("--interactive", stdin=commands).out.count("packaged") == 2
    subprocess.run(edit.split(), cwd=plain.directory, check=True)
    plain.build("hello")
    assert project.path("hello").read_bytes() == plain.path("hello").read_bytes()
    assert "is up to date" in project.build("hello").out


def test_what_a_first_build_left_in_a_directory_that_failed_stays_out_when_the_builder_is_gone(
    project: Project,
) -> None:
    project.write("share/file", "one")
    action = "'mkdir -p $TARGET && cp $SOURCE/* $TARGET && false'"
    project.sconstruct(f"env.Command(env.Dir('appdir/made'), 'share', {action})\n{PACKAGE_HELLO}")
    project.fails("hello")
    project.sconstruct(PACKAGE_HELLO)
    project.build("hello")
    assert not {path for path in root(project) if path.startswith("made")}


@pytest.mark.parametrize("targets", [(), ("hello",)])
def test_what_was_removed_from_a_directory_that_is_made_is_made_again(
    project: Project, targets: tuple[str, ...]
) -> None:
    project.write("share/folder/file", "one")
    project.write("share/gone", "two")
    action = "'mkdir -p $TARGET && cp -r $SOURCE/. $TARGET && rm $TARGET/gone'"
    project.sconstruct(
        f"env.Command(env.Dir('appdir/made'), 'share', {action})\nenv.Install('appdir', env.Dir('share'))\n"
        f"env.SideEffect('appdir/side/effect', env.Command('stamp', 'share/gone',"
        f" [Copy('appdir/side/effect', '$SOURCE'), Touch('$TARGET')]))\n{PACKAGE_HELLO}"
    )
    project.path("appdir/side").mkdir()
    project.build(*targets)
    before = root(project)
    for folder in ("made/folder", "share/folder"):
        shutil.rmtree(project.path(f"appdir/{folder}"))
    project.path("appdir/side/effect").unlink()
    project.build(*targets)
    assert root(project) == before
    assert "is up to date" in project.build(*targets).out


def test_a_directory_that_was_made_for_what_lies_in_it_is_made_once(project: Project) -> None:
    project.write("source", "built")
    project.write("share/file", "one")
    project.sconstruct(
        f"env.Command('appdir/made/built', 'source', {COPY})\n"
        "env.Command(env.Dir('appdir/made'), 'share', 'mkdir -p $TARGET && cp $SOURCE/* $TARGET')\n"
        f"{PACKAGE_HELLO}"
    )
    project.build("-j4", "hello")
    found = {path for path in root(project) if path.startswith("made/")}
    assert found == {"made/built", "made/file"}


def test_what_lay_in_a_directory_before_it_was_made_stays_a_source_when_the_builder_is_gone(
    project: Project,
) -> None:
    project.write("appdir/made/mine", "my own")
    make_directory(project)
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/made/file: has no source and no builder and was left out" in project.build("hello").err
    assert {path for path in root(project) if path.startswith("made/")} == {"made/mine"}


def test_what_another_builder_left_in_a_directory_before_that_was_made_stays_out(project: Project) -> None:
    project.write("source", "built")
    project.sconstruct(f"env.Command('appdir/made/built', 'source', {COPY})\n{PACKAGE_HELLO}")
    project.build("hello")
    make_directory(project)
    assert {path for path in root(project) if path.startswith("made/")} == {"made/file"}
    project.write("share/built", "copied")
    project.build("hello")
    assert root(project)["made/built"] == b"copied"


@pytest.mark.parametrize("change", ["mode", "link"])
def test_a_directory_is_made_again_when_a_file_that_it_is_made_of_has_another_mode_or_is_another_link(
    project: Project, change: str
) -> None:
    for name in ("one", "two"):
        project.write(name, "the same", 0o644)
    project.path("link").symlink_to("one")
    action = "'mkdir -p $TARGET && cp -P $SOURCES $TARGET'"
    project.sconstruct(f"env.Command(env.Dir('appdir/made'), ['one', 'link'], {action})\n{PACKAGE_HELLO}")
    project.build("hello")
    if change == "mode":
        project.path("one").chmod(0o755)
    else:
        project.path("link").unlink()
        project.path("link").symlink_to("two")
    project.build("hello")
    assert mode_in_root(project, "made/one") == (0o755 if change == "mode" else 0o644)
    assert root(project)["made/link"] == (b"one" if change == "mode" else b"two")
    assert project.build("hello").stages == set()


@pytest.mark.parametrize(
    "builder", ["[Delete('$TARGET'), Copy('$TARGET', '$SOURCE')]", "'cp -r $SOURCE/. $TARGET'"]
)
def test_what_a_directory_is_made_of_anew_stays_out_when_its_builder_is_gone_though_the_store_was_lost(
    project: Project, builder: str
) -> None:
    project.write("tree/file", "one")
    project.write("tree/folder/file", "two")
    project.sconstruct(f"env.Command(Dir('appdir/made'), Dir('tree'), {builder})\n{PACKAGE_HELLO}")
    project.build()
    project.path(".sconsign.mystikos").unlink()
    project.write("tree/file", "three")
    project.build()
    project.write("appdir/made/mine", "my own")
    project.sconstruct(PACKAGE_HELLO)
    project.build("hello")
    assert {path for path in root(project) if path.startswith("made/")} == {"made/mine"}
    project.path("appdir/made/mine").unlink()
    project.build("hello")
    assert not {path for path in root(project) if path.startswith("made")}


@pytest.mark.parametrize(
    "builder",
    [
        "env.Install('appdir/bin', 'source')",
        "env.Command('appdir/bin/source', 'source', Copy('$TARGET', '$SOURCE'))",
        "env.Command('appdir/bin/source', env.Command('between', 'source', COPIED), COPIED)",
        "env.Command('appdir/bin/source', 'link', 'cp $SOURCE $TARGET')",
    ],
)
@pytest.mark.parametrize("targets", [(), ("hello",)])
def test_a_copy_is_made_again_when_the_mode_of_its_source_has_changed(
    project: Project, builder: str, targets: tuple[str, ...]
) -> None:
    project.write("source", "one", 0o644)
    project.path("link").symlink_to("source")
    copied = f"COPIED = {COPIED}\nenv.Tool('install')\n"
    project.sconstruct(f"{copied}{PACKAGE_HELLO}CacheDir('cache')\n{builder}\n")
    project.build(*targets)
    assert mode_in_root(project, "bin/source") == 0o644
    assert project.build(*targets).stages == set()
    project.path("source").chmod(0o755)
    project.build(*targets)
    assert mode_in_root(project, "bin/source") == 0o755
    assert project.build(*targets).stages == set()


def test_a_copy_is_made_again_when_the_mode_of_its_source_changed_after_it_was_made(project: Project) -> None:
    project.write("source", "one", 0o644)
    project.write("later", "one")
    project.sconstruct(
        f"env.Command('appdir/bin/source', 'source', {COPIED})\n{PACKAGE_HELLO}"
        "env.Command('stamp', ['hello', 'later'], [Chmod('source', 0o755), Touch('$TARGET')])\n"
    )
    project.build()
    assert mode_in_root(project, "bin/source") == 0o644
    project.build()
    assert mode_in_root(project, "bin/source") == 0o755
    assert project.build().stages == set()


def test_a_copy_is_made_again_when_the_mode_of_its_source_in_a_repository_has_changed(
    project: Project,
) -> None:
    source = project.write("../repository/source", "one", 0o644)
    project.sconstruct(f"env.Command('appdir/bin/source', 'source', {COPIED})\n{PACKAGE_HELLO}")
    project.build("-Y", "../repository", "hello")
    source.chmod(0o755)
    project.build("-Y", "../repository", "hello")
    assert mode_in_root(project, "bin/source") == 0o755


def test_a_copy_that_is_not_cleaned_is_made_again_when_the_mode_of_its_source_changed_before_a_clean(
    project: Project,
) -> None:
    project.write("source", "one", 0o644)
    copy = f"env.NoClean(env.Command('appdir/bin/source', 'source', {COPIED}))\n"
    project.sconstruct(f"{copy}{PACKAGE_HELLO}")
    project.build("hello")
    project.path("source").chmod(0o755)
    project.build("-c", "hello")
    project.build("hello")
    assert mode_in_root(project, "bin/source") == 0o755


def test_a_copy_of_a_link_is_made_again_when_the_link_leads_elsewhere(project: Project) -> None:
    for name in ("one", "two"):
        project.write(name, "the same")
    project.path("link").symlink_to("one")
    project.sconstruct(f"env.Command('appdir/link', 'link', 'cp -P $SOURCE $TARGET')\n{PACKAGE_HELLO}")
    project.build("hello")
    project.path("link").unlink()
    project.path("link").symlink_to("two")
    project.build("hello")
    assert root(project)["link"] == b"two"


def mode_in_root(project: Project, path: str, name: str = "hello.cpio") -> int:
    """The permissions of a file in the root file system."""
    members = read(project.path(name)).members
    return next(member.mode & 0o7777 for member in members if member.path.decode() == path)


@pytest.mark.parametrize(
    "made",
    [
        "env.Depends(env.Dir('made'), env.Command('stamp', 'source', copy))",
        "env.Command('made/stamp', 'source', copy)",
        "env.Command('made/bin/myst', 'source', copy[0])",
    ],
)
def test_a_runtime_that_one_builder_makes_as_a_whole_is_waited_for(project: Project, made: str) -> None:
    project.write("source", "1")
    # The package lies in the runtime's directory, and is no part of what is waited for.
    project.sconstruct(
        "env.MystPackage('made/hello', 'appdir', MYST_RUNTIME='made')\n"
        "copy = ['mkdir -p made && cp -r rt/. made', Touch('$TARGET')]\n"
        f"{made}\n"
    )
    project.build("-j2")
    expected = project.path("made/hello").read_bytes()
    assert project.build().made == []
    project.write("source", "2")
    project.build()
    assert project.path("made/hello").read_bytes() == expected


@pytest.mark.parametrize("targets", [(), ("hello",), ("-j", "2", "hello")])
def test_configuration_and_runtime_may_lie_in_directories_that_builders_make(
    project: Project, targets: tuple[str, ...]
) -> None:
    project.path("rt").rename(project.path("installed"))
    project.write("given/config.json", CONFIG)
    copied = "[Delete('$TARGET'), Copy('$TARGET', '$SOURCE')]"
    project.sconstruct(
        "env.MystPackage('hello', 'appdir', MYST_CONFIG='made/config.json')\n"
        f"env.Command(Dir('rt'), Dir('installed'), {copied})\n"
        f"env.Command(Dir('made'), Dir('given'), {copied})\n"
    )
    assert project.build(*targets).stages == ALL
    assert project.build(*targets).stages == set()
    project.write("given/config.json", CONFIG.replace("1m", "2m"))
    assert project.build(*targets).stages == {MEASURE, SIGN, PACKAGE}
    loader = project.path("installed/bin/myst").read_bytes()
    project.write("installed/bin/myst", loader[:15] + b"\1" + loader[16:])
    assert project.build(*targets).stages == {PACKAGE}
    assert project.path("hello").read_bytes()[:16] == loader[:15] + b"\1"
    assert project.build(*targets).stages == set()


def test_a_configuration_that_is_made_of_a_directory_is_made_again_when_a_file_in_that_was_edited(
    project: Project,
) -> None:
    project.sconstruct(
        f"{PACKAGE_HELLO}env.Command('config.json', Dir('parts'), 'cat $SOURCE/* > $TARGET')\n"
    )
    for size in ("1m", "2m"):
        project.write("parts/all", CONFIG.replace("1m", size))
        project.build("hello")
        assert f'"{size}"' in project.path("config.json").read_text()
        assert project.build("hello").stages == set()


def test_what_is_built_where_a_link_leads_to_is_counted_and_left_out_when_its_builder_is_gone(
    project: Project,
) -> None:
    project.path("appdir").rename(project.path("real"))
    project.path("appdir").symlink_to("real")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('real/lib/built', 'source', {COPY})\n")
    for content in ("one", "two"):
        project.write("source", content)
        project.build("hello")
        assert root(project)["lib/built"] == content.encode()
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/lib/built', 'source', {COPY})\n")
    project.write("source", "three")
    project.build("hello")
    assert root(project)["lib/built"] == b"three"
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/lib/built: has no source and no builder and was left out" in project.build("hello").err
    assert "lib" not in root(project)


def test_an_installed_directory_has_nothing_that_its_source_has_no_longer(project: Project) -> None:
    project.write("share/file", "one")
    project.write("share/deep/gone", "gone")
    project.write("source", "built")
    project.sconstruct(
        f"{PACKAGE_HELLO}env.Install('appdir/usr', env.Dir('share'))\n"
        f"env.Command('appdir/usr/share/built', 'source', {COPY})\n"
    )
    project.build("hello")
    assert root(project)["usr/share/deep/gone"] == b"gone"
    project.path("share/deep/gone").unlink()
    project.build("hello")
    # Nor has the directory on disk: who loses the store would not know whose file that is.
    assert not project.path("appdir/usr/share/deep/gone").exists()
    found = root(project)
    assert "usr/share/deep" in found  # as in the source
    assert "usr/share/deep/gone" not in found
    assert found["usr/share/built"] == b"built"
    assert project.build("hello").stages == set()
    project.path("share/deep").rmdir()
    project.write("appdir/usr/share/mine", "my own")
    project.build("hello")
    found = root(project)
    assert "usr/share/deep" not in found
    assert found["usr/share/mine"] == b"my own"


@pytest.mark.parametrize("lost", [False, True], ids=["", "store lost"])
def test_an_installed_directory_has_files_and_directories_where_its_source_has_them(
    project: Project, lost: bool
) -> None:
    project.write("share/one", "file")
    project.write("share/two/file", "in a directory")
    project.sconstruct(f"{PACKAGE_HELLO}env.Install('appdir/usr', env.Dir('share'))\n")
    project.build("hello")
    if lost:
        project.path(".sconsign.mystikos").unlink()
        project.build("hello")
    project.path("share/one").unlink()
    shutil.rmtree(project.path("share/two"))
    project.write("share/one/file", "in a directory")
    project.write("share/two", "file")
    project.build("hello")
    found = {path: content for path, content in root(project).items() if path.startswith("usr/share/")}
    assert found == {"usr/share/one": None, "usr/share/one/file": b"in a directory", "usr/share/two": b"file"}


def install_and_lose_a_file(project: Project) -> None:
    """Build with an installed directory, of whose source a file is then removed."""
    project.write("share/deep/file", "one")
    project.write("share/deep/gone", "gone")
    project.sconstruct(f"{PACKAGE_HELLO}env.Install('appdir/usr', env.Dir('share'))\n")
    project.build("hello")
    project.path("share/deep/gone").unlink()


def test_what_left_the_source_of_an_installed_directory_stays_out_though_the_store_is_lost(
    project: Project,
) -> None:
    install_and_lose_a_file(project)
    project.write("appdir/usr/share/deep/mine", "my own")
    project.build("hello")
    project.path(".sconsign.mystikos").unlink()
    project.build("hello")
    found = {path for path in root(project) if path.startswith("usr/share/deep/")}
    assert found == {"usr/share/deep/file", "usr/share/deep/mine"}


def test_what_left_the_source_of_an_installed_directory_is_removed_through_no_link_and_in_no_dry_run(
    project: Project,
) -> None:
    install_and_lose_a_file(project)
    project.build("-n", "hello")
    installed, kept = project.path("appdir/usr/share/deep"), project.path("kept")
    assert (installed / "gone").exists()
    installed.rename(kept)
    installed.symlink_to(kept)
    project.build("hello")
    assert (kept / "gone").read_text() == "gone"


@pytest.mark.parametrize("row", ["../outside", "folder/../../outside", "link/outside", "{}/outside"])
def test_nothing_outside_of_a_directory_is_removed_whatever_the_store_says(tmp_path: Path, row: str) -> None:
    directory = tmp_path / "made"
    (directory / "folder").mkdir(parents=True)
    (directory / "link").symlink_to(tmp_path)
    for path in (directory / "inside", tmp_path / "outside"):
        path.touch()
    assert not remove(directory, row.format(tmp_path), is_file=True)
    assert (tmp_path / "outside").exists()
    assert remove(directory, "inside", is_file=True) and not (directory / "inside").exists()


def test_what_was_built_anew_into_an_installed_directory_stays_out_when_its_builder_is_gone(
    project: Project,
) -> None:
    project.write("share/file", "one")
    project.write("source", "one")
    built = f"env.Command('appdir/share/built', 'source', {COPY})"
    project.sconstruct(f"env.Install('appdir', env.Dir('share'))\n{built}\n{PACKAGE_HELLO}")
    project.build()
    project.write("source", "another")
    project.build()
    assert root(project)["share/built"] == b"another"
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/share/built: has no source and no builder" in project.build().err
    assert "share" not in root(project)


def test_what_is_left_behind_in_a_directory_stays_out_where_that_is_installed(project: Project) -> None:
    project.write("source", "one")
    project.write("share/file", "one")
    project.sconstruct(f"env.Command('share/built', 'source', {COPY})\n")
    project.build()
    project.sconstruct(f"{PACKAGE_HELLO}env.Install('appdir/usr', env.Dir('share'))\n")
    for _ in range(2):
        build = project.build("hello")
        assert {path for path in root(project) if path.startswith("usr/share/")} == {"usr/share/file"}
        project.path("hello.cpio").unlink()
    assert "appdir/usr/share/built: has no source and no builder and was left out" in build.err


def test_a_directory_with_nothing_but_what_builders_left_is_told_to_be_so(project: Project) -> None:
    lines = "env.MystPackage('other', 'made')\n"
    commands = "".join(f"env.Command('made/{name}', 'source', Copy('$TARGET', 'source'))\n" for name in "ab")
    project.write("source", "one")
    project.sconstruct(f"{lines}{commands}")
    project.build("other.cpio")
    project.sconstruct(lines)
    build = project.fails("other.cpio")
    assert "made: has nothing but a and 1 more, left by a builder that is gone; describe it, rem" in build.err


FILE, FOLDER, LINK = (
    f"env.Command('appdir/x', 'source', {COPY})",
    "env.Command(env.Dir('appdir/x'), 'share', 'cp -r $SOURCE $TARGET')",
    "env.Command('appdir/x', 'source', 'ln -sfn etc $TARGET')",
)
BELOW = f"env.Command('appdir/x/deep/below', 'source', {COPY})"
BESIDE = "env.SideEffect('appdir/x', env.Command('stamp', 'source', 'cp $SOURCE appdir/x && touch $TARGET'))"
INSIDE = (
    "s = env.Command('stamp', 'source', 'mkdir -p appdir/x && cp $SOURCE appdir/x/deep && touch $TARGET')\n"
    "env.SideEffect(env.Dir('appdir/x'), s)"
)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (BELOW, FILE),
        (BELOW, FOLDER),
        (BELOW, LINK),
        (BELOW, BESIDE),
        (BELOW, INSIDE),
        (FOLDER, FILE),
        (FOLDER, LINK),
        (FOLDER, BESIDE),
        (LINK, FILE),
        (LINK, FOLDER),
        (LINK, BELOW),
        (LINK, BESIDE),
        (LINK, INSIDE),
        (LINK, "env.Install('appdir/x', env.Dir('share'))"),
        ("env.Command('appdir/x', 'source', 'ln -s etc/motd $TARGET')", BESIDE),
        ("env.Install('appdir/x', env.Dir('share'))", LINK),
    ],
)
def test_what_a_builder_that_is_gone_has_left_is_not_in_the_way_of_what_is_made_now(
    project: Project, tmp_path: Path, before: str, now: str
) -> None:
    project.write("source", "one")
    project.write("share/file", "one")
    project.sconstruct(f"{now}\n{PACKAGE_HELLO}")
    clean = project.copy(tmp_path / "clean")
    clean.build("hello")
    project.sconstruct(f"{before}\n{PACKAGE_HELLO}")
    project.build("hello")
    project.sconstruct(f"{now}\n{PACKAGE_HELLO}")
    project.build("hello")
    assert root(project) == root(clean)
    assert root(project)["etc/motd"] == b"good day\n"
    project.build("hello")
    assert root(project) == root(clean)


@pytest.mark.parametrize(
    ("before", "now", "problem"),
    [
        (FILE, BELOW, "File appdir/x found where directory expected."),
        (FILE, "env.Command(env.Dir('appdir/x'), 'source', 'touch $TARGET/y')", "File appdir/x found where"),
        (FILE, "env.Install('appdir', env.Dir('appdir/x'))", "File appdir/x found where directory expected."),
        (
            BELOW,
            "env.Command(env.File('appdir/x'), 'source', Copy('$TARGET', '$SOURCE'))",
            "Directory appdir/x",
        ),
    ],
)
def test_a_file_in_the_place_of_a_directory_that_is_described_now_is_told_and_the_reverse(
    project: Project, before: str, now: str, problem: str
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{before}\n{PACKAGE_HELLO}")
    project.build("hello")
    project.sconstruct(f"{now}\n{PACKAGE_HELLO}")
    told = project.fails("hello").err
    assert f"scons: *** {problem}" in told
    assert "Remove it if an earlier build has made it; otherwise rename one of the two." in told
    assert f'File "{project.path("SConstruct")}", line 3, in <module>' in told


@pytest.mark.parametrize("content", ["my own", None])
def test_what_somebody_wrote_into_a_directory_is_not_removed_with_what_is_in_the_way(
    project: Project, content: str | None
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{BELOW}\n{PACKAGE_HELLO}")
    project.build("hello")
    if content:
        project.write("appdir/x/mine", content)
    project.sconstruct(f"{FILE}\n{PACKAGE_HELLO}")
    project.build("-n", "hello")
    assert project.path("appdir/x/deep/below").exists()
    project.build("hello")
    assert root(project).get("x/mine") == (content.encode() if content else None)
    assert root(project)["x"] == (None if content else b"one")


def test_a_directory_that_was_there_before_its_builder_ran_is_there_when_that_runs_again(
    project: Project,
) -> None:
    project.path("appdir/made").mkdir()
    project.write("share/file", "one")
    project.sconstruct(
        f"env.Command(env.Dir('appdir/made'), 'share', 'cp $SOURCE/* $TARGET')\n{PACKAGE_HELLO}"
    )
    project.build("hello")
    project.write("share/file", "two")
    project.build("hello")
    assert root(project)["made/file"] == b"two"


def test_an_empty_directory_that_a_clean_leaves_is_not_in_the_way(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(f"env.Command('appdir/x/built', 'source', {COPY})\n{PACKAGE_HELLO}")
    project.build("hello")
    project.build("-c")
    project.sconstruct(f"{LINK}\n{PACKAGE_HELLO}")
    project.build("hello")
    assert root(project)["x"] == b"etc"


@pytest.mark.parametrize("name", ["motd", "new"])
def test_below_a_link_that_was_left_a_file_is_made_that_has_the_name_of_one_where_it_leads(
    project: Project, name: str
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{LINK}\n{PACKAGE_HELLO}")
    project.build("hello")
    project.sconstruct(f"env.Command('appdir/x/{name}', 'source', {COPY})\n{PACKAGE_HELLO}")
    project.build("hello")
    assert root(project)[f"x/{name}"] == b"one"
    assert root(project)["etc/motd"] == b"good day\n"


def test_a_link_that_was_replaced_by_a_directory_that_another_builder_made_is_made_again(
    project: Project,
) -> None:
    project.write("source", "one")
    for builder in (LINK, BELOW, LINK):
        project.sconstruct(f"{builder}\n{PACKAGE_HELLO}")
        project.build("hello")
    assert root(project)["x"] == b"etc"


@pytest.mark.parametrize("action", ["cp -r $SOURCE $TARGET", "ln -s ../share $TARGET"])
def test_a_directory_that_is_just_named_is_made_the_second_time_as_it_was_the_first(
    project: Project, action: str
) -> None:
    project.write("share/file", "one")
    project.sconstruct(f"env.Command('appdir/made', 'share', '{action}')\n{PACKAGE_HELLO}")
    project.build("hello")
    first = set(root(project))
    project.write("share/file", "two")
    project.build("hello")
    assert set(root(project)) == first
    assert [path.name for path in project.path("share").iterdir()] == ["file"]


@pytest.mark.parametrize("database", ["", "SConsignFile(None)\n"])
@pytest.mark.parametrize("source", ["'source'", "[]"])
def test_a_file_whose_builder_is_gone_stays_out_until_it_is_written_anew(
    project: Project, source: str, database: str
) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"{database}{PACKAGE_HELLO}env.Command('appdir/lib/[made]', {source}, Copy('$TARGET', 'source'))\n"
    )
    project.build()
    assert root(project)["lib/[made]"] == b"one"
    project.sconstruct(f"{database}{PACKAGE_HELLO}")
    build = project.build("hello")
    assert "appdir/lib/[made]: has no source and no builder and was left out" in build.err
    # In a new checkout, its directory would not be there either.
    assert not {"lib", "lib/[made]"} & set(root(project))
    assert project.build("hello").stages == set()
    project.write("appdir/lib/[made]", "my own")
    project.build("hello")
    assert root(project)["lib/[made]"] == b"my own"
    project.sconstruct(f"{database}{PACKAGE_HELLO}env.Command('copied', 'appdir/lib/[made]', {COPY})\n")
    project.build()
    project.build()
    assert root(project)["lib/[made]"] == b"my own"


@pytest.mark.parametrize(
    "builder",
    [
        "env.Command('made', 'source', [Copy('appdir/lib/x', '$SOURCE'), Touch('$TARGET')])\n"
        "env.SideEffect('appdir/lib/x', 'made')",
        "env.Command(env.Dir('appdir/lib'), 'source', [Mkdir('$TARGET'), Copy('$TARGET/x', '$SOURCE')])",
        "env.Install('appdir', env.Dir('lib'))",
    ],
    ids=["side effect", "directory", "installed directory"],
)
def test_what_a_side_effect_or_a_directory_leaves_stays_out_when_its_builder_is_gone(
    project: Project, builder: str
) -> None:
    project.write("source", "one")
    project.write("lib/x", "one")
    project.sconstruct(f"{PACKAGE_HELLO}{builder}\n")
    project.build("hello")
    assert root(project)["lib/x"] == b"one"
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/lib/x: has no source and no builder and was left out" in project.build("hello").err
    assert "lib" not in root(project)
    project.write("appdir/lib/y", "my own")
    project.build("hello")
    assert {path for path in root(project) if path.startswith("lib")} == {"lib", "lib/y"}


@pytest.mark.parametrize("leads_to", ["motd", "nowhere", "etc"])
@pytest.mark.parametrize(
    "builder",
    [
        "env.Command('appdir/link', 'source', 'ln -sfn {} $TARGET')",
        "env.Command(env.Dir('appdir/link'), 'source', 'ln -sfn {} $TARGET')",
        "env.SideEffect('appdir/link',"
        " env.Command('made', 'source', 'ln -sfn {} appdir/link; touch $TARGET'))",
    ],
    ids=["file", "directory", "side effect"],
)
def test_a_link_that_was_made_stays_out_when_its_builder_is_gone(
    project: Project, builder: str, leads_to: str
) -> None:
    project.write("source", "one")
    project.write("appdir/motd", "one")
    project.sconstruct(f"{PACKAGE_HELLO}{builder.format(leads_to)}\n")
    project.build("hello")
    assert root(project)["link"] == leads_to.encode()
    project.write("appdir/motd", "and another")
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/link: has no source and no builder and was left out" in project.build("hello").err
    assert "link" not in root(project)
    project.path("appdir/link").unlink()
    project.path("appdir/link").symlink_to(leads_to)
    project.build("hello")
    assert root(project)["link"] == leads_to.encode()


@pytest.mark.parametrize(
    ("builder", "source", "path"),
    [
        ("env.Command('data/x', 'source', {})", "['appdir', {{'x': 'data/x'}}]", "data/x"),
        ("env.Command('data/x', 'source', {})", "['appdir', {{'x/': env.Glob('data/*')}}]", "data/x"),
        (
            "env.Command(env.Dir('data'), 'source', ['mkdir -p $TARGET', 'cp $SOURCE $TARGET/x'])",
            "['appdir', {{'x': 'data/x'}}]",
            "data/x",
        ),
        (
            "env.Command('data/x', 'source', 'ln -sf ../source $TARGET')",
            "['appdir', {{'x': 'data/x'}}]",
            "data/x",
        ),
        ("env.MystRootfs('base', {{'x': 'source'}})", "['appdir', 'base.cpio']", "base.cpio"),
    ],
    ids=["mapped", "found by Glob", "in a directory", "link", "layer"],
)
def test_a_file_that_is_named_and_whose_builder_is_gone_is_refused_until_it_is_written_anew(
    project: Project, builder: str, source: str, path: str
) -> None:
    project.write("source", "one")
    package = f"env.MystPackage('hello', {source.format()})\n"
    project.sconstruct(f"{builder.format(COPY)}\n{package}")
    project.build("hello")
    project.sconstruct(package)
    problem = f"{path}: was made by a builder that is gone; describe it, remove it, or touch it"
    assert problem in project.fails("hello").err
    assert problem in project.fails("hello").err
    os.utime(project.path(path), (SOON, SOON), follow_symlinks=False)
    project.build("hello")


def test_a_side_effect_that_was_removed_is_made_again_and_one_that_never_comes_is_not_waited_for(
    project: Project,
) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"{PACKAGE_HELLO}s = env.Command('stamp', 'source',"
        " [Copy('appdir/lib', '$SOURCE'), Touch('$TARGET')])\n"
        "env.SideEffect(['appdir/lib', 'appdir/never'], s)\n"
    )
    project.build("hello")
    assert project.build("hello").out == "scons: `hello' is up to date.\n"
    project.path("appdir/lib").unlink()
    project.build("hello")
    assert root(project)["lib"] == b"one"
    assert project.build("hello").out == "scons: `hello' is up to date.\n"


# By the file that the builder writes into appdir/q/x.
WAYS_TO_MAKE = {
    "file": f"env.Command('appdir/q/x', 'file', {COPY})",
    "installed": "env.InstallAs('appdir/q/x', 'installed')",
    "link": "env.Command('appdir/q/x', 'link', 'ln -sfn ../link $TARGET')",
    "side": "env.SideEffect('appdir/q/x', env.Command('stamp', 'side', 'mkdir -p appdir/q && cp $SOURCE"
    " appdir/q/x && touch $TARGET'))",
    "beside": "env.SideEffect('appdir/q/x', env.Command('stamp2', 'beside', 'mkdir -p appdir/q && cp $SOURCE"
    " appdir/q/x && touch $TARGET'))",
    "directory": "env.Command(env.Dir('appdir/q'), 'directory', 'mkdir -p $TARGET && cp $SOURCE $TARGET/x')",
    "tree/x": "env.InstallAs('appdir/q', env.Dir('tree'))",
}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(WAYS_TO_MAKE, 2)))
def test_a_file_is_made_again_when_something_else_that_made_it_since_is_gone(
    project: Project, first: str, second: str
) -> None:
    # Of other sizes: SCons keeps whole seconds, in which more than one of the builds may be done.
    contents = {way: way + "." * 99 * number for number, way in enumerate(WAYS_TO_MAKE)}
    for way, content in contents.items():
        project.write(way, content)
    for way in (first, second, first):
        project.sconstruct(f"{WAYS_TO_MAKE[way]}\n{PACKAGE_HELLO}")
        project.build("hello")
        expected = "../link" if way == "link" else contents[way]
        assert root(project)["q/x"] == expected.encode()


def test_a_build_that_only_tells_knows_that_a_side_effect_would_be_another(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        f"{PACKAGE_HELLO}s = env.Command('stamp', 'source',"
        " [Copy('appdir/lib', '$SOURCE'), Touch('$TARGET')])\nenv.SideEffect('appdir/lib', s)\n"
    )
    project.build("hello")
    project.write("source", "two")
    assert "pack appdir" in project.build("-n", "hello").out


@pytest.mark.parametrize("named", ["'appdir/lib'", "env.Dir('appdir/lib')"])
def test_a_directory_inside_may_be_a_side_effect(project: Project, named: str) -> None:
    project.sconstruct(
        f"{PACKAGE_HELLO}s = env.Command('stamp', 'source',"
        " [Mkdir('appdir/lib'), Copy('appdir/lib/x', '$SOURCE'), Touch('$TARGET')])\n"
        f"env.SideEffect({named}, s)\n"
    )
    for content in ("one", "two, longer"):
        project.write("source", content)
        project.build("hello")
        assert root(project)["lib/x"] == content.encode()
        assert project.build("hello").stages == set()


def test_a_directory_that_is_a_side_effect_has_nothing_that_another_builder_has_left_there(
    project: Project,
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/lib/left', 'source', {COPY})\n")
    project.build("hello")
    project.sconstruct(
        f"{PACKAGE_HELLO}"
        "s = env.Command('stamp', 'source', [Copy('appdir/unpacked', '$SOURCE'), Touch('$TARGET')])\n"
        "env.SideEffect(env.Dir('appdir'), s)\n"
    )
    assert "appdir/lib/left: has no source and no builder and was left out" in project.build("hello").err
    assert {"unpacked", "lib"} & set(root(project)) == {"unpacked"}


@pytest.mark.parametrize("own", ["y", "deep/y"])
def test_what_is_written_into_a_directory_that_was_left_behind_is_packed_whatever_its_time(
    project: Project, own: str
) -> None:
    project.write("lib/deep/x", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Install('appdir', env.Dir('lib'))\n")
    project.build("hello")
    project.sconstruct(PACKAGE_HELLO)
    project.build("hello")
    folder = project.path("appdir/lib")
    before = folder.stat().st_mtime_ns
    project.write(f"appdir/lib/{own}", "my own")
    os.utime(folder, ns=(before, before))
    project.build("hello")
    assert root(project)[f"lib/{own}"] == b"my own"
    assert "lib/deep/x" not in root(project)


def test_an_empty_directory_that_a_clean_leaves_stays_out_when_its_builder_is_gone(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/var/lib/built', 'source', {COPY})\n")
    project.build()
    project.build("-c")
    project.path("appdir/empty").mkdir()
    project.sconstruct(PACKAGE_HELLO)
    assert "appdir/var: has no source and no builder and was left out" in project.build().err
    assert {"empty", "var"} & set(root(project)) == {"empty"}


def test_a_directory_that_has_nothing_but_a_database_of_scons_stays_out(project: Project) -> None:
    project.write("appdir/lib/file", "one")
    project.sconstruct(
        f"SConsignFile(None)\n{PACKAGE_HELLO}env.Command('copied', 'appdir/lib/file', {COPY})\n"
    )
    project.build()
    project.path("appdir/lib/file").unlink()
    assert project.path("appdir/lib/.sconsign").exists()
    project.sconstruct(f"SConsignFile(None)\n{PACKAGE_HELLO}")
    assert "appdir/lib: has no source and no builder and was left out" in project.build().err
    assert "lib" not in root(project)


def test_what_is_excluded_is_not_told_to_be_left_behind(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/lib/built', 'source', {COPY})\n")
    project.build()
    project.sconstruct("env.MystPackage('hello', 'appdir', MYST_ROOTFS_EXCLUDE=['lib'])\n")
    assert "left out" not in project.build().err


def test_a_directory_that_is_packed_of_one_that_a_builder_makes_is_made_first(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        """
env.MystPackage("hello", ["appdir", "tree/part"])
env.Command(env.Dir("tree"), "source", [Mkdir("tree/part"), Copy("tree/part/x", "$SOURCE")])
"""
    )
    for content in ("one", "two"):
        project.write("source", content)
        project.build("hello")
        assert root(project)["x"] == content.encode()


@pytest.fixture
def repository(project: Project) -> Project:
    """An empty project beside one that it takes as its repository."""
    local = Project(project.directory.with_name("local"))
    local.path("").mkdir()
    return local


@pytest.mark.parametrize("where", ["-Y", "Repository"])
def test_what_lies_in_a_repository_is_packed_as_in_a_checkout(
    project: Project, repository: Project, where: str
) -> None:
    project.write("source", "one")
    project.sconstruct(
        'env.MystPackage("hello", ["appdir", {"etc/config.json": "config.json"}])\n'
        f"env.Command('appdir/lib/built', 'source', {COPY})\n"
    )
    arguments = ("-Y", "../project") if where == "-Y" else ()
    if where == "Repository":
        script = project.path("SConstruct").read_text()
        repository.write("SConstruct", f"Repository('../project')\n{script}")
    repository.build(*arguments)
    assert repository.build(*arguments).stages == set()
    packed = root(repository)
    plain = project.copy(project.directory.with_name("plain"))
    plain.build()
    assert repository.path("hello").read_bytes() == plain.path("hello").read_bytes()
    # A file of the user's own wins, and one that is changed in the repository is followed.
    repository.write("appdir/etc/motd", "mine\n")
    project.write("appdir/bin/hello", "#!/bin/hello\n\n")
    repository.build(*arguments)
    assert root(repository) == packed | {"etc/motd": b"mine\n", "bin/hello": b"#!/bin/hello\n\n"}


def test_what_a_repository_has_built_is_packed_from_there_and_signed_here_only_when_it_is_made_here(
    project: Project, repository: Project
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/lib/built', 'source', {COPY})\n")
    project.build()
    build = repository.build("-Y", "../project")
    assert "Copy(" not in build.out
    assert build.stages == ALL
    assert root(repository) == root(project)
    project.sconstruct(PACKAGE_HELLO)
    build = repository.build("-Y", "../project")
    assert "appdir/lib/built: has no source and no builder and was left out" in build.err
    assert "lib" not in root(repository)
    assert repository.path("hello").read_bytes() != project.path("hello").read_bytes()


VARIANT = """\
env.Replace(MYST_RUNTIME="#rt")
SConscript("src/SConscript", variant_dir="build", duplicate={duplicate}, exports="env")
"""
VARIANT_SCRIPT = f"""\
Import("env")
env.MystPackage("hello", "appdir")
env.Command("appdir/bin/built", "source", {COPY})
"""


@pytest.fixture(params=[0, 1], ids=["duplicate=0", "duplicate=1"])
def variant(request: pytest.FixtureRequest, project: Project) -> Project:
    """A project whose sources lie in ``src`` and whose targets go to ``build``."""
    project.path("src").mkdir()
    for name in ("appdir", "config.json", "key.pem"):
        project.path(name).rename(project.path(f"src/{name}"))
    project.write("src/source", "one")
    project.write("src/SConscript", VARIANT_SCRIPT)
    project.sconstruct(VARIANT.format(duplicate=request.param))
    return project


STATIC = {"bin": None, "bin/hello": b"#!/bin/hello\n", "etc": None, "etc/issue": b"motd"}
MOTD = {"etc/motd": b"good day\n"}


def test_in_a_variant_directory_the_root_holds_sources_and_built_files(variant: Project) -> None:
    before = {name for name in variant.names() if name.startswith("src")}
    variant.build()
    assert root(variant, "build/hello.cpio") == STATIC | MOTD | {"bin/built": b"one"}
    assert {name for name in variant.names() if name.startswith("src")} == before
    assert variant.build().stages == set()


def test_in_a_variant_directory_changes_of_sources_are_followed(variant: Project) -> None:
    variant.build()
    variant.write("src/source", "two")
    variant.write("src/appdir/etc/motd", "good bye\n")
    assert variant.build().stages == ALL
    assert root(variant, "build/hello.cpio") == STATIC | {"etc/motd": b"good bye\n", "bin/built": b"two"}


def test_in_a_variant_directory_nothing_remains_of_a_source_that_is_gone(variant: Project) -> None:
    # The other builder makes SCons duplicate the file.
    with variant.path("src/SConscript").open("a") as script:
        script.write(f"env.Command('copy', 'appdir/etc/motd', {COPY})\n")
    variant.build()
    variant.write("src/SConscript", VARIANT_SCRIPT)
    variant.path("src/appdir/etc/motd").unlink()
    assert variant.build().stages == ALL
    assert root(variant, "build/hello.cpio") == STATIC | {"bin/built": b"one"}


@pytest.mark.parametrize("source", ["Glob('*.conf')", "['appdir', {'etc/': Glob('*.conf')}]"])
def test_in_a_variant_directory_a_copy_that_is_found_and_whose_source_is_gone_is_told_and_goes(
    project: Project, source: str
) -> None:
    project.path("appdir").rename(project.path("src"))
    project.write("src/a.conf", "a")
    project.write("src/b.conf", "b")
    project.write("src/appdir/motd", "good day")
    project.write("src/SConscript", f"Import('env')\nenv.MystRootfs('root', {source})\n")
    project.sconstruct("SConscript('src/SConscript', 'env', variant_dir='build')\n")
    project.build()
    project.path("src/b.conf").unlink()
    problem = (
        "src/b.conf: is not there, and a copy of it that was left at build/b.conf is removed; build again"
    )
    assert problem in project.fails().err
    assert any("a.conf" in path for path in root(project, "build/root.cpio"))
    project.build()
    assert not any("b.conf" in path for path in root(project, "build/root.cpio"))


def test_in_a_variant_directory_nothing_remains_of_a_file_that_is_no_longer_built(variant: Project) -> None:
    variant.build()
    variant.write("src/SConscript", 'Import("env")\nenv.MystPackage("hello", "appdir")\n')
    build = variant.build()
    assert root(variant, "build/hello.cpio") == STATIC | MOTD
    assert "build/appdir/bin/built: has no source and no builder and was left out" in build.err


def test_in_a_variant_directory_a_source_that_takes_the_place_of_a_built_file_is_packed_without_a_word(
    variant: Project,
) -> None:
    variant.build()
    variant.write("src/SConscript", 'Import("env")\nenv.MystPackage("hello", "appdir")\n')
    variant.write("src/appdir/bin/built", "by hand")
    build = variant.build()
    assert root(variant, "build/hello.cpio")["bin/built"] == b"by hand"
    assert not build.err


def test_in_a_variant_directory_a_built_file_wins_over_a_source_of_its_name(variant: Project) -> None:
    variant.write("src/appdir/bin/built", "from an earlier build in the source directory")
    variant.build()
    assert root(variant, "build/hello.cpio")["bin/built"] == b"one"


def test_in_a_variant_directory_a_clash_of_directory_and_file_names_both(variant: Project) -> None:
    variant.write("src/SConscript", VARIANT_SCRIPT.replace("bin/built", "etc/motd/built"))
    build = variant.fails()
    for name in ("build/appdir/etc/motd", "src/appdir/etc/motd", "only one of them is a directory"):
        assert name in build.err
    assert not variant.path("build/hello.cpio").exists()


def test_a_variant_directory_of_a_folder_that_has_no_application_directory(variant: Project) -> None:
    variant.write(
        "src/SConscript",
        'Import("env")\n'
        'env.InstallAs("root/bin/hello", "appdir/bin/hello")\n'
        'env.MystPackage("hello", "root")\n',
    )
    variant.build()
    assert root(variant, "build/hello.cpio") == {"bin": None, "bin/hello": b"#!/bin/hello\n"}


def test_in_a_variant_directory_an_installed_directory_has_nothing_that_its_source_has_no_longer(
    variant: Project,
) -> None:
    variant.write("src/share/file", "one")
    variant.write("src/share/gone", "gone")
    with variant.path("src/SConscript").open("a") as script:
        script.write("env.Install('appdir/usr', env.Dir('#src/share'))\n")
    variant.build()
    assert root(variant, "build/hello.cpio")["usr/share/gone"] == b"gone"
    variant.path("src/share/gone").unlink()
    variant.write("src/share/file", "two")
    variant.build()
    found = root(variant, "build/hello.cpio")
    assert found["usr/share/file"] == b"two"
    assert "usr/share/gone" not in found


def test_in_a_variant_directory_what_was_built_among_the_sources_stays_out_when_its_builder_is_gone(
    project: Project,
) -> None:
    project.write("source", "one")
    project.sconstruct(f"{PACKAGE_HELLO}env.Command('appdir/lib/built', 'source', {COPY})\n")
    project.build()
    project.write("SConscript", 'Import("env")\nenv.MystPackage("hello", "appdir")\n')
    project.sconstruct(
        """
env.Replace(MYST_RUNTIME="#rt", MYST_CONFIG="#config.json", MYST_KEY="#key.pem")
SConscript("SConscript", variant_dir="build", duplicate=0, exports="env")
"""
    )
    assert "lib/built: has no source and no builder and was left out" in project.build("build/hello").err
    assert "lib" not in root(project, "build/hello.cpio")


def test_in_a_variant_directory_a_copy_is_made_again_when_its_source_has_another_mode_and_no_sooner(
    variant: Project,
) -> None:
    variant.write("src/sub/file", "one", 0o644)
    variant.write("src/sub/SConscript", f"Import('env')\nenv.Command('../appdir/file', 'file', {COPIED})\n")
    variant.write("src/SConscript", f"{VARIANT_SCRIPT}SConscript('sub/SConscript', 'env')\n")
    variant.build("build/hello")
    assert "is up to date" in variant.build("build/hello").out
    variant.path("src/sub/file").chmod(0o755)
    variant.build("build/hello")
    assert mode_in_root(variant, "file", "build/hello.cpio") == 0o755
