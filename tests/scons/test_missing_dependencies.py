"""In a checkout, what is not installed or cannot be loaded is told in one line with what to do about it."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest
from scons_project import CHECKOUT, PACKAGE_HELLO, Project

from mystikos_tool.runtime import build

PACKAGES = Path(next(path for path in site.getsitepackages() if Path(path, "SCons").is_dir()))
BASE = str(Path(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2]))  # noqa: UP031


def without(directory: Path, package: str, *names: str) -> dict[str, str]:
    """Make an environment in which Python has all packages of this one but those names; return variables."""
    directory.mkdir()
    for path in PACKAGES.iterdir():
        if not path.name.lower().startswith((package, *names)):
            (directory / path.name).symlink_to(path)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(directory)])}


def damaged(directory: Path, name: str, content: str) -> dict[str, str]:
    """Make an environment in which one module has another content; return variables."""
    variables = without(directory, name)
    (directory / name).mkdir()
    (directory / name / "__init__.py").write_text(content)
    return variables


def run(module: str, project: Project, variables: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [BASE, "-S", "-m", module, *arguments],
        cwd=project.directory,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pip install" in line]
    return line


# A package, its modules' name, and a file with content for which it is needed.
NEEDED = [
    ("pyelftools", "elftools", "rt/lib/libmystcrt.so", "\x7fELF\1" + 60 * "\0"),
    ("jsonschema", "jsonschema", "config.json", '{"version": "0.1", "Debug": "yes"}'),
    ("cryptography", "cryptography", "appdir/file", "anything"),
]


@pytest.mark.parametrize(("package", "name", "file", "content"), NEEDED, ids=[each[0] for each in NEEDED])
def test_a_missing_package_is_told_by_scons_and_the_command_line(
    project: Project, tmp_path: Path, package: str, name: str, file: str, content: str
) -> None:
    project.write(file, content)
    variables = without(tmp_path / "packages", package, name)
    told = f"{BASE}: has no {package}, which mystikos-tool needs; run: {BASE} -m pip install {package}"
    line = run("SCons", project, variables, "-Q")
    assert line.endswith(f"{told} (MystPackage at SConstruct:3)")
    package_sgx = ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=rt", "-o=made")
    assert run("mystikos_tool", project, variables, *package_sgx) == f"mystikos-tool: error: {told}"


# What loads a package may miss one that the package needs, and a package may lie there as another version's
# or another machine's.
DAMAGES = [
    ("jsonschema", "jsonschema", "raise ImportError('libfoo.so.3: cannot open shared object file')"),
    ("jsonschema", "rpds", ""),
    ("jsonschema", "referencing", "raise SystemError('bad magic number')"),
    ("cryptography", "cryptography", "__version__ = '0.1'"),
    ("cryptography", "_cffi_backend", ""),
]


@pytest.mark.parametrize(("package", "name", "content"), DAMAGES)
def test_a_package_that_cannot_be_loaded_is_told_by_scons_and_the_command_line(
    project: Project, tmp_path: Path, package: str, name: str, content: str
) -> None:
    project.write("appdir/file", "anything")
    variables = damaged(tmp_path / "packages", name, content)
    variables["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    told = f"{BASE}: has a {package} that cannot be loaded ("
    remedy = f"; install it anew, run: {BASE} -m pip install --force-reinstall {package}"
    line = run("SCons", project, variables, "-Q")
    assert told in line
    assert line.endswith(f"{remedy} (MystPackage at SConstruct:3)")
    package_sgx = ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=rt", "-o=made")
    line = run("mystikos_tool", project, variables, *package_sgx)
    assert line.startswith(f"mystikos-tool: error: {told}")
    assert line.endswith(remedy)


@pytest.mark.parametrize("content", ["", "raise ImportError('damaged')"])
def test_a_compiler_that_does_not_start_is_told_by_scons_and_the_command_line(
    project: Project, tmp_path: Path, content: str
) -> None:
    variables = damaged(tmp_path / "packages", "ziglang", content)
    version = build.ZIG_VERSION
    metadata = tmp_path / "packages" / f"ziglang-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ziglang\nVersion: {version}\n")
    variables["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    project.sconstruct("env.Replace(MYST_RUNTIME='embedded')\n" + PACKAGE_HELLO)
    told = "runtime: the Zig toolchain that compiles it is installed and does not start; run: "
    told += f"{BASE} -m pip install --force-reinstall ziglang=={version}"
    assert told in run("SCons", project, variables, "-Q")
    assert told in run("mystikos_tool", project, variables, "run", "appdir", "/bin/hello")


def test_a_missing_compiler_is_told_by_scons_and_the_command_line(project: Project, tmp_path: Path) -> None:
    variables = without(tmp_path / "packages", "ziglang")
    variables["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    project.sconstruct("env.Replace(MYST_RUNTIME='embedded')\n" + PACKAGE_HELLO)
    told = "runtime: the Zig toolchain that compiles it is not installed; run: "
    assert told in run("SCons", project, variables, "-Q")
    assert told in run("mystikos_tool", project, variables, "run", "appdir", "/bin/hello")
