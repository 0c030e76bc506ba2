"""Real servers that are killed in the middle of each kind of request: builds are right all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from buildgrid_server import BuildGrid, MakeOnce, buildgrid, installed, needs_buildgrid_with_chunks
from cached_project import UPPER, Checkout, check_built, checkout
from farm_project import checkout as farm_checkout
from killing_proxy import Proxy, When, killing
from remote_servers import (
    CASD_PLATFORM,
    Kill,
    becomes,
    casd_farm,
    is_running,
    killable_casd,
    killable_nginx,
    needs_bubblewrap,
    needs_casd,
    needs_nginx,
)
from test_farm import interrupt

pytestmark = pytest.mark.long

Start = Callable[[Path], AbstractContextManager[tuple[str, Kill]]]

LINES = 1_200_000
BODY = UPPER + f'env.Command("large", upper, "seq {LINES} > $TARGET")\n'
MEGABYTE = 1_000_000
CASD, NGINX = pytest.param(killable_casd, marks=needs_casd), pytest.param(killable_nginx, marks=needs_nginx)

CAS, ACTIONS = "ContentAddressableStorage/", "ActionCache/"
# As soon as it is asked, and when the server has begun to answer.
READING = [
    *(
        When(method, answered=answered)
        for method in ("GetCapabilities", f"{ACTIONS}GetActionResult", f"{CAS}BatchReadBlobs")
        for answered in (0, 20)
    ),
    When("ByteStream/Read"),
    When("ByteStream/Read", answered=MEGABYTE),
]
WRITING = [
    *(
        When(method, answered=answered)
        for method in (f"{CAS}FindMissingBlobs", f"{CAS}BatchUpdateBlobs", f"{ACTIONS}UpdateActionResult")
        for answered in (0, 20)
    ),
    When("ByteStream/Write"),
    When("ByteStream/Write", sent=MEGABYTE),
]
HTTP_READING = [When("GET /ac/"), When("GET /cas/"), When("GET /cas/", answered=MEGABYTE)]
HTTP_WRITING = [When("HEAD /cas/"), When("PUT /cas/"), When("PUT /cas/", sent=MEGABYTE), When("PUT /ac/")]


def named(when: When) -> str:
    return f"{when.word} {when.sent}-{when.answered}"


def both(grpc: Sequence[When], http: Sequence[When]) -> pytest.MarkDecorator:
    cases = [(CASD, when) for when in grpc] + [(NGINX, when) for when in http]
    parameters = [
        pytest.param(*start.values, when, marks=start.marks, id=named(when)) for start, when in cases
    ]
    return pytest.mark.parametrize(("start", "when"), parameters)


@contextmanager
def before(url: str, times: Sequence[When], kill: Kill | None) -> Iterator[tuple[Proxy, str]]:
    """A proxy before a server, and its URL."""
    scheme, rest = url.split("://")
    port, slash, path = rest.partition(":")[2].partition("/")
    with killing(int(port), times, kill) as proxy:
        yield proxy, f"{scheme}://127.0.0.1:{proxy.port}{slash}{path}"


def check_right(project: Checkout) -> None:
    check_built(project)
    assert project.path("large").read_text() == "".join(f"{number}\n" for number in range(1, LINES + 1))


def build_in_time(project: Checkout, proxy: Proxy) -> None:
    """Build; the server has to be struck meanwhile, and to cost no more than one warning and its patience."""
    started = time.monotonic()
    build = project.build("-j4")
    assert time.monotonic() - started < 6
    assert proxy.has_struck.is_set()
    assert build.err.count("warning") <= 1
    assert set(build.err.splitlines()) == {line for line in build.err.splitlines() if "remote cache" in line}
    check_right(project)


@both(READING, HTTP_READING)
def test_a_build_is_right_when_a_server_is_killed_while_it_is_read(
    start: Start, when: When, tmp_path: Path
) -> None:
    with start(tmp_path / "server") as (url, kill), before(url, [when], kill) as (proxy, through):
        checkout(tmp_path / "one", url, BODY).build()
        build_in_time(checkout(tmp_path / "other", through, BODY), proxy)


@both(WRITING, HTTP_WRITING)
def test_a_build_is_right_when_a_server_is_killed_while_it_is_written(
    start: Start, when: When, tmp_path: Path
) -> None:
    with start(tmp_path / "server") as (url, kill), before(url, [when], kill) as (proxy, through):
        build_in_time(checkout(tmp_path / "one", through, BODY), proxy)
    with start(tmp_path / "server") as (url, _):  # what it has kept of that is whole, or not used
        for name in "other", "third":
            other = checkout(tmp_path / name, url, BODY)
            assert not other.build("-j4").err
            check_right(other)


@needs_casd
def test_a_build_is_right_when_a_server_is_killed_as_it_is_asked_how_much_of_a_file_it_has(
    tmp_path: Path,
) -> None:
    times = [When("ByteStream/Write", sent=MEGABYTE), When("QueryWriteStatus")]
    with killable_casd(tmp_path / "server") as (url, kill), before(url, times, kill) as (proxy, through):
        build_in_time(checkout(tmp_path / "one", through, BODY), proxy)


@needs_casd
@pytest.mark.parametrize("when", [READING[-1], WRITING[-1]], ids=named)
def test_a_connection_that_is_cut_costs_nothing(when: When, tmp_path: Path) -> None:
    with killable_casd(tmp_path / "server") as (url, _), before(url, [when], None) as (proxy, through):
        first, second = (url, through) if when in READING else (through, url)
        checkout(tmp_path / "one", first, BODY).build()
        other = checkout(tmp_path / "other", second, BODY)
        assert "3 hits, 0 misses" in other.build().out
        assert proxy.has_struck.is_set()
        check_right(other)


@pytest.fixture
def grid(make_once: MakeOnce, tmp_path: Path) -> Iterator[BuildGrid]:
    with buildgrid(installed(make_once, chunks=True), tmp_path / "server", chunks=True) as server:
        yield server


@needs_buildgrid_with_chunks
@pytest.mark.parametrize("answered", [0, 20])
def test_a_build_is_right_when_a_server_is_killed_while_it_names_chunks(
    answered: int, grid: BuildGrid, tmp_path: Path
) -> None:
    when = When(f"{CAS}SplitBlob", answered=answered)
    checkout(tmp_path / "one", grid.url, BODY).build()
    with before(grid.url, [when], grid.kill) as (proxy, through):
        build_in_time(checkout(tmp_path / "other", through, BODY), proxy)


@needs_buildgrid_with_chunks
@pytest.mark.parametrize("answered", [0, 20])
def test_a_build_is_right_when_a_server_is_killed_while_it_puts_chunks_together(
    answered: int, grid: BuildGrid, tmp_path: Path
) -> None:
    when = When(f"{CAS}SpliceBlob", answered=answered)
    with before(grid.url, [when], grid.kill) as (proxy, through):
        build_in_time(checkout(tmp_path / "one", through, BODY), proxy)


EXECUTE, WAIT = When("Execution/Execute", answered=100), When("Execution/WaitExecution")


def slow_test(directory: Path, url: str, seconds: float, patience: float = 0.5) -> Checkout:
    project = farm_checkout(directory, f"{url}?patience={patience}")
    project.write("program", f"#!/bin/sh\nsleep {seconds}\necho done\n", 0o755)
    project.expect(f'"one", "program", stdout="done\\n", MYST_TEST_PLATFORM={CASD_PLATFORM}')
    return project


@needs_casd
@needs_bubblewrap
@pytest.mark.parametrize("times", [[EXECUTE._replace(answered=0)], [EXECUTE], [EXECUTE, WAIT]])
def test_a_farm_that_is_killed_while_it_executes_fails_its_tests_in_time(
    times: list[When], tmp_path: Path
) -> None:
    with casd_farm() as farm, before(farm.url, times, farm.kill) as (proxy, through):
        project = slow_test(tmp_path / "one", through, 5)
        started = time.monotonic()
        assert "it cannot be reached; start it" in project.fails("check").err
        assert time.monotonic() - started < 4
        assert proxy.has_struck.is_set()


@needs_casd
@needs_bubblewrap
@pytest.mark.parametrize("times", [[EXECUTE], [EXECUTE, WAIT._replace(answered=100)]])
def test_a_test_goes_on_when_its_connection_is_cut(times: list[When], tmp_path: Path) -> None:
    with casd_farm() as farm, before(farm.url, times, None) as (proxy, through):
        project = slow_test(tmp_path / "one", through, 0.5, patience=5)  # however busy the machine is
        assert "1 passed" in project.build("check").out
        assert proxy.has_struck.is_set()
        assert farm.executions == 1


@needs_casd
@needs_bubblewrap
def test_an_interrupted_build_ends_where_its_farm_is_killed_as_it_is_told_so(tmp_path: Path) -> None:
    with casd_farm() as farm, before(farm.url, [When("CancelOperation")], farm.kill) as (proxy, through):
        project = slow_test(tmp_path / "one", through, 5078)
        url = f"{through}?patience=0.5"
        said = interrupt(project, url, lambda: becomes(lambda: is_running("5078")))
        assert said.endswith(": the build was interrupted; start the test again\n")
        assert proxy.has_struck.is_set()
