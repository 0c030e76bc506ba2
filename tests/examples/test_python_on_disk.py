"""The example of an interpreter with its whole library on a disk, started; this takes long."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_an_interpreter_imports_its_whole_library_from_a_disk(tmp_path: Path) -> None:
    project = tmp_path / "disk"
    shutil.copytree(CHECKOUT / "examples" / "disk", project)
    site = f"--site-dir={CHECKOUT / 'site_scons'}"
    command = [sys.executable, "-m", "SCons", "-Q", site, "run-disk"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True, text=True)
    told = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    assert json.loads(told)["modules"] > 200
