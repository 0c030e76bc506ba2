"""The verbs that look into a package: ``dump-sgx`` and ``verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mystikos_tool.cli.verb import say


def declare_dump(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``dump-sgx``."""
    parser.add_argument("package", type=Path, help="the package")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run_dump(options: argparse.Namespace) -> None:
    """Show what a package says about itself."""
    from mystikos_tool.packaging.inspection import inspect

    inspection = inspect(options.package)
    say(inspection.to_json() if options.json else inspection.to_text())


def declare_verify(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``verify``."""
    parser.add_argument("package", type=Path, help="the package")


def run_verify(options: argparse.Namespace) -> None:
    """Verify a package."""
    from mystikos_tool import pipeline

    identity = pipeline.verify(options.package)
    say(
        f"{options.package} is sound: MRENCLAVE {identity.mrenclave.hex()},"
        f" MRSIGNER {identity.mrsigner.hex()}, product {identity.product_id},"
        f" security version {identity.security_version}, debug {'on' if identity.debug else 'off'}"
    )
