"""The verbs for archives, and what others that pack share with them: ``mkcpio`` and ``excpio``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.root.tree import Tree


def declare_mkcpio(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``mkcpio``."""
    parser.add_argument("appdir", type=Path, metavar="dir", help="directory to pack")
    parser.add_argument("archive", type=Path, help="the CPIO archive to write")
    declare_modes(parser, "preserve")


def run_mkcpio(options: argparse.Namespace) -> None:
    """Pack a directory."""
    from mystikos_tool import pipeline

    check_outside(options.archive, options.appdir)
    tree = pipeline.pack(options.appdir, options.archive, preserve_modes=preserve_modes(options))
    warn(tree, options)
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


def declare_modes(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare the option that chooses the permissions in an archive."""
    parser.add_argument(
        "--modes",
        choices=("canonical", "preserve"),
        default=default,
        help="permissions: canonical, the same under every umask, or preserve, as they are"
        f" (default: {default})",
    )


def preserve_modes(options: argparse.Namespace) -> bool:
    """Return what the option chose."""
    return bool(options.modes == "preserve")


def warn(tree: Tree, options: argparse.Namespace) -> None:
    """Tell what in the tree of ``options.appdir`` is better changed."""
    from mystikos_tool import pipeline

    for warning in pipeline.warnings_of(tree, options.appdir):
        tell(f"warning: {warning}")


def check_outside(target: Path, appdir: Path) -> None:
    """Raise UserError for a target in the directory that is packed."""
    if target.resolve().is_relative_to(appdir.resolve()):
        raise UserError(str(target), f"lies in {appdir}, which is packed", "write it somewhere else")
