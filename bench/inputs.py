"""What is built: application directories of given numbers of files, the same in every run."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

_SEED = 20_260_101
_FILES_IN_DIRECTORY = 100
PROGRAM = "bin/app"


def _headers() -> bytes:
    """Return the headers of a position-independent ELF program that names itself as its interpreter."""
    interpreter = f"/{PROGRAM}\0".encode()
    at = 64 + 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, at, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = len(interpreter)
    return header + struct.pack("<IIQQQQQQ", 3, 4, at, at, at, size, size, 1) + interpreter


_HEADERS = _headers()


@dataclass(frozen=True)
class Scenario:
    """A number of apps, each with files of one size in bytes."""

    name: str
    apps: int
    files: int
    file_size: int

    @property
    def all_files(self) -> int:
        """Number of files of all apps."""
        return self.apps * self.files

    @property
    def size(self) -> int:
        """Bytes in the files of all apps."""
        return self.all_files * self.file_size


SCENARIOS = (
    Scenario("100 files, 1 MB", 1, 100, 10_000),
    Scenario("5,000 files, 200 MB", 1, 5_000, 40_000),
    Scenario("20,000 files, 200 MB", 1, 20_000, 10_000),
    Scenario("100,000 files, 100 MB", 1, 100_000, 1_000),
    Scenario("1 app of 20 files", 1, 20, 1_000),
    Scenario("100 apps of 20 files", 100, 20, 1_000),
    Scenario("1,000 apps of 20 files", 1_000, 20, 1_000),
)
MANY_FILES = SCENARIOS[2]
LARGE_FILES = SCENARIOS[1]
MOST_FILES = SCENARIOS[3]
ONE_APP = SCENARIOS[4]
HUNDRED_APPS = SCENARIOS[5]
THOUSAND_APPS = SCENARIOS[6]


def write_apps(scenario: Scenario, directory: Path) -> list[Path]:
    """Write a scenario's application directories; return them."""
    appdirs = [directory / f"app{number:04}" for number in range(scenario.apps)]
    for number, appdir in enumerate(appdirs):
        write_appdir(appdir, scenario.files, scenario.file_size, number)
    return appdirs


def write_appdir(directory: Path, files: int, file_size: int, number: int = 0) -> None:
    """Write ``files`` files of ``file_size`` bytes, the first of them the program."""
    source = random.Random(_SEED + number)
    for count in range(files):
        name = f"d{count // _FILES_IN_DIRECTORY:03}/f{count:05}" if count else PROGRAM
        path = directory / name
        if count % _FILES_IN_DIRECTORY in (0, 1):
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(file_size))
    program = directory / PROGRAM
    program.write_bytes(_HEADERS + program.read_bytes()[len(_HEADERS) :])
    program.chmod(0o755)


def some_file(appdir: Path, files: int) -> Path:
    """Return the path of one of the files of an appdir."""
    count = files // 2
    return appdir / f"d{count // _FILES_IN_DIRECTORY:03}/f{count:05}"


def change_file(path: Path) -> None:
    """Give a file another content of the same size."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def resize_file(path: Path) -> None:
    """Make a file longer by a byte, or as long as it was before that."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] if len(data) % 2 else data + b"\0")


def write_config(path: Path, **settings: object) -> None:
    """Write a configuration whose application is the program of an appdir."""
    given = {"version": "0.1", "Debug": True, "MemorySize": "64m", "ApplicationPath": f"/{PROGRAM}"}
    path.write_text(json.dumps({**given, **settings}) + "\n")
