"""The recorded disks of tests/data (see its README.md), and the tools that others check disks with."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mystikos_tool.formats.ext2_reader import Filesystem
from mystikos_tool.root.disk.nodes import nodes_of
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import Tree

DATA = Path(__file__).parent.parent / "data" / "disks"


def scan(directory: Path, **options: bool) -> Tree:
    """The tree of a directory."""
    return DirectorySource(directory, **options).tree()


@dataclass(frozen=True)
class Recorded:
    """A recorded disk: its bytes, what is known of it, and what it was made of."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def image(self) -> bytes:
        return gzip.decompress((self.directory / f"{self.name}.img.gz").read_bytes())

    @property
    def case(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "case.json").read_text()))

    @property
    def tree(self) -> dict[bytes, dict[str, Any]]:
        rows = json.loads((self.directory / "tree.json").read_text())
        return {row["path"].encode("latin-1"): row for row in rows}

    @property
    def keys(self) -> tuple[Path, Path]:
        """The private and the public key."""
        name = self.case["key"]
        return self.directory / f"{name}.pem", self.directory / f"{name}.pub"


RECORDED = [Recorded(path) for path in sorted(DATA.iterdir())]
SIGNED = [disk for disk in RECORDED if disk.case["key"]]
PLAIN = [disk for disk in RECORDED if not disk.case["luks"]]


def filesystem(data: bytes, size: int | None = None) -> Filesystem:
    return Filesystem(
        lambda offset, count: data[offset : offset + count], len(data) if size is None else size, "disk"
    )


def tool(name: str) -> str:
    """The path of a tool; the test is skipped where the machine lacks it."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path, stdin: bytes = b"") -> str:
    """What a tool prints; the test fails when the tool does."""
    done = subprocess.run(
        [tool(str(command[0])), *map(str, command[1:])], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.decode(errors="replace")


def nodes(directory: Path) -> Any:
    return nodes_of(scan(directory, preserve_modes=True))
