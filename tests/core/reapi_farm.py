"""A farm in memory: a server of REAPI v2 that executes, and goes wrong where a test says so."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from reapi_server import ReapiServer, as_bytes

from mystikos_tool.cache.remote import digest, messages
from mystikos_tool.cache.remote.digest import Digest

_EXECUTION = "build.bazel.remote.execution.v2.Execution"
_OPERATIONS = "google.longrunning.Operations"


@dataclass
class Operation:
    """An execution: the process while there is one, and the last message when it is done."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    last: bytes = b""
    is_cancelled: bool = False
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class Farm(ReapiServer):
    """What it executed, and what goes wrong.

    ``losses`` are statuses with which its next operations end, as where a worker died; ``forgets`` lets it
    say of a broken stream's operation that it does not know it; ``claims`` lets it say that it lacks no
    blob; ``tells_in_status`` where it tells of blobs that it lacks; ``together`` is where executions wait.
    ``ending`` is the last message of every operation, and ``cuts_off`` how many bytes of outputs come along.
    """

    inlines: bool = True
    executes: bool = True
    caches_failures: bool = False
    functions: tuple[int, ...] = (messages.SHA256,)
    losses: list[grpc.StatusCode] = field(default_factory=list)
    forgets: bool = False
    claims: bool = False
    tells_in_status: bool = False
    ending: bytes = b""
    cuts_off: int | None = None
    together: threading.Barrier | None = None
    actions: list[Any] = field(default_factory=list)
    commands: list[Any] = field(default_factory=list)
    operations: dict[str, Operation] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    # No process is begun while a program is written: it would have it open, and Linux would not start it.
    starting: threading.Lock = field(default_factory=threading.Lock)

    def _services(self) -> dict[str, dict[str, Any]]:
        return {
            **super()._services(),
            _EXECUTION: {"Execute": self._execute, "WaitExecution": self._wait},
            _OPERATIONS: {"CancelOperation": self._cancel},
        }

    def _capabilities(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        answer = messages.read("ServerCapabilities", super()._capabilities(request, context))
        answer.execution_capabilities.exec_enabled = self.executes
        answer.execution_capabilities.digest_functions.extend(self.functions)
        return as_bytes(answer)

    def _find_missing(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        return b"" if self.claims else super()._find_missing(request, context)

    def _execute(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        asked = messages.read("ExecuteRequest", request)
        operation = Operation(f"operations/{len(self.operations)}")
        self.operations[operation.name] = operation
        key = asked.action_digest.hash
        if key in self.results and not asked.skip_cache_lookup:
            self._finish(
                operation, result=messages.read("ActionResult", self.results[key]), cached_result=True
            )
        else:
            self._check_inputs(asked.action_digest, operation, context)
            threading.Thread(target=self._run, args=(operation, key), daemon=True).start()
        yield from self._follow("Execute", operation, context)

    def _wait(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        name = messages.read("WaitExecutionRequest", request).name
        if self.forgets:
            context.abort(grpc.StatusCode.NOT_FOUND, name)
        yield from self._follow("WaitExecution", self.operations[name], context)

    def _follow(self, method: str, operation: Operation, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield as_bytes(messages.new("Operation", name=operation.name))
        self.fault(method, context, 1)
        while context.is_active() and not operation.done.wait(0.05):
            pass
        if operation.done.is_set():
            yield operation.last

    def _cancel(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        operation = self.operations[messages.read("CancelOperationRequest", request).name]
        operation.is_cancelled = True
        if operation.process:
            operation.process.kill()
        return b""

    def _check_inputs(self, action: Any, operation: Operation, context: grpc.ServicerContext) -> None:
        missing = list(self._missing(action))
        if not missing:
            return
        violations = [
            messages.new("Violation", type="MISSING", subject=f"blobs/{each.hash}/{each.size_bytes}")
            for each in missing
        ]
        detail = messages.new(
            "Any",
            type_url="type.googleapis.com/google.rpc.PreconditionFailure",
            value=as_bytes(messages.new("PreconditionFailure", violations=violations)),
        )
        status = messages.new("Status", code=grpc.StatusCode.FAILED_PRECONDITION.value[0], details=[detail])
        if self.tells_in_status:
            self._finish(operation, status=status)
            return
        context.set_trailing_metadata((("grpc-status-details-bin", as_bytes(status)),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the secret of the server")

    def _missing(self, action: Any) -> Iterator[Any]:
        """Digests of the blobs of an Action that are not here."""
        if action.hash not in self.blobs:
            yield action
            return
        described = messages.read("Action", self.blobs[action.hash])
        if described.command_digest.hash not in self.blobs:
            yield described.command_digest
        yield from self._missing_below(described.input_root_digest)

    def _missing_below(self, directory: Any) -> Iterator[Any]:
        if directory.hash not in self.blobs:
            yield directory
            return
        tree = messages.read("Directory", self.blobs[directory.hash])
        for file in tree.files:
            if file.digest.size_bytes and file.digest.hash not in self.blobs:
                yield file.digest
        for inner in tree.directories:
            yield from self._missing_below(inner.digest)

    def _run(self, operation: Operation, key: str) -> None:
        """Do what an Action says, in a directory of its own."""
        if operation.done.is_set():
            return
        if self.losses:
            self._finish(operation, status={"code": self.losses.pop(0).value[0]})
            return
        action = messages.read("Action", self.blobs[key])
        command = messages.read("Command", self.blobs[action.command_digest.hash])
        self.actions.append(action)
        self.commands.append(command)
        if self.together:
            try:
                self.together.wait(20)
            except threading.BrokenBarrierError:
                return
        with tempfile.TemporaryDirectory() as place:
            with self.starting:
                self._lay_out(action.input_root_digest, Path(place))
                operation.process = subprocess.Popen(
                    list(command.arguments),
                    cwd=place,
                    env={each.name: each.value for each in command.environment_variables},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            self.started.set()
            seconds = action.timeout.seconds + action.timeout.nanos / 10**9
            try:
                outputs = operation.process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                operation.process.kill()
                operation.process.communicate()
                self._finish(operation, status={"code": grpc.StatusCode.DEADLINE_EXCEEDED.value[0]})
                return
        self._finish_with(operation, key, operation.process.returncode, outputs)

    def _finish_with(self, operation: Operation, key: str, status: int, outputs: tuple[bytes, bytes]) -> None:
        if operation.is_cancelled:
            self._finish(operation, status={"code": grpc.StatusCode.CANCELLED.value[0]})
            return
        result = messages.new("ActionResult", exit_code=status if status >= 0 else 128 - status)
        for name, output in zip(("stdout", "stderr"), outputs, strict=True):
            named = digest.of(output)
            self.blobs[named.hash] = output
            getattr(result, f"{name}_digest").CopyFrom(_message(named))
            if self.inlines:
                setattr(result, f"{name}_raw", output[: self.cuts_off])
        if not status or self.caches_failures:
            self.results[key] = as_bytes(result)
        self._finish(operation, result=result)

    def _finish(self, operation: Operation, **response: Any) -> None:
        packed = messages.new(
            "Any",
            type_url="type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse",
            value=as_bytes(messages.new("ExecuteResponse", **response)),
        )
        last = messages.new("Operation", name=operation.name, done=True, response=packed)
        operation.last = self.ending or as_bytes(last)
        operation.done.set()

    def _lay_out(self, directory: Any, place: Path) -> None:
        tree = messages.read("Directory", self.blobs[directory.hash])
        for file in tree.files:
            path = place / file.name
            path.write_bytes(self.blobs[file.digest.hash] if file.digest.size_bytes else b"")
            path.chmod(0o755 if file.is_executable else 0o644)
        for inner in tree.directories:
            place.joinpath(inner.name).mkdir()
            self._lay_out(inner.digest, place / inner.name)


def _message(named: Digest) -> Any:
    return messages.new("Digest", hash=named.hash, size_bytes=named.size)
