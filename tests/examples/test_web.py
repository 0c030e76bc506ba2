"""The web service passes its own test, answers this machine over HTTP, and keeps its data in the mount."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from mystikos_tool.runtime import embedded

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built and tested by scons."""
    project = tmp_path_factory.mktemp("example") / "web"
    shutil.copytree(CHECKOUT / "examples" / "web", project)
    runtime = embedded().loader.parents[1]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "SCons", "-Q", f"--site-dir={CHECKOUT / 'site_scons'}"),
            *(f"MYST_RUNTIME={runtime}", "check"),
        ],
        cwd=project,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "check: 1 passed" in done.stdout
    return project


@contextmanager
def served(project: Path, data: Path) -> Iterator[str]:
    """Start the package; yield where it listens."""
    command = [project / "web", f"--myst-mount={data}=/data", "/app/server.py", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as package:
        assert package.stdout
        yield package.stdout.readline().removeprefix("listening on ").strip()
        package.terminate()


def asked(base: str, body: bytes | None = None) -> object:
    with urllib.request.urlopen(f"{base}/notes", body, timeout=30) as answer:
        return json.load(answer)


def test_the_service_answers_the_machine_and_its_data_outlive_it(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with served(project, data) as base:
        assert asked(base) == []
        assert asked(base, b'{"text": "milk"}') == {"id": 1, "text": "milk"}
    assert (data / "notes.db").is_file()
    with served(project, data) as base:
        assert asked(base) == [{"id": 1, "text": "milk"}]
