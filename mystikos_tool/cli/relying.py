"""The verbs for the relying party: ``policy``, ``check-quote`` and ``sgxs``."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError

NOT_AS_EXPECTED = 1


def declare_policy(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``policy``."""
    from mystikos_tool.packaging.policy import FORMS

    parser.add_argument(
        "package", type=Path, help="the package, or signed directory, which is verified first"
    )
    parser.add_argument(
        "--format",
        choices=FORMS,
        default="json",
        help="for whom: check-quote and other programs (json, the default), a shell (env), a C program (c),"
        " Azure Attestation (maa), Open Enclave (oe), Gramine's RA-TLS (gramine), EGo's era (ego)",
    )
    parser.add_argument(
        "--any-version",
        action="store_true",
        help="leave MRENCLAVE out: the signer's later versions of the product are accepted too",
    )
    parser.add_argument(
        "-o", "--outfile", type=Path, metavar="FILE", help="write it there (default: print it)"
    )


def run_policy(options: argparse.Namespace) -> None:
    """Write what a relying party holds the enclave of a package to."""
    from mystikos_tool import library
    from mystikos_tool.io import atomic

    policy = library.policy(options.package, any_version=options.any_version)
    if policy.debug:
        tell("warning: the enclave may be debugged: the machine's owner reads and changes all of it")
    text = policy.render(options.format)
    if options.outfile:
        atomic.write(options.outfile, text.encode())
    else:
        say(text.rstrip("\n"))


def declare_check_quote(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``check-quote``."""
    parser.add_argument("quote", type=Path, help="SGX quote, ECDSA, version 3")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="hold it to what 'policy --format json' wrote"
    )
    parser.add_argument(
        "--collateral",
        type=Path,
        metavar="DIR",
        help="verify signatures, certificates and TCB by the files there (docs/relying-party.md)",
    )
    parser.add_argument(
        "--accept-tcb",
        action="append",
        default=[],
        metavar="STATUS",
        help="with --collateral: accept this TCB status beside UpToDate (repeatable)",
    )
    parser.add_argument(
        "--at", type=_day, metavar="DATE", help="with --collateral: verify as of this day (default: now)"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="what to print (default: text)"
    )


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date, such as 2026-11-27") from None


def run_check_quote(options: argparse.Namespace) -> int:
    """Show a quote and hold it to what is expected; return the exit status: 0 as expected, 1 not so."""
    from mystikos_tool import library
    from mystikos_tool.packaging.verification import VerificationError

    if not options.collateral and (options.accept_tcb or options.at):
        raise UserError("--accept-tcb and --at", "are of use with --collateral only", "give the collateral")
    try:
        checked = library.check_quote(
            options.quote,
            policy=options.policy,
            collateral=options.collateral,
            accepted_tcb=options.accept_tcb,
            at=options.at,
        )
    except VerificationError as error:
        tell(f"error: {error}")
        return NOT_AS_EXPECTED
    say(checked.to_json() if options.format == "json" else checked.to_text())
    for problem in checked.problems:
        tell(f"error: {options.quote}: {problem}")
    return NOT_AS_EXPECTED if checked.problems else 0


def declare_sgxs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sgxs``."""
    parser.add_argument("package", type=Path, help="the package, or a signed directory")
    parser.add_argument("file", type=Path, help="the file to write; its SHA-256 is MRENCLAVE")


def run_sgxs(options: argparse.Namespace) -> None:
    """Export the measured stream of a package."""
    from mystikos_tool import proof

    size = proof.export_sgxs(options.package, options.file)
    say(f"created {options.file}: {size:,} bytes, whose SHA-256 is MRENCLAVE")
