"""PKCS #11 URIs (RFC 7512): what names a key in a token, and how the token is reached.

    pkcs11:token=release;object=mystikos?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin

Beside the query attributes of the RFC there are two of our own: ``public-key``, a file with the key
that is expected, and ``timeout``, in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mystikos_tool.errors import UserError

_TOKEN = ("token", "manufacturer", "serial", "model")
_SLOT = ("slot-manufacturer", "slot-description", "slot-id")
_LIBRARY = ("library-manufacturer", "library-description", "library-version")
_PATH = (*_TOKEN, *_SLOT, *_LIBRARY, "object", "type", "id")
_QUERY = ("pin-source", "module-path", "public-key", "timeout")
_REMEDY = "write it as RFC 7512 has it, as in pkcs11:token=T;object=O?module-path=/PATH/TO/MODULE.so"
_ENCODED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


class Uri(NamedTuple):
    """A URI's attributes: those of library, slot and token by their names, and the rest.

    ``label`` and ``id`` are the object's, None where they are not named.
    """

    place: Mapping[str, str]
    label: str | None
    id: bytes | None
    module: str
    pin_source: str | None
    public_key: str | None
    timeout: str | None

    def shown(self) -> str:
        """Return what messages name: token and object."""
        named = {**self.place, "object": self.label, "id": self.id.hex() if self.id else None}
        return "pkcs11:" + ";".join(f"{name}={value}" for name, value in named.items() if value is not None)


def parse(text: str) -> Uri:
    """Read what follows ``pkcs11:``.

    Raises UserError, which shows no value that might be a PIN, for what is no such URI: an attribute
    that is unknown, twice there or badly encoded, a ``pin-value``, and no ``module-path``.
    """
    path, _, query = text.partition("?")
    attributes = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
    if attributes.get("type", b"private") != b"private":
        raise _refused("names no private key: its type is another one", "write type=private or leave it out")
    texts = {name: _text(name, value) for name, value in attributes.items() if name != "id"}
    module = texts.get("module-path", "")
    if not module.startswith("/"):
        raise _refused("names no module by an absolute path", "add ?module-path=/PATH/TO/MODULE.so")
    return Uri(
        {name: texts[name] for name in (*_TOKEN, *_SLOT, *_LIBRARY) if name in texts},
        texts.get("object"),
        attributes.get("id"),
        module,
        _pin_source(texts.get("pin-source")),
        texts.get("public-key"),
        texts.get("timeout"),
    )


def _attributes(part: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in filter(None, part.split(separator)):
        name, equals, value = item.partition("=")
        if name == "pin-value":
            problem = "has the PIN in it, where other users and logs may see it"
            raise _refused(problem, "leave pin-value out, and name the PIN's place by pin-source")
        if name == "module-name":
            raise _refused("has module-name, which is not looked up here", "give module-path instead")
        if not equals or name not in known:
            raise _refused(f"has an attribute that is not among {', '.join(known)}", _REMEDY)
        if name in found:
            raise _refused(f"has {name} twice", "leave one out")
        if not _ENCODED.fullmatch(value):
            raise _refused(f"{name} has a % without two hexadecimal digits", "write % itself as %25")
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    if b"\0" in value:  # where it ends for the module, which would be given another name
        raise _refused(f"{name} has a NUL in it", "leave it out")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _refused(f"{name} is not UTF-8", "encode it as UTF-8, and then by %") from None


def _pin_source(given: str | None) -> str | None:
    """Return the source as `secret` has it; RFC 7512, 2.4, has a file's name, or | and a command."""
    if given is None:
        return None
    if given.startswith("|"):
        return f"exec:{given[1:]}"
    if given.startswith("file://"):
        return f"file:{given.removeprefix('file://')}"
    return f"file:{given}" if given.startswith("/") else given


def _refused(problem: str, remedy: str) -> UserError:
    return UserError("pkcs11:…", problem, remedy)
