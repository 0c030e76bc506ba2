"""Run programs whose behaviour under Mystikos was recorded, and tell how many do the same here.

python -m behaviour [--verbose] [--only SUBSTRING] [--libc FILE] [DIRECTORY]

DIRECTORY has recorded runs, in the form that behaviour/record.py says; the project's own when it is
not given. Records of dynamic programs need musl's libc.so (Debian: the package musl). Ends with status
1 when a run of the project's own records is not as recorded.
"""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from behaviour.record import Case, Outcome, agrees, read
from behaviour.workshop import Workshop

_OWN = Path(__file__).parent / "own"
_SHOWN_LINES, _WIDTH = 12, 160


def main() -> int:
    """Run all cases and print a table by class and group."""
    arguments = _parser().parse_args()
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)  # which the programs would inherit
    record = read(arguments.directory)
    cases = [case for case in record.cases if arguments.only in case.name]
    with tempfile.TemporaryDirectory(prefix="behaviour-") as name:
        top = Path(name)
        top.chmod(0o755)
        workshop = Workshop(record, top, arguments.libc)
        skipped = {case.name: lack for case in cases if (lack := workshop.lacks(case))}
        cases = [case for case in cases if case.name not in skipped]
        seen = _run(workshop, cases)
    if arguments.verbose:
        for case, outcome in seen:
            _show(case, outcome)
    _print_table(seen)
    for lack in sorted(set(skipped.values())):
        _print(f"  skipped without {lack}: {sum(1 for one in skipped.values() if one == lack)}")
    good = sum(agrees(case, outcome) for case, outcome in seen)
    _print(f"{good} of {len(seen)} as recorded")
    return int(arguments.directory == _OWN and good < len(seen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m behaviour", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=_OWN, help="recorded runs")
    parser.add_argument("--verbose", action="store_true", help="show each run that is not as recorded")
    parser.add_argument("--only", metavar="SUBSTRING", default="", help="cases whose name has this in it")
    parser.add_argument("--libc", metavar="FILE", type=Path, help="musl's libc.so")
    return parser


def _run(workshop: Workshop, cases: list[Case]) -> list[tuple[Case, Outcome]]:
    ordered = sorted(cases, key=lambda case: (case.appdir, case.config))  # few packages at a time
    for case in ordered:
        workshop.expect(case)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(zip(ordered, pool.map(workshop.run, ordered), strict=True))


def _print_table(seen: list[tuple[Case, Outcome]]) -> None:
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for case, outcome in seen:
        for group in (case.group, ""):
            rows[case.kind, group][0] += agrees(case, outcome)
            rows[case.kind, group][1] += 1
    for (kind, group), (good, count) in sorted(rows.items()):
        _print(f"    {group}: {good} of {count}" if group else f"  {kind}: {good} of {count}")


def _show(case: Case, seen: Outcome) -> None:
    if agrees(case, seen):
        return
    _print(f"{case.name} ({case.group}): {case.what}")
    for word, outcome in (("recorded", case.recorded), ("seen", seen)):
        _print(f"    {word}: {outcome.kind}, status {outcome.status}")
    lines = difflib.unified_diff(case.recorded.lines, seen.lines, lineterm="", n=0)
    different = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    for line in different[:_SHOWN_LINES]:
        _print(f"      {line[:_WIDTH]}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
