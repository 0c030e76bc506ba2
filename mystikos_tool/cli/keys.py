"""The verbs for keys: ``keygen``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mystikos_tool.cli.verb import say


def declare_keygen(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``keygen``."""
    parser.add_argument("file", type=Path, help="the key file to make; nothing is overwritten")


def run_keygen(options: argparse.Namespace) -> None:
    """Make a key."""
    from mystikos_tool.formats.sigstruct import mrsigner
    from mystikos_tool.signing import pem

    key = pem.generate(options.file)
    say(f"created {options.file}: RSA-3072, exponent 3, MRSIGNER {mrsigner(key.modulus).hex()}")
