"""The verbs ``mkext2`` and ``fssig``: make a disk, and show how one is signed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.archive import assembled, declare_packing, declare_secrets
from mystikos_tool.cli.verb import say, size_in_bytes, tell
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup

if TYPE_CHECKING:
    from mystikos_tool.formats.luks import Encryption
    from mystikos_tool.root.tree import Tree
    from mystikos_tool.signing.signer import Signer


def declare_mkext2(parser: argparse.ArgumentParser) -> None:
    """Declare what `run_mkext2` takes."""
    parser.add_argument("directory", type=Path, help="directory that becomes the file system")
    parser.add_argument("disk", type=Path, help="the disk to write")
    parser.add_argument("-f", "--force", action="store_true", help="replace a file that is there already")
    parser.add_argument(
        "--size",
        type=size_in_bytes,
        metavar="SIZE",
        help="size of the data area, in bytes or with k, m or g, a multiple of 4096 (default: what the"
        " content needs, and --room)",
    )
    parser.add_argument(
        "--room",
        type=size_in_bytes,
        default=8 << 20,
        metavar="SIZE",
        help="space left for programs to write, without --size (default: 8m)",
    )
    parser.add_argument(
        "-s",
        "--sign",
        type=_pair,
        metavar="PUB:KEY",
        help="sign with this RSA key pair: a PEM file, and a key as package-sgx takes it",
    )
    parser.add_argument(
        "-e", "--encrypt", type=Path, metavar="KEYFILE", help="encrypt with the 64 bytes of this file"
    )
    parser.add_argument(
        "-p",
        "--passphrase",
        metavar="TEXT",
        help="with --encrypt: let this passphrase open the disk in cryptsetup; other users see it",
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="the same from a file, whose line end is left away",
    )
    declare_packing(parser, "canonical")
    declare_secrets(parser, "the directory, without --encrypt")
    parser.add_argument(
        "--owners",
        choices=("root", "preserve"),
        default="root",
        help="whose the files are: root's, or preserve, as they are (default: root)",
    )
    parser.add_argument(
        "--data",
        action="store_true",
        help="a disk that programs mount: without the directories that the kernel needs of a root",
    )
    parser.add_argument(
        "--time",
        type=int,
        metavar="SECONDS",
        help="time of every file, since 1970 (default: that of an archive's files)",
    )


def run_mkext2(options: argparse.Namespace) -> None:
    """Make a disk of a directory."""
    from mystikos_tool.root.disk import writer
    from mystikos_tool.root.disk.nodes import nodes_of

    _check_target(options)
    key = _signer(options.sign)
    encryption = _encryption(options)
    tree = _tree(options)
    if not encryption:
        from mystikos_tool.signing import root_keys

        for warning in root_keys.told_of_disk(tree.entries, str(options.directory), key, options.secrets):
            tell(f"warning: {warning}")
    made = writer.write(
        nodes_of(tree, preserve_owners=options.owners == "preserve"),
        options.disk,
        writer.Options(
            size=options.size,
            room=options.room,
            time=writer.TIME if options.time is None else options.time,
            boots=not options.data,
            encryption=encryption,
            signer=key,
        ),
    )
    say(
        f"created {options.disk}: {made.files:,} files, {made.size:,} bytes, {made.free:,} free,"
        f" root hash {made.root_hash.hex()}"
    )


def declare_fssig(parser: argparse.ArgumentParser) -> None:
    """Declare what `run_fssig` takes."""
    parser.add_argument("disk", type=Path, help="the disk")
    parser.add_argument(
        "--roothash",
        action="store_true",
        help="print the root hash alone, as a package's --roothash reads it",
    )


def run_fssig(options: argparse.Namespace) -> None:
    """Show the FSSIG of a disk, once the hash tree is found to be right."""
    from mystikos_tool.root.disk import reader

    with reader.opened(options.disk) as disk:
        disk.check()
        signed = disk.fssig
    if options.roothash:
        say(signed.root_hash.hex())
        return
    say(f"hash offset     {signed.hash_offset}")
    say(f"root hash       {signed.root_hash.hex()}")
    say(f"signer          {signed.signer.hex() if signed.signature else 'none'}")
    say(f"signature       {signed.signature.hex() or 'none'}")


def _check_target(options: argparse.Namespace) -> None:
    """Refuse to write over what is there without --force, and into the directory that is packed."""
    if lookup.exists(options.disk) and not options.force:
        raise UserError(str(options.disk), "is there already", "give --force to replace it")
    from mystikos_tool.io import atomic
    from mystikos_tool.signing import notation

    public, private = options.sign or (None, None)
    key_files = notation.parse(private).files if private else ()
    given = [options.encrypt, options.passphrase_file, public, *key_files]
    atomic.check_target(options.disk, filter(None, given), packed=options.directory)


def _tree(options: argparse.Namespace) -> Tree:
    from mystikos_tool import pipeline

    tree = assembled(options.directory, options)
    for path in tree.left_out:
        tell(f"warning: {options.directory / path}: is left out; a disk here holds no devices and FIFOs")
    for warning in pipeline.leftovers_of(tree, options.directory):
        tell(f"warning: {warning}")
    return tree


def _signer(pair: tuple[Path, str] | None) -> Signer | None:
    if pair is None:
        return None
    from mystikos_tool.signing import notation
    from mystikos_tool.signing.disk_key import load_disk_key

    public, private = pair
    for warning in notation.parse(private).warnings():
        tell(f"warning: {warning}")
    return load_disk_key(private, public)


def _encryption(options: argparse.Namespace) -> Encryption | None:
    from mystikos_tool.io.atomic import read_input
    from mystikos_tool.root.disk import writer
    from mystikos_tool.signing.named_key import exposed

    passphrase = os.fsencode(options.passphrase) if options.passphrase is not None else None
    if options.passphrase_file:
        if passphrase is not None:
            raise UserError("--passphrase", "cannot go with --passphrase-file", "give one of the two")
        line = read_input(options.passphrase_file, "passphrase file")
        passphrase = line.removesuffix(b"\n").removesuffix(b"\r")
    if options.encrypt is None:
        if passphrase is not None:
            raise UserError(
                "--passphrase", "is of use with --encrypt only", "give a key file or no passphrase"
            )
        return None
    made = writer.encryption(options.encrypt, passphrase)
    if warning := exposed(options.encrypt):
        tell(f"warning: {warning}")
    return made


def _pair(text: str) -> tuple[Path, str]:
    public, colon, private = text.partition(":")
    if not (colon and public and private):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair PUB:KEY of files")
    return Path(public), private
