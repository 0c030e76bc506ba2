"""What the fuzz targets promise holds for every input of the corpus, seeds and former findings alike."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compiling import compile_sanitized, needs_compiler

from fuzz.targets import HERE, TARGETS, Target

# CI runs the fuzzer itself, which begins with the corpus.
pytestmark = [needs_compiler, pytest.mark.long]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_target_keeps_its_promises_for_each_input_of_the_corpus(target: Target, tmp_path: Path) -> None:
    program = compile_sanitized(tmp_path / "replay", HERE / "replay.c", *target.arguments)
    done = subprocess.run([program, *target.corpus], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
