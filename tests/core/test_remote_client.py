"""A client gets from a server what another one stored, moves no more than it has to, and is never fooled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from reapi_server import ReapiServer
from remote_machine import FILES, Machine
from remote_servers import casd, needs_casd, needs_nginx, nginx

from mystikos_tool.cache.remote import messages, results
from mystikos_tool.cache.remote.digest import of

# Long enough for a busy machine to answer in, short enough to be waited for.
PATIENCE = 0.5
AVERAGE = 1 << 16

SERVERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressing": {"zstd": True},
    "chunking": {"average": AVERAGE},
    "chunking and compressing": {"average": AVERAGE, "zstd": True},
    "with small batches": {"batch": 1000},
}


@pytest.fixture
def server() -> Iterator[ReapiServer]:
    yield from _started(ReapiServer())


@pytest.fixture(params=SERVERS.values(), ids=SERVERS)
def any_server(request: pytest.FixtureRequest) -> Iterator[ReapiServer]:
    yield from _started(ReapiServer(**request.param))


@pytest.fixture
def chunking() -> Iterator[ReapiServer]:
    yield from _started(ReapiServer(average=AVERAGE))


def _started(server: ReapiServer) -> Iterator[ReapiServer]:
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Starts a server by name, once; returns its URL."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}

        def started(name: str) -> str:
            if name not in urls:
                start = {"casd": casd, "nginx": nginx}[name]
                urls[name] = stack.enter_context(start(tmp_path_factory.mktemp("server") / name))
            return urls[name]

        yield started


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Makes machines, each with a directory of its own."""
    machines: list[Machine] = []

    def made(url: str, **options: object) -> Machine:
        query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
        machines.append(Machine(tmp_path / f"machine-{len(machines)}", f"{url}?{query}" if query else url))
        return machines[-1]

    yield made
    for each in machines:
        each.client.close()


Machines = Callable[..., Machine]


def test_a_machine_gets_what_another_one_stored(any_server: ReapiServer, machine: Machines) -> None:
    one, other = machine(any_server.url), machine(any_server.url)
    one.store()
    assert other.fetch()
    assert other.files() == FILES
    assert not one.warnings and not other.warnings


@pytest.mark.parametrize(
    "name", [pytest.param("casd", marks=needs_casd), pytest.param("nginx", marks=needs_nginx)]
)
def test_a_machine_gets_what_another_one_stored_in(
    name: str, real: Callable[[str], str], machine: Machines
) -> None:
    one, other = machine(real(name)), machine(real(name))
    assert not other.fetch()
    one.store()
    assert other.fetch()
    assert other.files() == FILES
    assert (other.client.figures.hits, other.client.figures.misses) == (1, 1)
    assert not one.warnings and not other.warnings


def test_a_symbolic_link_comes_back_as_one(server: ReapiServer, machine: Machines) -> None:
    one, other = machine(server.url), machine(server.url)
    one.write({"lib/libx.so.1": (b"library", 0o755)})
    (one.directory / "lib/libx.so").symlink_to("libx.so.1")
    names = ["lib/libx.so", "lib/libx.so.1"]
    one.store_names(names)
    assert other.fetch(names)
    assert (other.directory / "lib/libx.so").readlink() == Path("libx.so.1")


def test_what_is_done_beside_a_fetch_begins_before_the_files_come(
    server: ReapiServer, machine: Machines
) -> None:
    one, other = machine(server.url), machine(server.url)
    done: list[str] = []
    other.directory.mkdir(exist_ok=True)
    place = {"large": other.directory / "large"}
    key = results.key("signature", ["large"])
    assert not other.client.fetch(key, place, lambda _: True, lambda _: done.append("begun"))
    assert done == []
    one.store({"large": FILES["out/large"]})
    server.faults["Read"] = lambda context, moved: done.append("read")
    assert other.client.fetch(key, place, lambda _: True, lambda _: done.append("begun"))
    assert done[0] == "begun" and done[1] == "read"


def test_what_is_refused_while_it_comes_is_not_fetched_to_its_end(
    server: ReapiServer, machine: Machines
) -> None:
    one, other = machine(server.url), machine(server.url)
    one.store({"large": FILES["out/large"]})
    other.directory.mkdir(exist_ok=True)
    cancelled = threading.Event()

    def wait_for_the_client(context: Any, _: int) -> None:
        context.add_callback(cancelled.set)
        cancelled.wait(0.1)

    server.faults["Read"] = wait_for_the_client
    asked: list[Any] = []
    assert not other.client.fetch(
        results.key("signature", ["large"]),
        {"large": other.directory / "large"},
        lambda paths: not asked.append(paths),
        lambda files: files[0].refuse(),
    )
    assert asked and other.files() == {}
    assert server.moved["Read answered"] < 2_500_000
    assert not other.warnings and other.client.figures.rejected == 1


def test_nothing_is_found_by_another_signature_or_for_other_names(
    server: ReapiServer, machine: Machines
) -> None:
    one = machine(server.url)
    one.store()
    assert not one.fetch(signature="another")
    assert not one.fetch(["out/program"])
    assert one.client.figures.rejected == 0


def test_what_the_server_has_is_not_sent_again(any_server: ReapiServer, machine: Machines) -> None:
    machine(any_server.url).store()
    before = any_server.moved.copy()
    machine(any_server.url).store(signature="another")
    sent = any_server.moved - before
    assert sent["Write"] == 0
    assert sent["BatchUpdateBlobs"] < 1000  # the key's own


def test_a_client_that_is_not_used_opens_no_connection(server: ReapiServer, machine: Machines) -> None:
    machine(server.url).client.close()
    assert not server.calls


def test_a_read_that_breaks_off_goes_on_where_it_did(server: ReapiServer, machine: Machines) -> None:
    one, other = machine(server.url), machine(server.url)
    one.store()
    server.faults["Read"] = server.breaks_off(after=1_000_000)
    assert other.fetch()
    assert other.files() == FILES
    assert server.calls["Read"] == 2
    assert server.moved["Read answered"] < 1.2 * 2_500_000


def test_a_write_that_breaks_off_goes_on_where_it_did(server: ReapiServer, machine: Machines) -> None:
    one, other = machine(server.url), machine(server.url)
    server.faults["Write"] = server.breaks_off(after=1_000_000)
    one.store()
    assert server.calls["Write"] == 2
    assert server.moved["Write"] == 2_500_000
    assert other.fetch()


def test_a_write_that_breaks_off_after_more_than_the_patience_goes_on_where_it_did(
    server: ReapiServer, machine: Machines
) -> None:
    one, data = machine(server.url, patience=1), random.Random(7).randbytes(16_000_000)
    broken: list[int] = []

    def slow(context: grpc.ServicerContext, moved: int) -> None:
        if moved and not broken:
            server.ended.wait(0.04)
            if moved >= len(data) // 2:
                broken.append(moved)
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    server.faults["Write"] = slow
    one.store({"large": (data, 0o644)})
    assert one.seconds > 1 and broken
    assert server.moved["Write"] == len(data)
    assert server.results and not one.warnings


def test_compressed_transfers_that_break_off_are_made_again(machine: Machines) -> None:
    for server in _started(ReapiServer(zstd=True)):
        one, other = machine(server.url), machine(server.url)
        server.faults["Write"] = server.breaks_off(after=1_000_000)
        one.store()
        server.faults["Read"] = server.breaks_off(after=1_000_000)
        assert other.fetch()
        assert other.files() == FILES


def test_compression_makes_transfers_smaller(machine: Machines) -> None:
    text = {"log": (b"the same line again and again\n" * 100_000, 0o644), "word": (b"word " * 1000, 0o644)}
    for server in _started(ReapiServer(zstd=True)):
        one, other = machine(server.url), machine(server.url)
        one.store(text)
        assert other.fetch(list(text))
        assert other.files() == text
        assert one.client.traffic.sent < 10_000
        assert other.client.traffic.received < 10_000


def test_of_a_changed_file_only_the_changed_chunks_move(chunking: ReapiServer, machine: Machines) -> None:
    one, other = machine(chunking.url), machine(chunking.url)
    data = random.Random(2).randbytes(3_000_000)
    changed = data[:1_000_000] + b"inserted" + data[1_000_000:]
    one.store({"package": (data, 0o755)})
    assert other.fetch(["package"], accepts=lambda paths: True)
    sent, received = one.client.traffic.sent, other.client.traffic.received
    one.store({"package": (changed, 0o755)}, "changed")
    assert other.fetch(["package"], "changed")
    assert other.files() == {"package": (changed, 0o755)}
    a_few_chunks = 4 * 4 * AVERAGE
    assert one.client.traffic.sent - sent < a_few_chunks
    assert other.client.traffic.received - received < a_few_chunks


def test_files_are_placed_together_or_not_at_all(server: ReapiServer, machine: Machines) -> None:
    one, other = machine(server.url), machine(server.url)
    one.store()
    other.write({"out/program": (b"earlier", 0o600)})
    del server.blobs[of(FILES["out/large"][0]).hash]
    assert not other.fetch()
    assert other.files() == {"out/program": (b"earlier", 0o600)}
    assert not other.warnings


def test_files_that_are_not_accepted_do_not_get_to_their_places(
    server: ReapiServer, machine: Machines
) -> None:
    one, other = machine(server.url), machine(server.url)
    one.store()
    seen: list[bytes] = []

    def refused(paths: Any) -> bool:
        seen.extend(path.read_bytes() for path in paths)
        return False

    assert not other.fetch(accepts=refused)
    assert seen == [data for data, _ in FILES.values()]
    assert other.files() == {}


def test_a_file_that_changes_while_it_is_stored_gives_no_result(
    server: ReapiServer, machine: Machines
) -> None:
    one = machine(server.url)

    def changed(context: Any, moved: int) -> None:
        (one.directory / "out/program").write_bytes(b"changed")

    server.faults["FindMissingBlobs"] = changed
    one.store()
    assert not server.results
    assert not one.warnings


def flip(server: ReapiServer) -> None:
    server.blobs = {hash: bytes(reversed(data)) + b"!" for hash, data in server.blobs.items()}


def poisoned(change: Callable[[Any], object]) -> Callable[[ReapiServer], None]:
    return lambda server: server.poison(change)


def garbage(server: ReapiServer) -> None:
    server.results = dict.fromkeys(server.results, b"\xff garbage")


def another_action_s(server: ReapiServer) -> None:
    other = of(b"malice")
    server.blobs[other.hash] = b"malice"
    message = messages.new("ActionResult")
    message.output_files.add(path="etc/passwd", digest={"hash": other.hash, "size_bytes": other.size})
    server.results = dict.fromkeys(server.results, message.SerializeToString())


def add_link(target: str) -> Callable[[Any], object]:
    def change(result: Any) -> None:
        result.output_files.pop()
        result.output_symlinks.add(path="out/large", target=target)

    return change


POISONS: dict[str, Callable[[ReapiServer], None]] = {
    "wrong bytes": flip,
    "wrong bytes of the right size": lambda server: server.blobs.update(
        {hash: b"x" * len(data) for hash, data in server.blobs.items()}
    ),
    "wrong inlined bytes": poisoned(lambda result: setattr(result.output_files[1], "contents", b"malice")),
    "no result at all": garbage,
    "another action's result": another_action_s,
    "one file too many": poisoned(lambda result: result.output_files.add(path="x")),
    "one file too few": poisoned(lambda result: result.output_files.pop()),
    "the same file twice": poisoned(lambda result: setattr(result.output_files[0], "path", "out/program")),
    "a path that leads out": poisoned(lambda result: setattr(result.output_files[0], "path", "../x")),
    "a set-user-ID program": poisoned(
        lambda result: setattr(result.output_files[1].node_properties.unix_mode, "value", 0o4755)
    ),
    "a failed action": poisoned(lambda result: setattr(result, "exit_code", 1)),
    "a digest that is a path": poisoned(
        lambda result: setattr(result.output_files[0].digest, "hash", "../../etc/passwd")
    ),
    "a negative size": poisoned(lambda result: setattr(result.output_files[2].digest, "size_bytes", -1)),
    "a smaller size": poisoned(lambda result: setattr(result.output_files[2].digest, "size_bytes", 5)),
    "a link to a system file": poisoned(add_link("/etc/passwd")),
    "a link that leads out": poisoned(add_link("../../x")),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_what_a_lying_server_sends_is_a_miss(
    poison: Callable[[ReapiServer], None], server: ReapiServer, machine: Machines
) -> None:
    one, other = machine(server.url), machine(server.url)
    one.store()
    poison(server)
    assert not other.fetch()
    assert other.files() == {}
    assert other.client.figures.rejected == 1


def test_wrong_chunks_are_a_miss(chunking: ReapiServer, machine: Machines) -> None:
    one, other = machine(chunking.url), machine(chunking.url)
    data = random.Random(3).randbytes(1_000_000)
    one.store({"package": (data, 0o755)})
    assert other.fetch(["package"])
    one.store({"package": (data + b"more", 0o755)}, "more")
    for chunks in chunking.parts.values():
        chunks.reverse()
    assert not other.fetch(["package"], "more")
    assert other.files() == {"package": (data, 0o755)}


READING = ["GetCapabilities", "GetActionResult", "BatchReadBlobs", "Read"]
WRITING = ["GetCapabilities", "FindMissingBlobs", "BatchUpdateBlobs", "Write", "UpdateActionResult"]
MISHAPS = ["dies", "hangs", "RESOURCE_EXHAUSTED", "INTERNAL", "PERMISSION_DENIED"]


def fault(server: ReapiServer, mishap: str, after: int) -> Any:
    if mishap in ("dies", "hangs"):
        return getattr(server, mishap)(after)
    return server.answers(grpc.StatusCode[mishap])


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("method", READING)
def test_a_server_that_fails_while_it_is_read_is_a_miss(
    method: str, mishap: str, server: ReapiServer, machine: Machines
) -> None:
    machine(server.url).store()
    other = machine(server.url, patience=PATIENCE)
    server.faults[method] = fault(server, mishap, 1_000_000 if method == "Read" else 0)
    assert not other.fetch()
    assert other.files() == {}
    check_failure(other, mishap, server)


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("method", WRITING)
def test_a_server_that_fails_while_it_is_written_gets_no_result(
    method: str, mishap: str, server: ReapiServer, machine: Machines
) -> None:
    one = machine(server.url, patience=PATIENCE)
    server.faults[method] = fault(server, mishap, 1_000_000 if method == "Write" else 0)
    one.store()
    assert not server.results
    assert one.files() == FILES
    check_failure(one, mishap, server)


def check_failure(machine: Machine, mishap: str, server: ReapiServer) -> None:
    assert machine.seconds < PATIENCE + 1
    assert len(machine.warnings) == (0 if mishap == "INTERNAL" else 1) or "GetCapabilities" in server.faults
    assert not any("secret" in warning for warning in machine.warnings)
    started = time.monotonic()
    machine.client.health.reads and machine.fetch(signature="another")
    if mishap in ("dies", "hangs"):
        assert not machine.client.health.reads and not machine.client.health.writes
        machine.fetch(signature="another")
        assert time.monotonic() - started < PATIENCE  # nobody is waited for


@pytest.mark.parametrize("method", ["SplitBlob", "SpliceBlob"])
@pytest.mark.parametrize("mishap", ["dies", "hangs", "INTERNAL"])
def test_a_server_that_fails_with_chunks_is_a_miss(
    method: str, mishap: str, chunking: ReapiServer, machine: Machines
) -> None:
    package = {"package": (random.Random(4).randbytes(1_000_000), 0o755)}
    one, other = machine(chunking.url, patience=PATIENCE), machine(chunking.url, patience=PATIENCE)
    if method == "SplitBlob":
        one.store(package)
    chunking.faults[method] = fault(chunking, mishap, 0)
    one.store(package)
    assert not other.fetch(["package"])
    assert one.seconds + other.seconds < 2 * PATIENCE + 1


def test_a_stream_that_only_drips_is_ended(server: ReapiServer, machine: Machines) -> None:
    machine(server.url).store()
    other = machine(server.url, patience=PATIENCE, min_rate="2M")

    def drips(context: grpc.ServicerContext, moved: int) -> None:
        server.ended.wait(0.1)

    server.faults["Read"] = drips
    assert not other.fetch()
    assert other.seconds < PATIENCE + 1
    assert other.warnings and "in time" in other.warnings[0]


def test_a_full_server_is_still_read(server: ReapiServer, machine: Machines) -> None:
    one = machine(server.url)
    one.store()
    server.faults["BatchUpdateBlobs"] = server.answers(grpc.StatusCode.RESOURCE_EXHAUSTED)
    one.store(signature="another")
    one.store(signature="a third")
    assert server.calls["BatchUpdateBlobs"] == 2
    assert len(one.warnings) == 1
    assert one.fetch()


def test_a_server_that_fails_again_and_again_is_asked_no_more(server: ReapiServer, machine: Machines) -> None:
    one = machine(server.url)
    server.faults["GetActionResult"] = server.answers(grpc.StatusCode.DATA_LOSS)
    for number in range(20):
        assert not one.fetch(signature=str(number))
    assert server.calls["GetActionResult"] == 5
    assert len(one.warnings) == 1


def test_a_server_that_is_not_there_costs_little(machine: Machines) -> None:
    one = machine("grpc://127.0.0.1:1")
    assert not one.fetch()
    assert one.seconds < 1
    assert len(one.warnings) == 1


def test_a_server_that_never_accepts_costs_no_more_than_the_patience(machine: Machines) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        one = machine(f"grpc://127.0.0.1:{silent.getsockname()[1]}", patience=PATIENCE)
        assert not one.fetch()
    assert one.seconds < PATIENCE + 0.5
    assert len(one.warnings) == 1


def test_a_reader_stores_nothing_and_a_writer_fetches_nothing(server: ReapiServer, machine: Machines) -> None:
    reader, writer = machine(server.url, mode="read"), machine(server.url, mode="write")
    reader.store()
    assert not server.calls
    writer.store()
    assert not writer.fetch()
    assert server.calls["GetActionResult"] == 0
    assert reader.fetch()
