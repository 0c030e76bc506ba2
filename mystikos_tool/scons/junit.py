"""Reports of tests in the XML of JUnit, which CI systems show."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import SCons.Node
import SCons.Script

from mystikos_tool.errors import UserError
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.expectations import Outcome

_SUITE = "mystikos"
_NOT_XML = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_reports: dict[Any, list[Any]] = {}


def add(report: Any, test: Any, outcomes: Mapping[Any, Outcome]) -> None:
    """Let the outcome of a test be in the report that is written when the build has ended."""
    if not _reports:
        write = partial(_write, outcomes)
        scons_internals.before_each_build(lambda: scons_internals.at_end_of_build(write))
    _reports.setdefault(report, []).append(test)


def _write(outcomes: Mapping[Any, Outcome]) -> None:
    """Write every report that a test of this build belongs to."""
    from mystikos_tool.io import atomic

    if scons_internals.only_tells() or SCons.Script.GetOption("clean"):
        return
    for report, tests in _reports.items():
        asked = [test for test in tests if test.get_state() != SCons.Node.no_state]
        if not asked:
            continue
        path = Path(str(report))
        try:
            atomic.make_directory(path.parent)
            atomic.write(path, _xml(asked, outcomes))
        except UserError as error:
            sys.stderr.write(f"mystikos: warning: {error}\n")


def _xml(tests: Sequence[Any], outcomes: Mapping[Any, Outcome]) -> bytes:
    whole = Element("testsuites")
    suite = SubElement(whole, "testsuite", name=_SUITE)
    for test in tests:
        _add_case(suite, test, outcomes.get(test))
    for element in (whole, suite):
        element.set("tests", str(len(tests)))
        element.set("failures", str(len(suite.findall("*/failure"))))
        element.set("errors", str(len(suite.findall("*/error"))))
        element.set("time", f"{sum(float(case.get('time', 0)) for case in suite):.3f}")
    ElementTree.indent(whole)
    text: bytes = ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _add_case(suite: Element, test: Any, outcome: Outcome | None) -> None:
    seconds = outcome.seconds if outcome else 0
    name = str(test).removesuffix(".passed")
    case = SubElement(suite, "testcase", classname=str(test.sources[0]), name=name, time=f"{seconds:.3f}")
    if outcome and outcome.wrong:
        failure = SubElement(case, "failure", message=_text(outcome.wrong[0]))
        failure.text = _text("\n".join(outcome.wrong))
    elif outcome is None and test.get_state() == SCons.Node.up_to_date:
        SubElement(case, "system-out").text = "passed before, and nothing that it depends on has changed"
    elif outcome is None:
        SubElement(case, "error", message="was not run: the build ended before, or its package was not made")


def _text(text: str) -> str:
    """Return text with the characters that no XML has as their numbers."""
    return _NOT_XML.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
