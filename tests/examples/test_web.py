"""The web service of an image passes its test, answers this machine over HTTP, and its data outlive it."""

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

from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.root import archive
from mystikos_tool.runtime import embedded

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built and tested by scons."""
    project = tmp_path_factory.mktemp("example") / "web"
    shutil.copytree(CHECKOUT / "examples" / "web", project)
    assert "check: 1 passed" in scons(project, "check")
    return project


def scons(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "SCons", "-Q", f"--site-dir={CHECKOUT / 'site_scons'}"),
            *(f"MYST_RUNTIME={embedded().loader.parents[1]}", *arguments),
        ],
        cwd=project,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_the_image_of_the_service_is_one_for_other_tools_and_says_what_is_started(project: Path) -> None:
    command = ("skopeo", "inspect", "--config", f"oci-archive:{project / 'image.tar'}")
    shown = subprocess.run(command, check=True, capture_output=True, timeout=30)
    process = json.loads(shown.stdout)["config"]
    config = json.loads(OpenedPackage(project / "web").config)
    assert process["Entrypoint"] == [config["ApplicationPath"], *config["ApplicationParameters"]]
    assert json.loads(shown.stdout)["rootfs"]["diff_ids"][1:], "the service is a layer of its own"
    found = archive.read(project / "web.cpio")
    assert found.find("/app/server.py") and found.find("/appenv.json")


def test_an_image_that_was_made_elsewhere_is_taken_in_its_place(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(CHECKOUT / "examples" / "web", other)
    shutil.copy(project / "private.pem", other)
    shutil.copy(project / "image.tar", other / "own.tar")
    scons(other, "IMAGE=own.tar", "web")
    assert not (other / "image.tar").exists()
    assert (other / "web.cpio").read_bytes() == (project / "web.cpio").read_bytes()
