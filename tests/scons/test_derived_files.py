"""What builders put into an application directory: built first, counted, and followed."""

from __future__ import annotations

import pytest
from scons_project import ALL, Project

from mystikos_tool.root.archive import read

# Copies a file in-process, as a compiler would write its output.
COPY = "Copy('$TARGET', '$SOURCE')"


def root(project: Project, name: str = "hello.cpio") -> dict[str, bytes | None]:
    """What a root file system holds: content by path, None for directories."""
    archive = read(project.path(name))
    return {
        member.path.decode(): None if member.mode >> 12 == 0o04 else archive.data(member)
        for member in archive.members
    }


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
    # SCons makes a directory again when a source of it was built, not when one was edited.
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
        "env.Depends(package, stamp)",
        "env.Requires(package, stamp)",
    ],
)
def test_what_the_directory_or_the_package_depends_on_is_made_before_the_root_is_packed(
    project: Project, order: str
) -> None:
    project.write("source", "one")
    project.sconstruct(f"package = env.MystPackage('hello', 'appdir')\n{UNPACK}{order}\n")
    project.build("hello")
    assert root(project)["unpacked"] == b"one"
    project.write("source", "two")
    project.build("hello")
    assert root(project)["unpacked"] == b"two"
    assert project.build("hello").out == "scons: `hello' is up to date.\n"


def test_what_a_measurement_depends_on_is_made_before_its_root_is_packed(project: Project) -> None:
    project.write("source", "one")
    project.sconstruct(
        "measurement = env.MystMeasure('hello', 'appdir')\nenv.MystPackage('hello', measurement)\n"
        f"{UNPACK}env.Depends(measurement, stamp)\n"
    )
    project.build("hello")
    assert root(project)["unpacked"] == b"one"


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


def test_in_a_variant_directory_nothing_remains_of_a_file_that_is_no_longer_built(variant: Project) -> None:
    variant.build()
    variant.write("src/SConscript", 'Import("env")\nenv.MystPackage("hello", "appdir")\n')
    build = variant.build()
    assert root(variant, "build/hello.cpio") == STATIC | MOTD
    assert "build/appdir/bin/built: has no source and no builder and was left out" in build.err


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
