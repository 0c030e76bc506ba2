"""The verbs that look into a package: ``dump-sgx`` and ``verify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.packaging.disk_verification import DiskVerification
    from mystikos_tool.packaging.verification import Verification

NOT_AS_EXPECTED = 1


def declare_dump(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``dump-sgx``."""
    parser.add_argument("package", type=Path, help="the package")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    for name in ("mrenclave", "mrsigner"):
        shown.add_argument(f"--{name}", action="store_true", help=f"print {name.upper()} alone")


def run_dump(options: argparse.Namespace) -> None:
    """Show what a package says about itself."""
    from mystikos_tool.packaging.inspection import inspect

    inspection = inspect(options.package)
    for name in ("mrenclave", "mrsigner"):
        if getattr(options, name):
            say(getattr(inspection.identity, name).hex())
            return
    say(inspection.to_json() if options.json else inspection.to_text())


def declare_verify(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``verify``."""
    parser.add_argument("package", type=Path, help="the package, a signed directory or a disk")
    expected = parser.add_argument_group("what is expected; anything else ends with exit status 1")
    expected.add_argument(
        "--signer",
        metavar="KEY",
        help="who signed: a PEM file of a key or a certificate, another key as pkcs11:…, or MRSIGNER in"
        " hexadecimal",
    )
    expected.add_argument("--mrsigner", metavar="HEX", help="MRSIGNER, 64 hexadecimal digits")
    expected.add_argument("--mrenclave", metavar="HEX", help="MRENCLAVE, 64 hexadecimal digits")
    expected.add_argument(
        "--disk", type=Path, metavar="FILE", help="a disk that the package trusts, which is whole"
    )
    expected.add_argument(
        "--roothash", metavar="HASH", help="root hash of a disk: 64 hexadecimal digits or a file with them"
    )
    expected.add_argument("--product", type=int, metavar="N", help="ProductID")
    expected.add_argument("--min-svn", type=int, metavar="N", help="the lowest SecurityVersion")
    expected.add_argument("--no-debug", action="store_true", help="no enclave that can be debugged")
    expected.add_argument(
        "--loader",
        type=Path,
        metavar="FILE",
        help="the host program (default: the embedded one is recognized)",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="what to print (default: text)"
    )


def run_verify(options: argparse.Namespace) -> int:
    """Verify a package; return the exit status: 0 as expected, 1 not so."""
    from mystikos_tool import library
    from mystikos_tool.packaging.verification import VerificationError, refusal
    from mystikos_tool.root.disk.reader import is_disk

    verified: Verification | DiskVerification
    try:
        if is_disk(options.package):
            verified = _verified_disk(options)
        elif options.roothash:
            raise UserError("--roothash", "is of use with a disk only", "name the disk, or leave it out")
        else:
            verified = library.verify(
                options.package,
                signer=options.signer,
                mrenclave=options.mrenclave,
                mrsigner=options.mrsigner,
                product_id=options.product,
                min_security_version=options.min_svn,
                no_debug=options.no_debug,
                loader=options.loader,
                disk=options.disk,
            )
    except VerificationError as error:
        tell(f"error: {error}")
        if options.format == "json":
            say(refusal(error))
        return NOT_AS_EXPECTED
    say(
        verified.to_json()
        if options.format == "json"
        else f"{options.package}: verified\n{verified.to_text()}"
    )
    return 0


def _verified_disk(options: argparse.Namespace) -> DiskVerification:
    """Verify a disk; refuse what can be expected of packages only."""
    from mystikos_tool import library

    names = ("mrsigner", "mrenclave", "product", "min_svn", "no_debug", "loader", "disk")
    for name in names:
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(option, "is expected of packages, and this is a disk", "leave it out")
    return library.verify_disk(options.package, signer=options.signer, roothash=options.roothash)
