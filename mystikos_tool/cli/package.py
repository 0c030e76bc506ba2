"""The verbs that make something signed: ``package-sgx`` and ``sign-sgx``."""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli import image
from mystikos_tool.cli.archive import declare_packing, declare_secrets, refuse_packing, tree_of
from mystikos_tool.cli.verb import check_target, say, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mystikos_tool.config import Config
    from mystikos_tool.pipeline import Inputs, Planned
    from mystikos_tool.root.oci.process import Start
    from mystikos_tool.root.root import Root
    from mystikos_tool.signing.named_key import NamedKey
    from mystikos_tool.signing.signer import Signer

_ENGINE = ("--signing-engine-name", "--signing-engine-path", "--signing-engine-key")


def declare_package(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``package-sgx``."""
    parser.add_argument(
        "appdir",
        nargs="?",
        type=Path,
        help="directory that becomes the root file system; without it, --rootfs and --image the root is an"
        " ext2 disk",
    )
    _declare_signing(parser)
    parser.add_argument(
        "--rootfs",
        type=Path,
        metavar="FILE",
        help="take this archive, or this ext2 disk, instead of packing an appdir",
    )
    image.declare(parser)
    declare_packing(parser, "canonical")
    declare_secrets(parser, "the root")
    parser.add_argument(
        "-o", "--outfile", type=Path, metavar="FILE", help="the package (default: myst/bin/NAME)"
    )


def run_package(options: argparse.Namespace) -> None:
    """Make a package."""
    with _opened_key(options) as key:
        _package(options, key)


def _package(options: argparse.Namespace, key: NamedKey) -> None:
    from mystikos_tool import pipeline
    from mystikos_tool.root.root import DiskRoot
    from mystikos_tool.root.root import of as root_of

    root = _only_root(options)
    if not options.image:
        image.refuse(options)
    # What the configuration leaves open an image says.
    tree, start = image.packed(options) if options.image else (None, None)
    config = configuration_of(options, start)
    signer, day = _signing(key)
    target = options.outfile or Path("myst", "bin", config.application_name)
    _check_target(target, options)
    if options.appdir:
        tree = tree_of(options.appdir, options)
    elif not options.image:
        refuse_packing(options)
    # As the reference: without an appdir and an archive, the root is a disk.
    planned = pipeline.Planned(tree, root, signer, options.secrets)
    inputs = inputs_of(options, config, root_of(options.rootfs) if options.rootfs else DiskRoot(), planned)
    measured = pipeline.build(
        inputs,
        signer,
        day,
        target,
        tree=tree,
        root=root,
        parents=not options.outfile,
        secrets=options.secrets,
        checkout=str(Path.cwd()),
        warn=tell_warning,
    )
    say(f"created {target}: {target.stat().st_size:,} bytes, MRENCLAVE {measured.mrenclave.hex()}")


def _only_root(options: argparse.Namespace) -> str:
    """Return what messages call the root; raise UserError where two are given."""
    given = [("--image", options.image), ("--rootfs", options.rootfs), ("the appdir", options.appdir)]
    (option, root), *others = [*(pair for pair in given if pair[1]), ("", "the root")]
    if len(others) > 1:
        raise UserError(option, f"cannot go with {others[0][0]} {others[0][1]}", "give one of the two")
    return str(root)


def tell_warning(text: str) -> None:
    """Tell the user of what was accepted and is better changed."""
    tell(f"warning: {text}")


def declare_sign(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sign-sgx``."""
    parser.add_argument("rootfs", type=Path, help="root file system: an archive, or an ext2 disk")
    _declare_signing(parser)
    parser.add_argument(
        "-d",
        "--outdir",
        type=Path,
        metavar="DIR",
        help="the signed directory (default: NAME.signed);"
        " its files are made anew where it is there, and what else is in it stays",
    )


def run_sign(options: argparse.Namespace) -> None:
    """Make a signed directory, or make the files of an earlier one anew."""
    with _opened_key(options) as key:
        _sign(options, key)


def _sign(options: argparse.Namespace, key: NamedKey) -> None:
    from mystikos_tool import pipeline
    from mystikos_tool.packaging import signed_directory
    from mystikos_tool.root import root

    config = configuration_of(options)
    signer, day = _signing(key)
    planned = pipeline.Planned(None, str(options.rootfs), signer)
    inputs = inputs_of(options, config, root.of(options.rootfs), planned)
    directory = options.outdir or Path(f"{inputs.config.application_name}.signed")
    kept = _kept(options)
    for name in signed_directory.FILES:
        _check_target(directory / name, options, but=kept.get(name))
    measured = pipeline.build_directory(inputs, options.rootfs, signer, day, directory, tell_warning)
    for path in signed_directory.others(directory):
        tell(f"warning: {path}: is no part of the signed directory and stays; remove it if it is not wanted")
    say(f"created {directory}: MRENCLAVE {measured.mrenclave.hex()}")


def _declare_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key",
        help="signing key, RSA of 3072 bits, exponent 3: a PEM file, file:…, exec:… or pkcs11:…"
        " (docs/signing.md)",
    )
    parser.add_argument(
        "config", type=Path, help="configuration; the last part of its ApplicationPath is NAME"
    )
    declare_inputs(parser)


def declare_inputs(parser: argparse.ArgumentParser) -> None:
    """Declare what an enclave is made of beside its root and its configuration."""
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a key of the configuration in place of the file's, as SecurityVersion=3; null takes it away"
        " (repeatable)",
    )
    parser.add_argument(
        "--runtime", type=Path, metavar="DIR", help="an installed Mystikos (default: the embedded runtime)"
    )
    for name in _ENGINE:  # the reference's, told what to use instead
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument(
        "--pubkey",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="trust disks signed by this public key (repeatable)",
    )
    parser.add_argument(
        "--roothash",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="trust the disk with this root hash, or this disk (repeatable)",
    )


def _setting(text: str) -> tuple[str, object]:
    from mystikos_tool.config import setting

    try:
        return setting(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def configuration_of(options: argparse.Namespace, start: Start | None = None) -> Config:
    """Read the configuration; tell what in it is better changed.

    ``start`` has what an image says where the configuration says nothing.
    """
    from mystikos_tool import config
    from mystikos_tool.cache import configurations

    changes = config.Changes(dict(options.settings), "--set") if options.settings else None
    if start:
        where = f"{'--set or ' if changes else ''}{start.where}"
        changes = config.Changes(dict(options.settings), where, start.telling(image.tell_note))
    configuration = config.load(options.config, configurations.of_user(), changes)
    for warning in configuration.warnings:
        tell_warning(warning)
    return configuration


def inputs_of(
    options: argparse.Namespace, config: Config, root: Root, planned: Planned | None = None
) -> Inputs:
    """Return what the enclave is made of; raise UserError as `pipeline.inputs_of` does."""
    from mystikos_tool import pipeline

    trusted = tuple(options.pubkey), tuple(options.roothash)
    return pipeline.inputs_of(config, root, *trusted, options.runtime, planned)


def _opened_key(options: argparse.Namespace) -> AbstractContextManager[NamedKey]:
    """Begin to open the key, which takes as long as loading what else is needed."""
    from mystikos_tool.signing import key_process, notation

    for name in _ENGINE:
        if getattr(options, name.strip("-").replace("-", "_")) is not None:
            problem = "is for an OpenSSL engine, and none is loaded here"
            raise UserError(name, problem, "give the key itself as KEY: pkcs11:…?module-path=… or exec:…")
    return key_process.opened(notation.parse(options.key))


def _signing(key: NamedKey) -> tuple[Signer, date]:
    """Return who signs, and the date for the signature."""
    from mystikos_tool import pipeline
    from mystikos_tool.signing import enclave_key

    for warning in key.warnings():
        tell_warning(warning)
    return enclave_key.for_enclaves(key), pipeline.signing_day(os.environ.get("SOURCE_DATE_EPOCH"))


def _kept(options: argparse.Namespace) -> dict[str, Path]:
    """Return what a signed directory has as it is given, by its names: it may be signed again in place."""
    kept = {"rootfs": options.rootfs}
    return kept if options.settings else kept | {"config.json": options.config}


def _check_target(target: Path, options: argparse.Namespace, but: Path | None = None) -> None:
    """Refuse to write a package over what it is made from, ``but`` for one, or into the directory packed."""
    others = {name: value for name, value in vars(options).items() if value is not but}
    outfile, appdir = others.pop("outfile", None), others.get("appdir")
    check_target(target, others, appdir, parents=not outfile)
