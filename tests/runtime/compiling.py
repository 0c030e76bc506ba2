"""Compile small C programs for the tests: static ones for packages, sanitized ones for parsers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from static_programs import COMPILED_IN, SHARING, STATIC_COMPILER, ZIG

from mystikos_tool.runtime.build import SOURCE_DIRECTORY

HERE = Path(__file__).parent
MakeOnce = Callable[[str, Callable[[Path], object]], Path]
_OPTIONS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-I", str(SOURCE_DIRECTORY))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=COMPILED_IN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compile_static(target: Path, *sources: Path, options: Sequence[str] = ()) -> Path:
    """Compile with the pinned toolchain to a static PIE, which runs in an empty root."""
    _run([*STATIC_COMPILER, *_OPTIONS, *options, *map(str, sources), "-o", str(target)])
    return target


def compile_library(target: Path, *sources: Path) -> Path:
    """Compile with the pinned toolchain to a shared library."""
    _run(
        [
            *ZIG,
            *_OPTIONS,
            "-fno-asynchronous-unwind-tables",
            "-shared",
            "-fPIC",
            *map(str, sources),
            "-o",
            str(target),
        ]
    )
    return target


def compile_at_fixed_addresses(target: Path, *sources: Path) -> Path:
    """Compile with the machine's own compiler and C library to a static program that can't be moved."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    _run(["gcc", *_OPTIONS, "-static", "-no-pie", "-pthread", *map(str, sources), "-o", str(target)])
    return target


def compile_dynamic(target: Path, *sources: Path) -> dict[str, Path]:
    """Compile with the machine's own compiler and C library, glibc.

    Return what the program needs to run, the dynamic linker and the libraries, by their paths in a root.
    """
    if not shutil.which("gcc") or not Path("/lib64/ld-linux-x86-64.so.2").exists():
        pytest.skip("needs gcc and glibc")
    _run(["gcc", *_OPTIONS, "-pthread", *map(str, sources), "-o", str(target)])
    listed = subprocess.run(["ldd", target], capture_output=True, text=True, check=True).stdout
    paths = [Path(word) for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {str(path).lstrip("/"): path.resolve() for path in paths}


def compile_for_musl(target: Path, *sources: Path) -> dict[str, Path]:
    """Compile with the pinned toolchain to a program that musl's dynamic linker loads.

    Return what the program needs to run, by its path in a root.
    """
    linker = Path("/lib/ld-musl-x86_64.so.1")
    if not linker.exists():
        pytest.skip("musl is not installed")
    _run([*ZIG, *_OPTIONS, *SHARING, "-dynamic", *map(str, sources), "-o", str(target)])
    return {str(linker).lstrip("/"): linker.resolve()}


def compile_sanitized(target: Path, *sources: Path | str) -> Path:
    """Compile so that a bad access or undefined behaviour ends the program with a message.

    With AddressSanitizer where the machine's own compiler has it.
    """
    with_address = _gcc_has("address")
    compiler = ("gcc",) if with_address else ZIG
    return _compile_with("address,undefined" if with_address else "undefined", compiler, target, *sources)


def compile_watching_threads(target: Path, *sources: Path | str) -> Path:
    """Compile so that threads which race for memory make the program end with status 66."""
    if not _gcc_has("thread"):
        pytest.skip("needs gcc with ThreadSanitizer")
    return _compile_with("thread", ("gcc",), target, *sources)


def _compile_with(sanitizers: str, compiler: Sequence[str], target: Path, *sources: Path | str) -> Path:
    options = ("-g1", "-fno-sanitize-recover=all", f"-fsanitize={sanitizers}")
    _run([*compiler, *_OPTIONS, *options, *map(str, sources), "-o", str(target)])
    return target


@cache
def _gcc_has(sanitizer: str) -> bool:
    if not shutil.which("gcc"):
        return False
    command = ["gcc", f"-fsanitize={sanitizer}", "-x", "c", "-", "-o", "/dev/null"]
    done = subprocess.run(command, input=b"int main(void) { return 0; }", capture_output=True, check=False)
    return done.returncode == 0


needs_compiler = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")
