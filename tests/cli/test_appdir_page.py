"""The snippets of docs/appdir.md do what the page says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "appdir.md"


def snippet(heading: str) -> str:
    part = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def run(heading: str, directory: Path, **environment: str) -> None:
    done = subprocess.run(
        ["sh", "-eu", "-c", snippet(heading)],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_tarball_is_unpacked_without_devices(tmp_path: Path) -> None:
    for name in ("root/bin/hello", "root/dev/null"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    with tarfile.open(tmp_path / "rootfs.tar", "w") as archive:
        for name in ("bin", "dev"):
            archive.add(tmp_path / "root" / name, name)
    run("From a tarball", tmp_path)
    assert files(tmp_path / "appdir") == {"bin/hello"}


def test_pip_installs_a_project_without_what_names_this_machine(tmp_path: Path) -> None:
    project = tmp_path / "app"
    project.mkdir()
    (project / "hello.py").write_text("def main(): print('hello')\n")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "hello"\nversion = "1"\n[project.scripts]\nhello = "hello:main"\n'
        '[tool.setuptools]\npy-modules = ["hello"]\n'
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "tools" / "python3").chmod(0o755)
    run("From pip", tmp_path, PATH=f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    installed = files(tmp_path / "appdir")
    assert "opt/app/hello.py" in installed
    assert not [name for name in installed if name.endswith(".pyc") or name.startswith("opt/app/bin/")]
    for name in installed:
        content = (tmp_path / "appdir" / name).read_bytes()
        assert os.fsencode(tmp_path) not in content
        assert b"bin/hello" not in content


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_npm_installs_what_the_lock_says(tmp_path: Path) -> None:
    package = {"name": "hello", "version": "1.0.0"}
    lock = {**package, "lockfileVersion": 3, "requires": True, "packages": {"": package}}
    (tmp_path / "package.json").write_text(json.dumps(package))
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    run("From npm", tmp_path, npm_config_offline="true", npm_config_cache=str(tmp_path / "cache"))
    assert {"opt/app/package.json", "opt/app/package-lock.json"} <= files(tmp_path / "appdir")


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker")
def test_an_images_files_are_exported(tmp_path: Path) -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("needs a running docker daemon")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY hello /bin/hello\n")
    (tmp_path / "hello").write_text("hello")
    built = subprocess.run(["docker", "build", "-q", tmp_path], capture_output=True, text=True, check=True)
    run("From Docker", tmp_path, IMAGE=built.stdout.strip())
    assert "bin/hello" in files(tmp_path / "appdir")
