"""Compile the embedded runtime: a table of its four images and the compiler's command for each.

The pinned Zig toolchain from PyPI makes the same bytes on every machine and in every checkout:
there are no debugging information, paths, times or identifiers in them.

    build(Path("runtime"))       # runtime/bin/myst, runtime/lib/...
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, user_cache

ZIG_VERSION = "0.17.1"
SOURCE_DIRECTORY = Path(__file__).resolve().parent

_ZIG = (sys.executable, "-m", "ziglang")

_LINKER_SCRIPT = "common/no_debug.ld"
_LANGUAGE = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g0",
    "-fno-strict-aliasing",
    "-fno-asynchronous-unwind-tables",
)
_WARNINGS = ("-Wall", "-Wextra", "-Wformat=2", "-Wvla", "-Wstrict-prototypes", "-Wmissing-prototypes")
_HOSTED = ("-fPIE", "-fstack-protector-strong", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
_FREESTANDING = (
    "-fPIE",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fvisibility=hidden",
    "-nostdlib",
    "-Wl,--export-dynamic",
    "-Wl,-e,_start",
)
_ZIG_ONLY = (
    "-target",
    "x86_64-linux-musl",
    "-mcpu=x86_64",
    "-Werror",
    "-fno-sanitize=all",
    "-ftrivial-auto-var-init=zero",
    "-static",
    "-pie",
    f"-Wl,-T,{_LINKER_SCRIPT}",
)
_OTHER_ONLY = ("-static-pie", "-Wl,--strip-debug", "-Wl,--build-id=none", "-Wl,-z,separate-code")

_INFLUENTIAL_VARIABLES = frozenset(
    {"CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "CCC_OVERRIDE_OPTIONS", "COMPILER_PATH", "GCC_EXEC_PREFIX"}
)


@dataclass(frozen=True)
class Image:
    """One of the runtime's files.

    ``output`` is its path in an installed runtime. It is compiled from every C file in
    ``folder`` and from the named files of ``common``; ``freestanding`` without a C library.
    """

    output: str
    folder: str
    common: tuple[str, ...] = ()
    freestanding: bool = False


IMAGES = (
    Image("bin/myst", "loader", ("config_reader.c", "elf.c", "error.c", "json.c", "rsa.c", "sha256.c")),
    Image("lib/openenclave/mystenc.so", "enclave", freestanding=True),
    Image(
        "lib/libmystkernel.so",
        "kernel",
        ("config_reader.c", "error.c", "interpreter.c", "json.c", "sha256.c"),
    ),
    Image("lib/libmystcrt.so", "crt", ("error.c", "interpreter.c")),
)

IMAGE_BY_OUTPUT = {image.output: image for image in IMAGES}


def units(image: Image) -> list[str]:
    """Return the C files that are compiled, relative to the source directory, in a fixed order."""
    own = sorted(path.name for path in (SOURCE_DIRECTORY / image.folder).glob("*.c"))
    return [f"{image.folder}/{name}" for name in own] + [f"common/{name}" for name in sorted(image.common)]


def sources(image: Image) -> list[Path]:
    """Return every file that an image depends on: C files, headers and the linker script."""
    folders = (SOURCE_DIRECTORY / image.folder, SOURCE_DIRECTORY / "common")
    headers = [path for folder in folders for path in folder.glob("*.h")]
    compiled = [SOURCE_DIRECTORY / unit for unit in units(image)]
    return sorted([*compiled, *headers, SOURCE_DIRECTORY / _LINKER_SCRIPT])


@cache  # it reads all sources
def sources_digest() -> str:
    """Return the SHA-256 in hexadecimal of all that decides the images: sources, commands and toolchain."""
    digest = hashlib.sha256(ZIG_VERSION.encode())
    for image in IMAGES:
        digest.update("\0".join(command(image, Path("output"))[1:]).encode())
        for source in sources(image):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def command(image: Image, output: Path, cc: str | None = None) -> list[str]:
    """Return the compiler's arguments that make ``output``, an absolute path.

    To be run in ``SOURCE_DIRECTORY``: the names of the sources are relative, so that nothing
    of the checkout's path can reach the image. ``cc`` is a compiler and its options as in a
    shell; without it the pinned Zig toolchain is taken.
    """
    compiler = shlex.split(cc) if cc else [*_ZIG, "cc"]
    mode = _FREESTANDING if image.freestanding else _HOSTED
    target = _OTHER_ONLY if cc else _ZIG_ONLY
    return [*compiler, *target, *_LANGUAGE, *_WARNINGS, *mode, *units(image), "-o", str(output)]


def build(directory: Path, cc: str | None = None) -> list[Path]:
    """Compile the runtime into ``directory``, in the layout of an installed one; return its files.

    Each file appears whole or not at all. Raises UserError where the compiler is missing, of
    another version or fails.
    """
    targets = [directory.absolute() / image.output for image in IMAGES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_image, *job, cc) for job in zip(IMAGES, targets, strict=True)]
    for job in jobs:
        job.result()
    return targets


def _install(*options: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *options, f"ziglang=={ZIG_VERSION}"])


def check_toolchain() -> None:
    """Raise UserError unless the pinned Zig toolchain is installed for this interpreter."""
    import importlib.metadata  # takes its time, and what looks at digests does without

    remedy = f"run: {_install()} (or set MYST_RUNTIME_CC)"
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("runtime", "the Zig toolchain that compiles it is not installed", remedy) from error
    if version != ZIG_VERSION:
        problem = f"ziglang is {version}, and other bytes come from it than from {ZIG_VERSION}"
        raise UserError("runtime", problem, remedy)


def compile_image(image: Image, target: Path, cc: str | None = None) -> None:
    """Compile one image to ``target``, an absolute path; raise UserError where the compiler fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not cc:
        check_toolchain()
    with atomic.scratch(target) as scratch:
        output = scratch / target.name
        _run(image, command(image, output, cc))
        atomic.write(target, output.read_bytes(), 0o755)


def _run(image: Image, arguments: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _INFLUENTIAL_VARIABLES}
    # Zig would not do without HOME, and take a relative XDG_CACHE_HOME for one below this directory.
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(user_cache.home() / "zig"))
    where = f"runtime, {image.output}"
    try:
        done = subprocess.run(
            arguments,
            cwd=SOURCE_DIRECTORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        problem = f"the compiler {arguments[0]} can't be started: {error.strerror}"
        raise UserError(where, problem, "correct MYST_RUNTIME_CC") from error
    if done.returncode != 0:
        if arguments[: len(_ZIG)] == list(_ZIG):
            _check_starts(environment)
        remedy = f"see its messages:\n{done.stderr.strip()}\nThe command was: {shlex.join(arguments)}"
        raise UserError(where, f"the compiler failed with status {done.returncode}", remedy)


def _check_starts(environment: Mapping[str, str]) -> None:
    """Raise UserError for a toolchain that does not say its version, as one of which files miss."""
    try:
        said = subprocess.run([*_ZIG, "version"], env=environment, capture_output=True, check=False).stdout
    except OSError:
        said = b""
    if said.decode(errors="replace").strip() != ZIG_VERSION:
        problem = "the Zig toolchain that compiles it is installed and does not start"
        raise UserError("runtime", problem, "run: " + _install("--force-reinstall"))
