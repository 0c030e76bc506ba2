"""The verbs for archives, and what others that pack share with them: ``mkcpio`` and ``excpio``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.root.source import Excluding, Source
    from mystikos_tool.root.tree import Tree


def declare_mkcpio(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mkcpio``."""
    parser.add_argument("appdir", type=Path, metavar="dir", help="directory to pack")
    parser.add_argument("archive", type=Path, help="the CPIO archive to write")
    declare_packing(parser, "preserve")


def run_mkcpio(options: argparse.Namespace) -> None:
    """Pack a directory."""
    from mystikos_tool.io import atomic
    from mystikos_tool.root import archive

    atomic.check_target(options.archive, packed=options.appdir)
    tree = tree_of(options.appdir, options)
    archive.write(tree, options.archive)
    say(f"created {options.archive}: {tree.files:,} files, {tree.size:,} bytes")


def declare_excpio(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``excpio``."""
    parser.add_argument("archive", type=Path, help="the CPIO archive")
    parser.add_argument("directory", type=Path, metavar="dir", help="directory to unpack it into")
    parser.add_argument(
        "--set-id", action="store_true", help="keep set-user-ID and set-group-ID bits, which are left out"
    )


def run_excpio(options: argparse.Namespace) -> None:
    """Unpack an archive."""
    from mystikos_tool.root import archive

    found = archive.read(options.archive)
    archive.extract(found, options.directory, keep_set_id=options.set_id)
    say(f"created {options.directory}: {len(found.members):,} members of {options.archive}")


def declare_packing(parser: argparse.ArgumentParser, modes: str) -> None:
    """Declare the options for how a directory becomes a root; ``modes`` is the default of --modes."""
    parser.add_argument(
        "--overlay",
        type=Path,
        action="append",
        default=[],
        metavar="SOURCE",
        help="lay this directory or archive over the directory: where both have a file, its own wins"
        " (repeatable)",
    )
    declare_choice(parser, modes)
    parser.add_argument(
        "--chmod",
        type=_permission,
        action="append",
        default=[],
        metavar="PATTERN=MODE",
        help="permissions of what matches, a name or a path in the root, as etc/shop.key=0600 (repeatable)",
    )
    parser.add_argument(
        "--strip", action="store_true", help="take the debug information out of programs and libraries"
    )


def declare_choice(parser: argparse.ArgumentParser, modes: str) -> None:
    """Declare what of a directory is taken, and with which permissions."""
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out what matches: a name, or a path if there is a slash in it (repeatable)",
    )
    parser.add_argument(
        "--modes",
        choices=("canonical", "preserve"),
        help="permissions: canonical, the same under every umask, or preserve, as they are"
        f" (default: {modes})",
    )
    parser.set_defaults(usual_modes=modes)


def declare_secrets(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare what private keys in a root or on a disk are."""
    parser.add_argument(
        "--secrets",
        choices=("warn", "error", "allow"),
        default="warn",
        help=f"private keys in {what}; that of the signer is always an error (default: warn)",
    )


def preserve_modes(options: argparse.Namespace) -> bool:
    """Return whether permissions are taken as they are."""
    return modes_of(options) == "preserve"


def modes_of(options: argparse.Namespace) -> str:
    """Return what --modes says, or its default."""
    return str(options.modes or options.usual_modes)


def _permission(text: str) -> tuple[str, int]:
    from mystikos_tool.root.permissions import pair, permissions

    try:
        (permission,) = permissions([pair(text)])
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return permission


def tree_of(
    directory: Path, options: argparse.Namespace, source: Callable[[Excluding], Source] | None = None
) -> Tree:
    """Return what an archive will hold of a directory, or a source of that name; tell what is amiss."""
    from mystikos_tool import pipeline

    tree = assembled(source or directory, options)
    for warning in pipeline.warnings_of(tree, directory):
        tell(f"warning: {warning}")
    return tree


def assembled(base: Path | Callable[[Excluding], Source], options: argparse.Namespace) -> Tree:
    """Return the tree of a directory or another source as the options of `declare_packing` ask for it."""
    from mystikos_tool.root import assembly

    tree, warnings = assembly.assembled(
        base,
        assembly.Options(
            exclude=tuple(options.exclude),
            preserve_modes=preserve_modes(options),
            chmod=tuple(options.chmod),
            overlays=tuple(options.overlay),
            strip=options.strip,
        ),
    )
    for warning in warnings:
        tell(f"warning: {warning}")
    return tree


def refuse_packing(options: argparse.Namespace) -> None:
    """Raise UserError for options of `declare_packing` or `declare_choice` where nothing is packed."""
    given = {name: getattr(options, name, None) for name in ("overlay", "exclude", "modes", "chmod", "strip")}
    for name in (name for name, value in given.items() if value):
        raise UserError(
            f"--{name}", "is for an appdir, and none is packed", "give an appdir, or leave it out"
        )
