"""A server that speaks REAPI v2 and ByteStream by gRPC."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

# What gRPC would print itself; and its handlers of forks, which concern no child that executes a program.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from mystikos_tool.cache.remote import messages
from mystikos_tool.cache.remote.address import Address
from mystikos_tool.cache.remote.digest import Digest, is_digest
from mystikos_tool.cache.remote.server import (
    LARGEST_BATCH,
    PIECE,
    STORING_RATE,
    Chunking,
    Limits,
    MissingError,
    ServerError,
    Traffic,
    Trouble,
)
from mystikos_tool.cache.remote.token import Token
from mystikos_tool.io.pace import Pace

_REAPI = "/build.bazel.remote.execution.v2"
_CAS = f"{_REAPI}.ContentAddressableStorage"
_ACTIONS = f"{_REAPI}.ActionCache"
_BYTES = "/google.bytestream.ByteStream"

_ATTEMPTS = 3  # without progress
_PAUSE = 0.05  # seconds before the second attempt, twice as many before each further one
_MESSAGE_ROOM = 1 << 22  # bytes that a message has beside a batch of blobs
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_BATCH + _MESSAGE_ROOM),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
# FastCDC's average size of a chunk in bytes: REAPI's upper bound, and so many that a large file makes no
# more files in the chunk store than can be written while it comes.
_AVERAGES = range(1 << 16, (1 << 20) + 1)

_Code = grpc.StatusCode
_AGAIN = {_Code.UNAVAILABLE, _Code.ABORTED, _Code.UNKNOWN, _Code.INTERNAL}
_TROUBLE = {
    _Code.UNAVAILABLE: Trouble.GONE,
    _Code.CANCELLED: Trouble.GONE,
    _Code.DEADLINE_EXCEEDED: Trouble.GONE,
    _Code.UNAUTHENTICATED: Trouble.REFUSED,
    _Code.PERMISSION_DENIED: Trouble.REFUSED,
    _Code.UNIMPLEMENTED: Trouble.REFUSED,
    _Code.RESOURCE_EXHAUSTED: Trouble.FULL,
}
_WORDS = {
    _Code.UNAVAILABLE: "it cannot be reached",
    _Code.CANCELLED: "its answer was not waited for",
    _Code.DEADLINE_EXCEEDED: "it does not answer in time",
    _Code.UNAUTHENTICATED: "it does not accept the credentials",
    _Code.PERMISSION_DENIED: "it does not permit this",
    _Code.RESOURCE_EXHAUSTED: "it takes nothing more",
}
_NO_TRUST = "its certificate or ours is not accepted"

_T = TypeVar("_T")


class GrpcServer:
    """A server at a ``grpc://``, ``grpcs://`` or ``unix:`` address."""

    channel_options: tuple[tuple[str, int], ...] = ()

    def __init__(self, address: Address, token: Token, traffic: Traffic) -> None:
        self._address = address
        self._instance = address.name
        self._token = token
        self._traffic = traffic
        self._pace = Pace(address.patience, address.min_rate)
        # Bytes that are progress enough to begin anew with attempts.
        self._least = max(int(address.patience * address.min_rate), 1)
        self._channel = _channel(address, (*_OPTIONS, *self.channel_options))
        self._limits = Limits()
        self._advertised: Any = None

    def limits(self) -> Limits:
        """See Server."""
        request = messages.new("GetCapabilitiesRequest", instance_name=self._instance)
        try:
            answer = self._ask(f"{_REAPI}.Capabilities/GetCapabilities", request, "ServerCapabilities")
        except _NotImplementedError:
            return self._limits
        self._advertised = answer
        cache = answer.cache_capabilities
        if cache.digest_functions and messages.SHA256 not in cache.digest_functions:
            raise ServerError(Trouble.REFUSED, "it knows no SHA-256")
        chunking = _chunking(cache)
        self._limits = Limits(
            batch=min(cache.max_batch_total_size_bytes or LARGEST_BATCH, LARGEST_BATCH),
            largest_blob=cache.max_cas_blob_size_bytes,
            updates=cache.action_cache_update_capabilities.update_enabled,
            zstd=messages.ZSTD in cache.supported_compressors,
            batch_zstd=messages.ZSTD in cache.supported_batch_update_compressors,
            splits=chunking if cache.split_blob_support else None,
            splices=chunking if cache.splice_blob_support else None,
        )
        return self._limits

    def result(self, key: Digest, inlined: Sequence[str]) -> bytes | None:
        """See Server."""
        request = messages.new(
            "GetActionResultRequest",
            instance_name=self._instance,
            action_digest=as_message(key),
            inline_output_files=inlined,
        )
        try:
            return self._answer(f"{_ACTIONS}/GetActionResult", request)
        except MissingError:
            return None

    def put_result(self, key: Digest, result: bytes) -> None:
        """See Server."""
        request = messages.new(
            "UpdateActionResultRequest",
            instance_name=self._instance,
            action_digest=as_message(key),
            action_result=messages.read("ActionResult", result),
        )
        self._answer(f"{_ACTIONS}/UpdateActionResult", request)

    def missing(self, digests: Sequence[Digest]) -> set[Digest]:
        """See Server."""
        request = messages.new(
            "FindMissingBlobsRequest", instance_name=self._instance, blob_digests=map(as_message, digests)
        )
        answer = self._ask(f"{_CAS}/FindMissingBlobs", request, "FindMissingBlobsResponse")
        return {_digest(digest) for digest in answer.missing_blob_digests} & set(digests)

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """See Server."""
        request = messages.new(
            "BatchReadBlobsRequest",
            instance_name=self._instance,
            digests=map(as_message, digests),
            acceptable_compressors=[messages.ZSTD] if self._limits.batch_zstd else [],
        )
        answer = self._ask(f"{_CAS}/BatchReadBlobs", request, "BatchReadBlobsResponse")
        blobs = {}
        for response in answer.responses:
            digest = _digest(response.digest)
            if digest in digests and response.status.code == 0:
                blobs[digest] = _plain(response, digest.size)
        if blobs.keys() != set(digests):
            raise MissingError
        return blobs

    def write_batch(self, blobs: Mapping[Digest, bytes]) -> None:
        """See Server."""
        requests = [self._batch_blob(digest, data) for digest, data in blobs.items()]
        request = messages.new("BatchUpdateBlobsRequest", instance_name=self._instance, requests=requests)
        answer = self._ask(f"{_CAS}/BatchUpdateBlobs", request, "BatchUpdateBlobsResponse")
        for response in answer.responses:
            if response.status.code:
                codes = [code for code in _Code if code.value[0] == response.status.code]
                raise error_of(codes[0] if codes else _Code.UNKNOWN)

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See Server."""
        if not self._limits.zstd:
            return self._resumed(f"blobs/{digest.hash}/{digest.size}", digest.size)
        from mystikos_tool.cache.remote import compression

        name = f"compressed-blobs/zstd/{digest.hash}/{digest.size}"
        return self._resumed(name, digest.size, compression.decompressed)

    def write(self, digest: Digest, opened: Callable[[], BinaryIO]) -> None:
        """See Server."""
        kind = "compressed-blobs/zstd" if self._limits.zstd else "blobs"
        name = self._name(f"uploads/{uuid.uuid4()}/{kind}/{digest.hash}/{digest.size}")
        progress = _Progress(self._address.patience, self._least)

        def attempt() -> bool:
            with opened() as file:
                return self._write_from(name, file, progress, digest.size)

        def resume() -> None:
            # Nobody can tell from which of its bytes a compressed stream would have to go on.
            progress.reach(0 if self._limits.zstd else min(self._written(name), digest.size))

        if not self._retried(attempt, progress, resume):
            raise ServerError(Trouble.FAILED, "it did not store all of a file")

    def split(self, digest: Digest) -> list[Digest] | None:
        """See Server."""
        request = messages.new(
            "SplitBlobRequest",
            instance_name=self._instance,
            blob_digest=as_message(digest),
            chunking_function=messages.FAST_CDC_2020,
        )
        try:
            answer = self._ask(f"{_CAS}/SplitBlob", request, "SplitBlobResponse")
        except (_NotImplementedError, MissingError):
            return None
        except ServerError as error:
            if error.trouble is Trouble.FULL:  # more chunks than one answer has room for
                return None
            raise
        return [_digest(chunk) for chunk in answer.chunk_digests]

    def splice(self, digest: Digest, chunks: Sequence[Digest]) -> None:
        """See Server."""
        request = messages.new(
            "SpliceBlobRequest",
            instance_name=self._instance,
            blob_digest=as_message(digest),
            chunk_digests=map(as_message, chunks),
            chunking_function=messages.FAST_CDC_2020,
        )
        try:
            self._answer(f"{_CAS}/SpliceBlob", request, digest.size / STORING_RATE)
        except _ExistsError:
            return

    def close(self) -> None:
        """See Server."""
        self._channel.close()

    def _name(self, name: str) -> str:
        return f"{self._instance}/{name}" if self._instance else name

    def _batch_blob(self, digest: Digest, data: bytes) -> Any:
        if self._limits.batch_zstd:
            from mystikos_tool.cache.remote import compression

            smaller = compression.compress(data)
            if len(smaller) < len(data):
                return messages.new(
                    "BatchBlob", digest=as_message(digest), data=smaller, compressor=messages.ZSTD
                )
        return messages.new("BatchBlob", digest=as_message(digest), data=data)

    def _ask(self, method: str, request: Any, answer: str) -> Any:
        """Return a method's answer as a message."""
        try:
            return messages.read(answer, self._answer(method, request))
        except ValueError:
            raise ServerError(Trouble.FAILED, "it answers with something else than REAPI") from None

    def _answer(self, method: str, request: Any, allowance: float = 0) -> bytes:
        """Return a method's answer, which may take ``allowance`` seconds beyond the patience."""
        data = request.SerializeToString()
        call = self._channel.unary_unary(method)

        progress = _Progress(self._address.patience + allowance, self._least)

        def attempt() -> bytes:
            self._traffic.requests += 1
            answer: bytes = call(data, timeout=progress.remaining, metadata=self._metadata(progress))
            self._traffic.sent += len(data)
            self._traffic.received += len(answer)
            return answer

        return self._retried(attempt, progress)

    def _resumed(
        self,
        name: str,
        size: int,
        decode: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    ) -> Iterator[bytes]:
        """Yield what a resource has; where a stream breaks off, another one begins there."""
        progress = _Progress(self._address.patience, self._least)
        most = size + size // 8 + PIECE  # of bytes, compressed ones too
        while True:
            try:
                for data in decode(self._stream(self._name(name), progress, most)):
                    progress.reach(progress.reached + len(data))
                    if progress.reached > size:
                        raise MissingError
                    yield data
                return
            except ValueError:
                raise MissingError from None
            except grpc.RpcError as error:
                self._may_go_on(error, progress)

    def _stream(self, name: str, progress: _Progress, most: int) -> Iterator[bytes]:
        request = messages.new("ReadRequest", resource_name=name, read_offset=progress.reached)
        method = self._channel.unary_stream(f"{_BYTES}/Read")
        self._traffic.requests += 1
        call = method(request.SerializeToString(), metadata=self._metadata(progress))
        with self._pace.kept(call.cancel) as transfer:
            try:
                for answer in call:
                    self._traffic.received += len(answer)
                    data = messages.read("ReadResponse", answer).data
                    transfer.moved += len(data)
                    if transfer.moved > most:
                        raise MissingError
                    with transfer.paused():
                        yield data
            except grpc.RpcError:
                if transfer.is_late:
                    raise error_of(_Code.DEADLINE_EXCEEDED) from None
                raise
            finally:
                call.cancel()

    def _write_from(self, name: str, file: BinaryIO, progress: _Progress, size: int) -> bool:
        """Write what a file has from where the last attempt got; tell whether the server has all of it."""
        file.seek(progress.reached)
        pieces: Iterator[bytes] = iter(lambda: file.read(PIECE), b"")
        if self._limits.zstd:
            from mystikos_tool.cache.remote import compression

            pieces = compression.compressed(pieces)
        ended: list[Callable[[], object]] = []
        with self._pace.kept(lambda: [cancel() for cancel in ended]) as transfer:

            def requests() -> Iterator[bytes]:
                at = progress.reached
                for data, is_last in _with_last(pieces):
                    request = messages.new(
                        "WriteRequest", resource_name=name, write_offset=at, finish_write=is_last, data=data
                    ).SerializeToString()
                    at += len(data)
                    if is_last:
                        transfer.allow(size / STORING_RATE)
                    yield request
                    transfer.moved += len(request)
                    self._traffic.sent += len(request)

            method = self._channel.stream_unary(f"{_BYTES}/Write")
            self._traffic.requests += 1
            call = method.future(requests(), metadata=self._metadata(progress))
            ended.append(call.cancel)
            started = time.monotonic()
            try:
                answer = messages.read("WriteResponse", call.result())
            except (grpc.RpcError, grpc.FutureCancelledError):
                if transfer.is_late:
                    raise error_of(_Code.DEADLINE_EXCEEDED) from None
                progress.allow(time.monotonic() - started)
                raise
            except ValueError:
                return False
        # A compressed upload counts compressed bytes, or -1 where the blob was there (REAPI).
        return self._limits.zstd or answer.committed_size == size

    def _written(self, name: str) -> int:
        """Return how much of an upload the server has."""
        request = messages.new("QueryWriteStatusRequest", resource_name=name)
        try:
            answer = self._ask(f"{_BYTES}/QueryWriteStatus", request, "QueryWriteStatusResponse")
        except (MissingError, _NotImplementedError):
            return 0
        return max(int(answer.committed_size), 0)

    def _retried(
        self, attempt: Callable[[], _T], progress: _Progress, resume: Callable[[], object] = int
    ) -> _T:
        while True:
            try:
                return attempt()
            except grpc.FutureCancelledError:
                raise error_of(_Code.CANCELLED) from None
            except ValueError as error:  # the channel was closed by another thread
                raise error_of(_Code.CANCELLED) from error
            except grpc.RpcError as error:
                self._may_go_on(error, progress)
            resume()

    def _may_go_on(self, error: Any, progress: _Progress) -> None:
        """Pause before another attempt; raise where there is none."""
        code = error.code()
        if code is _Code.NOT_FOUND:
            raise MissingError from None
        if code is _Code.UNAUTHENTICATED and progress.renews:
            progress.renews = False
            if self._token.is_renewed(progress.token):
                return
        if code not in _AGAIN or not progress.has_attempts():
            raise error_of(code, error.details() or "") from None
        progress.pause()

    def _metadata(self, progress: _Progress) -> list[tuple[str, str]]:
        progress.token = self._token.value()
        return [("authorization", f"Bearer {progress.token}")] if progress.token else []


class _NotImplementedError(ServerError):
    """A method that the server does not have."""


class _ExistsError(ServerError):
    """What is to be made is there."""


class _Progress:
    """How far a request got, and what it has left of attempts and time.

    Both begin anew when it gets ``least`` bytes further.
    """

    def __init__(self, patience: float, least: int) -> None:
        self.reached = 0
        self.renews = True
        self.token: str | None = None
        self._patience = patience
        self._least = least
        self._counted = 0
        self._attempts = 0
        self._since = time.monotonic()

    @property
    def remaining(self) -> float:
        """Seconds that are left, and a few milliseconds at least."""
        return max(self._patience - (time.monotonic() - self._since), 0.05)

    def reach(self, offset: int) -> None:
        """Set how far it got."""
        if offset >= self._counted + self._least:
            self._counted = offset
            self._attempts = 0
            self._since = time.monotonic()
        self.reached = offset

    def allow(self, seconds: float) -> None:
        """Count no time that passed while bytes moved."""
        self._since += seconds

    def has_attempts(self) -> bool:
        """Tell whether there is another attempt after one that failed."""
        self._attempts += 1
        return self._attempts < _ATTEMPTS and self.remaining > _PAUSE

    def pause(self) -> None:
        """Wait before another attempt."""
        time.sleep(min(_PAUSE * 2 ** (self._attempts - 1), self.remaining))


def _channel(address: Address, options: Sequence[tuple[str, int]]) -> Any:
    target = f"unix:{address.place}" if address.scheme == "unix" else f"dns:///{address.place}"
    if not address.is_encrypted:
        return grpc.insecure_channel(target, options=options)
    try:
        ca, key, cert = (
            path.read_bytes() if path else None for path in (address.ca, address.key, address.cert)
        )
    except OSError as error:
        raise ServerError(Trouble.GONE, f"a certificate or key file: {error.strerror}") from None
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), options=options)


def _chunking(cache: Any) -> Chunking | None:
    if not cache.HasField("fast_cdc_2020_params"):
        return None
    average = cache.fast_cdc_2020_params.avg_chunk_size_bytes
    is_power = average & (average - 1) == 0
    return Chunking(average, cache.fast_cdc_2020_params.seed) if average in _AVERAGES and is_power else None


def as_message(digest: Digest) -> Any:
    """Return a digest as a message."""
    return messages.new("Digest", hash=digest.hash, size_bytes=digest.size)


def _digest(message: Any) -> Digest:
    if not is_digest(message.hash, message.size_bytes):
        raise ServerError(Trouble.FAILED, "it answers with something else than digests")
    return Digest(message.hash, message.size_bytes)


def _plain(response: Any, size: int) -> bytes:
    if response.compressor != messages.ZSTD:
        return bytes(response.data)
    from mystikos_tool.cache.remote import compression

    try:
        return compression.decompress(response.data, size)
    except ValueError:
        raise MissingError from None


def _with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield pieces, each with whether it is the last; an empty one where there are none."""
    piece = next(pieces, b"")
    for following in pieces:
        yield piece, False
        piece = following
    yield piece, True


def error_of(code: grpc.StatusCode, details: str = "") -> ServerError:
    """Return the error of a status; its words are ours, whatever the server says."""
    if code is _Code.UNIMPLEMENTED:
        return _NotImplementedError(Trouble.REFUSED, "it does not have all methods of a cache")
    if code is _Code.ALREADY_EXISTS:
        return _ExistsError(Trouble.FAILED, "it has this")
    is_tls = code is _Code.UNAVAILABLE and ("handshake" in details.lower() or "CERTIFICATE" in details)
    words = _NO_TRUST if is_tls else _WORDS.get(code, f"it answers with {code.name}")
    return ServerError(_TROUBLE.get(code, Trouble.FAILED), words)
