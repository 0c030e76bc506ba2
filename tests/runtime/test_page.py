"""docs/runtime.md says what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mystikos_tool.config import schema
from mystikos_tool.runtime import Runtime

PAGE = (Path(__file__).parent.parent.parent / "docs" / "runtime.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = Path(__file__).parent.glob("test_*.py")
    defined = {
        name for source in sources for name in re.findall(r"^def (test_\w+)", source.read_text(), re.M)
    }
    assert len(named) > 40
    assert named - defined == set()


def test_every_key_of_the_configuration_has_a_row_with_a_test() -> None:
    table = PAGE.split("## The configuration, key by key")[1].split("\n### ")[0]
    rows = [line.split("|") for line in table.splitlines() if "`test_" in line and line.startswith("|")]
    described = {word for row in rows for word in re.findall(r"\w+", row[1])}
    assert schema.table()["properties"].keys() - described - {"$schema"} == set()


def test_every_option_of_the_loader_is_described(runtime: Runtime) -> None:
    printed = subprocess.run(
        [runtime.loader, "--myst-help"], capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"--myst-[a-z-]+", printed))
    table = PAGE.split("## Options")[1].split("\n## ")[0]
    assert options == set(re.findall(r"--myst-[a-z-]+", table))
