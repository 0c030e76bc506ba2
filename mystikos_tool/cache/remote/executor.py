"""Start programs on the machines of a farm, by REAPI's Execute.

What goes wrong between here and there is tried again as REAPI says; what came of the program is
returned as of one that was started here.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool.cache.remote import action, digest, messages
from mystikos_tool.cache.remote.action import Input
from mystikos_tool.cache.remote.address import Address
from mystikos_tool.cache.remote.chunks import Cut
from mystikos_tool.cache.remote.digest import Digest, is_digest
from mystikos_tool.cache.remote.grpc_executor import Code, ExecutionError, GrpcExecutor, Stream, failed
from mystikos_tool.cache.remote.server import Limits, MissingError, ServerError, Traffic, Trouble
from mystikos_tool.cache.remote.token import Token
from mystikos_tool.cache.remote.upload import cut_file, send, verified
from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint

_EXECUTIONS = 3  # of one program that workers lose, or for which blobs have to be sent again
_PAUSES = (0.1, 5.0)  # seconds before another attempt, the first and the longest
_NAMED_WITHIN = 2.0  # seconds in which a server names an operation, at an interruption
_LARGEST_OUTPUT = 1 << 28  # bytes
_SIGNALS = 128  # workers give this and N, as shells do, for a program that signal N ended

_BROKEN = {Code.UNAVAILABLE, Code.ABORTED, Code.INTERNAL, Code.UNKNOWN, Code.DEADLINE_EXCEEDED}
_CODES = {
    Trouble.GONE: Code.UNAVAILABLE,
    Trouble.FAILED: Code.UNAVAILABLE,
    Trouble.FULL: Code.RESOURCE_EXHAUSTED,
    Trouble.REFUSED: Code.PERMISSION_DENIED,
}
_REMEDIES = {
    Code.PERMISSION_DENIED: "give credentials that it accepts, or have it set up to execute actions",
    Code.UNAUTHENTICATED: "give token-file or token-command in the URL",
    Code.UNIMPLEMENTED: "name a server that executes actions",
    Code.CANCELLED: "start the test again",
    Code.DATA_LOSS: "name a server that executes actions, or see what it or a proxy before it has logged",
}


class TimedOut(Exception):  # noqa: N818 no error of this tool's
    """The program did not end in the time that it was given."""


class Program(NamedTuple):
    """A program and how it is started: ``files`` are further files, by their paths where it is started.

    ``timeout`` is in seconds; ``platform`` says which machines may start it.
    """

    path: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    stdin: bytes
    files: Mapping[str, Path]
    timeout: float
    platform: Mapping[str, str]


class Done(NamedTuple):
    """What came of a program; ``is_known`` where it was the result of an earlier execution."""

    status: int
    stdout: bytes
    stderr: bytes
    is_known: bool

    @property
    def signal(self) -> int:
        """The signal that ended the program, 0 for none; a program's own status may look the same."""
        return self.status - _SIGNALS if self.status > _SIGNALS else max(-self.status, 0)


class Executor:
    """A farm. Nothing is connected before the first program."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._connection: tuple[GrpcExecutor, Limits] | None = None
        self._gone: UserError | None = None
        self._files: dict[Path, _File] = {}
        self._streams: dict[Stream, _Run] = {}
        self._interrupted = threading.Event()

    def run(self, program: Program, *, fresh: bool = False) -> Done:
        """Start a program and return what came of it; ``fresh`` also where that is known already.

        Raises TimedOut, and UserError for what keeps the program from being started or ended.
        """
        if self._gone:
            raise self._gone
        run = _Run(program, fresh, self.address)
        while True:
            try:
                return self._attempt(run)
            except ServerError as error:
                failure = ExecutionError(_CODES[error.trouble], str(error), frozenset(), is_ended=False)
            except MissingError:
                failure = ExecutionError(Code.NOT_FOUND, "it lost blobs", frozenset(), is_ended=True)
            except ExecutionError as error:
                failure = error
            if self._interrupted.is_set():
                self._cancel(run)
                raise self._error("the build was interrupted", "start the test again")
            self._recover(run, failure)

    def interrupt(self) -> None:
        """End everything that runs; what runs it gets an error.

        What was sent a moment ago has no name yet by which it could be cancelled, but soon will.
        """
        self._interrupted.set()
        until = time.monotonic() + _NAMED_WITHIN
        while streams := self._running():
            for stream, run in streams:
                if run.operation or time.monotonic() > until:
                    stream.cancel()
            time.sleep(_PAUSES[0])

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection[0].close()

    def _running(self) -> list[tuple[Stream, _Run]]:
        with self._lock:
            return list(self._streams.items())

    def _attempt(self, run: _Run) -> Done:
        """Let a program be executed, or follow its execution, to the end."""
        server, limits = self._connected()
        if not run.operation:
            run.action = self._sent(server, limits, run)
        with self._stream(server, run) as stream:
            run.begins()
            for operation in stream:
                run.hears(operation)
                if operation.done:
                    return self._done(server, operation)
        raise ExecutionError(Code.UNAVAILABLE, "it broke off", frozenset(), is_ended=False)

    def _connected(self) -> tuple[GrpcExecutor, Limits]:
        with self._lock:
            if self._connection is None:
                token = Token(self.address.token_file, self.address.token_command)
                server = GrpcExecutor(self.address, token, Traffic())
                try:
                    limits = server.limits().usable()
                    if not server.executes():
                        raise ServerError(Trouble.REFUSED, "it does not execute actions here")
                except BaseException:
                    server.close()
                    raise
                self._connection = server, limits
            return self._connection

    def _sent(self, server: GrpcExecutor, limits: Limits, run: _Run) -> Digest:
        """Give the server what it lacks of a program; return the digest of its Action."""
        program = run.program
        path = action.program_path(program.path.name)
        cuts = {
            file: self._file(file).sent(server, limits)
            for file in dict.fromkeys((program.path, *program.files.values()))
        }
        inputs = {path: Input(cuts[program.path].digest, os.access(program.path, os.X_OK))}
        inputs |= {name: Input(cuts[file].digest) for name, file in program.files.items()}
        try:
            described = action.describe(
                path,
                program.arguments,
                program.environment,
                program.stdin,
                inputs,
                program.platform,
                program.timeout,
            )
        except ValueError:
            raise self._error(
                "takes arguments, variables and platform as text only", "write them in UTF-8"
            ) from None
        # A server that names one blob may have looked no further.
        lost = run.lost | described.blobs.keys() if run.lost else run.lost
        send(server, limits, described.blobs, cuts, lost)
        return described.digest

    def _file(self, path: Path) -> _File:
        with self._lock:
            return self._files.setdefault(path, _File(path))

    @contextmanager
    def _stream(self, server: GrpcExecutor, run: _Run) -> Iterator[Stream]:
        """Yield the stream of a run's operation, which an interruption ends.

        An interruption sees every stream that was begun before, and none is begun after it.
        """
        with self._lock:
            if self._interrupted.is_set():
                raise ExecutionError(Code.CANCELLED, "", frozenset(), is_ended=False)
            if run.operation:
                stream = server.wait(run.operation, run.remaining)
            else:
                stream = server.execute(run.action, fresh=run.fresh, seconds=run.remaining)
            run.token = stream.token
            self._streams[stream] = run
        try:
            yield stream
        finally:
            with self._lock:
                del self._streams[stream]

    def _done(self, server: GrpcExecutor, operation: Any) -> Done:
        """Return what came of a program; raise ExecutionError where that is nothing."""
        if operation.HasField("error") and operation.error.code:
            raise failed(operation.error)
        try:
            response = messages.read("ExecuteResponse", operation.response.value)
        except ValueError:
            raise _without_result() from None
        if response.status.code:
            raise failed(response.status)
        if not response.HasField("result"):  # all of whose fields would be those of a program that succeeded
            raise _without_result()
        result = response.result
        return Done(
            result.exit_code,
            self._output(server, result.stdout_raw, result.stdout_digest),
            self._output(server, result.stderr_raw, result.stderr_digest),
            response.cached_result,
        )

    def _output(self, server: GrpcExecutor, raw: bytes, named: Any) -> bytes:
        """Return what a program printed, which comes along or is in the store; raise MissingError."""
        if not named.size_bytes:
            return raw
        if not is_digest(named.hash, named.size_bytes):
            raise MissingError
        if digest.of(raw) == (named.hash, named.size_bytes):
            return raw
        if named.size_bytes > _LARGEST_OUTPUT:
            raise self._error(f"the program printed more than {_LARGEST_OUTPUT} bytes", "let it print less")
        found = Digest(named.hash, named.size_bytes)
        return verified(found, b"".join(server.read(found)))

    def _recover(self, run: _Run, failure: ExecutionError) -> None:
        """Do what lets another attempt be made, and wait; raise where there is none."""
        code = failure.code
        if failure.is_ended and code is Code.DEADLINE_EXCEEDED:
            raise TimedOut
        if run.remaining <= 0:
            self._cancel(run)
            waited = self.address.wait + run.program.timeout
            raise self._error(
                f"the test has no result after {waited:g} s",
                "look at its queue, or add wait=SECONDS to the URL",
            )
        if code is Code.UNAUTHENTICATED and run.renews:
            run.renews = False
            if self._connected()[0].renews_token(run.token):
                return
        if code is Code.RESOURCE_EXHAUSTED:
            run.operation = ""
        elif failure.missing or code is Code.NOT_FOUND or (failure.is_ended and code in _BROKEN):
            self._again(run, failure)
        elif code not in _BROKEN:
            self._cancel(run)
            problem = "check MYST_TEST_PLATFORM and the test's timeout against the farm's workers"
            raise self._error(str(failure), _REMEDIES.get(code, problem))
        elif not run.may_wait():
            raise self._unreachable(failure)
        self._interrupted.wait(run.pause())

    def _again(self, run: _Run, failure: ExecutionError) -> None:
        """Let a program be executed again that a worker or blobs of which the server lost."""
        run.operation = ""
        run.lost = failure.missing
        run.executions += 1
        # A result whose output is gone is none.
        run.fresh = run.fresh or (failure.is_ended and failure.code is Code.NOT_FOUND)
        if run.executions >= _EXECUTIONS:
            what = "said of blobs that it lacks them" if failure.missing else "lost the test"
            problem = f"{what} {run.executions} times: {failure}"
            raise self._error(problem, "look at its workers and its store")

    def _unreachable(self, failure: ExecutionError) -> UserError:
        remedy = 'start it, correct MYST_REMOTE_EXECUTOR, or run the tests here with MYST_REMOTE_EXECUTOR=""'
        self._gone = self._error(str(failure), remedy)
        return self._gone

    def _cancel(self, run: _Run) -> None:
        """Let the farm end what it executes."""
        if run.operation and self._connection:
            self._connection[0].cancel(run.operation)

    def _error(self, problem: str, remedy: str) -> UserError:
        return UserError(f"remote executor {self.address}", problem, remedy)


def _without_result() -> ExecutionError:
    words = "it ends a test without its result"
    return ExecutionError(Code.INTERNAL, words, frozenset(), is_ended=True)


class _Run:
    """A program on its way: what was sent, which operation it is, and what is left of attempts and time."""

    def __init__(self, program: Program, fresh: bool, address: Address) -> None:
        self.program = program
        self.fresh = fresh
        self.action = Digest("", 0)
        self.operation = ""
        self.lost: frozenset[Digest] = frozenset()
        self.executions = 0
        self.renews = True
        self.token: str | None = None
        self._until = time.monotonic() + address.wait + program.timeout
        self._patience = address.patience
        self._failing: float | None = None
        self._heard = b""
        self._heard_at: float | None = None
        self._pauses = 0

    @property
    def remaining(self) -> float:
        """Seconds that are left for everything."""
        return self._until - time.monotonic()

    def begins(self) -> None:
        """Begin to hear of the operation."""
        self._heard_at = None

    def hears(self, operation: Any) -> None:
        """Take how the operation is now. A server that breaks off each time may tell that it is as it was."""
        self.operation = operation.name or self.operation
        self._heard_at = self._heard_at or time.monotonic()
        heard = operation.SerializeToString(deterministic=True)
        if heard != self._heard:
            self._heard, self._failing, self._pauses = heard, None, 0

    def may_wait(self) -> bool:
        """Tell whether the patience with a server is left that gives no answer, or breaks each one off."""
        now = time.monotonic()
        has_lasted = self._heard_at is not None and now - self._heard_at > self._patience
        if self._failing is None or has_lasted:
            self._failing = now
        return now - self._failing < self._patience

    def pause(self) -> float:
        """Return how many seconds to wait before another attempt; not all clients wait equally long."""
        shortest, longest = _PAUSES
        seconds = min(shortest * 2**self._pauses, longest, self._patience / 5, max(self.remaining, 0))
        self._pauses += 1
        return float(seconds * random.uniform(0.5, 1))


class _File:
    """A file that programs need: it is cut once, and sent by one of them while the others wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: object = None
        self._cut: Cut | None = None

    def sent(self, server: GrpcExecutor, limits: Limits) -> Cut:
        """Return the file's digest and chunks; the first that asks gives it to the server."""
        with self._lock:
            version = fingerprint.content_version(fingerprint.of(self._path.stat()))
            if self._cut is None or version != self._version:
                whole = cut_file(self._path, limits)
                send(server, limits, {}, {self._path: whole})
                self._cut, self._version = whole, version
            return self._cut
