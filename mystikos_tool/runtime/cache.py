"""The embedded runtime compiled once into the user's cache, for use without a build system."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.runtime import build


def compiled() -> Path:
    """Return the directory of the runtime that these sources make, compiling it when it is not there.

    The directory is named after the digest of the sources and the compiler's version, and it
    appears whole: several processes may compile at once. ``XDG_CACHE_HOME`` says where.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mystikos-tool"
    directory = home / f"runtime-{_digest()[:16]}"
    if directory.is_dir():
        return directory
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".runtime-", dir=home))
    except OSError as error:
        raise UserError(
            str(home), f"cannot be written: {error.strerror}", "set XDG_CACHE_HOME to a directory that can be"
        ) from error
    try:
        build.build(scratch)
        scratch.chmod(0o755)
        scratch.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def _digest() -> str:
    digest = hashlib.sha256(build.ZIG_VERSION.encode())
    for image in build.IMAGES:
        digest.update("\0".join(build.command(image, Path("output"))[1:]).encode())
        for source in build.sources(image):
            digest.update(source.read_bytes())
    return digest.hexdigest()
