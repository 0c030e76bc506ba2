"""What names an image on a registry: ``HOST/NAME:TAG``, ``HOST/NAME@sha256:…`` (distribution reference)."""

from __future__ import annotations

import re
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.root.oci import digest as digests
from mystikos_tool.root.oci.digest import Digest

DOCKER = "docker.io"
_DOCKER_HOST = "registry-1.docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_FORM = re.compile(
    rf"(?:({_HOST})/)?({_PART}(?:/{_PART})*)(?::([\w][\w.-]{{0,127}}))?(?:@([a-z0-9]+:[0-9a-fA-F]+))?",
    re.ASCII,
)
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\])(?::[0-9]+)?")
# Of containers-transports(5), those of what is taken here too.
_TRANSPORTS = ("docker://", "oci:", "oci-archive:", "docker-archive:")


class Reference(NamedTuple):
    """An image on a registry, by tag, by digest or both, of which the digest counts."""

    registry: str
    repository: str
    tag: str
    digest: Digest | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def address(self) -> str:
        """The URL of the registry's API; plain HTTP on this machine alone."""
        scheme = "http" if is_loopback(self.registry) else "https"
        return f"{scheme}://{_DOCKER_HOST if self.registry == DOCKER else self.registry}/v2/"


def is_loopback(host: str) -> bool:
    """Tell whether a host, with or without a port, is this machine."""
    return _LOOPBACK.fullmatch(host) is not None


def parse(text: str) -> Reference | None:
    """Return the reference that a text is; None for one that is none, or has neither tag nor digest.

    Raises UserError for a digest of another form, and for a transport in front, as skopeo wants one.
    """
    for transport in _TRANSPORTS:
        if text.startswith(transport):
            remedy = f"write it as {text.removeprefix(transport) or 'a path or a reference'}"
            raise UserError(text, f"begins with {transport}, which is not needed here", remedy)
    match = _FORM.fullmatch(text)
    if not match:
        return None
    host, name, tag, digest = match.groups()
    if not (tag or digest):
        return None
    if host and not ("." in host or ":" in host or host == "localhost"):
        host, name = None, f"{host}/{name}"
    if host in (None, "index.docker.io"):
        host = DOCKER
    if host == DOCKER and "/" not in name:
        name = f"library/{name}"
    return Reference(host, name, tag or "", digests.parse(digest, text) if digest else None)


def needed(text: str) -> Reference:
    """Return the reference that a text is; raise UserError for any other."""
    found = parse(text)
    if found is None:
        problem = "is no image of a registry with a tag or a digest"
        raise UserError(text, problem, "write it as docker.io/library/nginx:1.27 or …/nginx@sha256:…")
    return found
