"""A package that is in a cache is fetched, and what only leads to it is not made; nothing else changes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from reapi_server import ReapiServer
from remote_servers import becomes
from scons_project import (
    ALL,
    CONFIG,
    DATA,
    EVERY_ROOT_IS_LARGE,
    MEASURE,
    PACKAGE,
    PACKAGE_HELLO,
    ROOTFS,
    SIGN,
    TARGETS,
    Project,
)

KEYS = DATA / "keys"
DIRECTORY = "CacheDir('../cache')\n"
UP_TO_DATE = "scons: `{}' is up to date.\n"
LEADING = [TARGETS[stage] for stage in (ROOTFS, MEASURE, SIGN)]
RETRIEVED = "Retrieved `hello' from cache\n"


@pytest.fixture
def server() -> Iterator[ReapiServer]:
    server = ReapiServer().start()
    yield server
    server.stop()


@pytest.fixture(params=[pytest.param("directory", marks=pytest.mark.long), "server"])
def cache(request: pytest.FixtureRequest) -> str:
    """What makes an SConstruct use a cache."""
    if request.param == "directory":
        return DIRECTORY
    return f"env['MYST_REMOTE_CACHE'] = {request.getfixturevalue('server').url!r}\n"


def stored(project: Project, body: str) -> Project:
    """Build, so that the cache has the package, in another checkout, and return the project."""
    project.sconstruct(body)
    project.copy(project.directory.with_name("first")).build()
    return project


def made(project: Project) -> list[str]:
    """What there is of what leads to the package."""
    return [name for name in LEADING if project.path(name).exists()]


def test_a_clean_checkout_fetches_the_package_and_makes_nothing_before_it(
    project: Project, cache: str
) -> None:
    stored(project, cache + PACKAGE_HELLO)
    build = project.build()
    assert RETRIEVED in build.out and build.stages == set() and build.err == ""
    assert made(project) == []
    first = project.directory.with_name("first")
    assert project.path("hello").read_bytes() == first.joinpath("hello").read_bytes()
    assert project.build("hello").out == UP_TO_DATE.format("hello")
    assert project.build("-j3").out == UP_TO_DATE.format(".")
    assert project.build("-q", "--cache-disable").status == 0


def test_a_package_is_compared_and_measured_while_it_comes(project: Project, server: ReapiServer) -> None:
    compared = project.directory.with_name("compared")
    watched = f"""\
from pathlib import Path
from mystikos_tool.root.archive import Held
pieces = Held.pieces
def watched(*arguments):
    size = 0
    for piece in pieces(*arguments):
        yield piece
        size += len(piece)
        if size > 2_000_000:
            Path({str(compared)!r}).touch()
Held.pieces = watched
"""
    project.write("appdir/large", os.urandom(4_000_000))
    stored(project, f"{watched}env['MYST_REMOTE_CACHE'] = {server.url!r}\n" + PACKAGE_HELLO)
    assert not compared.exists()
    waited: list[bool] = []

    def wait(context: object, moved: int) -> None:
        if moved >= 4_000_000 and not waited:
            waited.append(becomes(compared.exists))

    server.faults["Read"] = wait
    assert RETRIEVED in project.build().out
    assert waited == [True]


def test_a_build_that_fetched_everything_asks_no_server_again(project: Project, server: ReapiServer) -> None:
    stored(project, f"env['MYST_REMOTE_CACHE'] = {server.url!r}\n" + PACKAGE_HELLO).build()
    calls = server.calls.copy()
    assert project.build().out == UP_TO_DATE.format(".")
    assert project.build("--cache-readonly", "-j2").out == UP_TO_DATE.format(".")
    assert server.calls == calls


def test_a_package_that_was_fetched_stays_up_to_date_on_the_next_day(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    today = {"SOURCE_DATE_EPOCH": None}
    project.copy(project.directory.with_name("second")).build(environment=today)
    assert RETRIEVED in project.build(environment=today).out
    faked = ("faketime", "+1 day") if os.path.exists("/usr/bin/faketime") else ()  # noqa: PTH110
    assert project.build(environment=today, under=faked).out == UP_TO_DATE.format(".")


def test_a_package_in_a_directory_that_is_not_there_is_fetched(project: Project, cache: str) -> None:
    stored(project, cache + 'env.MystPackage("out/deep/hello", "appdir")\n')
    assert "Retrieved `out/deep/hello' from cache" in project.build("-j2").out


def test_a_stage_of_its_own_call_is_made(project: Project, cache: str) -> None:
    body = 'root = env.MystRootfs("root", "appdir")\nenv.MystPackage("hello", root)\n'
    stored(project, cache + body)
    build = project.build()
    assert build.stages == {ROOTFS} and RETRIEVED in build.out
    assert not project.path(TARGETS[MEASURE]).exists()
    assert project.build().out == UP_TO_DATE.format(".")


def test_a_stage_of_its_own_call_is_not_made_where_only_the_package_is_asked_for(
    project: Project, cache: str
) -> None:
    body = 'root = env.MystRootfs("root", "appdir")\nenv.MystPackage("hello", root)\n'
    stored(project, cache + body)
    assert project.build("hello").stages == set()
    assert project.build("root.cpio").made == ["root.cpio"]
    assert project.build("hello").out == UP_TO_DATE.format("hello")


@pytest.mark.parametrize(
    ("named", "stages"), [(0, {ROOTFS}), (1, {ROOTFS, MEASURE}), (2, {ROOTFS, MEASURE, SIGN})]
)
def test_a_stage_is_made_when_it_is_asked_for_and_the_package_stays(
    project: Project, named: int, stages: set[str]
) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    assert project.build(LEADING[named]).stages == stages
    assert project.build("hello").out == UP_TO_DATE.format("hello")
    assert project.build(LEADING[named]).out == UP_TO_DATE.format(LEADING[named])


CONSUMERS = {
    "a command": "env.Command('copy', 'hello.cpio', Copy('$TARGET', '$SOURCE'))\n",
    "a dependency": "Depends(env.Command('copy', [], 'cp hello.cpio $TARGET'), 'hello.cpio')\n",
    "an alias": "Default(env.Alias('archive', 'hello.cpio'), 'hello')\n",
    "an action added to it": "env.AddPostAction('hello.cpio', Copy('copy', 'hello.cpio'))\n",
    "another root": "env.MystRootfs('over', 'hello.cpio')\n",
}


@pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS)
@pytest.mark.parametrize("jobs", ["-j1", pytest.param("-j3", marks=pytest.mark.long)])
def test_an_archive_that_somebody_else_is_made_of_is_made(project: Project, consumer: str, jobs: str) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO + consumer)
    assert ROOTFS in project.build(jobs).stages
    assert project.path("hello.cpio").exists()


def test_what_lies_in_a_directory_that_something_is_made_of_is_made(project: Project) -> None:
    body = 'env.MystPackage("out/hello", "appdir")\nenv.Command("list", Dir("out"), "ls $SOURCE > $TARGET")\n'
    stored(project, DIRECTORY + "NoCache('list')\n" + body)
    project.build("list")
    assert project.path("list").read_text().split() == [
        "hello",
        "hello.cpio",
        "hello.measurement.json",
        "hello.mystenc.so",
    ]


def test_what_only_a_scanner_finds_in_a_made_file_is_made_when_it_is_needed(project: Project) -> None:
    body = """\
named = Scanner(lambda node, env, path: env.File(node.get_text_contents().split()), skeys=[".list"])
env.Append(SCANNERS=named)
env.Command("made.list", "text", Copy("$TARGET", "$SOURCE"))
env.Command("late", "hello.measurement.json", Copy("$TARGET", "$SOURCE"))
env.Command("out", "made.list", Copy("$TARGET", "late"))
NoCache("late", "out", "made.list")
Default("hello", "out")
"""
    project.write("text", "late\n")
    stored(project, DIRECTORY + PACKAGE_HELLO + body)
    build = project.build()
    assert RETRIEVED in build.out and build.stages == ALL - {PACKAGE}
    assert "mrenclave" in project.path("out").read_text()
    assert project.build().out == UP_TO_DATE.format("hello") + UP_TO_DATE.format("out")


def test_identities_of_a_fetched_package_are_those_of_its_enclave(project: Project) -> None:
    body = 'env.MystIdentity(env.MystPackage("hello", "appdir"))\n'
    stored(project, DIRECTORY + body)
    build = project.build()
    assert build.stages == ALL - {PACKAGE} and RETRIEVED in build.out
    first = project.directory.with_name("first")
    assert project.path("hello.mrenclave").read_text() == first.joinpath("hello.mrenclave").read_text()


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("MystProvenance", "hello.provenance.json"),
        pytest.param("MystReport", "hello.json", marks=pytest.mark.long),
        pytest.param("MystSbom", "hello.cdx.json", marks=pytest.mark.long),
    ],
)
def test_documents_of_a_fetched_package_are_those_of_one_that_was_made(
    project: Project, call: str, document: str
) -> None:
    name = document if call == "MystReport" else "hello"
    stored(project, DIRECTORY + f'env.{call}("{name}", env.MystPackage("hello", "appdir"))\n')
    assert RETRIEVED in project.build().out
    first = project.directory.with_name("first")
    assert project.path(document).read_text() == first.joinpath(document).read_text()


def test_two_packages_of_one_measurement_are_fetched(project: Project) -> None:
    body = """\
measurement = env.MystMeasure("hello", "appdir")
for name in "one", "two":
    env.MystPackage(name, env.MystSign(name, measurement))
"""
    stored(project, DIRECTORY + body)
    build = project.build("one", "two", "-j2")
    assert "Retrieved `one'" in build.out and "Retrieved `two'" in build.out
    assert build.stages == {ROOTFS, MEASURE}
    assert not project.path("one.mystenc.so").exists()


def test_what_is_known_already_is_not_packed_again_for_another_configuration(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    other = CONFIG.replace("1m", "2m")
    project.copy(project.directory.with_name("made")).build()
    project.write("config.json", other)
    project.build("--cache-disable")
    project.write("config.json", CONFIG)
    build = project.build()
    assert build.stages == set() and RETRIEVED in build.out
    assert made(project) == [TARGETS[ROOTFS]]
    assert project.build().out == UP_TO_DATE.format(".")


def test_what_leads_to_an_earlier_package_is_gone_with_it(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    motd = project.path("appdir/etc/motd").read_text()
    project.write("appdir/etc/motd", "something older\n")
    project.build("--cache-disable")
    project.write("appdir/etc/motd", motd)
    assert RETRIEVED in project.build().out
    assert made(project) == []
    project.write("appdir/etc/motd", "something newer\n")
    assert project.build().stages == ALL
    assert b"something newer" in project.path("hello").read_bytes()


def test_a_build_without_the_cache_goes_on_from_a_fetched_package(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    package = project.path("hello").read_bytes()
    project.sconstruct(PACKAGE_HELLO)
    assert project.build().out == UP_TO_DATE.format(".")
    project.path("hello").unlink()
    assert project.build().stages == ALL
    assert project.path("hello").read_bytes() == package
    assert project.build().out == UP_TO_DATE.format(".")


def test_a_fetched_package_that_somebody_changed_is_made_anew(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    package = project.path("hello").read_bytes()
    project.write("hello", package + b"junk")
    assert project.build("--cache-disable").stages == ALL
    assert project.path("hello").read_bytes() == package


def test_a_fetched_package_of_which_the_databases_are_lost_is_fetched_again(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    for name in (".sconsign.dblite", ".sconsign.mystikos"):
        project.path(name).unlink()
        assert project.build().stages == set()
        assert project.build().out == UP_TO_DATE.format(".")


def test_what_would_be_fetched_is_told(project: Project, cache: str) -> None:
    stored(project, cache + PACKAGE_HELLO)
    assert RETRIEVED in project.build("-n").out
    assert not project.path("hello").exists()
    project.write("appdir/etc/motd", "another\n")
    told = project.build("-n").out
    assert "pack appdir → hello.cpio" in told and "package hello.mystenc.so → hello" in told


def test_why_a_package_is_fetched_is_explained(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    assert "building `hello' because it doesn't exist\n" in project.build("--debug=explain").out
    assert project.build("--debug=explain").out == UP_TO_DATE.format(".")


def test_cleaning_removes_a_fetched_package_and_what_was_made_later(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    project.build("hello.cpio")
    project.build("-c")
    assert not any(project.path(name).exists() for name in TARGETS.values())


def test_a_fetched_package_fills_another_cache(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO).build()
    project.sconstruct(DIRECTORY.replace("cache", "second") + PACKAGE_HELLO)
    project.build("--cache-force")
    assert [*project.path("../second").glob("??/*")]
    project.build("-c")
    assert RETRIEVED in project.build().out


def test_a_failing_source_fails_the_build_as_before(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    project.path("key.pem").unlink()
    assert "key.pem: is named by MYST_KEY and is not there" in project.fails("-k").err


def test_a_configuration_that_is_made_is_made_before_the_package_is_asked_for(project: Project) -> None:
    body = """\
env.Command("made.json", "config.json", Copy("$TARGET", "$SOURCE"))
env.MystPackage("hello", "appdir", MYST_CONFIG="made.json", MYST_KEY=env.MystKey("made.pem"))
"""
    project.write("made.pem", project.path("key.pem").read_bytes())
    stored(project, DIRECTORY + "NoCache('made.json')\n" + body)
    assert project.build("-j3", "--random").stages == set()
    assert project.path("made.json").exists()


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "made"])
def test_a_key_that_is_made_anew_is_the_one_that_a_package_is_proved_and_signed_with(
    project: Project, cache: str, fetched: bool
) -> None:
    """The one that lies there is an earlier build's, by which what is fetched would be refused."""
    body = """\
key = env.Command("made.pem", "key.pem", Copy("$TARGET", "$SOURCE"))
env.NoCache(key)
env.MystPackage("hello", "appdir", MYST_KEY=key)
env.MystPackage("second", "appdir", MYST_KEY="made.pem")
"""
    stored(project, cache + body)
    first = project.directory.with_name("first")
    project.write("made.pem", (KEYS / "key-b.pem").read_bytes())
    build = project.build("-j2", *([] if fetched else ["--cache-disable"]))
    assert build.out.count("Retrieved") == 2 * fetched
    for name in ("hello", "second"):
        assert project.path(name).read_bytes() == first.joinpath(name).read_bytes()


def test_an_interactive_session_makes_what_leads_to_a_package(project: Project) -> None:
    stored(project, DIRECTORY + PACKAGE_HELLO)
    assert RETRIEVED in project.run("--interactive", stdin="build hello\nbuild hello.cpio\nexit\n").out
    assert made(project) == LEADING


def test_what_is_not_in_the_cache_is_made_and_stored(project: Project, cache: str) -> None:
    project.sconstruct(EVERY_ROOT_IS_LARGE + cache + PACKAGE_HELLO)
    assert project.build().stages == ALL
    assert project.build().out == UP_TO_DATE.format(".")
    project.build("-c")
    assert RETRIEVED in project.build().out


@pytest.mark.parametrize("first", LEADING)
def test_a_package_waits_for_what_another_one_finds_up_to_date_whichever_node_comes_first(
    project: Project, first: str
) -> None:
    order = f"""\
import random
turns = {{"other": 1, {first!r}: 2}}
random.shuffle = lambda nodes: nodes.sort(key=lambda node: turns.get(str(node), 0))
"""
    packages = "env.Depends(env.MystPackage('hello', 'appdir'), env.MystPackage('other', 'appdir'))\n"
    project.sconstruct(order + DIRECTORY + packages)
    project.build("--random")
    assert project.path("hello").exists() and project.path("other").exists()
