"""The verb ``appdir``: make an application directory, or an archive, of what people have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli import image
from mystikos_tool.cli.archive import declare_choice, preserve_modes
from mystikos_tool.cli.verb import say, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.root.tree import Tree


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``appdir``."""
    parser.add_argument(
        "kind",
        choices=tuple(_KINDS),
        help="closure: programs with the interpreters and libraries they need;"
        " from-image: the root of a container image",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="source",
        help="closure: a program of the sysroot by its absolute path, or a directory of programs and"
        " libraries; PLACE=FILE for a file or directory from elsewhere."
        " from-image: an OCI layout directory, an archive of skopeo or docker save, or one on a registry",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory to make, new or empty; an archive where the name ends in .cpio",
    )
    parser.add_argument(
        "--sysroot", type=Path, metavar="DIR", help="closure: the machine that has the programs (default: /)"
    )
    parser.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="NAME",
        help="closure: what programs open by name: nss, locale, certificates, timezones or unwinder"
        " (repeatable)",
    )
    image.declare_name(parser)
    declare_choice(parser, "canonical")


def run(options: argparse.Namespace) -> None:
    """Make an application directory."""
    from mystikos_tool import pipeline
    from mystikos_tool.root import output

    tree, sources = _KINDS[options.kind](options)
    for warning in pipeline.warnings_of(tree, options.output):
        tell(f"warning: {warning}")
    output.write(tree, options.output, sources)
    say(f"created {options.output}: {tree.files:,} files, {tree.size:,} bytes")


def _from_image(options: argparse.Namespace) -> tuple[Tree, Iterable[Path]]:
    from mystikos_tool.root import assembly
    from mystikos_tool.root.oci import opening
    from mystikos_tool.root.oci.source import ImageSource

    if options.sysroot or options.extra:
        option = "--sysroot" if options.sysroot else "--extra"
        raise UserError(option, "is for a closure, not for an image", "leave it out")
    if len(options.sources) > 1:
        raise UserError(options.sources[1], "is a second image", "give one, and lay the others over it")
    found = image.opened(options.sources[0], options)
    tree, warnings = assembly.assembled(
        lambda exclude: ImageSource(found, exclude=exclude), assembly.Options(tuple(options.exclude))
    )
    for warning in warnings:
        tell(f"warning: {warning}")
    start = image.start_of(found, tree)
    try:
        image.tell_note(start.told(start.defaults({}), {}))
    except UserError as error:  # what is made is of use for all that
        tell(f"warning: {error}")
    return tree, opening.files_of(options.sources[0])


def _closure(options: argparse.Namespace) -> tuple[Tree, Iterable[Path]]:
    from mystikos_tool.root import closure

    image.refuse(options)

    programs = [source for source in options.sources if source.startswith("/")]
    placed = dict(_placed(source) for source in options.sources if not source.startswith("/"))
    sysroot = options.sysroot or Path("/")
    tree = closure.of_files(
        programs,
        placed,
        sysroot=sysroot,
        extras=options.extra,
        exclude=tuple(options.exclude),
        preserve_modes=preserve_modes(options),
    )
    return tree, closure.sources_of(programs, placed, sysroot)


def _placed(source: str) -> tuple[str, Path]:
    place, equals, file = source.partition("=")
    if not (equals and place and file):
        problem = "is neither an absolute path nor PLACE=FILE"
        raise UserError(source, problem, f"to put it into the root write usr/bin/={source}")
    return place, Path(file)


_KINDS: Mapping[str, Callable[[argparse.Namespace], tuple[Tree, Iterable[Path]]]] = {
    "closure": _closure,
    "from-image": _from_image,
}
