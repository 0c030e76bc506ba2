"""The wheel, in a project outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import SCons
from scons_project import CHECKOUT, CONFIG, SIGNING_DAY

from mystikos_tool import config, pipeline, proof, runtime
from mystikos_tool.root.root import ArchiveRoot

BUILD_FILES = ("MANIFEST.in", "build_backend.py", "build_requirements.json", "pyproject.toml", "setup.py")

SCONSTRUCT = """
from mystikos_tool.scons import options

variables = Variables(None, ARGUMENTS)
options(variables)
env = Environment(tools=["mystikos"], variables=variables)
env.MystPackage("hello", "appdir", MYST_CONFIG="config.json", MYST_KEY=env.MystKey("private.pem"))
"""


@pytest.fixture(scope="module")
def installed(make_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A virtual environment that the wheel is installed into, beside SCons."""
    return make_once("wheel", install) / "environment"


def install(directory: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    source = directory / "source"
    source.mkdir()
    for name in ("mystikos_tool", "LICENSE", "README.md", *BUILD_FILES):
        (source / name).symlink_to(CHECKOUT / name)
    # As pip does, which calls it three times, and each time it is held to its digests.
    build = "import sys, build_backend; build_backend.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(directory)], cwd=source, check=True, capture_output=True)
    (wheel,) = directory.glob("mystikos_tool*.whl")
    environment = directory / "environment"
    # Without the packages of this interpreter's own environment, of which the wheel needs these.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python3*/site-packages")
    subprocess.run([*pip, "install", *offline, "--target", str(site), str(wheel)], check=True)
    own = Path(SCons.__file__).parents[1]
    shutil.copytree(own / "SCons", site / "SCons", dirs_exist_ok=True)
    (site / "dependencies.pth").write_text(f"{own}\n")


def scons(project: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": SIGNING_DAY}
    environment.pop("PYTHONPATH", None)
    command = [str(site / "bin/python"), "-m", "SCons", "-Q", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def test_a_wheel_builds_a_project_without_a_compiler_to_the_checkout_s_mrenclave(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "appdir/bin").mkdir(parents=True)
    program = tmp_path / "appdir/bin/hello"
    program.write_bytes(b"#!/bin/hello\n")
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(CONFIG.replace('"1m"', '"8m"'))
    (tmp_path / "SConstruct").write_text(SCONSTRUCT)
    build = scons(tmp_path, installed)
    assert build.returncode == 0, build.stderr
    assert "compiled" not in build.stdout

    pipeline.pack(tmp_path / "appdir", tmp_path / "expected.cpio")
    inputs = pipeline.Inputs(
        runtime.embedded(), config.load(tmp_path / "config.json"), ArchiveRoot(tmp_path / "expected.cpio")
    )
    assert proof.verify(tmp_path / "hello").mrenclave == pipeline.measure(inputs).mrenclave

    assert scons(tmp_path, installed).stdout == "scons: `.' is up to date.\n"
    dry = scons(tmp_path, installed, "-n", "MYST_ROOTFS_EXCLUDE=*")
    assert "pack appdir" in dry.stdout


def test_the_help_names_builders_and_variables(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "SConstruct").write_text(SCONSTRUCT)
    said = scons(tmp_path, installed, "-h").stdout
    assert "MystPackage" in said
    assert "MYST_ROOTFS_MODES" in said
    assert "[canonical]" in said


def test_one_sconstruct_serves_an_installed_wheel_and_a_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "SConstruct").write_text(
        'env = Environment(tools=["default", "mystikos"])\n'
        'import mystikos_tool\nprint(mystikos_tool.__file__, env["MYST_RUNTIME"])\nExit(0)\n'
    )
    said = scons(tmp_path, installed).stdout
    assert said == f"{next(installed.glob('lib/*/site-packages'))}/mystikos_tool/__init__.py embedded\n"
    said = scons(tmp_path, installed, f"--site-dir={CHECKOUT / 'site_scons'}").stdout
    assert said == f"{CHECKOUT}/mystikos_tool/__init__.py embedded\n"


def test_the_scons_of_a_checkout_finds_the_tool_in_any_directory(tmp_path: Path) -> None:
    given = 'env = Environment(tools=["default", "mystikos"])\nprint(env["MYST_RUNTIME"])\nExit(0)\n'
    (tmp_path / "SConstruct").write_text(given)
    python = CHECKOUT / ".venv/bin/python"
    if not python.exists():
        pytest.skip("sconsw has not set this checkout up")
    command = [str(python), "-I", "-m", "SCons", "-Q"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, encoding="utf-8")
    assert said.stdout == "embedded\n"


@pytest.mark.long
def test_the_set_up_of_a_checkout_installs_its_command_without_network(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "mystikos_tool", checkout / "mystikos_tool")
    for name in ("README.md", "LICENSE", "sconsw", "requirements.lock", *BUILD_FILES):
        shutil.copy(CHECKOUT / name, checkout / name)
    # What the set-up makes first, from the network: an environment with the lock's packages.
    venv = checkout / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(f"{Path(SCons.__file__).parents[1]}\n")
    shutil.copy(CHECKOUT / "requirements.lock", venv / "installed.lock")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PIP_INDEX_URL"] = "http://127.0.0.1:9/"  # nothing answers there
    subprocess.run([str(checkout / "sconsw"), "--version"], env=environment, check=True, capture_output=True)
    command = [str(venv / "bin/mystikos-tool"), "--help"]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, encoding="utf-8")
    assert "package-sgx" in said.stdout
