"""The verb ``schema``."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from mystikos_tool.cli.verb import put

# Where the path of each schema is.
_FILES = {
    "config": ("config.schema", "FILE"),
    "verification": ("packaging.verification", "SCHEMA"),
    "difference": ("explain.difference", "SCHEMA"),
    "policy": ("packaging.policy", "SCHEMA"),
    "report": ("explain.report", "SCHEMA"),
    "check": ("explain.check", "SCHEMA"),
    "disk": ("explain.disks", "SCHEMA"),
    "provenance": ("explain.provenance", "SCHEMA"),
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which schema is printed."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=tuple(_FILES),
        default="config",
        help="the configuration, or what verify, diff, policy, inspect, check or provenance print as JSON;"
        " of disks: disk"
        " (default: config)",
    )


def run(options: argparse.Namespace) -> None:
    """Print a schema."""
    module, name = _FILES[options.what]
    file: Path = getattr(import_module(f"mystikos_tool.{module}"), name)
    put(file.read_text(encoding="utf-8"))
