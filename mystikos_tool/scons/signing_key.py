"""The key that MYST_KEY names, as the nodes that an image is made of and what stands for it in signatures."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Errors
import SCons.Node.FS
from SCons.Util import is_String

from mystikos_tool.errors import UserError
from mystikos_tool.scons import scons_internals, sources, variables
from mystikos_tool.scons.database import UNREADABLE
from mystikos_tool.scons.input_file import input_file
from mystikos_tool.scons.input_node import path_of

if TYPE_CHECKING:
    from mystikos_tool.signing.named_key import NamedKey
    from mystikos_tool.signing.signer import Signer

VARIABLE, OF_DISKS = "MYST_KEY", "MYST_DISK_KEY"


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

        return _named(self.text) if self.text else notation.parse_file(str(path_of(self.nodes[0])))

    def signer(self) -> Signer:
        """Return who signs with the key; raise UserError where there is nobody."""
        return _opened(self.text, self.for_disks) if self.text else _signer(self.named(), self.for_disks)

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
def _opened(text: str, for_disks: bool) -> Signer:
    """Return the signer of a key, which is opened once in a build."""
    scons_internals.at_end_of_build(_opened.cache_clear)
    return _signer(_named(text), for_disks)


def _signer(named: NamedKey, for_disks: bool) -> Signer:
    if for_disks:
        from mystikos_tool.signing import disk_key

        return disk_key.for_disks(named)
    from mystikos_tool.signing import signer

    return signer.for_enclaves(named)


def _named(text: str) -> NamedKey:
    """Return the key of a notation, whose files may lie in a repository."""
    from mystikos_tool.signing import notation

    return notation.parse(text, lambda name: path_of(_file(name)))


def _file(name: str, variable: str = VARIABLE) -> Any:
    """Return the input node of a file that a notation names."""
    return input_file(SCons.Node.FS.get_default_fs().Top.File(name), variable)


def disk_key(env: Any) -> SigningKey | None:
    """Return the key that signs a call's disk, None where nobody does."""
    return signing_key(env, OF_DISKS)._replace(for_disks=True) if env.get(OF_DISKS) else None


def signing_key(env: Any, variable: str = VARIABLE) -> SigningKey:
    """Return the key that a variable names; raise SCons' UserError where it names none."""
    value = env.get(variable)
    given = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    substituted = str(env.subst(given) if "$" in given else given) if is_String(given) else ""
    if ":" not in substituted:
        return SigningKey(None, (sources.required_file(env, variable),))
    from mystikos_tool.signing import notation

    if notation.is_file(substituted, lambda name: variables.is_there(env, variable, name)):
        return SigningKey(None, (sources.required_file(env, variable),))
    try:
        files = notation.parse(substituted).files
    except UserError as error:
        raise SCons.Errors.UserError(f"{variable}: {error}") from None
    return SigningKey(substituted, tuple(_file(str(path), variable) for path in files))
