"""The SHA-256 of each image of the embedded runtime, as the pinned toolchain makes it of these sources.

The images are the same bytes on every machine, so that one that came from elsewhere, out of a cache
or a package, can be held to its digest. After a change of the sources, write the digests anew:

    python -m mystikos_tool.runtime.digests
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.runtime import build

FILE = Path(__file__).with_name("digests.json")


@lru_cache
def expected() -> Mapping[str, str]:
    """Return the digest of each image, in hexadecimal, by its path in the runtime.

    Nothing, where the sources are not those that the digests are of.
    """
    try:
        known = json.loads(FILE.read_text(encoding="ascii"))
    except FileNotFoundError:
        return {}
    if known["sources"] != build.sources_digest():
        return {}
    return {output: str(digest) for output, digest in known["images"].items()}


def of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(directory: Path, output: str) -> None:
    """Raise UserError for a compiled image of another digest than its sources give, where that is known."""
    digest = expected().get(output)
    if digest is not None and of(directory / output) != digest:
        problem = "is not what the pinned toolchain makes of the runtime's sources"
        remedy = f"install the toolchain anew: pip install --force-reinstall ziglang=={build.ZIG_VERSION}"
        raise UserError(str(directory / output), problem, remedy)


def check_known(directory: Path) -> None:
    """Raise UserError unless every image of a compiled runtime has its digest, which has to be known."""
    if not expected():
        problem = "are the digests of other sources than these"
        raise UserError(str(FILE), problem, "write them anew: python -m mystikos_tool.runtime.digests")
    for output in expected():
        check(directory, output)


def write() -> None:
    """Compile the runtime and write its digests."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = build.build(Path(scratch))
        images = {image.output: of(path) for image, path in zip(build.IMAGES, paths, strict=True)}
    document = {"sources": build.sources_digest(), "images": images}
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    write()
