"""Images on a registry, by the distribution specification's API over HTTP.

Credentials go to the registry, and to the token service that it names, by HTTPS, and nowhere else: a
redirect to another place gets none. What is answered is bounded before it is read, and held to its digest
whoever sent it. Documents stay in the user's cache by their digests, layers decompressed.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib import error as errors
from urllib import parse, request

from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, user_cache
from mystikos_tool.io.pace import Pace
from mystikos_tool.root.oci import credentials, manifest
from mystikos_tool.root.oci import digest as digests
from mystikos_tool.root.oci.blobs import Stream, mismatch
from mystikos_tool.root.oci.challenge import challenges
from mystikos_tool.root.oci.digest import Digest
from mystikos_tool.root.oci.manifest import INDEXES, LAYERS, MANIFESTS, MAX_DOCUMENT, Descriptor
from mystikos_tool.root.oci.reference import Reference, is_loopback

PATIENCE = 30.0  # seconds without an answer, and between _LEAST bytes and the next
_LEAST = 30 << 10
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_MAX_TOKEN = 1 << 16
_ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_SECONDS = re.compile(r"\d{1,6}")
_LATER = "try again later"


class Registry:
    """The repository of an image, as the place of its blobs."""

    def __init__(self, reference: Reference, *, patience: float = PATIENCE) -> None:
        self.where = str(reference)
        self._reference = reference
        self._patience = patience
        self._address = f"{reference.address}{reference.repository}/"
        self._authorization = ""
        self._cache = user_cache.directory() / "documents"

    def descriptor(self) -> Descriptor:
        """Return what the reference stands for: by its digest, or as the registry has its tag now."""
        digest = self._reference.digest
        data = self._document(f"manifests/{digest or self._reference.tag}", digest)
        return Descriptor(manifest.media_type(data, self.where), digest or digests.of(data), len(data))

    @contextmanager
    def opened(self, descriptor: Descriptor) -> Iterator[Stream]:
        """Begin to read a blob; see Blobs."""
        kind = "manifests" if descriptor.media_type in (*INDEXES, *MANIFESTS) else "blobs"
        path = f"{kind}/{descriptor.digest}"
        if descriptor.media_type in LAYERS:
            with self._answer(path) as answer:
                yield answer
        else:
            yield BytesIO(self._document(path, descriptor.digest))

    def _document(self, path: str, digest: Digest | None) -> bytes:
        """Return an index, a manifest or a configuration, from the cache or the registry."""
        if digest and (known := self._known(digest)):
            return known
        with self._answer(path) as answer:
            data = _whole(answer, MAX_DOCUMENT, self.where)
        if digest and not digest.is_of(data):
            raise mismatch(f"{self.where}, {path}", digest)
        self._keep(digest or digests.of(data), data)
        return data

    def _known(self, digest: Digest) -> bytes | None:
        with suppress(OSError):
            path = self._path(digest)
            user_cache.clear(path)
            data = path.read_bytes()
            if digest.is_of(data):
                os.utime(path)  # when it was used last, for pruning
                return data
        return None

    def _keep(self, digest: Digest, data: bytes) -> None:
        with suppress(OSError, UserError):
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._path(digest)
            user_cache.clear(path)
            atomic.write(path, data, 0o600)

    def _path(self, digest: Digest) -> Path:
        return self._cache / f"{digest.algorithm}-{digest.hex}"

    @contextmanager
    def _answer(self, path: str) -> Iterator[_Answer]:
        """Ask the registry, with what it wants to know of the user."""
        # A blob by its digest; the manifest is what the reference names.
        where = f"{self.where}, {path}" if path.startswith("blobs/") else self.where
        with _told(where):
            answer = self._authorized(self._address + path)
        with closing(answer):
            yield answer

    def _authorized(self, url: str) -> _Answer:
        try:
            return self._followed(url, self._authorization)
        except errors.HTTPError as error:
            if error.code != http.client.UNAUTHORIZED:
                raise
            # Nobody was told of yet, or a token has become old.
            self._authorization = self._wanted(error.headers.get_all("WWW-Authenticate") or [])
            return self._followed(url, self._authorization)

    def _followed(self, url: str, authorization: str) -> _Answer:
        """Ask a URL and those that it redirects to; only what is of one origin learns of the user.

        An HTTPError is the answer of that origin alone: what another place asks for is not the registry's
        wish, and names no token service to which credentials may go.
        """
        origin = _origin(url)
        for _ in range(_MAX_REDIRECTS):
            headers = {"Accept": _ACCEPT, "User-Agent": "mystikos-tool"}
            if authorization and _origin(url) == origin:
                headers["Authorization"] = authorization
            try:
                return self._open(request.Request(url, headers=headers))
            except errors.HTTPError as error:
                if error.code not in _REDIRECTS:
                    self._check_origin(url, origin, error.code)
                    raise
                url = _checked(parse.urljoin(url, error.headers.get("Location") or ""), url, self.where)
        raise UserError(self.where, "is redirected again and again", _LATER)

    def _open(self, asked: request.Request) -> _Answer:
        # What is on this machine no proxy has to know of.
        proxies: dict[str, str] | None = {} if is_loopback(self._reference.registry) else None
        return _Answer(asked, request.ProxyHandler(proxies), self.where, self._patience)

    def _check_origin(self, url: str, origin: tuple[str, str], status: int) -> None:
        """Refuse an error of another place than the registry; its URL may be a secret, its host is none."""
        if _origin(url) != origin:
            problem = f"is redirected to {_origin(url)[1]}, which answers with status {status}"
            raise UserError(self.where, problem, _LATER)

    def _wanted(self, fields: Sequence[str]) -> str:
        """Return the authorization that a registry asks for: a token that its service gives, or basic."""
        known = credentials.of(self._reference)
        offered = list(challenges(fields))
        for challenge in offered:
            if challenge.is_of("bearer") and "realm" in challenge.parameters:
                return f"Bearer {self._token(challenge.parameters, known)}"
        if any(challenge.is_of("basic") for challenge in offered):
            if known is None:
                raise _unknown(self._reference)
            return known.basic()
        schemes = ", ".join(challenge.scheme for challenge in offered)
        raise UserError(self.where, f"wants authorization of the kind {schemes!r}", "use another registry")

    def _token(self, asked: dict[str, str], known: credentials.Credentials | None) -> str:
        """Ask the token service (distribution's token authentication)."""
        realm = _checked(asked["realm"], self._address, self.where)
        scope = asked.get("scope") or f"repository:{self._reference.repository}:pull"
        query = parse.urlencode({"service": asked.get("service", ""), "scope": scope})
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        with closing(self._followed(url, known.basic() if known else "")) as answer:
            data = _whole(answer, _MAX_TOKEN, self.where)
        members = manifest.json_object(data, f"{self.where}, {realm}")
        token = members.get("token") or members.get("access_token")
        if not (isinstance(token, str) and token.isascii() and token.isprintable()):
            raise UserError(self.where, f"{realm} gives no token", "use another registry")
        return token


class _NoRedirects(request.HTTPRedirectHandler):
    """Leaves redirects to us: urllib would send the authorization along."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Connecting:
    """Keeps the connection of a request, which urllib does not show.

    ``opened`` is its socket, of which the library lets go when the head of an answer was read.
    """

    connection: http.client.HTTPConnection | None = None
    opened: socket.socket | None = None

    def do_open(self, http_class: Any, req: request.Request, **http_conn_args: Any) -> Any:
        """Ask, by a connection of a class."""

        def made(*place: Any, **given: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = http_class(*place, **given)
            self.connection = connection
            connect = connection.connect

            def kept() -> None:
                connect()
                self.opened = connection.sock

            connection.connect = kept  # type: ignore[method-assign]
            return connection

        return super().do_open(made, req, **http_conn_args)  # type: ignore[misc]

    def end(self) -> None:
        """End the connection, whatever it is waited for."""
        opened = self.opened or (self.connection.sock if self.connection else None)
        if opened:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)


class _Http(_Connecting, request.HTTPHandler):
    """HTTP by a connection that is kept."""


class _Https(_Connecting, request.HTTPSHandler):
    """HTTPS by a connection that is kept."""


class _Answer:
    """An answer that is given up when it falls behind: its head, and each piece of it."""

    def __init__(
        self, asked: request.Request, proxies: request.ProxyHandler, where: str, patience: float
    ) -> None:
        self._where = where
        self._patience = patience
        self._pace = Pace(patience, 0)
        self._handlers = _Http(), _Https()
        opener = request.build_opener(proxies, _NoRedirects, *self._handlers)
        with self._watched():
            self._answer: http.client.HTTPResponse = opener.open(asked, timeout=patience)
        self._since = time.monotonic()
        self._moved = 0

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Let something take no longer than the patience, however often a few bytes of it come."""
        with self._pace.kept(self._end) as transfer:
            try:
                yield
            finally:
                if transfer.is_late:  # what was cut may look like a whole answer
                    raise TimeoutError from None

    def _end(self) -> None:
        for handler in self._handlers:
            handler.end()

    def close(self) -> None:
        """Leave what has not come."""
        self._answer.close()

    def read(self, size: int, /) -> bytes:
        """Return what has come; raise UserError where little does."""
        with _told(self._where), self._watched():
            data = self._answer.read1(size)  # returns with what there is
        self._moved += len(data)
        now = time.monotonic()
        if self._moved >= _LEAST:
            self._since, self._moved = now, 0
        elif data and now - self._since > self._patience:
            raise UserError(self._where, f"sends fewer than {_LEAST:,} bytes in {self._patience:g} s", _LATER)
        return data


def _whole(stream: Stream, limit: int, where: str) -> bytes:
    data = b""
    while piece := stream.read(limit + 1 - len(data)):
        data += piece
        if len(data) > limit:
            raise UserError(where, f"sends more than {limit:,} bytes", "distrust it: use another registry")
    return data


def _origin(url: str) -> tuple[str, str]:
    parts = parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _checked(url: str, before: str, where: str) -> str:
    """Return a URL that may be followed: HTTPS, or where it was HTTP on this machine, that again."""
    scheme, host = _origin(url)
    stays_here = scheme == "http" and is_loopback(host) and _origin(before)[0] == "http"
    if not host or "@" in host or not (scheme == "https" or stays_here):
        raise UserError(where, f"leads to {url[:200]!r}, which is not safe", "use another registry")
    return url


def _unknown(reference: Reference) -> UserError:
    remedy = f"log in: podman login {reference.registry}, or docker login {reference.registry}"
    return UserError(str(reference), "wants credentials, and none are known that it accepts", remedy)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what goes wrong on the way into the user's errors."""
    try:
        yield
    except errors.HTTPError as error:
        raise _refused(where, error.code, error.headers.get("Retry-After") or "") from None
    except TimeoutError:
        raise UserError(where, "does not answer in time", _LATER) from None
    except errors.URLError as error:
        raise UserError(where, f"cannot be reached: {_reason(error.reason)}", "see that it is up") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(where, f"breaks its answer off: {_reason(error)}", _LATER) from None


def _refused(where: str, status: int, retry_after: str) -> UserError:
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return UserError(where, "wants credentials, and none are known that it accepts", _login(where))
    if status == http.client.NOT_FOUND:
        return UserError(where, "is not on the registry, or is hidden", "correct its name, or log in")
    later = f"try again in {retry_after} s" if _SECONDS.fullmatch(retry_after) else _LATER
    if status == http.client.TOO_MANY_REQUESTS:
        return UserError(where, "was asked for too often", f"{later}, or {_login(where)}")
    return UserError(where, f"is answered with status {status}", later)


def _login(where: str) -> str:
    host = where.partition("/")[0]
    return f"log in: podman login {host}, or docker login {host}"


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower()
