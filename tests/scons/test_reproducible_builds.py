"""The same inputs make the same bytes, wherever, whenever and by whomever they are built."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from scons_project import (
    AS_NOBODY,
    EVERY_ROOT_IS_LARGE,
    PACKAGE_HELLO,
    TARGETS,
    Project,
    make_project,
    needs_setpriv_as_root,
)

from mystikos_tool import proof


def targets(project: Project) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every target."""
    paths = [project.path(name) for name in TARGETS.values()]
    return {path.name: (path.stat().st_mode, path.read_bytes()) for path in paths}


def made_anew(project: Project, directory: Path, umask: int) -> Project:
    """Make a project's files again: in the opposite order, with other times, under another umask."""
    before = os.umask(umask)
    try:
        for path in sorted(project.directory.rglob("*"), reverse=True):
            target = directory / path.relative_to(project.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                target.symlink_to(path.readlink())
            elif path.is_file():
                shutil.copyfile(path, target)
                if os.access(path, os.X_OK):
                    target.chmod(0o777 & ~umask)
    finally:
        os.umask(before)
    return Project(directory)


def test_place_umask_order_of_files_time_and_jobs_change_no_byte(project: Project, tmp_path: Path) -> None:
    for number in range(40):
        project.write(f"appdir/share/{number * 7919 % 100}", f"{number}")
    other = made_anew(project, tmp_path / "another" / "place", 0o077)
    project.build("-j1", umask=0o002)
    other.build("-j8", umask=0o077, environment={"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": "/"})
    ours, theirs = targets(project), targets(other)
    assert {name: content for name, (_, content) in ours.items()} == {
        name: content for name, (_, content) in theirs.items()
    }


@pytest.mark.parametrize(("umask", "program", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
@pytest.mark.parametrize("head", ["", EVERY_ROOT_IS_LARGE], ids=["small", "large"])
def test_targets_have_the_permissions_that_the_umask_lets_them(
    project: Project, umask: int, program: int, file: int, head: str
) -> None:
    project.sconstruct(head + PACKAGE_HELLO)
    project.build(umask=umask)
    modes = {name: stat.S_IMODE(mode) for name, (mode, _) in targets(project).items()}
    assert modes.pop("hello") == program
    assert set(modes.values()) == {file}


@needs_setpriv_as_root
def test_another_user_makes_the_same_bytes(project: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "theirs")
    other.give_to_nobody()
    project.build()
    other.build(under=AS_NOBODY)
    assert targets(project) == targets(other)


def test_a_hash_seed_and_optimisation_change_no_byte(project: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    project.build(environment={"PYTHONHASHSEED": "1"})
    other.build(environment={"PYTHONHASHSEED": "2", "PYTHONOPTIMIZE": "2"})
    assert targets(project) == targets(other)


def test_a_build_after_changes_makes_what_a_clean_one_makes(project: Project, tmp_path: Path) -> None:
    project.build()
    for number in range(3):
        project.write("appdir/etc/motd", f"day {number}")
        project.write(f"appdir/new/{number}", "x" * number * 3)
        project.path("appdir/new/0").unlink(missing_ok=True)
        project.build()
    clean = make_project(tmp_path / "clean")
    shutil.rmtree(clean.path("appdir"))
    shutil.copytree(project.path("appdir"), clean.path("appdir"), symlinks=True)
    clean.build()
    assert targets(project) == targets(clean)


def test_a_package_from_scons_is_sound_and_the_one_of_the_command_line(built: Project) -> None:
    from mystikos_tool import cli

    identity = proof.verify(built.path("hello"))
    assert identity.debug
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(built.directory)
        patch.setenv("SOURCE_DATE_EPOCH", built.variables()["SOURCE_DATE_EPOCH"])
        arguments = ["appdir", "key.pem", "config.json", "--runtime", "rt", "--outfile", "by-hand"]
        assert cli.main(["package-sgx", *arguments]) == 0
    assert built.path("by-hand").read_bytes() == built.path("hello").read_bytes()
