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

VARIABLE = "MYST_KEY"


class SigningKey(NamedTuple):
    """A key; ``nodes`` are the files whose content says which it is.

    ``text`` names it in the notation of keys, relative to the top of the build; it is None for one
    that is nothing but the file of its node.
    """

    text: str | None
    nodes: tuple[Any, ...]

    def named(self) -> NamedKey:
        """Return the key, with which nothing was done yet."""
        from mystikos_tool.signing import notation

        return _named(self.text) if self.text else notation.parse_file(str(path_of(self.nodes[0])))

    def signer(self) -> Signer:
        """Return who signs enclaves with the key; raise UserError where there is nobody."""
        from mystikos_tool.signing import signer

        return _opened(self.text) if self.text else signer.for_enclaves(self.named())

    def identity(self) -> str:
        """Return what stands for the key where no file does."""
        if self.nodes or not self.text:
            return ""
        try:
            return _opened(self.text).identity
        except UserError:
            return UNREADABLE  # the action gets to say why


@lru_cache
def _opened(text: str) -> Signer:
    """Return the signer of a key, which is opened once in a build."""
    from mystikos_tool.signing import signer

    scons_internals.at_end_of_build(_opened.cache_clear)
    return signer.for_enclaves(_named(text))


def _named(text: str) -> NamedKey:
    """Return the key of a notation, whose files may lie in a repository."""
    from mystikos_tool.signing import notation

    return notation.parse(text, lambda name: path_of(_file(name)))


def _file(name: str, variable: str = VARIABLE) -> Any:
    """Return the input node of a file that a notation names."""
    return input_file(SCons.Node.FS.get_default_fs().Top.File(name), variable)


def signing_key(env: Any, variable: str = VARIABLE) -> SigningKey:
    """Return the key that a variable names; raise SCons' UserError where it names none."""
    value = env.get(variable)
    given = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    substituted = str(env.subst(given)) if is_String(given) else ""
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
