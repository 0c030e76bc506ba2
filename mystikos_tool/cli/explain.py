"""The verbs that explain: ``check``, ``diff``, ``inspect``, ``sbom``, ``provenance`` and ``rebuild``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.archive import (
    assembled,
    declare_choice,
    declare_packing,
    modes_of,
    preserve_modes,
    refuse_packing,
)
from mystikos_tool.cli.package import configuration_of, declare_inputs, inputs_of, tell_warning
from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup

if TYPE_CHECKING:
    from mystikos_tool.explain.provenance import Parameters

if TYPE_CHECKING:
    from mystikos_tool.explain.disks import DiskDifference, DiskReport

ANOTHER_ENCLAVE = 1
CANNOT_WORK = 1
_SEVERITIES = ("error", "warning", "note")

_OPERAND = "a package, a signed directory, a measurement, an archive, an appdir or a disk"


def declare_check(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``check``."""
    parser.add_argument(
        "root", type=Path, help="an appdir, an archive, a disk, a package or a signed directory to look into"
    )
    parser.add_argument("--disk", type=Path, metavar="FILE", help="root of a package that has it on a disk")
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration that the root is held to (default: that of the package, or none)",
    )
    parser.add_argument(
        "--fail-on",
        choices=_SEVERITIES,
        default="error",
        help="end with status 1 for a finding of this severity or a higher one (default: error)",
    )
    _declare_output(parser, ("text", "json"))
    declare_choice(parser, "canonical")


def run_check(options: argparse.Namespace) -> int:
    """Look for what cannot work in an enclave; return the exit status: 0 nothing that fails, 1 something."""
    from mystikos_tool import config
    from mystikos_tool.explain import check
    from mystikos_tool.explain.subject import is_appdir

    if not is_appdir(options.root):
        refuse_packing(options)
    found = check.check(
        options.root,
        config.load(options.config) if options.config else None,
        disk=options.disk,
        exclude=tuple(options.exclude),
        preserve_modes=preserve_modes(options),
    )
    _give(found.to_json() if options.format == "json" else found.to_text(), options)
    return CANNOT_WORK if found.fails(options.fail_on) else 0


def declare_diff(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``diff``."""
    parser.add_argument("a", type=Path, metavar="A", help=_OPERAND)
    parser.add_argument("b", type=Path, metavar="B", help="the other one")
    _declare_output(parser, ("text", "json", "html"))
    declare_choice(parser, "canonical")


def run_diff(options: argparse.Namespace) -> int:
    """Compare two enclaves; return the exit status: 0 the same, 1 another."""
    from mystikos_tool.explain import difference, disks, text
    from mystikos_tool.explain.subject import is_appdir
    from mystikos_tool.root.disk.reader import is_disk

    if is_disk(options.a) or is_disk(options.b):
        refuse_packing(options)
        disks.check_comparable(options.a, options.b)
        compared = disks.compare(options.a, options.b)
        _give_disk(compared, options)
        return 0 if compared.same else ANOTHER_ENCLAVE
    if not (is_appdir(options.a) or is_appdir(options.b)):
        refuse_packing(options)
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
    parser.add_argument("package", type=Path, help="a package, a signed directory or a disk")
    _declare_output(parser, ("text", "json", "html", "svg"))


def run_inspect(options: argparse.Namespace) -> None:
    """Show what is in a package."""
    from mystikos_tool.explain import disks
    from mystikos_tool.explain.report import report
    from mystikos_tool.root.disk.reader import is_disk

    if is_disk(options.package):
        _give_disk(disks.report(options.package), options)
        return
    found = report(options.package)
    if options.format in ("html", "svg"):
        from mystikos_tool.explain import page

        _give((page.of_report if options.format == "html" else page.picture_of)(found), options)
    else:
        _give(found.to_json() if options.format == "json" else found.to_text(), options)


def declare_sbom(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sbom``."""
    parser.add_argument("package", type=Path, help="a package or a signed directory")
    _declare_outfile(parser)


def run_sbom(options: argparse.Namespace) -> None:
    """Write what is in a package as a bill of materials."""
    from mystikos_tool.explain import sbom

    _give(sbom.of_package(options.package), options)


def declare_provenance(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``provenance``."""
    parser.add_argument("package", type=Path, help="the package")
    parser.add_argument("source", type=Path, help="its root: an appdir, an archive, or an ext2 disk")
    parser.add_argument("config", type=Path, help="its configuration")
    declare_inputs(parser)
    declare_packing(parser, "canonical")
    parser.add_argument("--key", metavar="KEY", help="sign the statement with this key, as a DSSE envelope")
    _declare_outfile(parser)


def run_provenance(options: argparse.Namespace) -> None:
    """Write where a package comes from, once its inputs were measured anew."""
    from mystikos_tool import __version__
    from mystikos_tool.explain import dsse, provenance
    from mystikos_tool.io import atomic
    from mystikos_tool.packaging import sections
    from mystikos_tool.root import root
    from mystikos_tool.signing import enclave_key, notation

    is_packed = lookup.is_dir(options.source)
    if not is_packed:
        refuse_packing(options)
    if options.outfile:
        atomic.check_target(options.outfile, packed=options.source if is_packed else None)
    sections.read(options.package)  # before a runtime is compiled
    config = configuration_of(options)
    tree = assembled(options.source, options) if is_packed else None
    payload = provenance.of(
        options.package,
        inputs_of(options, config, root.of(options.source)),
        tree,
        _parameters(options),
        f"pkg:pypi/mystikos-tool@{__version__}",
    ).to_json()
    if options.key:
        key = notation.parse(options.key)
        for warning in key.warnings():
            tell_warning(warning)
        payload = dsse.sealed(payload, enclave_key.for_enclaves(key))
    _give(payload.decode().rstrip("\n"), options)


def _parameters(options: argparse.Namespace) -> Parameters:
    """Return how a package was asked for, its inputs by their names in the current directory."""
    from mystikos_tool.explain import provenance

    def name(path: Path) -> str:
        return provenance.name_of(path, Path.cwd())

    return provenance.Parameters(
        source=name(options.source),
        config=name(options.config),
        settings=dict(options.settings),
        runtime=name(options.runtime) if options.runtime else provenance.EMBEDDED,
        pubkeys=tuple(map(name, options.pubkey)),
        roothashes=tuple(map(name, options.roothash)),
        modes=modes_of(options),
        exclude=tuple(options.exclude),
        overlay=tuple(map(name, options.overlay)),
        chmod={pattern: f"{mode:04o}" for pattern, mode in options.chmod},
        strip=options.strip,
    )


def declare_rebuild(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``rebuild``."""
    parser.add_argument("package", type=Path, help="the package")
    parser.add_argument(
        "--from",
        type=Path,
        required=True,
        dest="statement",
        metavar="PROVENANCE",
        help="what 'provenance' wrote of it",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the inputs lie by the names that they have there (default: the current directory)",
    )
    parser.add_argument(
        "--input",
        type=_place,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="an input that lies elsewhere: source, config, runtime, pubkey/0, roothash/0 or overlay/0"
        " (repeatable)",
    )
    parser.add_argument("--signer", metavar="KEY", help="who has to have signed the package, as for verify")
    parser.add_argument(
        "--statement-signer",
        metavar="KEY",
        help="who has to have signed the statement: a PEM file of a key or a certificate, or another key"
        " (default: held to the package's signer where it names that one)",
    )


def _place(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=PATH")
    return name, Path(path)


def run_rebuild(options: argparse.Namespace) -> int:
    """Make a package again; return the exit status: 0 it is what its inputs give, 1 it is not."""
    from mystikos_tool.explain import text
    from mystikos_tool.explain.rebuilding import rebuild
    from mystikos_tool.packaging.verification import Expectations, VerificationError
    from mystikos_tool.signing import expectation

    try:
        rebuilt = rebuild(
            options.package,
            options.statement,
            directory=options.directory,
            places=dict(options.input),
            expected=Expectations(mrsigner=expectation.signer(options.signer)),
            signed_by=expectation.modulus(options.statement_signer) if options.statement_signer else None,
            warn=tell_warning,
        )
    except VerificationError as error:
        tell(f"error: {error}")
        return ANOTHER_ENCLAVE
    if rebuilt.verification:
        say(f"{options.package}: rebuilt and verified\n{rebuilt.verification.to_text()}")
        return 0
    assert rebuilt.difference is not None  # noqa: S101
    tell(f"error: {options.package}: is not what the inputs of {options.statement} give; B is what they give")
    say(text.of(rebuilt.difference))
    return ANOTHER_ENCLAVE


def _declare_output(parser: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    parser.add_argument("--format", choices=formats, default="text", help="what to write (default: text)")
    _declare_outfile(parser)


def _declare_outfile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--outfile", type=Path, metavar="FILE", help="write it here (default: print it)"
    )


def _give_disk(found: DiskReport | DiskDifference, options: argparse.Namespace) -> None:
    if options.format not in ("text", "json"):
        raise UserError("--format", f"of a disk there is no {options.format}", "give text or json")
    _give(found.to_json() if options.format == "json" else found.to_text(), options)


def _give(text: str, options: argparse.Namespace) -> None:
    from mystikos_tool.io import atomic

    if options.outfile:
        atomic.write(options.outfile, text.encode() + b"\n")
    else:
        say(text)
