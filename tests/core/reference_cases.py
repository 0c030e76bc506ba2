"""The recorded cases of tests/data (see its README.md), as inputs of the stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from mystikos_tool import config
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root.root import ArchiveRoot, DiskRoot
from mystikos_tool.runtime import Runtime

DATA = Path(__file__).parent.parent / "data"
ARCHIVES = DATA / "expected" / "rootfs"
SIGNING_DAY = date(2026, 1, 2)


def runtime(name: str) -> Runtime:
    """A recorded runtime; it has no bin/myst, ``program`` stands in for it."""
    files = Runtime.at(DATA / name)
    return Runtime(DATA / "program", files.enclave, files.kernel, files.crt)


@dataclass(frozen=True)
class Case:
    """A recorded case: what it is made of and what the reference made of it."""

    name: str
    runtime: str
    appdir: str | None
    config: Path
    key: Path
    pubkeys: tuple[Path, ...]
    roothashes: tuple[Path, ...]
    expected: dict[str, Any]

    @property
    def rejected(self) -> bool:
        return bool(self.expected.get("rejected"))

    @property
    def inputs(self) -> Inputs:
        root = ArchiveRoot(ARCHIVES / f"{Path(self.appdir).name}.cpio") if self.appdir else DiskRoot()
        return Inputs(runtime(self.runtime), config.load(self.config), root, self.pubkeys, self.roothashes)


def _case(row: dict[str, Any]) -> Case:
    return Case(
        row["name"],
        row["runtime"],
        row["appdir"],
        DATA / row["config"],
        DATA / row["key"],
        tuple(DATA / path for path in row.get("pubkeys", ())),
        tuple(DATA / path for path in row.get("roothashes", ())),
        json.loads((DATA / "expected" / f"{row['name']}.json").read_text()),
    )


CASES = {row["name"]: _case(row) for row in json.loads((DATA / "cases.json").read_text())}
