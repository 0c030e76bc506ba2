"""The pages of docs/ that others are written from say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_layout import REGIONS

from mystikos_tool import config
from mystikos_tool.config import configuration
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.formats.record import Record
from mystikos_tool.package import sections

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> list[str]:
    """The first cells of a page's tables."""
    return [match[1].strip() for match in re.finditer(r"^\|([^|]*)\|", text, re.MULTILINE)]


def test_every_key_of_the_configuration_has_its_row_and_no_other_does() -> None:
    table = (DOCS / "configuration.md").read_text().split("\n## ")[0]
    documented = [row for row in rows(table) if row not in ("key", "---")]
    assert sorted(documented) == sorted(key.name for key in config.KEYS)


@pytest.mark.parametrize(
    ("name", "keys"), [("Mount", configuration._MOUNT), ("Secret", configuration._SECRET)]
)
def test_the_keys_of_mounts_and_secrets_have_their_rows(name: str, keys: tuple[config.Key, ...]) -> None:
    part = re.split(rf"^## {name}$", (DOCS / "configuration.md").read_text(), flags=re.MULTILINE)[1]
    table = part.split("\n## ")[0]
    documented = {key for row in rows(table) for key in row.split(", ") if key not in ("key", "---")}
    assert documented == {key.name for key in keys}


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
