"""The example of an interpreter: its directory, which one builder makes, follows what it is made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mystikos_tool.root.archive import read

CHECKOUT = Path(__file__).resolve().parents[2]


def packed(project: Path) -> bytes:
    """Pack the root, and return the program in it."""
    site = f"--site-dir={CHECKOUT / 'site_scons'}"
    subprocess.run(
        [sys.executable, "-m", "SCons", "-Q", site, "python.cpio"],
        cwd=project,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    archive = read(project / "python.cpio")
    program = archive.find("/app/main.py")
    assert program
    return archive.data(program)


def test_a_program_that_was_edited_is_packed_as_it_is_now(tmp_path: Path) -> None:
    project = tmp_path / "python"
    shutil.copytree(CHECKOUT / "examples" / "python", project)
    assert packed(project) == (project / "main.py").read_bytes()
    (project / "main.py").write_text("print('edited')\n")
    assert packed(project) == b"print('edited')\n"
