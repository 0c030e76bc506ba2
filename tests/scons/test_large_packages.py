"""The package of a large root is begun beside measuring: nobody sees it before it is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from scons_project import (
    ALL,
    EVERY_ROOT_IS_LARGE,
    MEASURE,
    PACKAGE,
    PACKAGE_HELLO,
    ROOTFS,
    SIGN,
    Project,
    make_project,
)

# Shows what lies beside the measurement when it has been made.
SHOWN = """
import os
env.AddPostAction("hello.measurement.json", lambda target, source, env: print("beside:", os.listdir(".")))
"""
BEGUN = ".hello.mystikos-part"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project")
    project.sconstruct(EVERY_ROOT_IS_LARGE + PACKAGE_HELLO)
    return project


@pytest.fixture
def expected(built: Project) -> bytes:
    """The package of the same project, written at once."""
    return built.path("hello").read_bytes()


def left(project: Project) -> set[str]:
    return {name for name in project.names() if "mystikos-part" in name}


def test_it_is_begun_before_it_is_signed_and_has_the_same_bytes(project: Project, expected: bytes) -> None:
    project.sconstruct(EVERY_ROOT_IS_LARGE + PACKAGE_HELLO + SHOWN)
    build = project.build()
    assert BEGUN in build.out
    assert build.stages == ALL
    assert project.path("hello").read_bytes() == expected
    assert not left(project)
    assert project.build().stages == set()


def test_a_rebuild_has_the_bytes_of_a_clean_build(project: Project) -> None:
    project.build()
    project.write("appdir/etc/motd", "good bye\n")
    assert project.build().stages == ALL
    rebuilt = project.path("hello").read_bytes()
    project.build("-c")
    project.build()
    assert project.path("hello").read_bytes() == rebuilt


def test_nothing_is_begun_of_a_package_that_is_not_asked_for(project: Project) -> None:
    project.sconstruct(EVERY_ROOT_IS_LARGE + PACKAGE_HELLO + SHOWN)
    build = project.build("hello.measurement.json")
    assert "beside:" in build.out
    assert BEGUN not in build.out


def test_a_package_whose_measurement_is_there_is_written_at_once(project: Project, expected: bytes) -> None:
    project.build("hello.measurement.json")
    assert project.build().stages == {SIGN, PACKAGE}
    assert project.path("hello").read_bytes() == expected


def test_a_root_that_cannot_be_started_leaves_nothing_begun(project: Project) -> None:
    project.build()
    earlier = project.path("hello").read_bytes()
    project.write("config.json", project.path("config.json").read_text().replace("/bin/hello", "/bin/other"))
    assert "/bin/other is not in" in project.fails().err
    assert project.path("hello").read_bytes() == earlier
    assert not left(project)


def test_a_key_that_does_not_sign_leaves_nothing_begun_and_is_made_up_for(
    project: Project, expected: bytes
) -> None:
    key = project.path("key.pem").read_bytes()
    project.write("key.pem", "no key")
    build = project.fails()
    assert build.stages == {ROOTFS, MEASURE}
    assert not left(project)
    project.write("key.pem", key)
    project.build()
    assert project.path("hello").read_bytes() == expected


def test_a_place_where_no_package_can_be_is_told_by_the_packages_own_stage(project: Project) -> None:
    project.sconstruct(
        EVERY_ROOT_IS_LARGE + PACKAGE_HELLO + 'env.AddPreAction("hello", lambda target, source, env: 0)\n'
    )
    project.path("hello").symlink_to(project.path("missing") / "hello")
    build = project.fails()
    assert build.stages == {ROOTFS, MEASURE, SIGN}
    assert "make the directory first" in build.err


def test_two_packages_of_one_measurement_are_both_made(project: Project, expected: bytes) -> None:
    project.write("other.pem", (project.directory / "key.pem").read_bytes())
    project.sconstruct(
        EVERY_ROOT_IS_LARGE
        + """
measurement = env.MystMeasure("hello", env.MystRootfs("hello", "appdir"))
env.MystPackage("one", measurement)
env.MystPackage("two", measurement, MYST_KEY="other.pem")
"""
    )
    project.build()
    assert project.path("one").read_bytes() == project.path("two").read_bytes() == expected
    assert not left(project)


def test_a_build_that_failed_is_gone_on_with_in_the_same_process(project: Project, expected: bytes) -> None:
    project.write("key.pem.good", project.path("key.pem").read_bytes())
    project.write("key.pem", "no key")
    commands = "build hello\nshell cp key.pem.good key.pem\nbuild hello\nexit\n"
    build = project.run("--interactive", stdin=commands)
    assert "signed with key.pem" in build.out
    assert project.path("hello").read_bytes() == expected
    assert not left(project)


# Roots of which an archive is written into itself, and of which digests are taken up again in the middle.
MANY_FILES = [f"appdir/many/{number:03}" for number in range(300)]
OFTEN = "from mystikos_tool.enclave import resuming\nresuming._BETWEEN = 128\n"


@pytest.fixture
def many(project: Project) -> Project:
    """A built project whose root has many files and 3 MB."""
    project.sconstruct(EVERY_ROOT_IS_LARGE + OFTEN + PACKAGE_HELLO)
    for name in MANY_FILES:
        project.write(name, name.encode() * 700)
    settle()
    project.build()
    return project


def settle() -> None:
    """Wait until nothing can be changed any more and keep its times."""
    time.sleep(0.11)


def change(project: Project, number: int) -> None:
    """Give a file another content of the same size."""
    path = project.path(MANY_FILES[number])
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    settle()


def clean(project: Project) -> bytes:
    """The package that a build makes that remembers nothing."""
    for name in (".sconsign.dblite", ".sconsign.mystikos", "hello", "hello.cpio"):
        project.path(name).unlink()
    project.build()
    return project.path("hello").read_bytes()


def test_a_file_that_keeps_its_size_is_written_into_the_package_itself(many: Project) -> None:
    inode = many.path("hello").stat().st_ino
    for number in (299, 150, 0, 299):
        change(many, number)
        build = many.build()
        assert build.stages == ALL
        assert many.path("hello").stat().st_ino == inode
        assert many.build().stages == set()
    assert not left(many)
    assert many.path("hello").read_bytes() == clean(many)


def test_whoever_has_the_package_open_sees_no_change_in_it(many: Project) -> None:
    earlier = many.path("hello").read_bytes()
    change(many, 150)
    with many.path("hello").open("rb") as reader:
        many.build()
        assert reader.read() == earlier
    assert many.path("hello").read_bytes() == clean(many) != earlier


def test_another_name_of_the_package_keeps_its_content(many: Project) -> None:
    many.path("kept").hardlink_to(many.path("hello"))
    earlier = many.path("kept").read_bytes()
    change(many, 150)
    many.build()
    assert many.path("kept").read_bytes() == earlier
    assert many.path("hello").read_bytes() == clean(many)


def test_a_package_that_was_changed_by_hand_is_written_anew(many: Project) -> None:
    data = bytearray(many.path("hello").read_bytes())
    times = many.path("hello").stat()
    data[data.index(MANY_FILES[7].encode() * 3)] ^= 1
    many.path("hello").write_bytes(data)
    os.utime(many.path("hello"), ns=(times.st_atime_ns, times.st_mtime_ns))
    change(many, 150)
    many.build()
    assert many.path("hello").read_bytes() == clean(many)


def test_an_archive_that_was_changed_by_hand_is_measured_whole(many: Project) -> None:
    data = bytearray(many.path("hello.cpio").read_bytes())
    data[data.index(MANY_FILES[7].encode() * 3)] ^= 1
    many.path("hello.cpio").write_bytes(data)
    settle()
    change(many, 150)
    many.build()
    assert many.path("hello").read_bytes() == clean(many)


def test_a_package_that_missed_a_change_of_its_archive_is_written_anew(many: Project) -> None:
    change(many, 3)
    assert many.build("hello.cpio").stages == {ROOTFS}
    change(many, 290)
    many.build()
    assert many.path("hello").read_bytes() == clean(many)


def test_a_build_that_could_not_sign_leaves_the_earlier_package_and_is_made_up_for(many: Project) -> None:
    earlier, key = many.path("hello").read_bytes(), many.path("key.pem").read_bytes()
    change(many, 3)
    many.write("key.pem", "no key")
    assert many.fails().stages == {ROOTFS, MEASURE}
    assert many.path("hello").read_bytes() == earlier
    assert not left(many)
    many.write("key.pem", key)
    change(many, 290)
    many.build()
    assert many.path("hello").read_bytes() == clean(many)


def test_a_change_of_everything_else_with_that_of_a_file_is_in_the_package(many: Project) -> None:
    change(many, 150)
    many.write("config.json", many.path("config.json").read_text().replace('"1m"', '"2m"'))
    many.build()
    rebuilt = many.path("hello").read_bytes()
    assert b'"2m"' in rebuilt
    change(many, 151)
    many.write("config.json", many.path("config.json").read_text().replace('"2m"', '"10m"'))
    many.build()
    assert many.path("hello").read_bytes() == clean(many) != rebuilt
