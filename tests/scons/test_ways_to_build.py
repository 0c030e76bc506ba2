"""What SCons users expect of every tool: options, environments, functions on what a builder returns."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from scons_project import (
    A_NEW_PYTHON,
    ALL,
    CONFIG,
    DATA,
    MEASURE,
    PACKAGE,
    PACKAGE_HELLO,
    ROOTFS,
    SCONSTRUCT,
    SIGN,
    TARGETS,
    Build,
    Project,
)

FILES = {*TARGETS.values()}
# SCons itself makes it, empty, even where it is to change nothing.
SCONS_DATABASE = {".sconsign.dblite"}


def many(project: Project, count: int) -> set[str]:
    """Make the SConstruct build packages, each from its own application directory."""
    for number in range(count):
        project.write(f"apps/{number}/bin/hello", f"{number}", 0o755)
    project.sconstruct(
        f"for number in range({count}):\n    env.MystPackage(f'out/{{number}}', f'apps/{{number}}')\n"
    )
    return {f"out/{number}" for number in range(count)}


def test_parallel_builds_of_several_packages_give_what_one_at_a_time_gives(
    project: Project, tmp_path: Path
) -> None:
    packages = many(project, 6)
    other = project.copy(tmp_path / "other")
    parallel = project.build("-j8")
    assert len(parallel.made) == 24
    assert sorted(parallel.made) == sorted(other.build("-j1").made)
    for package in packages:
        assert project.path(package).read_bytes() == other.path(package).read_bytes()
    assert project.build("-j8").stages == set()


DRY_RUN = [
    "pack appdir → hello.cpio",
    "measure hello.cpio → hello.measurement.json",
    "sign hello.measurement.json → hello.mystenc.so",
    "package hello.mystenc.so → hello",
]


def test_a_dry_run_tells_what_it_would_do_and_changes_nothing(project: Project) -> None:
    before = project.names()
    build = project.build("-n")
    assert project.names() - SCONS_DATABASE == before
    assert build.out.splitlines() == DRY_RUN


def test_a_dry_run_after_a_change_tells_what_it_would_do_and_changes_nothing(built: Project) -> None:
    built.write("appdir/etc/motd", "good bye\n")
    before = built.snapshot()
    assert built.build("-n").out.splitlines() == DRY_RUN
    assert built.snapshot() == before
    built.write("appdir/etc/motd", "good day\n")
    shutil.copy(DATA / "keys" / "key-b.pem", built.path("key.pem"))
    assert built.build("-n").out.splitlines() == DRY_RUN[2:]
    built.write("appdir/etc/motd", "good bye\n")
    assert built.run("-q").status == 1
    assert built.build().stages == ALL
    assert built.run("-q").status == 0


def test_a_dry_run_of_a_key_makes_none(project: Project) -> None:
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_KEY=env.MystKey("new.pem"))\n')
    before = project.names()
    assert "make key → new.pem\n" in project.build("-n").out
    assert project.names() - SCONS_DATABASE == before


def test_a_clean_removes_every_target_and_nothing_else(built: Project) -> None:
    before = built.names()
    build = built.build("-c")
    assert built.names() == before - FILES
    assert {f"Removed {name}" for name in FILES} == set(build.out.splitlines())


def test_a_made_key_is_private_and_outlives_cleans_and_a_lost_database(project: Project) -> None:
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_KEY=env.MystKey("keys/new.pem"))\n')
    assert "made a development key → keys/new.pem" in project.build().out
    key = project.path("keys/new.pem")
    made = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert project.build().out == "scons: `.' is up to date.\n"
    project.build("-c")
    assert key.read_bytes() == made
    project.path(".sconsign.dblite").unlink()
    assert "kept the key → keys/new.pem" in project.build().out
    project.path("hello").unlink()
    project.sconstruct(
        'env.MystPackage("hello", "appdir", MYST_KEY=env.MystKey("keys/new.pem", MYSTKEYCOMSTR="key"))\n'
    )
    project.build()
    assert key.read_bytes() == made


def test_a_key_that_sgx_does_not_take_is_told_and_kept(project: Project) -> None:
    project.write("keys/old.pem", "mine")
    project.sconstruct('env.MystKey("keys/old.pem")\n')
    assert "keys/old.pem: is not PEM" in project.fails().err
    assert project.path("keys/old.pem").read_text() == "mine"


def test_it_builds_from_a_subdirectory(project: Project) -> None:
    project.path("sub").mkdir()
    project.write("sub/SConscript", 'Import("env")\nenv.MystPackage("inner", "#appdir")\n')
    project.sconstruct(
        'env.Replace(MYST_CONFIG="#config.json", MYST_KEY="#key.pem", MYST_RUNTIME="#rt")\n'
        'SConscript("sub/SConscript", exports="env")\n' + PACKAGE_HELLO
    )
    assert "→ sub/inner\n" in project.build("-u", folder="sub").out
    assert not project.path("hello").exists()
    assert project.build("-D", folder="sub").stages == ALL
    assert project.build("-u", "inner", folder="sub").stages == set()
    project.write("appdir/etc/motd", "good bye\n")
    assert project.build("-u", "inner", folder="sub").stages == ALL


def test_the_builders_work_one_by_one_as_the_whole_does(built: Project) -> None:
    built.write("given.cpio", built.path("hello.cpio").read_bytes())
    built.sconstruct(
        """
rootfs = env.MystRootfs("steps/root", "appdir")
measurement = env.MystMeasure("steps/hello", rootfs)
image = env.MystSign("steps/hello", measurement)
env.MystPackage("steps/hello", image)
env.MystPackage("from/measurement", measurement)
env.MystPackage("from/rootfs", rootfs)
env.MystPackage("from/archive", "given.cpio")
"""
    )
    built.build()
    whole = built.path("hello").read_bytes()
    for name in ("steps/hello", "from/measurement", "from/rootfs", "from/archive"):
        assert built.path(name).read_bytes() == whole
    assert built.path("steps/root.cpio").exists()
    assert not built.path("from/archive.cpio").exists()


@pytest.mark.parametrize(
    "script",
    [
        'env.MystPackage("hello", MYST_ROOT="disk")\n',
        'env.Replace(MYST_ROOT="disk")\nenv.MystPackage("hello", env.MystMeasure("hello"))\n',
    ],
    ids=["an override", "a variable of the environment"],
)
def test_a_root_on_a_disk_is_asked_for_by_name(project: Project, script: str) -> None:
    project.sconstruct(script)
    assert project.build().made == ["hello.measurement.json", "hello.mystenc.so", "hello"]


def test_environments_clones_and_overrides_do_not_touch_each_other(project: Project) -> None:
    project.write("other.json", CONFIG.replace("1m", "2m"))
    shutil.copy(DATA / "keys" / "key-b.pem", project.path("other.pem"))
    project.sconstruct(
        """
other = env.Clone(MYST_KEY="other.pem")
override = dict(MYST_CONFIG="other.json")
rootfs = env.MystRootfs("root", "appdir")
env.MystPackage("plain", rootfs)
other.MystPackage("cloned", rootfs)
env.MystPackage("overridden", rootfs, **override)
Environment(tools=["mystikos"], toolpath=[{site_tools!r}]).MystPackage(
    "own", rootfs, MYST_RUNTIME="rt", MYST_CONFIG="config.json", MYST_KEY="key.pem")
env.MystPackage("plain again", rootfs)
""".replace("{site_tools!r}", repr(str(DATA.parents[1] / "site_scons" / "site_tools")))
    )
    project.build()
    plain = project.path("plain").read_bytes()
    assert project.path("own").read_bytes() == plain == project.path("plain again").read_bytes()
    assert len({project.path(name).read_bytes() for name in ("plain", "cloned", "overridden")}) == 3
    project.write("other.json", CONFIG)
    assert project.build().made == ["overridden.measurement.json", "overridden.mystenc.so", "overridden"]
    assert project.path("overridden").read_bytes() == plain


def test_one_package_described_in_two_ways_is_told(project: Project) -> None:
    project.write("other.json", CONFIG)
    project.sconstruct(PACKAGE_HELLO + 'env.MystPackage("hello", "appdir", MYST_CONFIG="other.json")\n')
    assert "hello" in project.fails().err


def test_construction_variables_are_expanded(project: Project) -> None:
    project.path("appdir").rename(project.path("one"))
    project.sconstruct(
        """
env.Replace(NAME="one", MYST_CONFIG="${STEM}.json", STEM="config", MYST_KEY="$KEYS/key.pem", KEYS=".")
env.MystPackage("out/$NAME", "$NAME")
"""
    )
    project.build()
    assert project.path("out/one").exists()


def test_alias_install_depends_and_default_work_on_a_package(project: Project) -> None:
    project.write("version", "1")
    project.sconstruct(
        """
package = env.MystPackage("hello", "appdir")
env.Alias("everything", package)
env.Alias("install", env.Install("installed", package))
env.Depends(package, "version")
Default(env.MystRootfs("other", "appdir"))
"""
    )
    assert project.build().made == ["other.cpio"]
    assert project.build("everything").stages == ALL
    project.build("install")
    installed = project.path("installed/hello")
    assert installed.read_bytes() == project.path("hello").read_bytes()
    assert stat.S_IMODE(installed.stat().st_mode) == 0o755
    project.write("version", "2")
    assert project.build("everything").stages == {PACKAGE}


def test_the_result_of_a_builder_is_a_list_of_one_file_node(project: Project) -> None:
    project.sconstruct(
        """
for nodes in env.MystPackage("hello", Dir("appdir")), env.MystKey("new.pem"):
    print(len(nodes), nodes[0], type(nodes[0]).__mro__[-3:-1])
"""
    )
    assert "1 hello " in project.build("-n").out


def test_a_file_target_may_be_a_node(project: Project) -> None:
    project.sconstruct('env.MystPackage(File("out/hello"), Dir("appdir"))\n')
    assert project.build().made[-1] == "out/hello"


def test_the_tree_of_dependencies_shows_every_input(built: Project) -> None:
    tree = built.build("--tree=all", "hello").out
    for name in ("appdir", "config.json", "key.pem", "rt/bin/myst", "rt/lib/libmystkernel.so", "hello.cpio"):
        assert f"+-{name}\n" in tree
    assert built.build("--tree=prune,status", "hello").out.count("+-appdir\n") == 1


def test_an_explanation_names_what_changed(built: Project) -> None:
    built.write("appdir/etc/motd", "good bye\n")
    shutil.copy(DATA / "keys" / "key-b.pem", built.path("key.pem"))
    explained = built.build("--debug=explain").out
    assert "scons: rebuilding `hello.cpio' because `appdir' changed: etc/motd\n" in explained
    assert "`key.pem' changed" in explained


def test_an_explanation_names_what_was_added_removed_and_changed_of_a_directory(built: Project) -> None:
    for number in range(4):
        built.write(f"appdir/etc/new{number}", "")
    built.path("appdir/etc/motd").unlink()
    built.path("appdir/etc/issue").unlink()
    built.path("appdir/etc/issue").symlink_to("new0")
    built.write("appdir/bin/hello", "#!/bin/other\n")
    explained = built.build("--debug=explain").out
    shown = "bin/hello, etc/issue, etc/motd, etc/new0, etc/new1 and 2 more"
    assert f"scons: rebuilding `hello.cpio' because `appdir' changed: {shown}\n" in explained


def test_an_explanation_names_an_added_key(built: Project) -> None:
    shutil.copy(DATA / "keys" / "key-a.pub.pem", built.path("a.pub.pem"))
    built.sconstruct('env.MystPackage("hello", "appdir", MYST_PUBKEYS="a.pub.pem")\n')
    explained = built.build("--debug=explain").out
    assert "`a.pub.pem' is a new dependency" in explained
    assert "hello.cpio' because" not in explained


def test_interactive_builds_follow_changes(project: Project) -> None:
    session = (
        "build hello\nbuild hello\nshell sh -c 'echo new > appdir/etc/new'\nbuild hello\nclean hello\nexit\n"
    )
    build = project.run("--interactive", stdin=session)
    assert build.status == 0, build.text
    assert "Traceback" not in build.text
    assert Build(0, build.out.replace("scons>>> ", ""), "").made == [*TARGETS.values()] * 2
    assert "packed 2 files" in build.out
    assert "packed 3 files" in build.out
    assert not project.path("hello").exists()
    assert project.path("key.pem").exists()


def test_lines_can_be_replaced_or_silenced(project: Project) -> None:
    project.sconstruct(
        """
env.Replace(MYSTROOTFSCOMSTR="Packing $TARGET from $SOURCE", MYSTMEASURECOMSTR="")
env.MystPackage("hello", "appdir", MYSTSIGNCOMSTR="Signing")
"""
    )
    lines = project.build().out.splitlines()
    assert lines[:2] == ["Packing hello.cpio from appdir", "Signing"]
    assert len(lines) == 3
    assert lines[2].startswith("packaged ")
    project.write("appdir/etc/motd", "good bye\n")
    assert project.build("-s").out == ""


def test_a_link_of_the_tool_into_site_scons_is_all_that_a_project_needs(project: Project) -> None:
    tools = project.path("site_scons/site_tools")
    tools.mkdir(parents=True)
    (tools / "mystikos.py").symlink_to(DATA.parents[1] / "site_scons" / "site_tools" / "mystikos.py")
    project.sconstruct(
        PACKAGE_HELLO,
        head=SCONSTRUCT.replace("toolpath=[{site_tools!r}], ", ""),
    )
    assert project.build().stages == ALL


def test_a_failed_stage_stops_only_what_needs_it(project: Project) -> None:
    project.write("appdir2/bin/other", "")
    project.sconstruct('env.MystPackage("bad", "appdir2")\n' + PACKAGE_HELLO)
    build = project.fails("-k")
    assert build.made[0] == "bad.cpio"
    assert build.made[1:] == [*TARGETS.values()]
    assert "config.json:1:74: ApplicationPath" in build.err


def test_a_name_with_a_dot_is_no_suffix(project: Project) -> None:
    project.sconstruct('env.MystPackage("hello-1.2", "appdir")\n')
    names = ["hello-1.2.cpio", "hello-1.2.measurement.json", "hello-1.2.mystenc.so", "hello-1.2"]
    assert project.build().made == names


def test_what_scons_keeps_in_every_directory_stays_out_of_the_root(project: Project) -> None:
    project.write("source", "")
    project.sconstruct(
        "SConsignFile(None)\n"
        "env.Command('appdir/built', 'source', Copy('$TARGET', '$SOURCE'))\n" + PACKAGE_HELLO
    )
    assert project.build().stages == ALL
    assert project.path("appdir/.sconsign").exists()
    assert project.build().stages == set()


@pytest.mark.parametrize("decider", ["content", "content-timestamp", "timestamp-match", "timestamp-newer"])
def test_changes_within_a_second_are_followed_whatever_the_decider(project: Project, decider: str) -> None:
    project.sconstruct(f"env.Decider({decider!r})\n" + PACKAGE_HELLO)
    assert project.build().stages == ALL
    assert project.build().stages == set()
    archive = project.path("hello.cpio")
    packed = archive.stat().st_mtime_ns
    project.write("appdir/etc/motd", "good bye\n")
    assert project.build("hello.cpio").stages == {ROOTFS}
    os.utime(archive, ns=(packed, packed))
    assert project.build().stages == {MEASURE, SIGN, PACKAGE}


def test_the_runtime_is_a_builder_under_both_of_its_names(project: Project) -> None:
    project.sconstruct(
        """
nodes = env.MystRuntime()
assert list(map(str, nodes)) == list(map(str, env.MystLoader())), "the two differ"
env.Install("installed", nodes)
"""
    )
    project.build()
    for name in ("bin/myst", "lib/openenclave/mystenc.so", "lib/libmystkernel.so", "lib/libmystcrt.so"):
        installed = project.path(f"installed/{name.rpartition('/')[2]}")
        assert installed.read_bytes() == project.path(f"rt/{name}").read_bytes()


def test_what_is_installed_follows_what_no_one_measures(project: Project) -> None:
    project.sconstruct('env.Install("installed", env.MystPackage("hello", "appdir"))\n')
    project.build()
    for name in ("rt/lib/libmystkernel.so", "rt/lib/libmystcrt.so", "rt/bin/myst"):
        project.write(name, project.path(name).read_bytes()[:-1] + b"\t")
        project.build()
        assert project.path("installed/hello").read_bytes() == project.path("hello").read_bytes()


@pytest.mark.parametrize("target", ["hello.measurement.json", "hello.mystenc.so", "hello"])
def test_a_command_added_before_or_after_a_stage_does_not_make_it_run_again(
    project: Project, target: str
) -> None:
    project.sconstruct(
        PACKAGE_HELLO + f"env.AddPreAction({target!r}, 'echo before')\n"
        f"env.AddPostAction({target!r}, 'echo after')\n"
    )
    for content in ("good bye\n", "good day\n"):
        project.write("appdir/etc/motd", content)
        build = project.build()
        assert build.out.index("\nbefore\n") < build.out.index(f"→ {target}\n") < build.out.index("\nafter\n")
        for _ in range(2):
            assert project.build().out == "scons: `.' is up to date.\n"


@pytest.mark.parametrize("call", ["MystRootfs('made.cpio', 'appdir')", "MystDisk('made.disk', 'appdir')"])
def test_what_an_action_before_packing_writes_into_the_directory_is_packed_once(
    project: Project, call: str
) -> None:
    project.write("source", "one, and the root is not empty")
    project.sconstruct(f"made = env.{call}\nenv.AddPreAction(made, 'cp source appdir/written')\n")
    for text in (b"one,", b"two,"):
        project.write("source", text + b" and the root is not empty")
        project.write("appdir/etc/motd", text)
        project.build()
        made = next(project.path(name) for name in ("made.cpio", "made.disk") if project.path(name).exists())
        assert text + b" and the root is not empty" in made.read_bytes()
        assert project.build().out == "scons: `.' is up to date.\n"


def test_of_two_roots_of_a_directory_both_have_what_an_action_of_one_writes_there(project: Project) -> None:
    project.sconstruct(
        "first, second = (env.MystRootfs(name, 'appdir') for name in ('first', 'second'))\n"
        "env.AddPreAction(second, 'echo written > appdir/written')\nenv.Requires(second, first)\n"
    )
    project.build()
    project.build()
    assert b"written" in project.path("first.cpio").read_bytes()
    assert project.path("first.cpio").read_bytes() == project.path("second.cpio").read_bytes()
    assert project.build().out == "scons: `.' is up to date.\n"


def test_what_a_post_action_makes_of_an_image_is_what_counts(project: Project) -> None:
    """The same size and, as clocks tick, often the same time as what the stage itself made."""
    project.sconstruct(
        PACKAGE_HELLO
        + """
def change(target, source, env):
    with open(str(target[0]), "r+b") as image:
        image.seek(-1, 2)
        image.write(b"!")

env.AddPostAction("hello.mystenc.so", change)
"""
    )
    project.build()
    assert project.path("hello.mystenc.so").read_bytes().endswith(b"!")
    assert project.build().out == "scons: `.' is up to date.\n"


COUNTED = """
import atexit, os, types
from mystikos_tool.cache import digest_worker, digests, file_digests
from mystikos_tool.io import content
read = []
def readv(*arguments, call=os.readv):
    read.append(call(*arguments))
    return read[-1]
digest_worker.os = types.SimpleNamespace(**{**vars(os), "readv": readv})
digest = content.sha256
counted = lambda chunks: digest(read.append(len(chunk)) or chunk for chunk in chunks)
digests.sha256 = file_digests.sha256 = counted
env.MystPackage("hello", "appdir")
atexit.register(lambda: print("read", sum(read)))
"""


def test_an_input_is_read_once_to_find_out_its_digest_and_what_a_stage_wrote_is_not(project: Project) -> None:
    project.sconstruct(COUNTED)
    read = int(project.build().out.rpartition("read ")[2])
    inputs = [*project.path("rt").rglob("*"), *project.path("appdir").rglob("*")]
    inputs += [project.path("config.json"), project.path("key.pem")]
    assert read == sum(path.stat().st_size for path in inputs if path.is_file() and not path.is_symlink())


def test_a_checkout_s_tool_is_that_checkout_s_whatever_the_path_of_python_has(
    project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "mystikos_tool"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    project.sconstruct(PACKAGE_HELLO)
    build = project.build(environment={"PYTHONPATH": str(other.parent), **A_NEW_PYTHON})
    assert build.stages == ALL
