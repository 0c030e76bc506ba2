"""The verbs that sign in two steps: ``digest`` and ``attach``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mystikos_tool.cli.verb import say


def declare_digest(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``digest``."""
    parser.add_argument(
        "package", type=Path, help="the package, or signed directory, signed by a development key"
    )
    parser.add_argument(
        "-o",
        "--outfile",
        type=Path,
        metavar="NAME",
        help="write NAME.digest and NAME.statement.json (default: beside the package, by its name)",
    )


def run_digest(options: argparse.Namespace) -> None:
    """Write what is to be signed so that a package gets another signature."""
    from mystikos_tool import library
    from mystikos_tool.io import atomic

    name = options.outfile or options.package
    statement, digest = Path(f"{name}.statement.json"), Path(f"{name}.digest")
    for target in (statement, digest):
        atomic.check_target(target, (options.package,))
    stated = library.statement(options.package)
    atomic.write(statement, stated.to_json())
    atomic.write(digest, stated.digest)
    say(stated.to_text())
    say(f"created {digest}: 32 bytes to be signed; {statement} says what they stand for")


def declare_attach(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``attach``."""
    parser.add_argument("package", type=Path, help="the package or signed directory that the statement is of")
    parser.add_argument("statement", type=Path, help="the statement that digest wrote")
    parser.add_argument("signature", type=Path, help="the signature over the digest: 384 bytes, big-endian")
    parser.add_argument("key", type=Path, help="PEM file of the signer's public key or certificate")
    parser.add_argument("-o", "--outfile", type=Path, required=True, metavar="FILE", help="the finished one")


def run_attach(options: argparse.Namespace) -> None:
    """Finish a package with a signature that was made elsewhere."""
    from mystikos_tool import library

    read = options.statement, options.signature, options.key
    identity = library.attach(options.outfile, options.package, *read)
    say(
        f"created {options.outfile}: MRENCLAVE {identity.mrenclave.hex()}, MRSIGNER {identity.mrsigner.hex()}"
    )
