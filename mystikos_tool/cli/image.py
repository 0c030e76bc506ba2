"""What verbs that take a container image share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.cli.archive import modes_of, tree_of
from mystikos_tool.cli.verb import say, size_in_bytes, tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.root.oci.image import Image
    from mystikos_tool.root.oci.process import Start
    from mystikos_tool.root.tree import Tree

_LOCK = "mystikos-images.lock.json"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name an image."""
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="take the root of this image: an OCI layout directory, an archive of skopeo or docker save, or"
        " HOST/NAME@sha256:… or a tag that is locked, on a registry",
    )
    declare_name(parser)


def declare_name(parser: argparse.ArgumentParser) -> None:
    """Declare which of several images is meant."""
    parser.add_argument("--image-name", metavar="NAME", help="which of several images in a layout or archive")
    declare_lock(parser)


def declare_lock(parser: argparse.ArgumentParser) -> None:
    """Declare where the digests of tags are."""
    parser.add_argument(
        "--lock",
        type=Path,
        metavar="FILE",
        help=f"file with the digests that tags on registries stand for (default: {_LOCK})",
    )


def refuse(options: argparse.Namespace) -> None:
    """Raise UserError for options of :func:`declare_name` where there is no image."""
    for option, value in (("--image-name", options.image_name), ("--lock", options.lock)):
        if value:
            raise UserError(option, "is for an image, and none is given", "leave it out, or give an image")


def opened(text: str, options: argparse.Namespace) -> Image:
    """Return the image of a name; raise UserError for options that mean nothing for one."""
    from mystikos_tool.root.oci import opening

    if options.modes and not getattr(options, "overlay", None):
        problem = f"cannot be {modes_of(options)}: an image has its modes"
        raise UserError("--modes", problem, "leave it out, or change single modes with --chmod")
    return opening.named(text, options.image_name or "", options.lock or Path(_LOCK))


def packed(options: argparse.Namespace) -> tuple[Tree, Start]:
    """Return what is packed of the image that is asked for, and how its program is started."""
    from mystikos_tool.root.oci.source import ImageSource

    found = opened(options.image, options)
    tree = tree_of(Path(found.where), options, lambda exclude: ImageSource(found, exclude=exclude))
    return tree, start_of(found, tree)


def start_of(image: Image, tree: Tree) -> Start:
    """Return how the image's program is started."""
    from mystikos_tool.root.oci.process import Start

    return Start(image.where, image.process, tree)


def tell_note(text: str) -> None:
    """Tell the user of what an image says."""
    tell(f"note: {text}")


def declare_image(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``image``."""
    parser.add_argument(
        "action",
        choices=("lock", "prune"),
        help="lock: write down which image each tag stands for now;"
        " prune: remove from the cache the layers that were used longest ago",
    )
    parser.add_argument(
        "references",
        nargs="*",
        metavar="reference",
        help="lock: an image on a registry, as docker.io/library/nginx:1.27; without any, all in the file",
    )
    declare_lock(parser)
    parser.add_argument(
        "--keep",
        type=size_in_bytes,
        metavar="SIZE",
        help="prune: how much may stay, as 10g (default: 0)",
    )


def run_image(options: argparse.Namespace) -> None:
    """Ask registries which images tags stand for and write that down, or prune the cache."""
    {"lock": _lock, "prune": _prune}[options.action](options)


def _lock(options: argparse.Namespace) -> None:
    from mystikos_tool.root.oci import lock

    if options.keep is not None:
        raise UserError("--keep", "is for prune, not for lock", "leave it out")
    for name, (was, digest) in lock.renew(options.lock or Path(_LOCK), options.references).items():
        say(f"{name} is {digest}" + (f", was {was}" if was not in (None, digest) else ""))


def _prune(options: argparse.Namespace) -> None:
    from mystikos_tool.io import user_cache
    from mystikos_tool.root.oci import pruning

    for given, option in ((options.lock, "--lock"), (options.references, " ".join(options.references))):
        if given:
            raise UserError(option, "is for lock, not for prune", "leave it out")
    pruned = pruning.prune(user_cache.directory(), options.keep or 0)
    say(f"removed {pruned.removed:,} layers and documents of {pruned.size:,} bytes; {pruned.left:,} are left")
