"""MystTest on a farm: what passes, fails, is known and is refused there, and what Ctrl-C ends."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from farm_project import PROGRAM, Checkout, checkout, make_package, needs_zig, with_package
from reapi_farm import Farm
from remote_servers import CasdFarm, casd_farm, needs_bubblewrap, needs_casd
from scons_project import A_NEW_PYTHON, SCONSTRUCT_WITH_OPTIONS, Project

SLOW = 'env.MystTest("slow", "hello", args=["sleep"], timeout=0.5)\n'
PASSED, FAILED = "1 passed (0 of them unchanged), 0 failed", "0 passed (0 of them unchanged), 1 failed"


def needs_real(test):  # type: ignore[no-untyped-def]
    return needs_casd(needs_bubblewrap(needs_zig(test)))


@pytest.fixture
def farm() -> Iterator[Farm]:
    farm = Farm().start()
    yield farm
    farm.stop()


@pytest.fixture
def tested(farm: Farm, tmp_path: Path) -> Checkout:
    return checkout(tmp_path / "one", farm.url)


def test_a_test_on_a_farm_is_held_to_what_is_expected(farm: Farm, tested: Checkout) -> None:
    tested.expect(
        '"all", "program", args=["red", "$x"], environment={"STATUS": "7"}, stdin="in\\n", status=7,'
        ' stdout="arguments: red $x\\nin\\n", stderr="to stderr\\n"'
    )
    build = tested.build("check")
    assert f"test all on grpc://127.0.0.1:{farm.port}/main\ncheck: {PASSED}\n" in build.out
    assert len(farm.actions) == 1


def test_a_test_on_a_farm_fails_as_one_here_does(farm: Farm, tested: Checkout) -> None:
    body = """\
env["MYST_TEST_JUNIT"] = "tests.xml"
env.MystTest("wrong", "program", args=["a"], stdout="bye\\n")
env.MystTest("right", "program")
import atexit
from SCons.Script import GetBuildFailures
atexit.register(lambda: print("failures:", [str(failure.node) for failure in GetBuildFailures()]))
"""
    tested.sconstruct(body, SCONSTRUCT_WITH_OPTIONS)
    there = tested.fails("check")
    reported = ElementTree.parse(tested.path("tests.xml")).getroot()
    assert (reported.get("tests"), reported.get("failures")) == ("2", "1")
    tested.build("-c")
    here = tested.fails("check", "MYST_REMOTE_EXECUTOR=")
    assert there.err == here.err
    assert there.out.replace(f" on grpc://127.0.0.1:{farm.port}/main", "") == here.out
    assert "wrong: +arguments: a" in here.err and "failures: ['wrong.passed'" in here.out


def test_a_signal_is_the_status_that_it_is_here(tested: Checkout) -> None:
    tested.write("program", "#!/bin/sh\nkill -9 $$\n", 0o755)
    tested.expect('"killed", "program", status=-9')
    assert PASSED in tested.build("check").out
    tested.expect('"killed", "program", status=9')
    assert "ended with status 137, not 9" in tested.fails("check").err


def test_a_result_is_known_in_every_checkout(farm: Farm, tested: Checkout, tmp_path: Path) -> None:
    tested.expect('"one", "program"')
    tested.build("check")
    other = checkout(tmp_path / "a" / "longer path", farm.url)
    other.expect('"one", "program", stdout_pattern="^arguments"')
    assert PASSED in other.build("check").out
    assert len(farm.actions) == 1


def test_a_known_result_that_is_not_as_expected_is_not_believed(farm: Farm, tested: Checkout) -> None:
    farm.caches_failures = True
    tested.write("program", "#!/bin/sh\nexit 3\n", 0o755)
    tested.expect('"one", "program"')
    tested.fails("check")
    assert FAILED in tested.fails("check").out
    assert len(farm.actions) == 2
    tested.expect('"one", "program", status=3')
    tested.build("check")
    assert len(farm.actions) == 2


def test_moving_the_farm_runs_nothing_again_and_another_platform_does(tested: Checkout) -> None:
    tested.expect('"one", "program"', '"two", "program", MYST_TEST_PLATFORM={"sgx": "2"}')
    tested.build("check")
    elsewhere = "MYST_REMOTE_EXECUTOR=grpc://127.0.0.1:1"
    assert "(2 of them unchanged), 0 failed" in tested.build("check", elsewhere).out
    assert "(1 of them unchanged), 0 failed" in tested.build("check", "MYST_TEST_PLATFORM=sgx=1").out


def test_a_test_says_what_machines_it_needs(farm: Farm, tested: Checkout) -> None:
    tested.expect('"one", "program"', '"two", "program", MYST_TEST_PLATFORM={"sgx": 2}')
    tested.build("check", "MYST_TEST_PLATFORM=OSFamily=linux,sgx=1")
    platforms = [{each.name: each.value for each in action.platform.properties} for action in farm.actions]
    assert sorted(platforms, key=len) == [{"sgx": "2"}, {"OSFamily": "linux", "sgx": "1"}]


@pytest.mark.parametrize("value", ["{'': 'x'}", "{'sgx': None}", "['sgx']", "'sgx'", "2"])
def test_a_platform_that_is_none_is_an_error(value: str, tested: Checkout) -> None:
    tested.expect(f'"one", "program", MYST_TEST_PLATFORM={value}')
    assert "MYST_TEST_PLATFORM cannot be" in tested.fails().err


def test_as_many_tests_are_under_way_as_scons_has_jobs(farm: Farm, tested: Checkout) -> None:
    farm.together = threading.Barrier(8)
    tested.expect(*(f'"test{number}", "program", args=["{number}"]' for number in range(8)))
    assert "8 passed" in tested.build("-j8", "check").out


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ('args=["--myst-mount=/srv=/data"]', "--myst-mount=/srv=/data names a file of this machine"),
        ('args=["--myst-rootfs=disk"]', "--myst-rootfs=disk names a file of this machine"),
        ('environment={"MYST_ROOTFS_PATH": "disk"}', "MYST_ROOTFS_PATH names a file of this machine"),
        ('MYST_START="exec-linux"', "is this machine's Mystikos"),
    ],
)
def test_what_only_this_machine_has_is_refused_with_the_way_out(
    test: str, problem: str, tested: Checkout
) -> None:
    tested.expect(f'"one", "program", {test}')
    build = tested.fails("check")
    assert problem in build.err and 'run this test here with MYST_REMOTE_EXECUTOR=""' in build.err
    tested.expect(f'"one", "program", {test}, MYST_REMOTE_EXECUTOR=""')
    tested.run("check")  # it is not refused, whatever becomes of it here
    assert "on a farm" not in tested.run("check").err


@pytest.mark.parametrize(
    "url", ["farm:8980", "http://farm", "grpc://user:hunter2@farm", "grpc://farm?mode=read"]
)
def test_a_url_that_is_none_is_an_error(url: str, tested: Checkout) -> None:
    tested.expect('"one", "program"')
    build = tested.fails(f"MYST_REMOTE_EXECUTOR={url}")
    assert "the remote executor's URL" in build.err
    assert "hunter2" not in build.text


def test_a_farm_for_anything_but_a_test_is_an_error(tested: Checkout) -> None:
    tested.sconstruct(
        'env.MystRun("run", "program", MYST_REMOTE_EXECUTOR="grpc://farm")\n', SCONSTRUCT_WITH_OPTIONS
    )
    assert "MYST_REMOTE_EXECUTOR has no effect" in tested.fails().err


def test_a_farm_that_is_not_there_fails_its_tests_and_runs_none_here(tested: Checkout) -> None:
    tested.expect('"one", "program"', '"two", "program", MYST_REMOTE_EXECUTOR=""')
    build = tested.fails("check", "MYST_REMOTE_EXECUTOR=grpc://127.0.0.1:1?patience=0.2")
    assert "1 passed (0 of them unchanged), 1 failed\n  failed: one" in build.out
    assert "one: remote executor grpc://127.0.0.1:1: it cannot be reached; start it" in build.err


def test_a_library_that_is_missing_is_told_of(tested: Checkout) -> None:
    tested.sconstruct('sys.modules["grpc"] = None\nenv.MystTest("one", "program")\n', SCONSTRUCT_WITH_OPTIONS)
    assert (
        "grpc is missing; install mystikos-tool[remote]"
        in tested.fails("check", environment=A_NEW_PYTHON).err
    )


def test_a_program_that_cannot_be_started_is_told_of_as_here(tested: Checkout) -> None:
    tested.write("program", PROGRAM, 0o644)
    tested.expect('"one", "program"')
    assert "one: program: cannot be started: permission denied; chmod +x" in tested.fails("check").err


def test_nothing_secret_gets_to_where_it_does_not_belong(farm: Farm, tested: Checkout) -> None:
    farm.token = "hunter2"
    token = tested.directory.with_name("token")
    token.write_text("hunter2")
    tested.expect('"one", "program"')
    url = f"MYST_REMOTE_EXECUTOR={farm.url}?token-file={token}"
    said = tested.build("check", url, "--debug=explain", "--tree=all").text
    farm.token = "hunter3"
    tested.write("program", PROGRAM + "#\n")
    said += tested.fails("check", url, "--debug=stacktrace").text
    assert "does not accept the credentials" in said
    kept = [path.read_bytes() for path in tested.directory.rglob("*") if path.is_file()]
    assert "hunter2" not in said
    assert not any(b"hunter2" in data or str(farm.port).encode() in data for data in kept)


def test_nothing_of_the_farm_is_loaded_where_nothing_runs(farm: Farm, tested: Checkout) -> None:
    tested.sconstruct(
        'env.MystTest("one", "program")\n'
        "import atexit\n"
        "atexit.register(lambda: print('grpc' in sys.modules))\n",
        SCONSTRUCT_WITH_OPTIONS,
    )
    assert tested.build("check", environment=A_NEW_PYTHON).out.endswith("True\n")
    before = farm.calls.copy()
    unchanged = tested.build("check", environment=A_NEW_PYTHON).out
    assert unchanged.endswith("(1 of them unchanged), 0 failed\nFalse\n")
    assert farm.calls == before


@pytest.mark.parametrize("jobs", ["-j1", "-j2"])
def test_ctrl_c_ends_what_runs_on_the_farm(jobs: str, farm: Farm, tested: Checkout) -> None:
    tested.write("program", "#!/bin/sh\nexec sleep 60\n", 0o755)
    tested.expect('"one", "program"')
    build = interrupt(tested, farm.url, lambda: farm.started.wait(20), jobs)
    assert build.endswith(": the build was interrupted; start the test again\n")
    (operation,) = farm.operations.values()
    assert operation.done.wait(10) and operation.is_cancelled


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("farm") / "hello")


@pytest.fixture
def real() -> Iterator[CasdFarm]:
    with casd_farm() as farm:
        yield farm


@needs_real
def test_packages_run_on_a_farm_of_buildbox(real: CasdFarm, package: Path, tmp_path: Path) -> None:
    good = '"good", "hello", args=["a", "$(b) c"], stdin="x", environment={"GREETING": "hi"}, stdout='
    tests = [
        good + '"hello [a] [$(b) c] hi x"',
        '"status", "hello", args=["status"], status=3',
        '"wrong", "hello", args=["a"], stdout="bye"',
    ]
    one = with_package(tmp_path / "one", real.url, package, *tests)
    one.write("SConstruct", one.path("SConstruct").read_text() + SLOW)
    build = one.fails("-j4", "check")
    assert "2 passed (0 of them unchanged), 2 failed" in build.out
    assert "wrong: -bye\nwrong: +hello [a]" in build.err
    assert "slow: did not end within 0.5 s" in build.err
    assert real.executions == 4
    other = with_package(tmp_path / "a" / "longer path", real.url, package, *tests[:2])
    assert "2 passed (0 of them unchanged), 0 failed" in other.build("-j4", "check").out
    assert real.executions == 4


@needs_real
def test_a_sandbox_that_forbids_namespaces_is_told_with_the_remedy(
    real: CasdFarm, package: Path, tmp_path: Path
) -> None:
    one = with_package(tmp_path / "one", real.url, package, '"one", "hello", MYST_TEST_PLATFORM={}')
    build = one.fails("check")
    assert "one: ended with status 125, not 0" in build.err
    assert "CAP_SETFCAP" in build.err and "start the package as an ordinary user" in build.err


@needs_real
def test_ctrl_c_ends_what_runs_on_a_farm_of_buildbox(real: CasdFarm, package: Path, tmp_path: Path) -> None:
    one = with_package(tmp_path / "one", real.url, package, '"one", "hello", args=["sleep"]')
    said = interrupt(one, real.url, real.is_executing)
    assert said.endswith(": the build was interrupted; start the test again\n")
    assert real.is_idle()


@needs_real
def test_a_farm_of_buildbox_that_dies_is_told_of(real: CasdFarm, package: Path, tmp_path: Path) -> None:
    url = f"{real.url}?patience=0.5"
    one = with_package(tmp_path / "one", url, package, '"one", "hello", args=["sleep"]')
    threading.Thread(target=lambda: real.is_executing() and real.kill()).start()
    assert "it cannot be reached; start it" in one.fails("check").err


def interrupt(project: Project, url: str, is_running, jobs: str = "-j1") -> str:  # type: ignore[no-untyped-def]
    """Start the tests; when they run, do as Ctrl-C does; return what scons says."""
    process = subprocess.Popen(
        project.command(jobs, "check", f"MYST_REMOTE_EXECUTOR={url}"),
        cwd=project.directory,
        env=project.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert is_running()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 2
    return said
