"""What verbs that take a container image share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mystikos_tool.cli.archive import modes_of
from mystikos_tool.cli.verb import tell
from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.root.oci.image import Image
    from mystikos_tool.root.oci.process import Start
    from mystikos_tool.root.oci.source import ImageSource
    from mystikos_tool.root.tree import Tree


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name an image."""
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="take the root of this image: an OCI layout directory, or an archive of skopeo or docker save",
    )
    declare_name(parser)


def declare_name(parser: argparse.ArgumentParser) -> None:
    """Declare which of several images is meant."""
    parser.add_argument("--image-name", metavar="NAME", help="which of several images in a layout or archive")


def source_of(text: str, options: argparse.Namespace) -> ImageSource:
    """Return the root of an image; raise UserError for options that mean nothing for one."""
    from mystikos_tool.root.oci import image
    from mystikos_tool.root.oci.source import ImageSource

    if options.modes and not getattr(options, "overlay", None):
        problem = f"cannot be {modes_of(options)}: an image has its modes"
        raise UserError("--modes", problem, "leave it out, or change single modes with --chmod")
    found = image.in_file(Path(text), options.image_name or "")
    return ImageSource(found, exclude=tuple(options.exclude))


def start_of(image: Image, tree: Tree) -> Start:
    """Return how the image's program is started."""
    from mystikos_tool.root.oci.process import Start

    return Start(image.where, image.process, tree)


def telling(start: Start) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the defaults for a configuration that an image has; what is taken of them is told."""

    def defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
        added = start.defaults(given)
        tell(f"note: {start.told(added)}")
        return added

    return defaults
