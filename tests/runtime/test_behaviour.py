"""Recorded runs end in the embedded runtime as they did under Mystikos."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from compiling import needs_compiler

from behaviour.record import CRASH, ENDS, HANGS, REFUSED, STOPPED, Case, Outcome, agrees, outcome

ROOT = Path(__file__).parent.parent.parent


@needs_compiler
def test_the_projects_own_records_are_as_recorded() -> None:
    command = [sys.executable, "-m", "behaviour", "--verbose"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    count = len(json.loads((ROOT / "behaviour" / "own" / "cases.json").read_text())["cases"])
    assert done.stdout.splitlines()[-1] == f"{count} of {count} as recorded"


def case(recorded: Outcome, *, unordered: bool = False) -> Case:
    return Case("name", "programs", "group", "what", "A", "{}", (), recorded, unordered=unordered)


@pytest.mark.parametrize(
    ("recorded", "seen", "agree"),
    [
        (Outcome(ENDS, 0, ("a", "b")), Outcome(ENDS, 0, ("a", "b")), True),
        (Outcome(ENDS, 0, ("a", "b")), Outcome(ENDS, 0, ("b", "a")), False),
        (Outcome(ENDS, 0, ("a",)), Outcome(ENDS, 1, ("a",)), False),
        (Outcome(ENDS, 0, ("a",)), Outcome(ENDS, 0, ("a", "b")), False),
        (Outcome(ENDS, 0, ("<varies>",)), Outcome(ENDS, 0, ("5",)), True),
        (Outcome(STOPPED, 139), Outcome(STOPPED, 159, ("x",)), True),
        (Outcome(REFUSED, 234), Outcome(REFUSED, 125), True),
        (Outcome(REFUSED, 234), Outcome(ENDS, 125), False),
        (Outcome(HANGS), Outcome(HANGS), True),
        (Outcome(CRASH, 139), Outcome(ENDS, 139), True),
        (Outcome(CRASH, 139), Outcome(ENDS, 0), False),
    ],
)
def test_a_run_agrees_by_its_kind_status_and_lines(recorded: Outcome, seen: Outcome, agree: bool) -> None:
    assert agrees(case(recorded), seen) is agree


def test_lines_of_two_writers_agree_in_any_order() -> None:
    recorded, seen = Outcome(ENDS, 0, ("a", "b")), Outcome(ENDS, 0, ("b", "a"))
    assert agrees(case(recorded, unordered=True), seen)


def test_how_a_run_ended_is_told_by_status_and_message() -> None:
    assert outcome(None, "a\n", "") == Outcome(HANGS, None, ("a",))
    assert outcome(159, "", "p: mystikos: stopped: x is not handled by Mystikos").kind == STOPPED
    assert outcome(159, "", "").kind == ENDS
    assert outcome(125, "", "p: mystikos: x").kind == REFUSED
    assert outcome(0, "at 140737488355327\n\n", "").lines == ("at <number>",)
