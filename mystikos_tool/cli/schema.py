"""The verb ``schema``."""

from __future__ import annotations

import argparse
import sys


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments: there is one schema."""


def run(options: argparse.Namespace) -> None:
    """Print the schema of the configuration."""
    from mystikos_tool.config import schema

    sys.stdout.write(schema.FILE.read_text(encoding="utf-8"))
