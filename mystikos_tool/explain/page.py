"""Reports and differences as pages that need nothing else, and the picture of a layout, from templates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool import errors
from mystikos_tool.explain import text
from mystikos_tool.explain.difference import Difference
from mystikos_tool.explain.picture import in_units, picture
from mystikos_tool.explain.report import Report, ShownFile

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_FILES = 20_000


def of_report(report: Report) -> str:
    """Return a report as HTML, with the picture in it; raise UserError where jinja2 is not installed."""
    files = report.files or ()
    return _rendered(
        "report.html",
        ("page.css", "layout.css"),
        "report.js",
        report=report,
        picture=picture(report),
        tree=list(_tree(files[:_MAX_FILES])),
        left_out=max(len(files) - _MAX_FILES, 0),
        total=sum(file.size for file in files if file.type == "file"),
    )


def of_difference(difference: Difference) -> str:
    """Return a difference as HTML; raise UserError where jinja2 is not installed."""
    return _rendered("difference.html", ("page.css",), None, found=difference, say=text)


def picture_of(report: Report) -> str:
    """Return the picture of a report's page layout as SVG; raise UserError where jinja2 is not installed."""
    style = (_TEMPLATES / "layout.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("layout.svg")
        .render(report=report, picture=picture(report), style=style, standalone=True)
    )


def _rendered(name: str, styles: tuple[str, ...], script: str | None, **values: object) -> str:
    """Return a page that a browser lets run this style and this script only, whatever the rest says."""
    style = "".join((_TEMPLATES / each).read_text(encoding="utf-8") for each in styles)
    code = (_TEMPLATES / script).read_text(encoding="utf-8") if script else ""
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(code) if code else _NOTHING}"
    return (
        _environment()
        .get_template(name)
        .render(style=style, script=code, policy=policy, standalone=False, **values)
    )


_NOTHING = "'none'"


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # an extra
    except ModuleNotFoundError as error:
        if error.name != "jinja2":
            raise
        raise errors.UserError(
            "--format",
            "html and svg need jinja2, which is not installed",
            "pip install 'mystikos-tool[html]'",
        ) from None
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["units"] = in_units
    environment.filters["bytes"] = lambda size: f"{size:,}"
    return environment


class Node(NamedTuple):
    """A step through a tree of files: "open" and "close" a directory, or a "file" or "link".

    ``name`` is the last component of the path; a directory's ``size`` is that of the ``files``
    below it.
    """

    step: str
    name: str
    file: ShownFile
    size: int = 0
    files: int = 0


def _tree(files: tuple[ShownFile, ...]) -> Iterator[Node]:
    """Yield the steps through files that are in the order of their paths."""
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for file in files:
        above = file.path.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            directory = "/".join(above[:depth])
            sizes[directory] = sizes.get(directory, 0) + file.size
            counts[directory] = counts.get(directory, 0) + (file.type != "directory")
    inside: list[ShownFile] = []
    # As a tree is walked: what is in a directory comes right behind it.
    for file in sorted(files, key=lambda one: one.path.split("/")):
        while inside and not file.path.startswith(inside[-1].path + "/"):
            yield Node("close", "", inside.pop())
        name = file.path.rpartition("/")[2]
        if file.type == "directory":
            inside.append(file)
            yield Node("open", name, file, sizes.get(file.path, 0), counts.get(file.path, 0))
        else:
            yield Node("link" if file.target is not None else "file", name, file, file.size)
    while inside:
        yield Node("close", "", inside.pop())
