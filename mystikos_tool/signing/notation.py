"""The one notation of a key, wherever one is taken.

    private.pem                       a PEM file
    file:private.pem?passphrase=…     the same, with the place of its passphrase
    exec:public-key=FILE COMMAND      a command that signs
    pkcs11:token=…;object=…?…         a key in a token, by its URI (RFC 7512)

Other schemes are registered as entry points of the group `GROUP`: the name is the scheme, the value
a function that takes what follows the colon and returns a Signer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.signing.named_key import NamedKey
from mystikos_tool.signing.signer import Signer

GROUP = "mystikos_tool.signers"

# Letters as in a URI's scheme (RFC 3986, 3.1); what has a slash in front of its colon is a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PASSPHRASE = "?passphrase="  # noqa: S105 no passphrase

_OWN = ("exec", "pkcs11")


def parse_file(path: str) -> NamedKey:
    """Return the key in a PEM file, whatever its name looks like."""
    return _file(Path(path), None)


def parse(key: str | os.PathLike[str], path: Callable[[str], Path] = Path) -> NamedKey:
    """Return the key that ``key`` names; a path object is a file, whatever its name looks like.

    ``path`` returns where a file lies that a scheme names. Raises UserError for a scheme that nobody
    knows and for what a scheme does not take.
    """
    scheme = _SCHEME.match(key) if isinstance(key, str) else None
    if not isinstance(key, str) or not scheme:
        return _file(Path(key), None)
    name, rest = scheme[1].lower(), key[scheme.end() :]
    if name == "file":
        file, mark, source = rest.partition(_PASSPHRASE)
        if not file:
            raise UserError("file:…", "names no file", "write it behind file:")
        return _file(path(file), source if mark else None)
    if name in _OWN:
        return _named(name, rest, path)
    return _registered(name, rest) or _file_of_odd_name(key, name)


def is_file(key: str, exists: Callable[[str], bool] = os.path.exists) -> bool:
    """Tell whether a text is the name of a file and nothing else; ``exists`` tells which names are some."""
    scheme = _SCHEME.match(key)
    if not scheme:
        return True
    name = scheme[1].lower()
    return name not in {"file", *_OWN} and not _registered(name, "") and exists(key)


def _named(scheme: str, rest: str, path: Callable[[str], Path]) -> NamedKey:
    from mystikos_tool.signing import exec_signer, pkcs11  # most keys are files

    return exec_signer.named(rest, path) if scheme == "exec" else pkcs11.named(rest, path)


def _file(path: Path, passphrase: str | None) -> NamedKey:
    def load() -> Signer:
        from mystikos_tool.signing import pem  # loads the cryptography library

        return pem.load_rsa(path, passphrase)

    return NamedKey(str(path), load, (path,), keeps_secret=True, only_reads=passphrase is None)


def _registered(scheme: str, rest: str) -> NamedKey | None:
    """Return the key of a scheme that another distribution has registered."""
    from importlib.metadata import entry_points

    found = tuple(entry_points(group=GROUP, name=scheme))
    if not found:
        return None
    if len({entry.value for entry in found}) > 1:
        problem = f"several packages register the scheme, as {' and '.join(entry.value for entry in found)}"
        raise UserError(f"{scheme}:…", problem, "uninstall all but one")

    def load() -> Signer:
        signer: Signer = found[0].load()(rest)
        return signer

    return NamedKey(f"{scheme}:…", load)


def _file_of_odd_name(key: str, scheme: str) -> NamedKey:
    if os.path.exists(key):  # noqa: PTH110 "C:key.pem" is a name like any other
        return _file(Path(key), None)
    # What follows the scheme may hold a PIN, and is not shown.
    raise UserError(
        f"{scheme}:…",
        "names a key by a scheme that is not known, and there is no such file",
        f"give a file, {', '.join(f'{own}:…' for own in ('file', *_OWN))} or install what registers {scheme}",
    )
