"""The verb ``schema``."""

from __future__ import annotations

import argparse
import sys


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which schema is printed."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=("config", "verification", "policy"),
        default="config",
        help="the configuration, or what verify --json or policy prints (default: config)",
    )


def run(options: argparse.Namespace) -> None:
    """Print a schema."""
    from mystikos_tool.config import schema
    from mystikos_tool.packaging import policy, verification

    files = {"config": schema.FILE, "verification": verification.SCHEMA, "policy": policy.SCHEMA}
    file = files[options.what]
    sys.stdout.write(file.read_text(encoding="utf-8"))
