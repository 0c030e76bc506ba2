"""A server of REAPI v2 in memory that keeps to the rules, except where a test tells it not to."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import zstandard

from mystikos_tool.cache.remote import messages

_REAPI = "build.bazel.remote.execution.v2"
_PIECE = 1 << 16

# Called when a method begins and after each piece that it moves, with how many bytes that were so far.
Fault = Callable[[grpc.ServicerContext, int], None]


@dataclass
class ReapiServer:
    """What it has, what it advertises, and what goes wrong; ``calls`` counts its methods' calls."""

    zstd: bool = False
    average: int = 0
    batch: int = 0
    token: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, list[Any]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self, credentials: grpc.ServerCredentials | None = None) -> ReapiServer:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 23)]
        )
        for service, methods in self._services().items():
            handlers = {name: self._handler(name, method) for name, method in methods.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        place = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_secure_port(place, credentials)
            if credentials
            else self._server.add_insecure_port(place)
        )
        self._server.start()
        return self

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}/main"

    def stop(self) -> None:
        self.ended.set()
        self._server.stop(0).wait()

    def dies(self, after: int = 0) -> Fault:
        """End the server, all connections with it, when a method has moved so many bytes."""

        def fault(context: grpc.ServicerContext, moved: int) -> None:
            if moved >= after:
                self._server.stop(0)
                self.ended.wait(10)

        return fault

    def breaks_off(self, after: int = 0, times: int = 1) -> Fault:
        """End a method, as a proxy between would, when it has moved so many bytes."""
        left = [times]

        def fault(context: grpc.ServicerContext, moved: int) -> None:
            if moved >= after and left[0]:
                left[0] -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

        return fault

    def answers(self, code: grpc.StatusCode) -> Fault:
        return lambda context, moved: context.abort(code, "the secret of the server")

    def hangs(self, after: int = 0) -> Fault:
        def fault(context: grpc.ServicerContext, moved: int) -> None:
            if moved >= after:
                self.ended.wait(60)

        return fault

    def poison(self, change: Callable[[Any], None]) -> None:
        """Change every result."""
        for key, data in self.results.items():
            message = messages.read("ActionResult", data)
            change(message)
            self.results[key] = message.SerializeToString()

    def _services(self) -> dict[str, dict[str, Any]]:
        return {
            f"{_REAPI}.Capabilities": {"GetCapabilities": self._capabilities},
            f"{_REAPI}.ActionCache": {
                "GetActionResult": self._get_result,
                "UpdateActionResult": self._update_result,
            },
            f"{_REAPI}.ContentAddressableStorage": {
                "FindMissingBlobs": self._find_missing,
                "BatchUpdateBlobs": self._batch_update,
                "BatchReadBlobs": self._batch_read,
                "SplitBlob": self._split,
                "SpliceBlob": self._splice,
            },
            "google.bytestream.ByteStream": {
                "Read": self._read,
                "Write": self._write,
                "QueryWriteStatus": self._query,
            },
        }

    def _handler(self, name: str, method: Any) -> Any:
        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            self.calls[name] += 1
            given = dict(context.invocation_metadata()).get("authorization", "")
            if self.token and given != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {given!r}")
            self.fault(name, context, 0)
            if isinstance(request, bytes):
                self.moved[name] += len(request)
            return method(request, context)

        def streamed(request: Any, context: grpc.ServicerContext) -> Any:
            yield from checked(request, context)

        if name in ("Read", "Execute", "WaitExecution"):
            return grpc.unary_stream_rpc_method_handler(streamed)
        if name == "Write":
            return grpc.stream_unary_rpc_method_handler(checked)
        return grpc.unary_unary_rpc_method_handler(checked)

    def fault(self, name: str, context: grpc.ServicerContext, moved: int) -> None:
        if name in self.faults:
            self.faults[name](context, moved)

    def _capabilities(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        kinds = [messages.ZSTD] if self.zstd else []
        cache = messages.new(
            "CacheCapabilities",
            digest_functions=[messages.SHA256],
            action_cache_update_capabilities={"update_enabled": True},
            max_batch_total_size_bytes=self.batch,
            supported_compressors=kinds,
            supported_batch_update_compressors=kinds,
            split_blob_support=bool(self.average),
            splice_blob_support=bool(self.average),
        )
        if self.average:
            cache.fast_cdc_2020_params.avg_chunk_size_bytes = self.average
        return as_bytes(messages.new("ServerCapabilities", cache_capabilities=cache))

    def _get_result(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        key = messages.read("GetActionResultRequest", request).action_digest.hash
        if key not in self.results:
            context.abort(grpc.StatusCode.NOT_FOUND, key)
        return self.results[key]

    def _update_result(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        update = messages.read("UpdateActionResultRequest", request)
        self.results[update.action_digest.hash] = as_bytes(update.action_result)
        return as_bytes(update.action_result)

    def _find_missing(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = messages.read("FindMissingBlobsRequest", request).blob_digests
        missing = [digest for digest in asked if digest.hash not in self.blobs]
        return as_bytes(messages.new("FindMissingBlobsResponse", missing_blob_digests=missing))

    def _batch_update(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        responses = []
        blobs = messages.read("BatchUpdateBlobsRequest", request).requests
        self._check_batch(context, blobs)
        for blob in blobs:
            data = blob.data
            if blob.compressor:
                data = zstandard.ZstdDecompressor().decompress(data, blob.digest.size_bytes)
            kept = self._keep(blob.digest.hash, data)
            responses.append(
                messages.new("BatchUpdated", digest=blob.digest, status={"code": 0 if kept else 3})
            )
        return as_bytes(messages.new("BatchUpdateBlobsResponse", responses=responses))

    def _batch_read(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = messages.read("BatchReadBlobsRequest", request)
        self._check_batch(context, [messages.new("BatchBlob", digest=digest) for digest in asked.digests])
        responses = []
        for digest in asked.digests:
            data = self.blobs.get(digest.hash)
            response = messages.new("BatchRead", digest=digest, status={"code": 5 if data is None else 0})
            if data is not None and messages.ZSTD in asked.acceptable_compressors:
                response.data, response.compressor = zstandard.compress(data), messages.ZSTD
            elif data is not None:
                response.data = data
            responses.append(response)
        answer = as_bytes(messages.new("BatchReadBlobsResponse", responses=responses))
        self.moved["BatchReadBlobs answered"] += len(answer)
        return answer

    def _split(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        digest = messages.read("SplitBlobRequest", request).blob_digest
        if digest.hash not in self.parts:
            context.abort(grpc.StatusCode.NOT_FOUND, digest.hash)
        return as_bytes(messages.new("SplitBlobResponse", chunk_digests=self.parts[digest.hash]))

    def _splice(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        splice = messages.read("SpliceBlobRequest", request)
        data = b"".join(self.blobs[chunk.hash] for chunk in splice.chunk_digests)
        if not self._keep(splice.blob_digest.hash, data):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another digest")
        self.parts[splice.blob_digest.hash] = list(splice.chunk_digests)
        return b""

    def _read(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        read = messages.read("ReadRequest", request)
        *_, kind, hash, _ = read.resource_name.split("/")
        if hash not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, hash)
        data = self.blobs[hash][read.read_offset :]
        data = zstandard.compress(data) if kind == "zstd" else data
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            self.moved["Read answered"] += len(piece)
            yield as_bytes(messages.new("ReadResponse", data=piece))
            self.fault("Read", context, read.read_offset + at + len(piece))

    def _write(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        name, received, finished = "", bytearray(), False
        for request in requests:
            write = messages.read("WriteRequest", request)
            if write.resource_name and not name:
                name = write.resource_name
                received = self.uploads.setdefault(name, bytearray())
                if "compressed" in name:
                    received.clear()
                if write.write_offset != len(received):
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong offset")
            received += write.data
            self.moved["Write"] += len(write.data)
            finished = write.finish_write
            self.fault("Write", context, len(received))
        *_, kind, hash, _ = name.split("/")
        data = bytes(received)
        if kind == "zstd":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        if not finished or not self._keep(hash, data):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another digest")
        return as_bytes(messages.new("WriteResponse", committed_size=len(received)))

    def _query(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        name = messages.read("QueryWriteStatusRequest", request).resource_name
        committed = len(self.uploads.get(name, b""))
        return as_bytes(messages.new("QueryWriteStatusResponse", committed_size=committed))

    def _check_batch(self, context: grpc.ServicerContext, blobs: Any) -> None:
        if self.batch and sum(blob.digest.size_bytes for blob in blobs) > self.batch:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "more than fits into a batch")

    def _keep(self, hash: str, data: bytes) -> bool:
        if hashlib.sha256(data).hexdigest() != hash:
            return False
        self.blobs[hash] = data
        return True


def as_bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
