"""A web server that keeps files is a cache; whatever it does costs no more than a miss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_machine import FILES, Machine
from remote_servers import needs_nginx, nginx
from web_server import WebServer

PATIENCE = 0.5


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.stop()


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    def made(name: str, url: str) -> Machine:
        return Machine(tmp_path / name, url)

    return made


Machines = Callable[..., Machine]


def test_a_machine_gets_what_another_one_stored(server: WebServer, machine: Machines) -> None:
    one, other = machine("one", server.url), machine("other", server.url)
    one.store()
    assert other.fetch()
    assert other.files() == FILES
    assert {path.rpartition("/")[0] for path in server.files} == {"/team/ac", "/team/cas"}


def test_what_the_server_has_is_not_sent_again(server: WebServer, machine: Machines) -> None:
    machine("one", server.url).store()
    before = server.calls["PUT"]
    machine("other", server.url).store(signature="another")
    assert server.calls["PUT"] - before == 3  # the key's two blobs and its result


def test_a_file_that_breaks_off_goes_on_where_it_did(server: WebServer, machine: Machines) -> None:
    one, other = machine("one", server.url), machine("other", server.url)
    one.store()
    server.faults["GET"] = server.breaks_off(after=1_500_000)
    assert other.fetch()
    assert other.files() == FILES
    assert other.client.traffic.received < 1.1 * 2_500_000


def test_wrong_content_is_a_miss(server: WebServer, machine: Machines) -> None:
    machine("one", server.url).store()
    for path, data in server.files.items():
        if "/cas/" in path:
            server.files[path] = bytes(len(data))
    other = machine("other", server.url)
    assert not other.fetch()
    assert other.files() == {}


def test_more_content_than_there_should_be_is_a_miss(server: WebServer, machine: Machines) -> None:
    machine("one", server.url).store()
    server.files = {path: data + b"more" if "/cas/" in path else data for path, data in server.files.items()}
    other = machine("other", server.url)
    assert not other.fetch()
    assert other.files() == {}


FAULTS: dict[str, Callable[[WebServer], Any]] = {
    "hangs": WebServer.hangs,
    "drips": WebServer.drips,
    "breaks off": lambda server: server.breaks_off(0, 1000),
    "fails": lambda server: server.answers(500),
    "forbids": lambda server: server.answers(403),
    "is full": lambda server: server.answers(507),
    "redirects": lambda server: server.answers(302),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_server_that(
    fault: Callable[[WebServer], Any], method: str, server: WebServer, machine: Machines
) -> None:
    one = machine("one", f"{server.url}?patience={PATIENCE}")
    server.faults[method] = fault(server)
    if method == "GET":
        server.files = {f"/team/ac/{'0' * 64}": b"", **server.files}
        machine("writer", server.url).store()
        assert not one.fetch()
    else:
        one.store()
        assert not any("/ac/" in path for path in server.files) or method == "HEAD"
    assert one.seconds < PATIENCE + 1
    assert len(one.warnings) <= 1
    assert not any("secret" in warning for warning in one.warnings)


def test_a_server_that_hangs_is_asked_no_more(server: WebServer, machine: Machines) -> None:
    one = machine("one", f"{server.url}?patience={PATIENCE}")
    server.faults["GET"] = server.hangs()
    started = time.monotonic()
    for number in range(10):
        assert not one.fetch(signature=str(number))
    assert time.monotonic() - started < PATIENCE + 1
    assert len(one.warnings) == 1


@pytest.fixture(scope="module")
def _nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(tmp_path_factory.mktemp("server") / "nginx") as url:
        yield url


@needs_nginx
@pytest.mark.parametrize("place", ["readonly", "full", "small"])
def test_nginx_that_takes_nothing_costs_a_warning(place: str, _nginx: str, machine: Machines) -> None:
    one = machine("one", f"{_nginx}/{place}")
    one.store()
    assert not one.fetch()
    assert len(one.warnings) == 1
    assert one.client.health.reads


@pytest.mark.parametrize("host", ["cache..example", f"{'a' * 64}.example"])
def test_a_name_that_no_host_can_have_costs_a_warning_and_no_traceback(
    host: str, machine: Machines, capfd: pytest.CaptureFixture[str]
) -> None:
    one = machine("one", f"http://{host}")
    assert not one.fetch()
    [warning] = one.warnings
    assert "it cannot be reached; the build goes on without it" in warning
    assert capfd.readouterr().err == ""
