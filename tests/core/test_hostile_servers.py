"""A server that means harm costs a build neither its result, nor its time, nor its memory and disk."""

from __future__ import annotations

import itertools
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from reapi_server import ReapiServer, as_bytes
from remote_machine import FILES, Machine
from web_server import WebServer

from mystikos_tool.cache.remote import messages
from mystikos_tool.cache.remote.chunks import ChunkStore
from mystikos_tool.cache.remote.digest import Digest, of

PATIENCE = 0.3
# Long enough for a busy machine; what has no end takes longer than any limit.
MOST = PATIENCE + 4  # seconds
PATIENT = 10.0  # where a busy machine must not make a miss of a hit
AVERAGE = 1 << 16
LARGE = {"large": (random.Random(5).randbytes(2_500_000), 0o644)}

Machines = Callable[..., Machine]
Answer = Callable[[Any, grpc.ServicerContext], Any]


class HostileServer(ReapiServer):
    """Answers methods as a test says, from when on it says so."""

    def answering(self, **methods: Answer) -> None:
        self.methods = methods

    def _handler(self, name: str, method: Any) -> Any:
        def chosen(request: Any, context: grpc.ServicerContext) -> Any:
            return getattr(self, "methods", {}).get(name, method)(request, context)

        return super()._handler(name, chosen)


def started(**options: Any) -> Iterator[HostileServer]:
    server = HostileServer(**options)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server() -> Iterator[HostileServer]:
    yield from started()


@pytest.fixture
def chunking() -> Iterator[HostileServer]:
    yield from started(average=AVERAGE)


@pytest.fixture
def compressing() -> Iterator[HostileServer]:
    yield from started(zstd=True)


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.stop()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machines]:
    machines: list[Machine] = []

    def made(url: str, query: str = "", patience: float = PATIENCE) -> Machine:
        options = f"?patience={patience}{query}"
        machines.append(Machine(tmp_path / f"machine-{len(machines)}", url + options))
        return machines[-1]

    yield made
    for each in machines:
        each.client.close()


def check_missed(machine: Machine, names: list[str], signature: str = "signature") -> None:
    """Fetch: it is a miss that costs no more than the patience and leaves nothing."""
    assert not machine.fetch(names, signature)
    assert machine.seconds < MOST
    assert machine.files() == {}


def read_response(data: bytes) -> bytes:
    return as_bytes(messages.new("ReadResponse", data=data))


def for_ever(answer: bytes) -> Answer:
    return lambda request, context: itertools.repeat(answer)


UNKNOWN_FIELD = b"\xfa\x01\x80\x80\x04" + bytes(1 << 16)
EMPTY_FRAME = bytes.fromhex("28b52ffd2000010000")
SKIPPED_FRAME = struct.pack("<II", 0x184D2A50, 1 << 16) + bytes(1 << 16)


@pytest.mark.parametrize("answer", [b"", UNKNOWN_FIELD], ids=["nothing", "unknown fields"])
def test_a_stream_of_answers_without_data_is_ended(
    answer: bytes, server: HostileServer, machine: Machines
) -> None:
    machine(server.url).store(LARGE)
    server.answering(Read=for_ever(answer))
    check_missed(machine(server.url), list(LARGE))


@pytest.mark.parametrize("frame", [EMPTY_FRAME, SKIPPED_FRAME], ids=["empty", "skipped"])
def test_a_compressed_stream_of_frames_without_data_is_ended(
    frame: bytes, compressing: HostileServer, machine: Machines
) -> None:
    machine(compressing.url).store(LARGE)
    compressing.answering(Read=for_ever(read_response(frame * (1 + (1 << 16) // len(frame)))))
    check_missed(machine(compressing.url), list(LARGE))


@pytest.mark.parametrize("zstd", [False, True])
def test_a_stream_that_breaks_off_after_every_byte_is_ended(zstd: bool, machine: Machines) -> None:
    def read(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        at = messages.read("ReadRequest", request).read_offset
        piece = LARGE["large"][0][at : at + 1]
        import zstandard

        yield read_response(zstandard.compress(piece) if zstd else piece)
        context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    for server in started(zstd=zstd):
        machine(server.url).store(LARGE)
        server.answering(Read=read)
        check_missed(machine(server.url), list(LARGE))


@pytest.mark.parametrize(
    "written",
    [itertools.count(1).__next__, itertools.cycle([0, 5]).__next__, lambda: 1 << 62, lambda: -5],
    ids=["a byte more each time", "more and less", "more than there is", "less than nothing"],
)
def test_an_upload_that_gets_nowhere_is_ended(
    written: Callable[[], int], server: HostileServer, machine: Machines
) -> None:
    def query(request: bytes, context: grpc.ServicerContext) -> bytes:
        return as_bytes(messages.new("QueryWriteStatusResponse", committed_size=written()))

    def write(requests: Any, context: grpc.ServicerContext) -> bytes:
        next(requests)
        context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
        return b""

    one = machine(server.url)
    server.answering(Write=write, QueryWriteStatus=query)
    one.store(LARGE)
    assert one.seconds < MOST
    assert not server.results


def test_more_than_the_disk_has_room_for_is_not_asked_for(server: HostileServer, machine: Machines) -> None:
    machine(server.url).store(LARGE)
    server.poison(lambda result: setattr(result.output_files[0].digest, "size_bytes", 1 << 49))
    server.answering(Read=for_ever(read_response(bytes(1 << 16))))
    check_missed(machine(server.url), list(LARGE))
    assert server.calls["Read"] == 0


def endless(head: bytes) -> Callable[[Any], bool]:
    """Answer with a body that has no end."""

    def fault(handler: Any) -> bool:
        if "/cas/" not in handler.path:
            return False
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        piece = bytes(1 << 16)
        chunked = b"10000\r\n" + piece + b"\r\n"
        for _ in range(4000):  # a quarter of a gigabyte
            handler.wfile.write(chunked if b"chunked" in head else piece)
        return True

    return fault


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked", b"Content-Length: %d" % (1 << 60), b"Connection: close"]
)
def test_a_body_without_an_end_is_left_where_the_file_ends(
    head: bytes, web: WebServer, machine: Machines
) -> None:
    machine(web.url).store(LARGE)
    web.faults["GET"] = endless(head)
    one = machine(web.url)
    check_missed(one, list(LARGE))
    assert one.client.traffic.received < 4_000_000


def test_a_body_in_chunks_of_a_negative_size_does_not_fill_the_memory(
    web: WebServer, machine: Machines
) -> None:
    machine(web.url).store(LARGE)
    sent = 0

    def answer(handler: Any) -> bool:
        nonlocal sent
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        with suppress(OSError):
            while sent < 1 << 30:
                handler.connection.sendall(bytes(1 << 20))
                sent += 1 << 20
        return True

    web.faults["GET"] = answer
    assert not machine(web.url, patience=PATIENT).fetch(list(LARGE))
    assert sent < 1 << 28


@pytest.mark.parametrize("size", [0, 1])
def test_bodies_that_never_make_up_the_file_are_not_asked_for_for_ever(
    size: int, web: WebServer, machine: Machines
) -> None:
    machine(web.url).store(LARGE)

    def fault(handler: Any) -> bool:
        if "/cas/" in handler.path:
            handler.head(206 if "Range" in handler.headers else 200, size)
            handler.wfile.write(bytes(size))
        return "/cas/" in handler.path

    web.faults["GET"] = fault
    check_missed(machine(web.url), list(LARGE))
    assert web.calls["GET"] < 10


def says(answer: bytes) -> Callable[[Any], bool]:
    def fault(handler: Any) -> bool:
        handler.wfile.write(answer)
        return True

    return fault


def again_and_again(answer: bytes) -> Callable[[Any], bool]:
    def fault(handler: Any) -> bool:
        while not handler.server.ended.is_set():
            handler.wfile.write(answer)
        return True

    return fault


ANSWERS: dict[str, Callable[[Any], bool]] = {
    "no HTTP": again_and_again(b"x" * 1000),
    "another version": says(b"HTTP/9.9 200 OK\r\n\r\n"),
    "a status that is none": says(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "a negative length": says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
    "a length that is no number": says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    "a chunk's length that is no number": says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "continue for ever": again_and_again(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers for ever": again_and_again(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000),
    "compressed content": says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_server_that_speaks_http_badly_is_a_miss(
    answer: Callable[[Any], bool], web: WebServer, machine: Machines
) -> None:
    machine(web.url).store(LARGE)
    one = machine(web.url)
    web.faults["GET"] = answer
    check_missed(one, list(LARGE))
    one.store(LARGE, "another")
    assert one.seconds < MOST


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_no_redirection_is_followed_and_no_token_goes_along(
    method: str, web: WebServer, tmp_path: Path, machine: Machines
) -> None:
    machine(web.url).store(LARGE)
    elsewhere = WebServer()
    elsewhere.files = dict(web.files)
    tmp_path.joinpath("token").write_text("hunter2")
    for number, place in enumerate((elsewhere.url, "file:///etc/passwd", "//127.0.0.1/")):
        head = f"HTTP/1.1 307 Look there\r\nContent-Length: 0\r\nLocation: {place.removesuffix('/team')}"
        web.faults[method] = lambda handler, head=head: says(f"{head}{handler.path}\r\n\r\n".encode())(
            handler
        )
        one = machine(web.url, f"&token-file={tmp_path / 'token'}")
        if method == "GET":
            check_missed(one, list(LARGE))
        else:
            one.store(LARGE, f"another {number}")
        assert not any("hunter2" in warning for warning in one.warnings)
    elsewhere.stop()
    assert not elsewhere.calls


def test_a_token_that_expires_between_a_result_and_its_file_is_read_again(
    web: WebServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    web.token = "hunter2"
    one = Machine(tmp_path / "one", f"{web.url}?token-file={token}")
    one.store(LARGE)

    def expire(handler: Any) -> bool:
        if "/ac/" in handler.path:
            web.token = "hunter3"
            token.write_text("hunter3")
        return False

    web.faults["GET"] = expire
    assert one.fetch(list(LARGE))
    assert not one.warnings


def test_a_chunk_of_another_size_is_not_known(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1 << 20)
    store.put(of(b"chunk"), b"chunk")
    lie = Digest(of(b"chunk").hash, 1 << 49)
    assert of(b"chunk") in store and lie not in store
    assert store.get(lie) is None
    assert store.get(of(b"chunk")) == b"chunk"


def test_a_damaged_chunk_is_replaced_by_the_right_one(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1 << 20)
    store.put(of(b"chunk"), b"chunk")
    (path,) = tmp_path.glob("??/*")
    for damage in (b"CHUNK", b"chu", b""):
        path.write_bytes(damage)
        assert store.get(of(b"chunk")) is None
        store.put(of(b"chunk"), b"chunk")
        assert store.get(of(b"chunk")) == b"chunk"


def test_a_link_in_the_place_of_a_chunk_is_not_written_through(tmp_path: Path) -> None:
    store, mine = ChunkStore(tmp_path / "chunks", 1 << 20), tmp_path / "mine"
    mine.write_text("mine")
    store.put(of(b"chunk"), b"chunk")
    (path,) = (tmp_path / "chunks").glob("??/*")
    path.unlink()
    path.symlink_to(mine)
    store.put(of(b"chunk"), b"chunk")
    assert (mine.read_text(), store.get(of(b"chunk"))) == ("mine", b"chunk")


@pytest.mark.parametrize("kind", ["FIFO", "directory", "link to a device", "link to itself"])
def test_a_chunk_that_is_no_file_is_none(kind: str, tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1 << 20)
    store.put(of(b"chunk"), b"chunk")
    (path,) = tmp_path.glob("??/*")
    path.unlink()
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link to a device":
            path.symlink_to("/dev/zero")
        case _:
            path.symlink_to(path)
    assert of(b"chunk") not in store
    assert store.get(of(b"chunk")) is None


def test_a_list_of_more_chunks_than_fit_into_a_message_is_not_needed(
    chunking: HostileServer, machine: Machines
) -> None:
    one, other = (machine(chunking.url, patience=PATIENT) for _ in range(2))
    one.store(LARGE)
    digest = messages.new("Digest", hash="0" * 64, size_bytes=1)
    many = as_bytes(messages.new("SplitBlobResponse", chunk_digests=[digest])) * 100_000
    chunking.answering(SplitBlob=lambda request, context: many)
    assert other.fetch(list(LARGE))
    assert not other.warnings


@pytest.mark.parametrize(
    "size", [0, 1, -1, 1 << 49, (1 << 63) - 1], ids=["none", "a byte", "negative", "huge", "the most"]
)
def test_sizes_of_chunks_that_lie_are_a_miss_or_make_the_file(
    size: int, chunking: HostileServer, machine: Machines
) -> None:
    one, other = (machine(chunking.url, patience=PATIENT) for _ in range(2))
    changed = {"large": (LARGE["large"][0] + b"more", 0o644)}
    one.store(LARGE)
    assert other.fetch(list(LARGE))
    one.store(changed, "changed")

    def split(request: bytes, context: grpc.ServicerContext) -> bytes:
        named = messages.read("SplitBlobRequest", request).blob_digest.hash
        chunks = [messages.new("Digest", hash=c.hash, size_bytes=c.size_bytes) for c in chunking.parts[named]]
        chunks[0].size_bytes = size
        return as_bytes(messages.new("SplitBlobResponse", chunk_digests=chunks))

    chunking.answering(SplitBlob=split)
    if other.fetch(["large"], "changed"):
        assert other.files() == changed
    else:
        assert other.files() == LARGE
    assert other.seconds < MOST


def test_a_chunk_larger_than_chunks_are_is_not_held_in_memory(
    chunking: HostileServer, machine: Machines
) -> None:
    one, other = (machine(chunking.url, patience=PATIENT) for _ in range(2))
    data, rest = LARGE["large"][0], bytes(2_400_000)
    one.store(LARGE)
    assert other.fetch(list(LARGE))
    (known,) = chunking.parts.values()
    one.store({"large": (data + rest, 0o644)}, "longer")
    chunking.blobs[of(rest).hash] = rest
    last = messages.new("Digest", hash=of(rest).hash, size_bytes=len(rest))
    chunks = as_bytes(messages.new("SplitBlobResponse", chunk_digests=[*known, last]))
    chunking.answering(SplitBlob=lambda request, context: chunks)
    before = chunking.moved["Read answered"]
    assert other.fetch(["large"], "longer")
    assert other.files()["large"][0] == data + rest
    assert chunking.moved["Read answered"] - before == len(data + rest)


CAPABILITIES: dict[str, dict[str, Any]] = {
    "no SHA-256": {"digest_functions": [2, 3]},
    "digest functions that nobody knows": {"digest_functions": [-1, 99]},
    "batches of a byte": {"max_batch_total_size_bytes": 1},
    "negative batches": {"max_batch_total_size_bytes": -1},
    "endless batches": {"max_batch_total_size_bytes": (1 << 63) - 1},
    "no blob at all": {"max_cas_blob_size_bytes": 1},
    "negative blobs": {"max_cas_blob_size_bytes": -1},
    "compressors that nobody knows": {"supported_compressors": [0, 7, -1]},
    "compression that it does not do": {
        "supported_compressors": [1],
        "supported_batch_update_compressors": [1],
    },
    **{
        f"chunks of {average} bytes": {
            "split_blob_support": True,
            "splice_blob_support": True,
            "fast_cdc_2020_params": {"avg_chunk_size_bytes": average, "seed": (1 << 32) - 1},
        }
        for average in (0, 1, 3, 1000, 1 << 10, 1 << 20, 1 << 21, 1 << 40, (1 << 64) - 1)
    },
}


@pytest.mark.parametrize("advertised", CAPABILITIES.values(), ids=CAPABILITIES)
def test_whatever_a_server_advertises_a_file_comes_back_or_is_a_miss(
    advertised: dict[str, Any], server: HostileServer, machine: Machines
) -> None:
    cache = messages.new(
        "CacheCapabilities",
        **{
            "digest_functions": [messages.SHA256],
            "action_cache_update_capabilities": {"update_enabled": True},
            **advertised,
        },
    )
    answer = as_bytes(messages.new("ServerCapabilities", cache_capabilities=cache))
    server.answering(GetCapabilities=lambda request, context: answer)
    one, other = (machine(server.url, patience=PATIENT) for _ in range(2))
    one.store()
    found = other.fetch()
    assert other.files() == (FILES if found else {})
    assert found == bool(server.results)
    assert one.seconds < MOST and other.seconds < MOST


METHODS = (
    *("GetCapabilities", "GetActionResult", "UpdateActionResult", "FindMissingBlobs", "BatchUpdateBlobs"),
    *("BatchReadBlobs", "Read", "Write", "QueryWriteStatus", "SplitBlob", "SpliceBlob"),
)
QUICK = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.DATA_LOSS}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=() if code in QUICK else pytest.mark.long)
        for code in grpc.StatusCode
        if code is not grpc.StatusCode.OK
    ],
)
def test_whatever_a_method_answers_is_no_failure(
    code: grpc.StatusCode, chunking: HostileServer, tmp_path: Path, machine: Machines
) -> None:
    tmp_path.joinpath("token").write_text("hunter2")
    data = random.Random(6).randbytes(1_200_000)
    files = {"small": (b"small", 0o755), "large": (data, 0o644)}
    machine(chunking.url).store(files)
    for method in METHODS:
        chunking.faults = {method: chunking.answers(code)}
        one = machine(chunking.url, f"&token-file={tmp_path / 'token'}")
        found = one.fetch(list(files))
        assert one.files() == (files if found else {})
        assert one.seconds < MOST
        one.store({"new": (method.encode() + data, 0o644)}, method)
        assert one.seconds < MOST
        assert len(one.warnings) <= 1
        assert not any("secret" in warning or "hunter2" in warning for warning in one.warnings)
