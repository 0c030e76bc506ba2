"""Other programs, run with a limit to their time and to what they write."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from mystikos_tool.errors import reason_of

_CHUNK = 1 << 14


class CommandFault(Exception):  # noqa: N818 whoever ran the command makes an error of it
    """What a command did wrong, as a phrase: "ended with status 1". It names neither arguments nor output.

    ``output`` is what one wrote to standard output that ended with another status than 0.
    """

    def __init__(self, problem: str, output: bytes = b"") -> None:
        super().__init__(problem)
        self.output = output


def run(
    command: Sequence[str],
    given: bytes = b"",
    *,
    seconds: float,
    limit: int,
    environment: Mapping[str, str] | None = None,
    silent: bool = False,
) -> bytes:
    """Run a command without a shell; return what it wrote to standard output.

    ``given`` is its standard input, and standard error is ours, or nobody's where it is to be ``silent``. It
    has no terminal. Raises CommandFault when it cannot be started, takes more than ``seconds``, writes more
    than ``limit`` bytes or ends with another status than 0. What it has started is then killed with it.
    """
    with file_of(given) as stdin:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if silent else None,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CommandFault(f"cannot be started: {reason_of(error)}") from None
    end = time.monotonic() + seconds
    with process:
        try:
            output = _read(process, end, limit)
            status = process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CommandFault(f"did not end within {seconds:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if status < 0:
        raise CommandFault(f"was ended by signal {-status}")
    if status > 0:
        raise CommandFault(f"ended with status {status}", output)
    return output


@contextmanager
def file_of(data: bytes) -> Iterator[int]:
    """Yield a descriptor to read data from: a file in memory, which no command keeps anybody waiting for."""
    with os.fdopen(os.memfd_create("standard input"), "w+b") as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def _read(process: subprocess.Popen[bytes], end: float, limit: int) -> bytes:
    """Read to the end of a command's output; raise TimeoutExpired where that does not come."""
    assert process.stdout is not None  # noqa: S101 it was asked for
    output = b""
    while True:
        if not select.select([process.stdout], [], [], max(0, end - time.monotonic()))[0]:
            raise subprocess.TimeoutExpired(process.args, end)
        chunk = os.read(process.stdout.fileno(), _CHUNK)
        if not chunk:
            return output
        output += chunk
        if len(output) > limit:
            raise CommandFault(f"writes more than {limit:,} bytes")
