"""The key that MYST_KEY names, as the nodes that an image is made of and what stands for it in signatures."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Errors
from SCons.Util import is_String

from mystikos_tool.errors import UserError
from mystikos_tool.scons import sources
from mystikos_tool.scons.database import UNREADABLE
from mystikos_tool.scons.input_file import input_file

if TYPE_CHECKING:
    from mystikos_tool.signing.named_key import NamedKey

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

        return notation.parse(self.text) if self.text else notation.parse_file(str(self.nodes[0]))

    def identity(self) -> str:
        """Return what stands for the key where no file does; the signer is asked once in a build."""
        return "" if self.nodes or not self.text else _identity(self.text)


@lru_cache
def _identity(text: str) -> str:
    from mystikos_tool.signing import notation

    try:
        return notation.parse(text).open().identity
    except UserError:
        return UNREADABLE  # the action gets to say why


def signing_key(env: Any) -> SigningKey:
    """Return the key of a call's environment; raise SCons' UserError for a variable that names none."""
    value = env.get(VARIABLE)
    given = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    substituted = str(env.subst(given)) if is_String(given) else ""
    if ":" not in substituted:
        return SigningKey(None, (sources.required_file(env, VARIABLE),))
    from mystikos_tool.signing import notation

    if notation.is_file(substituted):
        return SigningKey(None, (sources.required_file(env, VARIABLE),))
    try:
        files = notation.parse(substituted).files
    except UserError as error:
        raise SCons.Errors.UserError(f"{VARIABLE}: {error}") from None
    top = env.fs.Top
    return SigningKey(substituted, tuple(input_file(top.File(str(path)), VARIABLE) for path in files))
