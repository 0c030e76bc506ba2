"""What becomes of measured values: medians, targets, tables and the plot."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from bench import plot, report, targets
from bench.figures import BYTES, TIMES, Figures, Name
from bench.inputs import MANY_FILES, THOUSAND_APPS
from bench.projects import COMMAND, OURS, TAR
from bench.rows import (
    CONFIG,
    EACH,
    EMPTY,
    FILE,
    FIRST,
    FLOOR,
    FULL,
    HASH,
    INSTALLED,
    KEY,
    MACHINE,
    NOTHING,
    WALK,
    WRITE,
    memory,
    two_jobs,
)

_MACHINE: dict[str, object] = {
    "processor": "a processor",
    "cores": 2,
    "kernel": "6",
    "python": "3",
    "scons": "4",
    "load_before": 0.1,
}


@pytest.fixture
def figures() -> Figures:
    """Two scenarios: 20,000 files by three ways, a thousand apps by ours."""
    figures = Figures()
    for part, value in ((EMPTY, 0.1), (WALK, 0.1), (HASH, 0.2), (WRITE, 0.3)):
        figures.add(Name(MANY_FILES.name, part, FLOOR), value)
    for value in (0.2, 0.9, 0.25):
        figures.add(Name(MANY_FILES.name, NOTHING, OURS), value)
    figures.add(Name(MANY_FILES.name, FULL, OURS), 2.0)
    figures.add(Name(MANY_FILES.name, memory(FULL), OURS), 70e6, BYTES)
    figures.add(Name(MANY_FILES.name, NOTHING, TAR), 4.4)
    figures.add(Name(MANY_FILES.name, EACH, COMMAND), 2.5)
    figures.add(Name(THOUSAND_APPS.name, NOTHING, OURS), 0.5)
    return figures


def test_a_target_holds_medians_against_the_floors_of_the_same_run(figures: Figures) -> None:
    found = {verdict.target.name: verdict for verdict in targets.verdicts(figures)}
    nothing = found["20,000 files, nothing to do"]
    assert (nothing.value, round(nothing.limit, 6), nothing.met) == (0.25, 0.3, True)
    assert found["1,000 apps, nothing to do, an app"].met
    assert not found["20,000 files, full build, memory above an empty SConstruct"].met


def test_limits_in_seconds_grow_on_a_slower_machine_and_no_other_limit_does(figures: Figures) -> None:
    before = {verdict.target.name: verdict for verdict in targets.verdicts(figures)}
    for empty, slower in ((0.05, 1), (0.34, 2)):
        figures.values[Name(MACHINE, EMPTY, FLOOR)] = [empty]
        after = {verdict.target.name: verdict for verdict in targets.verdicts(figures)}
        for name, verdict in before.items():
            grown = slower if name == "1,000 apps, nothing to do, an app" else 1
            assert after[name].limit == pytest.approx(verdict.limit * grown)
            assert (f"{slower:.1f} x" in after[name].limit_text) == (grown > 1)


def test_a_limit_set_beside_an_earlier_version_is_the_same_share_of_what_that_takes_here(
    figures: Figures,
) -> None:
    figures.add(Name(MACHINE, EMPTY, FLOOR), 0.34)  # which says less
    figures.add(Name(THOUSAND_APPS.name, NOTHING, targets.EARLIER), 2.26)
    found = {verdict.target.name: verdict for verdict in targets.verdicts(figures)}
    thousand = found["1,000 apps, nothing to do, an app"]
    assert thousand.limit == pytest.approx(0.0012)
    assert thousand.limit_text == f"0.6 ms x 2.00: {targets.EARLIER} takes 2.00 x as long as where it was set"
    assert thousand.limit_text in report.as_markdown(figures, _MACHINE)


def test_another_earlier_version_has_a_column_and_changes_no_limit(figures: Figures) -> None:
    before = [verdict.limit for verdict in targets.verdicts(figures)]
    figures.add(Name(THOUSAND_APPS.name, NOTHING, "0123456"), 2.2)
    assert [verdict.limit for verdict in targets.verdicts(figures)] == before
    head, nothing, *_ = report.build_table(THOUSAND_APPS.name, figures)
    assert (head[-1], nothing[-1]) == ("0123456", "2.20 s")


def test_two_jobs_are_held_against_one_from_run_to_run() -> None:
    figures = Figures()
    for share in (0.7, 0.5, 0.6):
        figures.add(Name(INSTALLED, two_jobs(100), OURS), share, TIMES)
    (verdict,) = targets.verdicts(figures)
    assert (verdict.value, verdict.met) == (0.6, False)
    assert verdict.limit == pytest.approx(1 / 1.7)
    assert "0.60 x" in report.as_text(figures)


def test_a_target_of_which_something_was_not_measured_is_left_out(figures: Figures) -> None:
    assert {verdict.target.name for verdict in targets.verdicts(figures)} == {
        "20,000 files, nothing to do",
        "1,000 apps, nothing to do, an app",
        "20,000 files, full build, memory above an empty SConstruct",
    }


def test_a_table_shows_floors_medians_and_what_packs_everything_in_every_row(figures: Figures) -> None:
    head, *rows = report.build_table(MANY_FILES.name, figures)
    assert head == (MANY_FILES.name, "floor", OURS, TAR, COMMAND)
    assert {row: cells for row, *cells in rows} == {
        NOTHING: ["0.20 s", "0.25 s", "4.40 s", "2.50 s"],
        FIRST: ["0.20 s", "-", "-", "2.50 s"],
        FILE: ["1.00 s", "-", "-", "2.50 s"],
        KEY: ["0.50 s", "-", "-", "2.50 s"],
        CONFIG: ["0.70 s", "-", "-", "2.50 s"],
        FULL: ["1.00 s", "2.00 s", "-", "2.50 s"],
    }


def test_text_and_markdown_have_every_table(figures: Figures) -> None:
    for text in (report.as_text(figures), report.as_markdown(figures, _MACHINE)):
        for part in (MANY_FILES.name, THOUSAND_APPS.name, "NOT met", "70.0 MB", "0.5 ms"):
            assert part in text, part


def test_the_json_has_every_value(figures: Figures) -> None:
    document = json.loads(report.as_json(figures, _MACHINE))
    nothing = next(f for f in document["figures"] if (f["row"], f["column"]) == (NOTHING, OURS))
    assert (nothing["min"], nothing["median"], nothing["max"], len(nothing["values"])) == (0.2, 0.25, 0.9, 3)
    assert [target["met"] for target in document["targets"]] == [True, True, False]


def test_the_plot_is_an_svg_with_every_scenario_way_and_target(figures: Figures) -> None:
    drawn = plot.draw(figures)
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {MANY_FILES.name, THOUSAND_APPS.name, "elapsed time in seconds", "4.40 s"} <= texts
    assert "20,000 files, nothing to do" in texts


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot.draw(Figures()) is None
    assert report.as_text(Figures()) == ""
