"""The wheel, in a project outside of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scons_project import CHECKOUT, CONFIG, SIGNING_DAY

from mystikos_tool import config, pipeline, runtime
from mystikos_tool.root.root import ArchiveRoot

SCONSTRUCT = """
from mystikos_tool.scons import mystikos, options

variables = Variables(None, ARGUMENTS)
options(variables)
env = Environment(tools=[mystikos], variables=variables)
env.MystPackage("hello", "appdir", MYST_CONFIG="config.json", MYST_KEY=env.MystKey("private.pem"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the wheel is installed into."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    source = directory / "source"
    names = ("mystikos_tool", "pyproject.toml", "setup.py", "README.md", "LICENSE")
    source.mkdir()
    for name in names:
        (source / name).symlink_to(CHECKOUT / name)
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(directory), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = directory.glob("*.whl")
    site = directory / "site"
    subprocess.run([*pip, "install", *offline, "--target", str(site), str(wheel)], check=True)
    return site


def scons(project: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "SOURCE_DATE_EPOCH": SIGNING_DAY}
    command = [sys.executable, "-m", "SCons", "-Q", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def test_a_wheel_builds_a_project_without_a_compiler_to_the_checkout_s_mrenclave(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "appdir/bin").mkdir(parents=True)
    program = tmp_path / "appdir/bin/hello"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(CONFIG)
    (tmp_path / "SConstruct").write_text(SCONSTRUCT)
    build = scons(tmp_path, installed)
    assert build.returncode == 0, build.stderr
    assert "compiled" not in build.stdout

    pipeline.pack(tmp_path / "appdir", tmp_path / "expected.cpio")
    inputs = pipeline.Inputs(
        runtime.embedded(), config.load(tmp_path / "config.json"), ArchiveRoot(tmp_path / "expected.cpio")
    )
    assert pipeline.verify(tmp_path / "hello").mrenclave == pipeline.measure(inputs).mrenclave

    assert scons(tmp_path, installed).stdout == "scons: `.' is up to date.\n"
    dry = scons(tmp_path, installed, "-n", "MYST_ROOTFS_EXCLUDE=*")
    assert "pack appdir" in dry.stdout


def test_the_help_names_builders_and_variables(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "SConstruct").write_text(SCONSTRUCT)
    said = scons(tmp_path, installed, "-h").stdout
    assert "MystPackage" in said
    assert "MYST_ROOTFS_MODES" in said
    assert "[canonical]" in said
