"""Processes that measure for the threads of a build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runtime import inputs, root_path

from mystikos_tool import pipeline
from mystikos_tool.errors import UserError
from mystikos_tool.measuring import MeasuringProcesses
from mystikos_tool.pipeline import Inputs

ENOUGH = 8  # measurements for which a process has been started


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    return inputs(tmp_path)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[MeasuringProcesses]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    processes = MeasuringProcesses(2)
    yield processes
    processes.close()


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def started(processes: MeasuringProcesses, made: Inputs) -> int:
    """Measure until a process does it; return its number."""
    before = children()
    for _ in range(ENOUGH):
        processes.measure(made)
    (process,) = set(children()) - set(before)
    return process


def test_what_a_process_measures_is_what_is_measured_here(
    processes: MeasuringProcesses, made: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pipeline.measure_unchecked(made)
    started(processes, made)
    monkeypatch.setattr(pipeline, "measure_unchecked", lambda *_: pytest.fail("was measured here"))
    assert processes.measure(made) == expected


def test_nothing_is_imported_from_the_directory_of_the_build(
    processes: MeasuringProcesses, made: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    started(processes, made)
    assert not (tmp_path / "imported").exists()


def test_a_few_enclaves_and_one_thread_start_no_process(made: Inputs) -> None:
    before = children()
    few, alone = MeasuringProcesses(2), MeasuringProcesses(1)
    for _ in range(3):
        few.measure(made)
    for _ in range(ENOUGH):
        alone.measure(made)
    assert children() == before


def test_a_process_that_somebody_ended_is_done_without(processes: MeasuringProcesses, made: Inputs) -> None:
    expected = pipeline.measure_unchecked(made)
    os.kill(started(processes, made), signal.SIGKILL)
    assert [processes.measure(made) for _ in range(3)] == [expected] * 3


def test_a_user_s_mistake_comes_back_as_one(processes: MeasuringProcesses, made: Inputs) -> None:
    started(processes, made)
    root_path(made).unlink()
    with pytest.raises(UserError, match=r"root\.cpio: .*; give an existing file"):
        processes.measure(made)


def test_a_bug_comes_back_with_its_traceback(processes: MeasuringProcesses, made: Inputs) -> None:
    started(processes, made)
    with pytest.raises(RuntimeError, match="measure_unchecked"):
        processes.measure(made._replace(config=None))  # type: ignore[arg-type]
    assert processes.measure(made) == pipeline.measure_unchecked(made)


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, made: Inputs) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; os.sched_getaffinity = lambda _: {0, 1}\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from test_measuring import MeasuringProcesses, inputs, started\n"
        f"print(started(MeasuringProcesses(2), inputs(Path({str(tmp_path / 'other')!r}))), flush=True)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "other").mkdir()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        process = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z"):
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    pytest.fail("the process is still there")
