"""The verbs that explain: ``diff`` and ``inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mystikos_tool.cli.archive import declare_modes, preserve_modes
from mystikos_tool.cli.verb import say

ANOTHER_ENCLAVE = 1

_OPERAND = "a package, a signed directory, a measurement, an archive or an appdir"


def declare_diff(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``diff``."""
    parser.add_argument("a", type=Path, metavar="A", help=_OPERAND)
    parser.add_argument("b", type=Path, metavar="B", help="the other one")
    _declare_output(parser, ("text", "json", "html"))
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out of an appdir what matches, as MYST_ROOTFS_EXCLUDE (repeatable)",
    )
    declare_modes(parser, "canonical")


def run_diff(options: argparse.Namespace) -> int:
    """Compare two enclaves; return the exit status: 0 the same, 1 another."""
    from mystikos_tool.explain import difference, text

    found = difference.compare(
        options.a, options.b, exclude=tuple(options.exclude), preserve_modes=preserve_modes(options)
    )
    if options.format == "html":
        from mystikos_tool.explain import page

        _give(page.of_difference(found), options)
    else:
        _give(found.to_json() if options.format == "json" else text.of(found), options)
    return 0 if found.same else ANOTHER_ENCLAVE


def declare_inspect(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``inspect``."""
    parser.add_argument("package", type=Path, help="a package or a signed directory")
    _declare_output(parser, ("text", "json", "html", "svg"))


def run_inspect(options: argparse.Namespace) -> None:
    """Show what is in a package."""
    from mystikos_tool.explain.report import report

    found = report(options.package)
    if options.format in ("html", "svg"):
        from mystikos_tool.explain import page

        _give((page.of_report if options.format == "html" else page.picture_of)(found), options)
    else:
        _give(found.to_json() if options.format == "json" else found.to_text(), options)


def _declare_output(parser: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    parser.add_argument("--format", choices=formats, default="text", help="what to write (default: text)")
    parser.add_argument(
        "-o", "--outfile", type=Path, metavar="FILE", help="write it here (default: print it)"
    )


def _give(text: str, options: argparse.Namespace) -> None:
    from mystikos_tool.io import atomic

    if options.outfile:
        atomic.write(options.outfile, text.encode() + b"\n")
    else:
        say(text)
