"""A key that signs packages which are started at once and then gone.

Nobody trusts what it signs. Making one takes about a second, so that it is kept in the user's cache.
"""

from __future__ import annotations

from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io import user_cache
from mystikos_tool.signing import pem
from mystikos_tool.signing.pem import PemSigner

_NAME = "throwaway.pem"


def of_user(otherwise: Path) -> PemSigner:
    """Return the user's key, made when it is missing or damaged.

    Where the cache can't be written, it is a new key, in the directory ``otherwise``.
    """
    directory = user_cache.directory()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _kept(directory / _NAME)
    except (OSError, UserError):
        return pem.generate(otherwise / _NAME)


def _kept(path: Path) -> PemSigner:
    try:
        return pem.load(path)
    except UserError:
        path.unlink(missing_ok=True)
    try:
        return pem.generate(path)
    except UserError:
        return pem.load(path)  # another process made one meanwhile
