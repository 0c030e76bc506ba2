"""A root of several directories, files and mappings, without what is excluded."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from scons_project import ALL, CONFIG, Project

from mystikos_tool.root.archive import read

MAIN = {"bin/hello": b"#!/bin/sh\n"}


def members(project: Project, archive: str = "hello.cpio") -> dict[str, bytes]:
    """The files of an archive and their content."""
    found = read(project.path(archive))
    return {m.path.decode(): found.data(m) for m in found.members if m.mode & 0o170000 == 0o100000}


@pytest.fixture
def layered(project: Project) -> Project:
    project.write("base/etc/base.conf", "base")
    project.write("base/lib/module.py", "code")
    project.write("base/lib/module.pyc", "compiled")
    project.write("base/lib/tests/test.py", "tests")
    project.write("LICENSE", "licence")
    project.write("conf/production.conf", "production")
    return project


def test_directories_files_and_mappings_make_one_root(layered: Project) -> None:
    layered.sconstruct(
        'env.MystPackage("hello", ["base", "appdir", "LICENSE", {"/etc/app.conf": "conf/production.conf",'
        ' "opt/lib": "base/lib"}])\n'
    )
    layered.build()
    found = members(layered)
    assert found["etc/base.conf"] == b"base"
    assert found["LICENSE"] == b"licence"
    assert found["etc/app.conf"] == b"production"
    assert found["opt/lib/module.py"] == b"code"
    assert "bin/hello" in found
    for name, content in (("conf/production.conf", "x"), ("base/lib/module.py", "y"), ("LICENSE", "z")):
        layered.write(name, content)
        assert layered.build().stages == ALL, name
    assert layered.build().stages == set()
    layered.path("LICENSE").chmod(0o755)
    assert layered.build().stages == ALL


def test_a_mapping_alone_makes_a_root(layered: Project) -> None:
    layered.sconstruct('env.MystPackage("hello", {"bin": "appdir/bin"})\n')
    layered.build()
    assert set(members(layered)) == {"bin/hello"}


def test_a_file_that_is_built_can_be_mapped(layered: Project) -> None:
    layered.sconstruct(
        'made = env.Command("made", "LICENSE", Copy("$TARGET", "$SOURCE"))\n'
        'env.MystPackage("hello", ["appdir", {"share/licence": made}])\n'
    )
    layered.build()
    assert members(layered)["share/licence"] == b"licence"
    layered.write("LICENSE", "another")
    assert layered.build().stages == ALL
    assert members(layered)["share/licence"] == b"another"


def test_what_is_excluded_stays_out_and_a_change_of_it_packs_nothing(layered: Project) -> None:
    layered.sconstruct(
        'env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_EXCLUDE=["*.pyc", "lib/tests"])\n'
    )
    layered.build()
    assert not [name for name in members(layered) if name.endswith(".pyc") or "tests" in name]
    assert "lib/module.py" in members(layered)
    layered.write("base/lib/tests/another.py", "tests")
    layered.write("base/lib/module.pyc", "compiled again")
    assert layered.build().stages == set()
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_EXCLUDE=["*.pyc"])\n')
    assert layered.build().stages == ALL
    assert "lib/tests/another.py" in members(layered)


def test_a_clash_names_both(layered: Project) -> None:
    layered.write("appdir/etc/base.conf", "mine")
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir"])\n')
    build = layered.run()
    assert build.status != 0
    assert (
        "[hello.cpio] appdir/etc/base.conf: clashes with base/etc/base.conf at /etc/base.conf in the root; "
        "exclude or rename one of the two, or let the later one win with MYST_ROOTFS_OVERLAY=True"
        in build.err
    )
    assert "Traceback" not in build.err
    assert not layered.path("hello.cpio").exists()


def test_a_place_outside_of_the_root_is_told(layered: Project) -> None:
    layered.sconstruct('env.MystPackage("hello", ["appdir", {"../etc/x": "LICENSE"}])\n')
    build = layered.run()
    assert build.status != 0
    assert "give a place without . and .." in build.err


def test_a_large_root_is_packed_out_of_the_earlier_archive_to_the_same_bytes(layered: Project) -> None:
    for number in range(300):
        layered.write(f"base/data/{number:03}", f"{number}\n" * number)
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir"])\n')
    layered.build()
    layered.build()
    layered.write("base/data/100", "changed")
    layered.write("base/data/1000", "added")
    layered.path("base/data/200").unlink()
    layered.path("base/data/250").chmod(0o755)
    assert layered.build().stages == ALL
    spliced = layered.path("hello").read_bytes()
    layered.build("-c")
    layered.path(".sconsign.mystikos").unlink()
    layered.build()
    assert layered.path("hello").read_bytes() == spliced


def test_an_archive_that_was_damaged_between_builds_is_not_used_again(layered: Project) -> None:
    for number in range(300):
        layered.write(f"base/data/{number:03}", f"{number}\n" * number)
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir"])\n')
    layered.build()
    archive = layered.path("hello.cpio").read_bytes()
    layered.write("hello.cpio", archive.replace(b"299\n299\n", b"damaged\n", 1))
    layered.write("base/data/100", "100\n" * 99 + "199\n")
    layered.build()
    assert b"damaged" not in layered.path("hello").read_bytes()


def test_a_path_that_an_installed_mystikos_does_not_boot_with_is_told(layered: Project) -> None:
    layered.write("appdir/" + "n" * 254, "")
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir"])\n')
    assert "nnn: its path in the root has 254 bytes, and an installed" in layered.build().err


def test_an_archive_among_the_sources_is_a_layer(layered: Project) -> None:
    layered.write("base/bin/tool", "tool", 0o755)
    layered.sconstruct(
        'base = env.MystRootfs("base", "base")\n'
        'env.MystPackage("hello", ["appdir", base], MYST_ROOTFS_EXCLUDE=["*.pyc", "lib/tests"])\n'
        'env.MystPackage("other", ["appdir", "base.cpio", {"share/base.cpio": base}])\n'
    )
    layered.build()
    found = members(layered)
    assert found["etc/base.conf"] == b"base"
    assert not [name for name in found if name.endswith((".pyc", ".cpio")) or "tests" in name]
    assert read(layered.path("hello.cpio")).by_path[b"bin/tool"].mode & 0o777 == 0o755
    other = members(layered, "other.cpio")
    assert other["share/base.cpio"] == layered.path("base.cpio").read_bytes()
    assert other["lib/tests/test.py"] == b"tests"
    layered.write("base/etc/base.conf", "another")
    assert layered.run("-n", "hello").out.count("→") == 5
    layered.build()
    assert members(layered)["etc/base.conf"] == b"another"
    assert layered.build().stages == set()


def test_a_root_can_be_packed_of_one_archive(layered: Project) -> None:
    layered.sconstruct('env.MystRootfs("less", env.MystRootfs("base", "base"), MYST_ROOTFS_EXCLUDE="lib")\n')
    layered.build()
    assert set(members(layered, "less.cpio")) == {"etc/base.conf"}


def test_an_archive_that_is_damaged_is_told(layered: Project) -> None:
    layered.write("base.cpio", "no archive")
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base.cpio"])\n')
    assert "base.cpio, offset 0: is no CPIO archive" in layered.fails().err


def test_a_build_that_only_tells_knows_that_a_file_of_a_root_would_be_another(layered: Project) -> None:
    layered.sconstruct(
        'env.Command("appdir/made", "LICENSE", Copy("$TARGET", "$SOURCE"))\n'
        'env.MystPackage("hello", "appdir")\n'
    )
    layered.build()
    layered.write("LICENSE", "another")
    assert "pack appdir → hello.cpio" in layered.run("-n", "hello").out


@pytest.mark.parametrize("database", ["", "SConsignFile('state/db')\n", "SConsignFile(None)\n"])
def test_a_root_of_the_top_directory_holds_nothing_that_scons_keeps_there(
    project: Project, database: str
) -> None:
    project.path("state").mkdir()
    project.sconstruct(
        f'{database}env.MystPackage("out/hello", ".", MYST_ROOTFS_EXCLUDE=["out", "key.pem", "rt"])\n'
    )
    project.write("config.json", CONFIG.replace("/bin", "/appdir/bin"))
    project.build("out")
    project.write("another", "")  # the databases are there by now
    project.build("out")
    expected = {"SConstruct", "another", "config.json", "appdir/bin/hello", "appdir/etc/motd"}
    assert set(members(project, "out/hello.cpio")) == expected
    assert project.build("out").stages == set()


def test_a_root_of_the_top_directory_holds_no_cache_of_scons_and_nothing_of_configure(
    project: Project,
) -> None:
    project.sconstruct(
        "CacheDir('state/cache')\nenv.Configure(log_file='state/log').Finish()\n"
        'env.MystPackage("out/hello", ".", MYST_ROOTFS_EXCLUDE=["out", "key.pem", "rt"])\n'
    )
    project.write("config.json", CONFIG.replace("/bin", "/appdir/bin"))
    project.write("state/mine", "")
    for _ in range(2):
        project.build("out")
        assert {".sconf_temp", "state/cache", "state/log"} < project.names()
        expected = {"SConstruct", "config.json", "state/mine", "appdir/bin/hello", "appdir/etc/motd"}
        assert set(members(project, "out/hello.cpio")) == expected
    assert project.build("out").stages == set()


@pytest.mark.parametrize("source", ['"."', '{"app": "."}', '["base", "."]'])
def test_a_target_that_lies_in_what_it_is_made_of_is_told(layered: Project, source: str) -> None:
    layered.sconstruct(f'env.MystPackage("out/hello", {source})\n')
    error = layered.fails("out/hello").err
    assert "out/hello" in error
    assert "which it is made of; give it another place, or exclude it with MYST_ROOTFS_EXCLUDE" in error
    assert "Dependency cycle" not in error


def test_a_target_that_is_mapped_into_its_own_root_is_told(layered: Project) -> None:
    layered.sconstruct('env.MystPackage("file", ["appdir", {"file": "file"}])\n')
    assert "file: is what it is made of, too; name the target otherwise" in layered.fails("file").err


def test_a_package_may_lie_in_the_directory_of_another_one(project: Project) -> None:
    project.write("outer/bin/hello", "", 0o755)
    project.sconstruct(
        'env.MystPackage("outer/inner", "appdir")\n'
        'env.MystPackage("hello", "outer", MYST_ROOTFS_EXCLUDE=["inner.*"])\n'
    )
    project.build()
    assert set(members(project)) == {"bin/hello", "inner"}


READS = """\
import atexit, sys
reads = []
sys.addaudithook(lambda event, of: event == "open" and "appdir/bin/hello" in str(of[0]) and reads.append(1))
atexit.register(lambda: print("reads:", len(reads)))
for name in ("first", "second", "third"):
    env.MystPackage(name, "appdir")
"""


@pytest.mark.parametrize("jobs", ["-j1", "-j3"])
def test_packages_of_one_directory_read_it_to_compare_it_and_once_more_to_pack_it(
    project: Project, jobs: str
) -> None:
    project.sconstruct(READS)
    build = project.build(jobs)
    assert "reads: 2\n" in build.out
    assert members(project, "first.cpio") == members(project, "third.cpio")
    assert len({project.path(f"{name}.cpio").read_bytes() for name in ("first", "second", "third")}) == 1


# Which source wins, and what each is taken with


def modes(project: Project, archive: str = "hello.cpio") -> dict[str, int]:
    return {m.path.decode(): m.mode & 0o7777 for m in read(project.path(archive)).members}


def test_the_later_of_two_sources_wins_where_that_is_asked_for(layered: Project) -> None:
    layered.write("appdir/etc/base.conf", "mine")
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir"], MYST_ROOTFS_OVERLAY=True)\n')
    layered.build()
    assert members(layered)["etc/base.conf"] == b"mine"
    assert layered.build().stages == set()
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_OVERLAY="yes")\n')
    assert layered.build().stages == ALL
    assert members(layered)["etc/base.conf"] == b"base"
    layered.sconstruct('env.MystPackage("hello", ["base", "appdir", "base"], MYST_ROOTFS_OVERLAY=True)\n')
    assert layered.build().stages == set()
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"])\n')
    assert "clashes with" in layered.fails().err


def test_a_directory_does_not_win_over_a_file(layered: Project) -> None:
    layered.write("other/etc/motd/file", "")
    layered.sconstruct('env.MystPackage("hello", ["appdir", "other"], MYST_ROOTFS_OVERLAY=True)\n')
    error = layered.fails().err
    assert (
        "other/etc/motd: cannot be joined with appdir/etc/motd, for only one of them is a directory" in error
    )


def test_a_source_has_variables_of_its_own(layered: Project) -> None:
    layered.path("base/lib/module.py").chmod(0o640)
    layered.path("appdir/etc/motd").chmod(0o640)
    layered.write("appdir/lib/kept.pyc", "compiled")
    layered.sconstruct(
        'base = env.MystSource(["base", {"opt": "conf"}], MYST_ROOTFS_EXCLUDE=["*.pyc"],'
        ' MYST_ROOTFS_MODES="preserve")\n'
        'env.MystPackage("hello", ["appdir", base])\n'
    )
    layered.build()
    assert "lib/kept.pyc" in members(layered)
    assert {"lib/module.py", "opt/production.conf"} <= set(members(layered))
    assert "lib/module.pyc" not in members(layered)
    assert modes(layered)["lib/module.py"] == 0o640
    assert modes(layered)["etc/motd"] == 0o644
    layered.path("base/lib/module.py").chmod(0o600)
    assert layered.build().stages == ALL
    layered.path("appdir/etc/motd").chmod(0o600)
    assert layered.build().stages == set()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("MystSource('base', MYST_ROOTFS_OVERLAY=True)", "this MystSource does not pack a root"),
        ("MystSource([])", "MystSource needs a source"),
        ("MystSource()", "MystSource needs a source"),
        ("MystRootfs('hello', 'base', MYST_ROOTFS_CHMOD={'a': 'rwx'})", "MYST_ROOTFS_CHMOD cannot be"),
        ("MystRootfs('hello', 'base', MYST_ROOTFS_CHMOD={'a': 0o10000})", "MYST_ROOTFS_CHMOD cannot be"),
        ("MystRootfs('hello', 'base', MYST_ROOTFS_OVERLAY='maybe')", "give True or False"),
        ("MystRootfs('hello', 'base', MYST_ROOTFS_LEFTOVERS=1)", 'give "warn" or "error" or "allow"'),
    ],
)
def test_what_such_a_variable_does_not_take_is_told(layered: Project, call: str, told: str) -> None:
    layered.sconstruct(f"env.{call}\n")
    assert told in layered.fails().err


def test_files_have_the_modes_that_are_asked_for(layered: Project) -> None:
    layered.sconstruct(
        'env.MystPackage("hello", ["appdir", {"etc/shop.key": "conf/production.conf"}, "base"],'
        ' MYST_ROOTFS_CHMOD={"etc/*": 0o640, "/etc/shop.key": "0600", "*.py": 0o755, "lib/tests": 0o700})\n'
    )
    layered.build()
    found = modes(layered)
    assert found["etc/shop.key"] == 0o600
    assert found["etc/motd"] == found["etc/base.conf"] == 0o640
    assert found["etc/issue"] == 0o777  # a symbolic link has none of its own
    assert found["etc"] == 0o755
    assert found["lib/module.py"] == found["lib/tests/test.py"] == 0o755
    assert found["lib/tests"] == 0o700
    assert layered.build().stages == set()
    layered.sconstruct(
        'env.MystPackage("hello", ["appdir", {"etc/shop.key": "conf/production.conf"}, "base"],'
        ' MYST_ROOTFS_CHMOD="etc/shop.key=0400,etc/shop.kye=0600")\n'
    )
    build = layered.build()
    assert build.stages == ALL
    assert modes(layered)["etc/shop.key"] == 0o400
    assert "hello.cpio: MYST_ROOTFS_CHMOD has a mode for etc/shop.kye, which no file in the root" in build.err
    assert "shop.key," not in build.err


MADE = {
    "a file": ("gen/f", "env.Command('gen/f', 'v', Copy('$TARGET', '$SOURCE'))", "usr/x"),
    "a directory by its name": (
        "gen",
        "env.Command('gen', 'v', [Delete('$TARGET'), Mkdir('$TARGET'), Copy('$TARGET/f', '$SOURCE')])",
        "usr/x/f",
    ),
    "a side effect": (
        "gen/f",
        "env.SideEffect('gen/f', env.Command('s', 'v', [Mkdir('gen'), Copy('gen/f', '$SOURCE'),"
        " Touch('$TARGET')]))",
        "usr/x",
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_what_is_mapped_may_be_made_by_a_call_before_or_after(layered: Project, case: str) -> None:
    source, make, path = MADE[case]
    package = f"env.MystPackage('hello', ['appdir', {{'usr/x': {source!r}}}])"
    for number, script in enumerate((f"{make}\n{package}\n", f"{package}\n{make}\n")):
        layered.sconstruct(script)
        layered.write("v", f"{number}")
        layered.build("-c")
        shutil.rmtree(layered.path("gen"), ignore_errors=True)
        layered.build("hello")
        archive = read(layered.path("hello.cpio"))
        assert [archive.data(member) for member in archive.members if member.path == path.encode()] == [
            f"{number}".encode()
        ]
        assert layered.build("hello").stages == set()


def test_a_directory_that_was_made_by_its_name_and_is_the_only_source_is_to_be_given_as_one(
    layered: Project,
) -> None:
    layered.sconstruct(
        "env.Command('made', 'appdir', Copy('$TARGET', '$SOURCE'))\nenv.MystPackage('hello', 'made')\n"
    )
    assert 'made: is a directory; give it as Dir("made")' in layered.fails("hello").err


def test_files_are_mapped_into_a_directory_under_their_names(layered: Project) -> None:
    layered.sconstruct(
        'mapped = {"etc/": ["LICENSE", "conf/production.conf"], "usr/base/": "base", "/": "LICENSE"}\n'
        'env.MystPackage("hello", ["appdir", mapped])\n'
    )
    layered.build()
    expected = {"etc/LICENSE", "etc/production.conf", "usr/base/lib/module.py", "LICENSE"}
    assert expected <= set(members(layered))


def test_what_is_hardly_meant_for_a_root_is_told_with_the_pattern_that_keeps_it_out(layered: Project) -> None:
    for name in ("appdir/.git/config", "appdir/.git/old~", "appdir/etc/motd~", "appdir/etc/.motd.swp"):
        layered.write(name, "")
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"])\n')
    assert (
        "warning: hello.cpio: holds what is hardly meant for it: /.git, /etc/.motd.swp, /etc/motd~;"
        ' keep it out with MYST_ROOTFS_EXCLUDE=[".git", ".*.swp", "*~"],'
        ' or set MYST_ROOTFS_LEFTOVERS="allow" (MystPackage at SConstruct:3)\n'
    ) in layered.build().err
    assert ".git/config" in members(layered)
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_LEFTOVERS="error")\n')
    assert "[hello.cpio] hello.cpio: holds what is hardly meant for it" in layered.fails().err
    layered.sconstruct('env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_LEFTOVERS="allow")\n')
    assert "hardly meant" not in layered.build().text
    layered.sconstruct(
        'env.MystPackage("hello", ["appdir", "base"], MYST_ROOTFS_EXCLUDE=[".git", ".*.swp", "*~"])\n'
    )
    assert "hardly meant" not in layered.build().text
    assert ".git/config" not in members(layered)


# Debug information


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
def test_programs_lose_their_debug_information_on_request(project: Project) -> None:
    project.write("hello.c", "int main(void) { return 0; }\n")
    compiled = subprocess.run(
        ["gcc", "-g", "-o", "appdir/bin/hello", "hello.c"], cwd=project.directory, check=False
    )
    assert compiled.returncode == 0
    config = CONFIG.replace("}", ', "Mount": [{"Target": "/lib", "Type": "hostfs"}]}')
    project.write("config.json", config)
    build = project.build()
    assert (
        f"hello.cpio: the path of this checkout, {project.directory}, is in the debug information of"
        " /bin/hello, so that MRENCLAVE is another one elsewhere; set MYST_ROOTFS_STRIP=True, or compile with"
        f" -ffile-prefix-map={project.directory}=." in build.err
    )
    whole = members(project)["bin/hello"]
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_ROOTFS_STRIP=True)\n')
    build = project.build()
    assert build.stages == ALL
    assert "the path of this checkout" not in build.err
    stripped = members(project)["bin/hello"]
    assert len(stripped) < len(whole)
    assert str(project.directory).encode() not in stripped
    assert project.build().stages == set()
    copy = project.copy(project.directory.with_name("copy"))
    copy.path("config.json").write_text(
        config.replace("1m", "2m")
    )  # the archive is proved before it is measured
    copied = copy.build()
    assert "rootfs" not in copied.stages
    assert "is not what its sources make" not in copied.err
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_ROOTFS_STRIP=["*.so"])\n')
    assert project.build().stages == ALL
    assert members(project)["bin/hello"] == whole


def test_an_archive_that_a_mapping_puts_at_the_top_is_a_layer_and_a_file_elsewhere(project: Project) -> None:
    project.write("base/lib/data", "data")
    project.sconstruct(
        'base = env.MystRootfs("base.cpio", "base")\n'
        'env.MystPackage("hello", {"/": ["appdir", base], "opt/image": base, "files/": base})\n'
    )
    project.build()
    found = set(members(project))
    assert {"lib/data", "bin/hello", "opt/image", "files/base.cpio"} <= found
    assert "base.cpio" not in found
