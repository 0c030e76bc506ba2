"""MystClosure: programs of a machine and of the project with what they need, tracked like any source."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_elf
from scons_project import PACKAGE, ROOTFS, Project

from mystikos_tool.root.archive import read

GLIBC = "/lib64/ld-linux-x86-64.so.2"
ROOT = 'env.MystRootfs("hello", env.MystClosure({programs}, MYST_SYSROOT="machine"))\n'


def machine(project: Project, directory: str = "machine") -> None:
    """Put a small machine into the project: its program /bin/app needs libone.so."""
    files = {
        "lib64/ld-linux-x86-64.so.2": tiny_elf.program(soname="ld-linux-x86-64.so.2"),
        "usr/lib64/libone.so": tiny_elf.program(),
        "bin/app": tiny_elf.program(interpreter=GLIBC, needed=["libone.so"]),
    }
    for path, data in files.items():
        project.write(f"{directory}/{path}", data, 0o755)


def packed(project: Project, name: str = "hello.cpio") -> set[str]:
    return {member.path.decode() for member in read(project.path(name)).members}


@pytest.fixture
def closures(project: Project) -> Project:
    """A project with a small machine in it, whose root is the closure of a program."""
    machine(project)
    project.sconstruct(ROOT.format(programs='"/bin/app"'))
    return project


def test_a_program_is_packed_with_what_it_needs(closures: Project) -> None:
    closures.build()
    expected = {"bin/app", "usr/lib64/libone.so", "lib64/ld-linux-x86-64.so.2"}
    assert packed(closures) == expected | {"bin", "lib64", "usr", "usr/lib64"}
    assert not closures.build().stages


def test_a_library_that_changed_on_the_machine_changes_the_root_and_is_named(closures: Project) -> None:
    assert "changed" not in closures.build().text
    closures.write("machine/usr/lib64/libone.so", tiny_elf.program(soname="libone.so"), 0o755)
    build = closures.build()
    assert build.stages == {ROOTFS}
    warning = "/usr/lib64/libone.so: changed on machine since the closure of machine/bin/app was last packed"
    assert warning in build.err
    assert "(MystRootfs at SConstruct:3)" in build.err
    assert not closures.build().text.count("changed")


def test_a_library_that_now_comes_first_changes_the_root(closures: Project) -> None:
    closures.build()
    closures.write("machine/lib64/libone.so", tiny_elf.program(), 0o755)
    assert closures.build().stages == {ROOTFS}
    assert "lib64/libone.so" in packed(closures)


def test_what_no_program_needs_may_change(closures: Project) -> None:
    closures.build()
    closures.write("machine/usr/lib64/libother.so", tiny_elf.program())
    closures.write("machine/etc/motd", "hello")
    assert not closures.build().stages


def test_a_program_of_the_project_is_built_first_and_goes_where_a_mapping_says(closures: Project) -> None:
    closures.write(
        "made", tiny_elf.program(interpreter=GLIBC, needed=["libone.so", "libown.so"], search=["$ORIGIN"])
    )
    closures.write("libown.so", tiny_elf.program())
    closures.sconstruct(
        'app = env.Command("build/app", "made", [Copy("$TARGET", "$SOURCE"), Chmod("$TARGET", 0o755)])\n'
        + ROOT.format(programs='{"opt/app": app, "opt/": "libown.so"}')
    )
    closures.build()
    assert {"opt/app", "opt/libown.so", "usr/lib64/libone.so"} <= packed(closures)
    closures.write("made", tiny_elf.program(interpreter=GLIBC))
    build = closures.build()
    assert "usr/lib64/libone.so" not in packed(closures)
    assert "/opt/app" not in build.err


def test_a_directory_of_the_project_comes_with_what_its_programs_need(closures: Project) -> None:
    closures.write("app/lib/plugin.so", tiny_elf.program(needed=["libone.so"]), 0o755)
    closures.write("app/tests/data", "data")
    programs = '{"opt/app": "app"}, MYST_ROOTFS_EXCLUDE=["tests"]'
    closures.sconstruct(ROOT.format(programs=programs))
    closures.build()
    assert {"opt/app/lib/plugin.so", "usr/lib64/libone.so"} <= packed(closures)
    assert "opt/app/tests" not in packed(closures)


def test_a_sysroot_may_be_built(project: Project) -> None:
    machine(project, "template")
    project.sconstruct(
        'env.Command(Dir("machine"), "template/bin/app", "rm -rf machine; cp -a template machine")\n'
        + ROOT.format(programs='"/bin/app"')
    )
    project.build()
    assert "usr/lib64/libone.so" in packed(project)


def test_a_closure_is_one_source_among_others(closures: Project) -> None:
    closures.sconstruct(
        'closure = env.MystClosure("/bin/app", MYST_SYSROOT="machine")\n'
        'env.MystPackage("hello", [closure, "appdir"], MYST_CONFIG="config.json")\n'
    )
    closures.write("appdir/bin/hello", tiny_elf.program(interpreter=GLIBC, needed=["libone.so"]), 0o755)
    closures.write("appdir/etc/ld-musl-x86_64.path", "/usr/lib64")
    build = closures.build()
    assert PACKAGE in build.stages
    assert {"bin/app", "bin/hello"} <= packed(closures)


def test_the_same_closure_in_two_roots_is_looked_for_once_and_packed_alike(closures: Project) -> None:
    closures.sconstruct(
        'closure = env.MystClosure("/bin/app", MYST_SYSROOT="machine")\n'
        'env.MystRootfs("one", closure)\nenv.MystRootfs("two", closure)\n'
    )
    closures.build()
    assert closures.path("one.cpio").read_bytes() == closures.path("two.cpio").read_bytes()


def test_the_root_does_not_depend_on_where_the_sysroot_lies(closures: Project, tmp_path: Path) -> None:
    closures.build()
    copy = closures.copy(tmp_path / "elsewhere")
    copy.path("hello.cpio").unlink()
    copy.build()
    assert copy.path("hello.cpio").read_bytes() == closures.path("hello.cpio").read_bytes()


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ('"/bin/none"', "/bin/none: is not in "),
        ('"bin/none"', "bin/none: no such file or directory"),
        (
            '"/bin/app", MYST_CLOSURE_EXTRAS=["glibc"]',
            "MYST_CLOSURE_EXTRAS cannot be ['glibc']; give a list of nss,",
        ),
        ('"/bin/app", MYST_KEY="key.pem"', "MYST_KEY has no effect: this MystClosure does not sign"),
        ("", "MystClosure needs a program"),
        ('env.MystSource("appdir")', "MystClosure takes programs; give other sources of the root beside it"),
        ("None", "a source of the root is None"),
    ],
)
def test_what_is_no_program_is_refused_where_it_is_asked_for(
    closures: Project, programs: str, message: str
) -> None:
    closures.sconstruct(ROOT.format(programs=programs).replace("(, ", "("))
    build = closures.fails()
    assert message in build.text
    assert "SConstruct" in build.text


def test_a_missing_library_fails_the_build_and_keeps_the_earlier_root(closures: Project) -> None:
    closures.build()
    before = closures.path("hello.cpio").read_bytes()
    closures.path("machine/usr/lib64/libone.so").unlink()
    build = closures.fails()
    assert "/bin/app: needs what is not in machine: libone.so (/bin/app needs it)" in build.err
    assert "(MystRootfs at SConstruct:3)" in build.err
    assert closures.path("hello.cpio").read_bytes() == before


def test_variables_of_a_closure_have_no_effect_elsewhere(closures: Project) -> None:
    closures.sconstruct('env.MystRootfs("hello", "appdir", MYST_SYSROOT="machine")\n')
    assert "MYST_SYSROOT has no effect: this MystRootfs does not look for programs" in closures.fails().text
