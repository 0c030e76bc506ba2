"""A build that is killed at any moment, followed by a build, gives the bytes of a clean one."""

from __future__ import annotations

import fcntl
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from scons_project import (
    EVERY_ROOT_IS_LARGE,
    MEASURE,
    PACKAGE,
    PACKAGE_HELLO,
    ROOTFS,
    SIGN,
    TARGETS,
    Build,
    Project,
)

from mystikos_tool.signing import pem

# SCons runs it at every start: it kills the process at a given touch of a file in the project.
SITE_INIT = """\
import os, signal, sys

left = int(os.environ["KILL_AT"])
project = os.getcwd() + os.sep
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.link", "os.truncate", "os.chmod", "os.mkdir"}

def touches(event, arguments):
    if event in CHANGES:
        return True
    if event != "open" or isinstance(arguments[0], int):
        return False
    path = os.path.abspath(os.fsdecode(arguments[0]))
    return path.startswith(project + "appdir") or path.startswith(project) and arguments[2] & WRITING

def hook(event, arguments):
    global left
    if touches(event, arguments):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""

# A build of two files touches files more often than this, and less than 40 times.
LAST = 20
STEP = 8


@pytest.fixture(params=["", EVERY_ROOT_IS_LARGE], ids=["small", "large"])
def package_hello(request: pytest.FixtureRequest) -> str:
    """An SConstruct, and one that begins the package while it measures."""
    return str(request.param) + PACKAGE_HELLO


@pytest.fixture
def project(project: Project, package_hello: str) -> Project:
    project.sconstruct(package_hello)
    return project


@pytest.fixture
def built(built: Project, package_hello: str) -> Project:
    built.sconstruct(package_hello)
    return built


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    directory = tmp_path / "hooks"
    directory.mkdir()
    (directory / "site_init.py").write_text(SITE_INIT)
    return directory


def kill(project: Project, hooks: Path, moment: int) -> Build:
    """Build, and kill the process just before it touches a file the ``moment``-th time."""
    return project.run(f"--site-dir={hooks}", environment={"KILL_AT": str(moment)})


def state(project: Project) -> dict[str, bytes]:
    """Every file of a project but the databases and what says how to build it."""
    left_out = ("SConstruct", "sconsign")
    return {
        name: content
        for name, (_, _, _, content) in project.snapshot().items()
        if not any(word in name for word in left_out)
    }


@pytest.mark.parametrize("moment", range(1, LAST, STEP))
def test_a_first_build_that_was_killed_is_as_if_it_had_never_been(
    project: Project, built: Project, hooks: Path, moment: int
) -> None:
    assert kill(project, hooks, moment).status == -signal.SIGKILL
    project.build()
    assert state(project) == state(built)
    assert project.names() == built.names()
    assert project.build().stages == set()


@pytest.fixture(scope="module")
def changed(_built: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a project holds that was changed and built anew."""
    project = _built.copy(tmp_path_factory.mktemp("changed") / "project")
    project.write("appdir/etc/motd", "good bye\n")
    project.build()
    return state(project)


@pytest.mark.parametrize("moment", range(1 + STEP // 2, LAST, STEP))
def test_a_rebuild_that_was_killed_leaves_whole_targets_and_is_made_up_for(
    built: Project, changed: dict[str, bytes], hooks: Path, moment: int
) -> None:
    before = state(built)
    built.write("appdir/etc/motd", "good bye\n")
    assert kill(built, hooks, moment).status == -signal.SIGKILL
    after = state(built)
    for name in TARGETS.values():
        assert after[name] in (before[name], changed[name])
    built.build()
    assert state(built) == changed


def test_a_build_that_is_killed_again_and_again_leaves_nothing_behind(
    project: Project, built: Project, hooks: Path
) -> None:
    for moment in (8, 13, 18, 23, 28):
        kill(project, hooks, moment)
    project.build()
    assert project.names() == built.names()


def lefts(project: Project) -> list[Path]:
    """What a killed build and a killed command line leave, with a living process' own file at the end."""
    names = [".hello.mystikos-part", ".hello.abcd1234.mystikos-part", ".mystikos-abcd1234/rootfs"]
    return [project.write(name, "left") for name in (*names, ".hello.living00.mystikos-part")]


@pytest.mark.parametrize("package_hello", [""], indirect=True, ids=["clean"])
def test_a_clean_removes_what_killed_builds_left_and_nothing_of_a_living_one(built: Project) -> None:
    built.sconstruct(PACKAGE_HELLO)
    *_, living = lefts(built)
    built.write(".other.mystikos-part", "what another target was to become")
    built.write(".mystikos-notes", "the user's")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = built.snapshot()
        told = built.build("-c", "-n")
        assert "Removed .hello.mystikos-part" in told.out
        assert built.snapshot() == before
        built.build("-c")
    left = {name for name in built.names() if name.startswith(".") and "sconsign" not in name}
    assert left == {living.name, ".other.mystikos-part", ".mystikos-notes"}


@pytest.mark.parametrize("package_hello", [""], indirect=True, ids=["next"])
def test_the_next_build_removes_what_killed_ones_left_beside_its_targets(built: Project) -> None:
    built.sconstruct(PACKAGE_HELLO)
    *_, living = lefts(built)
    built.write(".other.mystikos-part", "of a target that is not described any more")
    built.write("appdir/etc/motd", "good bye\n")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        built.build()
    assert {name for name in built.names() if "mystikos-" in name} == {living.name}


def at_once(project: Project) -> None:
    """Build twice at the same time.

    SCons gives what it writes of its own database one name in all builds: one of two may miss it.
    """
    missed = "'.sconsign.tmp' -> '.sconsign.dblite'"
    with ThreadPoolExecutor(2) as pool:
        for build in [pool.submit(project.run).result for _ in range(2)]:
            assert build().status == 0 or missed in build().text, build().text


def test_two_first_builds_at_once_give_the_bytes_of_one(project: Project, built: Project) -> None:
    at_once(project)
    project.build()
    assert state(project) == state(built)
    assert project.names() == built.names()


def test_two_rebuilds_at_once_give_the_bytes_of_one(built: Project, changed: dict[str, bytes]) -> None:
    built.write("appdir/etc/motd", "good bye\n")
    at_once(built)
    built.build()
    assert state(built) == changed


@pytest.mark.parametrize("package_hello", [""], indirect=True, ids=["key"])
def test_a_made_key_is_whole_or_not_there(project: Project, hooks: Path) -> None:
    project.sconstruct("env.MystKey('private.pem')\n")
    key, was_there = project.path("private.pem"), set()
    for moment in count(1):
        if kill(project, hooks, moment).status != -signal.SIGKILL:
            break  # the whole build touches files less often
        was_there.add(key.exists())
        if key.exists():
            pem.load(key)
            key.unlink()
        assert not {name for name in project.names() if "private" in name}
    assert was_there == {False, True}
    pem.load(key)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_asked_to_end_goes_on_where_it_was(
    project: Project, built: Project, package_hello: str, number: signal.Signals
) -> None:
    project.sconstruct(
        package_hello
        + f"""
import os
env.AddPreAction("hello.mystenc.so", lambda target, source, env: os.kill(os.getpid(), {int(number)}))
"""
    )
    build = project.run()
    assert build.status == 2, build.text
    assert "Traceback" not in build.text
    assert build.stages <= {ROOTFS, MEASURE, SIGN}
    project.sconstruct(package_hello)
    assert project.build().stages <= {SIGN, PACKAGE}
    assert project.names() == built.names()
