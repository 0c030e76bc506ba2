"""Processes that measure for the threads of a build.

Python's lock lets one thread of a process compute at a time, and a small enclave takes half of its
measuring under that lock. The processes read what is measured themselves; they get paths and a
configuration, and give a measurement back.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from typing import Any

from mystikos_tool import pipeline
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.pipeline import Inputs

# To start a process takes as long as to measure three small enclaves.
_ALONE = 4
_MOST = 64

_PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from mystikos_tool import measuring
measuring.serve()
"""


class MeasuringProcesses:
    """As many processes as threads may measure at a time, started when there is much to measure."""

    def __init__(self, threads: int) -> None:
        self._most = min(threads, len(os.sched_getaffinity(0)), _MOST)
        self._lock = threading.Lock()
        self._asked = 0
        self._started = 0
        self._idle: list[_Process] = []

    def measure(self, inputs: Inputs) -> Measurement:
        """Measure as :func:`pipeline.measure_unchecked` does, in one of the processes or here."""
        process = self._take()
        if not process:
            return pipeline.measure_unchecked(inputs)
        try:
            answer = process.ask(inputs)
        except (OSError, EOFError, pickle.UnpicklingError):  # somebody ended it
            process.close()
            return pipeline.measure_unchecked(inputs)
        with self._lock:
            self._idle.append(process)
        if isinstance(answer, Measurement):
            return answer
        raise answer

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            for process in self._idle:
                process.close()
            self._idle.clear()

    def _take(self) -> _Process | None:
        """Return a process with nothing to do, None for what is measured here; start one for later."""
        with self._lock:
            self._asked += 1
            if self._idle:
                return self._idle.pop()
            if 1 < self._most > self._started and self._asked > _ALONE and sys.executable:
                self._started += 1
                try:
                    self._idle.append(_Process())
                except OSError:  # no more processes for this user
                    self._started = self._most
        return None


class _Process:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # Isolated: it would otherwise import what lies in the directory of the build.
            [sys.executable, "-I", *(["-B"] if sys.dont_write_bytecode else []), "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt is for the build, which ends this process
        )
        self._send(sys.path)

    def ask(self, inputs: Inputs) -> Measurement | BaseException:
        """Let the process measure; return what it found, or what it raised."""
        self._send(inputs)
        assert self._process.stdout  # noqa: S101
        answer: Measurement | BaseException = pickle.load(self._process.stdout)
        return answer

    def close(self) -> None:
        self._process.communicate()

    def _send(self, value: Any) -> None:
        assert self._process.stdin  # noqa: S101
        self._process.stdin.write(pickle.dumps(value))
        self._process.stdin.flush()


def serve() -> None:
    """Measure what comes on standard input, until that ends."""
    while True:
        try:
            inputs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        sys.stdout.buffer.write(pickle.dumps(_answer(inputs)))
        sys.stdout.buffer.flush()


def _answer(inputs: Inputs) -> Measurement | BaseException:
    try:
        return pipeline.measure_unchecked(inputs)
    except UserError as error:
        return error
    except Exception:
        return RuntimeError(traceback.format_exc())
