"""A key as the nodes that an image is made of, and what stands for it in signatures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import UNREADABLE
from mystikos_tool.scons.input_node import path_of

if TYPE_CHECKING:
    from mystikos_tool.signing.named_key import NamedKey
    from mystikos_tool.signing.signer import Signer


class SigningKey(NamedTuple):
    """A key; ``nodes`` are the files whose content says which it is.

    ``text`` names it in the notation of keys, relative to the top of the build; it is None for one
    that is nothing but the file of its node. It signs enclaves, or ``for_disks``.
    """

    text: str | None
    nodes: tuple[Any, ...]
    for_disks: bool = False

    def named(self) -> NamedKey:
        """Return the key, with which nothing was done yet."""
        from mystikos_tool.signing import notation

        if not self.text:
            return notation.parse_file(str(path_of(self.nodes[0])))
        files = dict(zip(notation.parse(self.text).files, self.nodes, strict=True))
        return notation.parse(self.text, lambda name: path_of(files[Path(name)]))  # it may be in a repository

    def signer(self) -> Signer:
        """Return who signs with the key; raise UserError where there is nobody."""
        return _opened(self)

    def identity(self) -> str:
        """Return what stands for the key where no file does."""
        if self.nodes or not self.text:
            return ""
        try:
            return self.signer().identity
        except UserError:
            return UNREADABLE  # the action gets to say why

    def get_csig(self) -> str:
        """Return what stands for the key where it is one of the parts that decide a content."""
        return self.identity()


@lru_cache
def _opened(key: SigningKey) -> Signer:
    """Return the signer of a key, which is opened once in a build."""
    scons_internals.at_end_of_build(_opened.cache_clear)
    return _signer(key)


def _signer(key: SigningKey) -> Signer:
    if key.for_disks:
        from mystikos_tool.signing import disk_key

        return disk_key.for_disks(key.named())
    from mystikos_tool.signing import enclave_key

    return enclave_key.for_enclaves(key.named())
