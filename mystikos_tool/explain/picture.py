"""The picture of an enclave's page layout: where everything is drawn.

A column to scale is beside a map in which every area can be read: its boxes grow with the
logarithm of their sizes, as the bars beside them do, whose axis says so. All lengths are in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mystikos_tool.explain.report import Pages, Report, ShownArea
from mystikos_tool.io.pages import PAGE

WIDTH = 1000
_TOP, _GAP = 118, 3
_LEAST, _STEP = 23.0, 2.6  # height of a page, and what each doubling adds
_COLUMNS, _LEGEND = 3, 24  # of the legend, and the height of its rows
_AXIS_START, _AXIS_END = 736, 966
_MARK = 16  # from one mark of the axis to the next
_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
_KINDS = {"r--": "r", "r-x": "rx", "rw-": "rw", "rwx": "rwx", "---": "guard", "TCS": "tcs"}
_LABELS = {
    "r": "read",
    "rx": "read, execute",
    "rw": "read, write",
    "rwx": "read, write, execute",
    "tcs": "TCS",
    "guard": "guard page",
    "other": "other permissions",
}


@dataclass(frozen=True)
class Part:
    """Pages of one kind as a part of an area's box: top and height."""

    top: float
    height: float
    kind: str
    pages: Pages


@dataclass(frozen=True)
class Box:
    """An area: its box in the map, where it is in the column to scale, and the length of its bar."""

    number: int
    area: ShownArea
    top: float
    height: float
    scale_top: float
    scale_height: float
    bar: float
    parts: tuple[Part, ...]

    @property
    def middle(self) -> float:
        """The height that text is written at."""
        return self.top + self.height / 2

    @property
    def permissions(self) -> str:
        """Those of its pages but guards and trailers, each once."""
        own = [part.pages for part in self.parts if not _is_minor(part.pages)]
        return " ".join(dict.fromkeys(pages.permissions for pages in own)) or "r--"

    @property
    def kind(self) -> str:
        """The kind of most of its pages."""
        return max(self.parts, key=lambda part: part.pages.pages).kind

    @property
    def measured(self) -> str:
        """Whether its pages but guards and trailers are measured."""
        own = {part.pages.measured for part in self.parts if not _is_minor(part.pages)}
        return "not measured" if own == {False} else "measured" if False not in own else "in part"


@dataclass(frozen=True)
class Picture:
    """All boxes, the marks of the logarithmic axis, and the kinds of pages for the legend, in rows."""

    width: int
    height: float
    top: float
    bottom: float
    boxes: tuple[Box, ...]
    marks: tuple[tuple[float, str], ...]
    legend: tuple[tuple[tuple[str, str, bool], ...], ...]


def picture(report: Report) -> Picture:
    """Return where everything is in the picture of a report's areas."""
    heights = [_LEAST + _STEP * math.log2(max(area.size // PAGE, 1)) for area in report.areas]
    bottom = _TOP + sum(heights) + _GAP * (len(heights) - 1)
    largest = max(area.size for area in report.areas)
    marks = tuple(_MARK**step * PAGE for step in range(1 + int(math.log(largest / PAGE, _MARK) + 1e-9)))
    scale = (bottom - _TOP) / report.loaded_size
    boxes, top = [], float(_TOP)
    for number, (area, height) in enumerate(zip(report.areas, heights, strict=True)):
        start = _TOP + (area.offset - report.base) * scale
        bar = _axis(area.size, largest) - _AXIS_START
        boxes.append(
            Box(number, area, top, height, start, area.size * scale, bar, tuple(_parts(area, top, height)))
        )
        top += height + _GAP
    used = {(part.kind, part.pages.measured) for box in boxes for part in box.parts}
    legend = tuple(
        (kind, label, measured)
        for kind, label in _LABELS.items()
        for measured in (True, False)
        if (kind, measured) in used
    )
    shown = tuple((_axis(size, largest), in_units(size)) for size in marks)
    rows = tuple(legend[start : start + _COLUMNS] for start in range(0, len(legend), _COLUMNS))
    return Picture(WIDTH, bottom + _LEGEND * len(rows) + 46, _TOP, bottom, tuple(boxes), shown, rows)


def _axis(size: int, largest: int) -> float:
    """Return where a size is on the logarithmic axis, which begins at half a page."""
    along = (math.log2(size / PAGE) + 1) / (math.log2(largest / PAGE) + 1)
    return _AXIS_START + along * (_AXIS_END - _AXIS_START)


def _parts(area: ShownArea, top: float, height: float) -> list[Part]:
    """Share an area's height among its pages by the logarithm of their numbers."""
    weights = [0.6 if _is_minor(pages) else 2 + math.log2(pages.pages) for pages in area.pages]
    total, parts = sum(weights), []
    for pages, weight in zip(area.pages, weights, strict=True):
        share = height * weight / total
        parts.append(Part(top, share, _KINDS.get(pages.permissions, "other"), pages))
        top += share
    return parts


def _is_minor(pages: Pages) -> bool:
    return pages.what.startswith(("trailer", "guard"))


def in_units(size: int) -> str:
    """Return a size in bytes as people say it, such as 1.5 MB; KB and the others are powers of 1024."""
    for unit, name in _UNITS:
        if size >= unit:
            value = size / unit
            digits = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}".removesuffix(".0")
            return f"{digits} {name}"
    return f"{size:,} bytes"
