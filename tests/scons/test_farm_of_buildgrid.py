"""BuildGrid with PostgreSQL and workers: two machines share everything; a worker that dies loses no test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_server import BuildGrid, MakeOnce, buildgrid, installed, needs_buildgrid_with_chunks
from cached_project import UPPER, check_built, checkout
from farm_project import Checkout, make_package, needs_zig, with_package
from farm_project import checkout as farm_checkout
from remote_servers import becomes, is_running
from scons_project import ALL, PACKAGE_HELLO, Project
from test_farm import interrupt

pytestmark = [pytest.mark.long, needs_buildgrid_with_chunks]


@pytest.fixture
def grid(make_once: MakeOnce, tmp_path: Path) -> Iterator[BuildGrid]:
    with buildgrid(installed(make_once, chunks=True), tmp_path / "server", chunks=True) as server:
        yield server


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("farm") / "hello")


def slow(directory: Path, grid: BuildGrid, seconds: float) -> Checkout:
    project = farm_checkout(directory, f"{grid.url}?patience=10")
    project.write("program", f"#!/bin/sh\nexec sleep {seconds}\n", 0o755)
    project.expect('"one", "program"')
    return project


@needs_zig
def test_packages_run_on_workers_and_their_results_are_shared(
    grid: BuildGrid, package: Path, tmp_path: Path
) -> None:
    tests = [
        '"good", "hello", args=["a", "$(b) c"], stdin="x", environment={"GREETING": "hi"},'
        ' stdout="hello [a] [$(b) c] hi x"',
        '"sgx", "hello", args=["b"], stdout="hello [b]  ", MYST_TEST_PLATFORM={"sgx": "2"}',
        '"status", "hello", args=["status"], status=3',
        '"wrong", "hello", args=["a"], stdout="bye"',
    ]
    url = f"{grid.url}?patience=10"
    with grid.worker("one") as plain, grid.worker("two", "sgx=2") as with_sgx:
        one = with_package(tmp_path / "one", url, package, *tests, platform={})
        build = one.fails("-j4", "check")
        assert "3 passed (0 of them unchanged), 1 failed" in build.out
        assert "wrong: -bye\nwrong: +hello [a]" in build.err
        assert plain.executions + with_sgx.executions == 4 and with_sgx.executions
        before = plain.executions + with_sgx.executions
        other = with_package(tmp_path / "a" / "longer path", url, package, *tests[:2], platform={})
        assert "2 passed (0 of them unchanged), 0 failed" in other.build("-j4", "check").out
        assert plain.executions + with_sgx.executions == before


def test_a_test_that_takes_too_long_is_ended_by_its_worker(grid: BuildGrid, tmp_path: Path) -> None:
    project = slow(tmp_path / "one", grid, 60)
    project.expect('"one", "program", timeout=0.5')
    with grid.worker("one") as worker:
        assert "one: did not end within 0.5 s" in project.fails("check").err
        assert worker.executions == 1


def test_a_platform_that_no_worker_may_have_is_refused(grid: BuildGrid, tmp_path: Path) -> None:
    project = slow(tmp_path / "one", grid, 0)
    project.expect('"one", "program", MYST_TEST_PLATFORM={"gpu": "1"}')
    assert "check MYST_TEST_PLATFORM" in project.fails("check").err


def test_what_a_worker_that_dies_was_executing_goes_to_another_one(grid: BuildGrid, tmp_path: Path) -> None:
    project = slow(tmp_path / "one", grid, 1)
    with grid.worker("one") as first, grid.worker("two") as second:
        workers = [first, second]

        def kill() -> None:
            assert becomes(lambda: any(worker.executions for worker in workers))
            next(worker for worker in workers if worker.executions).process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        assert "1 passed" in project.build("check").out
        thread.join()
        assert [worker.executions for worker in workers] == [1, 1]


def test_ctrl_c_ends_what_a_worker_executes(grid: BuildGrid, tmp_path: Path) -> None:
    project = slow(tmp_path / "one", grid, 5077)
    with grid.worker("one") as worker:
        said = interrupt(project, f"{grid.url}?patience=10", worker.is_executing)
        assert said.endswith(": the build was interrupted; start the test again\n")
        assert becomes(lambda: not is_running("5077"))


def test_two_checkouts_at_different_paths_share_files_and_packages(
    grid: BuildGrid, project: Project, tmp_path: Path
) -> None:
    checkout(tmp_path / "first", grid.url).build()
    second = checkout(tmp_path / "b" / "longer path" / "second", grid.url)
    assert "2 hits, 0 misses" in second.build("-j2").out
    check_built(second)
    # Larger than what is stored in chunks.
    body = 'env.Command("appdir/numbers", "config.json", "seq 600000 > $TARGET")\n'
    project.sconstruct(f"env['MYST_REMOTE_CACHE'] = {grid.url!r}\n" + PACKAGE_HELLO + body)
    other = project.copy(tmp_path / "a" / "longer path")
    assert project.build().stages == ALL
    build = other.build()
    assert "Retrieved `appdir/numbers' from cache\nRetrieved `hello' from cache\n" in build.out
    assert build.stages == set()
    assert project.path("hello").read_bytes() == other.path("hello").read_bytes()


def test_builds_and_tests_go_through_one_server(grid: BuildGrid, tmp_path: Path) -> None:
    body = UPPER + 'env.MystTest("upper", "out/upper")\n'
    with grid.worker("one") as worker:
        for name, hits in ("one", 0), ("a/longer path", 2):
            project = checkout(tmp_path / name, grid.url, body)
            project.write("text", "#!/bin/sh\necho is written\n")
            project.write("SConstruct", project.path("SConstruct").read_text().replace("tr a-z A-Z", "cat"))
            build = project.build(f"MYST_REMOTE_EXECUTOR={grid.url}?patience=10", ".", "check")
            assert "1 passed (0 of them unchanged)" in build.out
            assert f"remote cache: {hits} hits" in build.out
        assert worker.executions == 1
