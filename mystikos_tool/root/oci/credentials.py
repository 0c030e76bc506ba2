"""What a registry is told of the user, from the files of Docker and Podman.

See docker-login and containers-auth.json(5). The password is never shown and never kept.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import commands, lookup
from mystikos_tool.io.atomic import read_input
from mystikos_tool.root.oci import manifest as manifests
from mystikos_tool.root.oci.reference import DOCKER, Reference

_DOCKER_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS, _HELPER_OUTPUT = 30, 1 << 16
_AGAIN = "log in again, or remove the entry"
# How the helpers of Docker say that they know nothing of a server, by an error like any other.
_NOT_FOUND = b"credentials not found in native keychain"


class Credentials(NamedTuple):
    """A user's name and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, …)"

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def of(reference: Reference) -> Credentials | None:
    """Return what the first file that knows a registry says for it; None where none does.

    Raises UserError for a file that cannot be read or is damaged, and where a helper fails.
    """
    for path in files():
        if hidden := lookup.why_hidden(path):
            problem = f"cannot be looked up, and may hold credentials: {hidden}"
            raise UserError(str(path), problem, "make its directory searchable")
        if lookup.exists(path):
            found = _in_file(path, reference)
            if found:
                return found
    return None


def files() -> Iterator[Path]:
    """Yield the files that are looked at, in their order."""
    given = os.environ.get("REGISTRY_AUTH_FILE")
    if given:
        yield Path(given)
    run = os.environ.get("XDG_RUNTIME_DIR")
    if run:
        yield Path(run, "containers", "auth.json")
    home = Path(os.environ.get("HOME") or "/")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "containers", "auth.json")
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")


def _in_file(path: Path, reference: Reference) -> Credentials | None:
    where = str(path)
    data = read_input(path, "file of credentials", manifests.MAX_DOCUMENT)
    members = manifests.json_object(data, where, "correct it, or remove it and log in again")
    keys = list(_keys(reference))
    helpers = _mapping(members, "credHelpers", where)
    helper = next((helpers[key] for key in keys if key in helpers), None) or members.get("credsStore")
    auths = {_bare(key): value for key, value in _mapping(members, "auths", where).items()}
    for key in keys:
        auth = _mapping(auths, _bare(key), where)
        if auth.get("auth"):
            return _decoded(auth["auth"], where)
        if auth.get("identitytoken"):
            raise _identity_token(where)
    return _from_helper(helper, keys[-1], where) if helper else None


def _keys(reference: Reference) -> Iterator[str]:
    """Yield what a registry may be called, the narrowest first: Podman's files have repositories too."""
    parts = reference.repository.split("/")
    for count in range(len(parts), 0, -1):
        yield f"{reference.registry}/{'/'.join(parts[:count])}"
    if reference.registry == DOCKER:
        yield from reversed(_DOCKER_KEYS)
    else:
        yield reference.registry


def _bare(key: str) -> str:
    """Return a key without scheme and the path of an API."""
    return re.sub(r"^https?://|/v[12]/?$|/$", "", key)


def _mapping(members: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = members.get(key)
    if not isinstance(value, (Mapping, NoneType)):
        raise UserError(where, f"{key} is no object", _AGAIN)
    return value or {}


def _decoded(value: object, where: str) -> Credentials:
    try:
        user, colon, password = base64.b64decode(str(value), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise UserError(where, "has an entry in auths that is not base64 of user:password", _AGAIN)
    return Credentials(user, password.rstrip("\0"))


def _from_helper(helper: object, server: str, where: str) -> Credentials | None:
    """Ask ``docker-credential-HELPER get``; None where it knows nothing of the server."""
    if not (isinstance(helper, str) and _HELPER.fullmatch(helper)):
        raise UserError(where, "names a credential helper that cannot be one", "correct it")
    command = f"docker-credential-{helper}"
    try:
        output = commands.run(
            [command, "get"], server.encode(), seconds=_HELPER_SECONDS, limit=_HELPER_OUTPUT
        )
        answer = json.loads(output)
        found = Credentials(str(answer["Username"]), str(answer["Secret"]))
    except commands.CommandFault as error:
        if _NOT_FOUND in error.output:
            return None
        raise UserError(
            where, f"{command} {error}", "mend or install it, or log in without a helper"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(where, f"{command} answers what is no credentials", "log in again") from None
    if found.user == "<token>":
        raise _identity_token(where)
    return found


def _identity_token(where: str) -> UserError:
    problem = "has an identity token for the registry, which is not supported"
    return UserError(where, problem, "log in with a user and a password or an access token")
