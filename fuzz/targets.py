"""The fuzz targets: what each is compiled from, and the options that its fuzzer takes."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = HERE.parent / "mystikos_tool" / "runtime"
CORPUS = HERE / "corpus"
BUILD = HERE.parent / "build" / "fuzz"
COMPILER = shlex.split(os.environ.get("FUZZ_CC", "clang"))

_CONFIG = ("common/config_reader.c", "common/error.c", "common/json.c")
_ARCHIVE = ("kernel/archive.c", "kernel/path.c", "common/error.c")
_DISK = (
    *(f"kernel/{name}.c" for name in ("fssig", "public_key", "read", "rsa_key", "verity")),
    *("common/error.c", "common/sha256.c"),
)
_UNPACK = ("kernel/unpack.c", "kernel/write.c", "kernel/write_behind.c")
_REFUSALS = ("myst_refuse", "myst_refuse_errno")
# What reads what others wrote, and how many of 100 lines of each the inputs run at least.
READERS = (
    *(f"common/{name}.c" for name in ("config_reader", "elf", "interpreter", "json", "rsa")),
    *("crt/policy.c", "crt/program.c"),
    *(f"kernel/{name}.c" for name in ("app_environment", "archive", "ext2", "rsa_key")),
    *(f"loader/{name}.c" for name in ("einit", "image", "layout", "measure", "options")),
)
LEAST_COVERAGE = 95.0
_EINIT = ("loader/einit.c", "common/rsa.c", "common/sha256.c")


@dataclass(frozen=True)
class Target:
    """A file ``fuzz_<name>.c``, the runtime's sources that it is linked with, its largest input in bytes.

    ``wrapped`` are the functions that the target puts its own in place of.
    """

    name: str
    sources: tuple[str, ...]
    max_size: int
    dictionary: str | None = None
    wrapped: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Return the compiler's arguments but for its sanitizers and output."""
        return [
            "-std=c11",
            "-D_GNU_SOURCE",
            "-g",
            "-pthread",
            f"-I{RUNTIME}",
            str(HERE / f"fuzz_{self.name}.c"),
            *(str(RUNTIME / source) for source in self.sources),
            *(f"-Wl,--wrap={name}" for name in self.wrapped),
        ]

    @property
    def corpus(self) -> list[Path]:
        """Return the inputs that are kept in the tree."""
        return sorted((CORPUS / self.name).iterdir())


TARGETS = (
    Target("config", _CONFIG, 4096, "config.dict"),
    Target("archive", _ARCHIVE, 4096, "archive.dict"),
    Target(
        "unpack",
        (*_ARCHIVE, *_UNPACK),
        4096,
        "archive.dict",
        ("open", "openat", "mkdirat", "symlinkat", "fchmodat", *_REFUSALS),
    ),
    Target("image", ("loader/image.c", "common/elf.c", "common/error.c"), 8192, "elf.dict"),
    Target(
        "package",
        (
            "loader/layout.c",
            "loader/measure.c",
            "loader/memory.c",
            "loader/package.c",
            "loader/reading.c",
            *_CONFIG,
            "loader/image.c",
            "common/elf.c",
            *_EINIT,
        ),
        32768,
        "elf.dict",
    ),
    Target("einit", ("common/error.c", *_EINIT), 1961, None, ("myst_rsa_check",)),
    Target("disk", _DISK, 20480, "disk.dict"),
    Target("ext2", (*_DISK, "kernel/disk.c", "kernel/ext2.c", "kernel/fuse.c"), 16384, "ext2.dict"),
    Target("options", ("loader/options.c", "common/error.c"), 512, "options.dict"),
    Target(
        "mounts",
        ("kernel/mounts.c", *dict.fromkeys((*_CONFIG, *_ARCHIVE)), "kernel/tmpfs.c", *_UNPACK),
        4096,
        "config.dict",
        _REFUSALS,
    ),
    Target(
        "stacks",
        ("crt/stacks.c", "common/error.c"),
        2048,
        None,
        ("ptrace", "process_vm_readv", "waitpid", "prlimit", "kill", "myst_note"),
    ),
    Target(
        "appenv",
        ("kernel/app_environment.c", "common/error.c", "common/json.c"),
        4096,
        "config.dict",
        ("malloc", "realloc", "free", "strdup", "asprintf", "open", *_REFUSALS),
    ),
    Target("enclave", (), 1024),
    Target(
        "program",
        ("crt/program.c", "crt/scripts.c", "crt/own_files.c", "common/interpreter.c", "common/error.c"),
        4096,
        "elf.dict",
    ),
    Target(
        "filter",
        ("crt/filter.c", "crt/policy.c", "crt/rules.c", "crt/calls.c", "common/error.c"),
        53,
        None,
        ("syscall",),
    ),
)
