"""The verb ``schema``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

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
    sys.stdout.write(file.read_text(encoding="utf-8"))
