"""What was measured, drawn: builds above their floors, and the targets as shares of their limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from bench import builds, targets
from bench.figures import Figures, Name
from bench.inputs import SCENARIOS
from bench.projects import COLUMNS, COMMAND, OURS, TAR
from bench.report import shown, value_of
from bench.rows import CONFIG, EACH, FILE, FULL, KEY, NOTHING

_ROWS = (NOTHING, FILE, KEY, CONFIG, FULL)
_COLOURS = {OURS: "#1257c9", TAR: "#d9730d", COMMAND: "#7a7f87"}
_LABELS = {
    OURS: "mystikos tool",
    TAR: "SCons Tar builder (packs only)",
    COMMAND: "Command that packs everything",
}
_INK, _SOFT, _GRID, _MISSED = "#1d2430", "#5b6472", "#e4e7ec", "#c62828"

_EXPLANATION = "median and range; on the logarithmic scale a line is as long as the factor above the floor"

_WIDTH, _MARGIN = 1080, 28
_HEAD = 108
_PANEL_WIDTH = (_WIDTH - 3 * _MARGIN) / 2
_LABEL_WIDTH, _VALUE_WIDTH = 118, 52
_TITLE_HEIGHT, _AXIS_HEIGHT = 30, 44
_LINE, _GROUP_GAP = 14, 12
_TARGET_LABEL, _TARGET_LINE = 430, 24
_SHARES = (0, 0.5, 1, 1.5)


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis of seconds from ``left`` to ``right`` on the page."""

    left: float
    right: float
    lowest: float
    highest: float

    def at(self, seconds: float) -> float:
        """Return where a value lies."""
        share = math.log(seconds / self.lowest) / math.log(self.highest / self.lowest)
        return self.left + min(max(share, 0), 1) * (self.right - self.left)

    def ticks(self) -> Iterator[float]:
        """Yield 1, 2 and 5 times the powers of ten on the axis."""
        for power in range(math.floor(math.log10(self.lowest)), math.ceil(math.log10(self.highest))):
            for digit in (1, 2, 5):
                if self.lowest <= digit * 10.0**power <= self.highest:
                    yield digit * 10.0**power


def draw(figures: Figures) -> str | None:
    """Return an SVG of everything that was measured of builds and targets; None when there is nothing."""
    scenarios = [each.name for each in SCENARIOS if _cells(each.name, figures)]
    verdicts = targets.verdicts(figures)
    if not (scenarios or verdicts):
        return None
    parts = [_header()]
    top = float(_HEAD)
    ends = _range(scenarios, figures)
    for start in range(0, len(scenarios), 2):
        heights = []
        for place, scenario in enumerate(scenarios[start : start + 2]):
            left = _MARGIN + place * (_PANEL_WIDTH + _MARGIN)
            drawn, height = _panel(scenario, figures, left, top, ends)
            parts.append(drawn)
            heights.append(height)
        top += max(heights) + _MARGIN
    if verdicts:
        drawn, height = _target_panel(verdicts, top)
        parts.append(drawn)
        top += height + _MARGIN
    return _page("\n".join(parts), top)


def _page(body: str, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _header() -> str:
    parts = [_text(_MARGIN, 36, "How long a build takes", size=20, weight=600)]
    left = float(_MARGIN)
    for column in COLUMNS:
        parts.append(f'<circle cx="{left + 5:.1f}" cy="62" r="5" fill="{_COLOURS[column]}"/>')
        parts.append(_text(left + 16, 66, _LABELS[column]))
        left += 44 + 6.6 * len(_LABELS[column])
    parts.append(_line(left + 5, 54, left + 5, 70, _INK, 2.5))
    parts.append(_text(left + 16, 66, "floor: what no build can do without"))
    parts.append(_text(_MARGIN, 84, _EXPLANATION, colour=_SOFT))
    return "\n".join(parts)


def _cells(scenario: str, figures: Figures) -> dict[str, list[str]]:
    """Return the columns that there is a value of, for every row with any."""
    found = {
        row: [column for column in COLUMNS if value_of(scenario, row, column, figures) is not None]
        for row in _ROWS
    }
    return {row: columns for row, columns in found.items() if columns}


def _panel(
    scenario: str, figures: Figures, left: float, top: float, ends: tuple[float, float]
) -> tuple[str, float]:
    """Draw a scenario's builds; return the drawing and its height."""
    cells = _cells(scenario, figures)
    axis = _Axis(left + _LABEL_WIDTH, left + _PANEL_WIDTH - _VALUE_WIDTH, *ends)
    body = sum(len(columns) * _LINE + _GROUP_GAP for columns in cells.values())
    bottom = top + _TITLE_HEIGHT + body
    title = _text(left, top + 16, scenario, size=14, weight=600)
    parts = [title, *_scale(axis, top + _TITLE_HEIGHT - 4, bottom)]
    y = top + _TITLE_HEIGHT
    for row, columns in cells.items():
        parts.extend(_group(scenario, row, columns, figures, axis, left, y))
        y += len(columns) * _LINE + _GROUP_GAP
    return "\n".join(parts), _TITLE_HEIGHT + body + _AXIS_HEIGHT


def _range(scenarios: Iterable[str], figures: Figures) -> tuple[float, float]:
    """Return the seconds that every axis begins and ends with: all values and all floors are between."""
    known = [1.0]
    for scenario in scenarios:
        for row, columns in _cells(scenario, figures).items():
            known.append(builds.floor_of(scenario, row, figures) or 1.0)
            for column in columns:
                known.extend(_values(scenario, row, column, figures))
    return min(known) * 0.85, max(known) * 1.1


def _values(scenario: str, row: str, column: str, figures: Figures) -> list[float]:
    return figures.values[Name(scenario, EACH if column == COMMAND else row, column)]


def _scale(axis: _Axis, top: float, bottom: float) -> Iterator[str]:
    for tick in axis.ticks():
        x = axis.at(tick)
        yield _line(x, top, x, bottom, _GRID)
        yield _text(x, bottom + 15, f"{tick:g}", colour=_SOFT, anchor="middle", size=11)
    yield _line(axis.left, bottom, axis.right, bottom, _SOFT)
    middle = (axis.left + axis.right) / 2
    yield _text(middle, bottom + 31, "elapsed time in seconds", colour=_SOFT, anchor="middle", size=11)


def _group(
    scenario: str, row: str, columns: list[str], figures: Figures, axis: _Axis, left: float, top: float
) -> Iterator[str]:
    height = len(columns) * _LINE
    floor = builds.floor_of(scenario, row, figures)
    start = axis.at(floor) if floor else axis.left
    yield _text(left, top + height / 2 + 4, row)
    for number, column in enumerate(columns):
        y = top + number * _LINE + _LINE / 2
        value = value_of(scenario, row, column, figures)
        values = _values(scenario, row, column, figures)
        x, colour = axis.at(value or 0), _COLOURS[column]
        yield _line(start, y, x, y, colour, 2, opacity=0.45)
        yield _line(axis.at(min(values)), y, axis.at(max(values)), y, colour, 5, opacity=0.35)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
        after = max(x + 9, axis.at(max(values)) + 6)
        weight = 600 if column == OURS else 400
        yield _text(after, y + 4, shown(value), colour=colour, size=11, weight=weight)
    if floor:
        yield _line(start, top - 1, start, top + height + 1, _INK, 2.5)


def _target_panel(verdicts: list[targets.Verdict], top: float) -> tuple[str, float]:
    """Draw every target as a share of its limit; return the drawing and its height."""
    left, right = _MARGIN + _TARGET_LABEL, _WIDTH - _MARGIN - 170
    bottom = top + _TITLE_HEIGHT + 8 + len(verdicts) * _TARGET_LINE
    scale = (right - left) / _SHARES[-1]
    parts = [_text(_MARGIN, top + 16, "Measured, as a share of the target's limit", size=14, weight=600)]
    for share in _SHARES:
        x = left + share * scale
        limit = share == 1
        parts.append(_line(x, top + _TITLE_HEIGHT, x, bottom, _INK if limit else _GRID, 2 if limit else 1))
        label = "100 % (limit)" if limit else f"{share:.0%}".replace("%", " %")
        parts.append(_text(x, bottom + 16, label, colour=_INK if limit else _SOFT, anchor="middle", size=11))
    for number, verdict in enumerate(verdicts):
        y = top + _TITLE_HEIGHT + 8 + number * _TARGET_LINE
        share = max(verdict.value / verdict.limit, 0)
        colour = _COLOURS[OURS] if verdict.met else _MISSED
        width = min(share, _SHARES[-1]) * scale
        parts.append(_text(_MARGIN, y + 13, verdict.target.name))
        parts.append(
            f'<rect x="{left}" y="{y + 3:.1f}" width="{width:.1f}" height="13" rx="2" fill="{colour}"/>'
        )
        unit = verdict.target.unit
        amounts = f"{shown(verdict.value, unit)} of {shown(verdict.limit, unit)}"
        parts.append(_text(_WIDTH - _MARGIN, y + 14, amounts, colour=colour, anchor="end", weight=600))
    return "\n".join(parts), bottom - top + 24


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    colour: str = _INK,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, *, opacity: float = 1
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-opacity="{opacity}"/>'
    )
