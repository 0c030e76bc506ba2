"""A worker of BuildGrid: takes leases by the Bots interface, one at a time, and executes them.

Started by the interpreter of BuildGrid's environment: buildgrid_worker.py ADDRESS INSTANCE NAME KEY=VALUE...
A program is started as an ordinary user, in a directory with its inputs, and nothing else isolates it.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path

import grpc
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid._protos.google.devtools.remoteworkers.v1test2 import bots_pb2, bots_pb2_grpc
from buildgrid.server.client.cas import download, upload

_NOBODY = 65534
_LONGEST_POLL = 10.0  # seconds; BuildGrid gives no lease to who waits for less than four
_LOOK = 0.1  # seconds between two looks for a cancellation
_STATE = bots_pb2.LeaseState


class Execution:
    """A lease that is executed beside the session."""

    def __init__(self, channel: grpc.Channel, instance: str, lease: bots_pb2.Lease) -> None:
        self.lease = lease
        self.ended = threading.Event()
        self._channel = channel
        self._instance = instance
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            self._kill()

    def _kill(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            self._execute()
        except Exception as error:
            traceback.print_exc()
            self.lease.status.code = grpc.StatusCode.INTERNAL.value[0]
            self.lease.status.message = repr(error)
        self.lease.state = _STATE.COMPLETED
        self.ended.set()

    def _execute(self) -> None:
        action = reapi.Action()
        with (
            tempfile.TemporaryDirectory(prefix="worker-") as place,
            download(self._channel, self._instance) as downloader,
            upload(self._channel, self._instance) as uploader,
        ):
            Path(place).chmod(0o755)
            if not self.lease.payload.Unpack(action):
                named = reapi.Digest()
                self.lease.payload.Unpack(named)
                action = downloader.get_message(named, reapi.Action())
            command = downloader.get_message(action.command_digest, reapi.Command())
            downloader.download_directory(action.input_root_digest, place)
            ended = self._started(command, place, action.timeout.ToSeconds() or None)
            if ended is None:
                self.lease.status.code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
                return
            status, stdout, stderr = ended
            result = reapi.ActionResult(
                exit_code=status,
                stdout_digest=uploader.put_blob(io.BytesIO(stdout)),
                stderr_digest=uploader.put_blob(io.BytesIO(stderr)),
            )
        self.lease.result.Pack(result)

    def _started(
        self, command: reapi.Command, place: str, timeout: float | None
    ) -> tuple[int, bytes, bytes] | None:
        """Start a program; return its status and what it printed, None where it took too long."""
        with self._lock:
            if self._is_cancelled:
                return None
            self._process = subprocess.Popen(
                list(command.arguments),
                cwd=Path(place, command.working_directory),
                env={each.name: each.value for each in command.environment_variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                **({"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),
            )
        try:
            stdout, stderr = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.communicate()
            return None
        status = self._process.returncode
        return (status if status >= 0 else 128 - status), stdout, stderr


def serve(address: str, instance: str, session: bots_pb2.BotSession) -> None:
    """Hold a session, and execute what it is given."""
    channel = grpc.insecure_channel(address)
    bots = bots_pb2_grpc.BotsStub(channel)
    session = bots.CreateBotSession(
        bots_pb2.CreateBotSessionRequest(parent=instance, bot_session=session), timeout=_LONGEST_POLL
    )
    running: Execution | None = None
    while True:
        (lease,) = session.leases or (None,)
        if running and (lease is None or lease.id != running.lease.id):
            running.cancel()
            running = None
        if lease and not running:
            lease.state = _STATE.ACTIVE
            running = Execution(channel, instance, lease)
            sys.stdout.write(f"executing {lease.id}\n")
            sys.stdout.flush()
        if running and running.ended.wait(_LOOK):
            lease.CopyFrom(running.lease)
        with suppress(grpc.RpcError):  # a poll that nothing came of
            session = bots.UpdateBotSession(
                bots_pb2.UpdateBotSessionRequest(name=session.name, bot_session=session),
                timeout=_LONGEST_POLL,
            )


def main() -> None:
    address, instance, name, *properties = sys.argv[1:]
    session = bots_pb2.BotSession(bot_id=name, status=bots_pb2.OK)
    device = session.worker.devices.add(handle=name)
    for each in properties:
        key, _, value = each.partition("=")
        device.properties.add(key=key, value=value)
    serve(address, instance, session)


if __name__ == "__main__":
    main()
