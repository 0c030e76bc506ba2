"""The pages of docs/ that others are written from say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_layout import REGIONS

from mystikos_tool.config import schema
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.formats.record import Record
from mystikos_tool.packaging import sections

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> list[str]:
    """The first cells of a page's tables."""
    return [match[1].strip() for match in re.finditer(r"^\|([^|]*)\|", text, re.MULTILINE)]


def table_of(keys: schema.Schema) -> list[str]:
    """The rows of docs/configuration.md for the keys of an object of the schema."""

    def accepted(key: str, part: schema.Schema) -> str:
        found = schema.resolve(part)
        default = f"; default {json.dumps(part['default'])}" if "default" in part else ""
        required = "; required" if key in keys["required"] else ""
        return found.get("title", found["x-form"]) + default + required

    def row(key: str, part: schema.Schema) -> str:
        cells = [key, accepted(key, part), part["description"], part.get("x-linux")]
        return f"| {' | '.join(cell for cell in cells if cell is not None)} |"

    return [row(key, part) for key, part in keys["properties"].items()]


def test_the_first_page_leads_to_every_page() -> None:
    first = (DOCS.parent / "README.md").read_text()
    assert [page.name for page in sorted(DOCS.glob("*.md")) if f"(docs/{page.name})" not in first] == []


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("Keys", schema.table()),
        ("Mount", schema.definition("mount")),
        ("Secret", schema.definition("secret")),
    ],
)
def test_the_tables_of_the_configuration_are_those_of_its_schema(heading: str, keys: schema.Schema) -> None:
    page = (DOCS / "configuration.md").read_text()
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    documented = [line for line in part.splitlines() if line.startswith("| ")]
    assert documented[1:] == table_of(keys)


def section(number: int) -> str:
    return re.split(r"^## \d+\. ", (DOCS / "formats.md").read_text(), flags=re.MULTILINE)[number]


@pytest.mark.parametrize(("number", "record"), [(4, OEINFO), (6, sigstruct.SIGSTRUCT)])
def test_the_tables_of_records_start_their_rows_where_fields_are(number: int, record: Record) -> None:
    offsets = [int(row) for row in rows(section(number)) if row.isdigit()]
    fields = {field.offset for field in record.fields.values()}
    reserved = {at for at in offsets if any(record.reserved(bytes(at) + b"\1" + bytes(record.size - at - 1)))}
    assert len(offsets) > 5
    assert set(offsets) <= fields | reserved


def test_the_regions_and_sections_are_named_in_their_order() -> None:
    for names, text in ((REGIONS, section(5)), (sections.SECTIONS, section(7))):
        places = [text.index(f"`{name}`") for name in names]
        assert places == sorted(places)


def test_the_design_names_every_module_of_the_core() -> None:
    page = (DOCS / "design.md").read_text().split("## The core")[1]
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    named = {row[1].strip(" `"): row[2] for row in rows if len(row) == 4}
    for name, text in named.items():
        directory = DOCS.parent / "mystikos_tool" / name
        if name in ("runtime", "errors", "pipeline"):
            continue
        modules = {path.stem for path in directory.glob("*.py")} - {"__init__", "pem_blocks"}
        assert [module for module in sorted(modules) if f"`{module}`" not in text] == [], name
