"""Execution of actions on a server that speaks REAPI v2 by gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc

from mystikos_tool.cache.remote import messages
from mystikos_tool.cache.remote.digest import Digest, is_digest
from mystikos_tool.cache.remote.grpc_server import GrpcServer, as_message, error_of
from mystikos_tool.cache.remote.server import MissingError, ServerError

_EXECUTION = "/build.bazel.remote.execution.v2.Execution"
_OPERATIONS = "/google.longrunning.Operations"
# Seconds between pings on a silent connection; servers end one that is pinged more often than every 300.
_ALIVE = (
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)

Code = grpc.StatusCode
_CODES = {code.value[0]: code for code in Code}


class ExecutionError(Exception):
    """A status other than OK, ``is_ended`` where it is the operation's and not the stream's.

    ``missing`` are the blobs that the server says it lacks; ``words`` are ours.
    """

    def __init__(self, code: grpc.StatusCode, words: str, missing: frozenset[Digest], *, is_ended: bool):
        super().__init__(words)
        self.code = code
        self.missing = missing
        self.is_ended = is_ended


class Stream:
    """The operation of an action, as often as it changes; ``cancel`` ends the stream, not the operation."""

    def __init__(self, call: Any, token: str | None) -> None:
        self._call = call
        self.token = token

    def __iter__(self) -> Iterator[Any]:
        try:
            for data in self._call:
                yield messages.read("Operation", data)
        except grpc.RpcError as error:
            raise _broken(error) from None
        except ValueError:  # no connection makes that of an answer, and so it is not asked again
            words = "it answers with something else than REAPI"
            raise ExecutionError(Code.DATA_LOSS, words, frozenset(), is_ended=False) from None
        finally:
            self._call.cancel()

    def cancel(self) -> None:
        """End the stream."""
        self._call.cancel()


class GrpcExecutor(GrpcServer):
    """A server that executes actions."""

    channel_options = _ALIVE

    def executes(self) -> bool:
        """Tell whether the server says that it executes actions by SHA-256, or says nothing."""
        if self._advertised is None:
            return True
        execution = self._advertised.execution_capabilities
        functions = {*execution.digest_functions, execution.digest_function} - {0}
        return execution.exec_enabled and (not functions or messages.SHA256 in functions)

    def execute(self, action: Digest, *, fresh: bool, seconds: float) -> Stream:
        """Let an action be executed, ``fresh`` also where its result is known."""
        request = messages.new(
            "ExecuteRequest",
            instance_name=self._instance,
            skip_cache_lookup=fresh,
            action_digest=as_message(action),
            inline_stdout=True,
            inline_stderr=True,
        )
        return self._operation(f"{_EXECUTION}/Execute", request, seconds)

    def wait(self, name: str, seconds: float) -> Stream:
        """Follow an operation whose stream broke off."""
        request = messages.new("WaitExecutionRequest", name=name)
        return self._operation(f"{_EXECUTION}/WaitExecution", request, seconds)

    def cancel(self, name: str) -> None:
        """Let an operation be ended, as far as the server does that."""
        with suppress(ServerError, MissingError):
            self._answer(f"{_OPERATIONS}/CancelOperation", messages.new("CancelOperationRequest", name=name))

    def renews_token(self, refused: str | None) -> bool:
        """Tell whether there is another token than one that was refused."""
        return self._token.is_renewed(refused)

    def _operation(self, method: str, request: Any, seconds: float) -> Stream:
        token = self._token.value()
        call = self._channel.unary_stream(method)(
            request.SerializeToString(),
            timeout=max(seconds, 0.05),
            metadata=[("authorization", f"Bearer {token}")] if token else [],
        )
        return Stream(call, token)


def failed(status: Any) -> ExecutionError:
    """Return the error of an operation that ended with a status other than OK."""
    code = _CODES.get(status.code, Code.UNKNOWN)
    return ExecutionError(code, str(error_of(code)), _missing(status), is_ended=True)


def _broken(error: Any) -> ExecutionError:
    """Return the error of a stream."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    with suppress(ValueError):
        missing = _missing(messages.read("Status", details))
        return ExecutionError(
            error.code(), str(error_of(error.code(), error.details() or "")), missing, is_ended=False
        )
    return ExecutionError(error.code(), str(error_of(error.code())), frozenset(), is_ended=False)


def _missing(status: Any) -> frozenset[Digest]:
    """Return the blobs that a status says are missing: violations of type MISSING, "blobs/HASH/SIZE"."""
    found: set[Digest | None] = set()
    for detail in status.details:
        if detail.type_url.rpartition("/")[2] != "google.rpc.PreconditionFailure":
            continue
        with suppress(ValueError):
            failure = messages.read("PreconditionFailure", detail.value)
            found |= {_blob(each.subject) for each in failure.violations if each.type == "MISSING"}
    return frozenset(blob for blob in found if blob)


def _blob(subject: str) -> Digest | None:
    kind, hash, size = ["", "", *subject.split("/")][-3:]
    is_blob = kind == "blobs" and size.isdecimal() and is_digest(hash, int(size))
    return Digest(hash, int(size)) if is_blob else None
