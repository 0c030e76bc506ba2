"""What builds a wheel is held to digests before any of it runs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.runtime import LOADER, build, digests

CHECKOUT = Path(__file__).parents[2]
BUILD_FILES = ("MANIFEST.in", "build_backend.py", "build_requirements.json", "pyproject.toml", "setup.py")
KNOWN = json.loads((CHECKOUT / "build_requirements.json").read_text())


def test_what_builds_is_pinned_to_the_versions_of_the_lock_file() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    project = (CHECKOUT / "pyproject.toml").read_text()
    required = re.search(r"^requires = (.*)$", project, re.MULTILINE)
    assert required
    for name, known in KNOWN.items():
        assert f"\n{name}=={known['version']} " in lock
        assert f'"{name}=={known["version"]}"' in required[1]
    assert required[1].count("==") == len(KNOWN)
    assert KNOWN["ziglang"]["version"] == build.ZIG_VERSION


def copied(name: str, directory: Path) -> Path:
    """Copy an installed package beside its metadata; return its directory."""
    distribution = importlib.metadata.distribution(name)
    site = Path(str(distribution.locate_file("")))
    for part in (
        name,
        "_distutils_hack",
        "distutils-precedence.pth",
        f"{name}-{distribution.version}.dist-info",
    ):
        if (site / part).is_dir():
            shutil.copytree(site / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(site / part, directory / part)
    return directory / name


def run_backend(*packages: Path) -> str:
    """Have a wheel built with other packages than those of this environment; return what is told."""
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            "import build_backend; build_backend.prepare_metadata_for_build_wheel('.')",
        ],
        cwd=packages[0],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*packages, CHECKOUT]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


CHANGES = {
    "a changed file": lambda package: (package / "build_meta.py").write_text("raise SystemExit('it ran')"),
    "another file": lambda package: (package / "more.py").write_text(""),
    "a file that is missing": lambda package: (package / "depends.py").unlink(),
    "a directory that is linked to": lambda package: (package / "build_meta").symlink_to(package / "command"),
    "what runs at every start": lambda package: package.with_name("distutils-precedence.pth").write_text("#"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_build_requirement_is_refused_before_it_runs(tmp_path: Path, change: str) -> None:
    CHANGES[change](copied("setuptools", tmp_path))
    told = run_backend(tmp_path)
    assert told.startswith(f"mystikos-tool: setuptools {KNOWN['setuptools']['version']} is not the one that")
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["setuptools/__init__.py", "setuptools.py"])
def test_what_would_be_taken_for_a_build_requirement_is_refused_before_it_runs(
    tmp_path: Path, name: str
) -> None:
    """It lies before the one that was installed, and no metadata tell of it."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    copied("setuptools", tmp_path / "second")
    other = tmp_path / "first" / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("raise SystemExit('it ran')")
    told = run_backend(tmp_path / "first", tmp_path / "second")
    assert told.startswith(f"mystikos-tool: {other} would be taken for setuptools; take it away, or install")


def test_a_build_leaves_no_temporary_files(tmp_path: Path) -> None:
    made = "import sys, build_backend; build_backend.prepare_metadata_for_build_wheel(sys.argv[1])"
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    (tmp_path / "metadata").mkdir()
    subprocess.run(
        [sys.executable, "-c", made, str(tmp_path / "metadata")],
        cwd=CHECKOUT,
        env=variables,
        capture_output=True,
        check=True,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["metadata"]


def test_a_build_requirement_that_is_not_installed_is_told(tmp_path: Path) -> None:
    assert "which builds it, is not installed; install it with the other locked" in run_backend(tmp_path)


def test_an_installed_checkout_costs_a_start_of_python_a_path_and_no_code(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("mystikos_tool", "LICENSE", "README.md", *BUILD_FILES):
        (source / name).symlink_to(CHECKOUT / name)
    made = "import build_backend; build_backend.build_editable('..')"
    subprocess.run([sys.executable, "-c", made], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (paths,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith(".pth"))
    assert paths.split() == [str(source)]


def test_an_image_that_another_compiler_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOADER).parent.mkdir()
    (tmp_path / LOADER).write_bytes(b"another")
    with pytest.raises(UserError, match="is not what the pinned toolchain makes of the runtime's sources"):
        digests.check(tmp_path, LOADER)
