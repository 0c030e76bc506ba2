"""Where a remote cache or executor is and how it is used, in one URL.

grpc://cache:8980/instance
grpcs://cache.example:443/main?ca=ca.pem&token-file=/run/secrets/cache&mode=read
unix:/run/casd.sock
https://cache.example/prefix?cert=client.pem&key=client.key
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from mystikos_tool.errors import UserError

_PORTS = {"grpc": 8980, "grpcs": 443, "http": 80, "https": 443}
_MODES = ("read-write", "read", "write")
_OPTIONS = ("ca", "cert", "key", "token-file", "token-command", "patience", "min-rate")
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}

_FILES = ("ca", "cert", "key", "token-file", "token-command")
_LONGEST = 10**8  # seconds; the system's clocks count no endless time

_MIN_RATE = "128K"
_CHUNKS_SIZE = "4G"
_WAIT = "3600"


class Kind(NamedTuple):
    """What a URL is for, and what may be in it; ``patience`` is the default of that option."""

    name: str
    schemes: tuple[str, ...]
    options: tuple[str, ...]
    patience: str

    def wrong(self, problem: str, remedy: str) -> UserError:
        """Return the error of a URL."""
        return UserError(f"the {self.name}'s URL", problem, remedy)


CACHE = Kind(
    "remote cache",
    ("grpc", "grpcs", "unix", "http", "https"),
    ("mode", *_OPTIONS, "chunks", "chunks-size"),
    patience="1.7",
)
EXECUTOR = Kind("remote executor", ("grpc", "grpcs", "unix"), (*_OPTIONS, "wait"), patience="10")


class Address(NamedTuple):
    """A remote cache or executor.

    ``place`` is host and port or the path of a socket, ``name`` the instance (gRPC) or the path
    before ``/ac`` and ``/cas`` (HTTP). ``patience`` is how many seconds an answer may take,
    ``min_rate`` how many bytes a second a transfer has to move after that, ``chunks`` the directory
    of the chunk store (None: there is none) and ``chunks_size`` its limit in bytes. ``wait`` is how many
    seconds an executor may take beside those of what it executes. ``token_file``
    and ``token_command`` say where a bearer token comes from; it is never part of an address.
    """

    scheme: str
    place: str
    name: str
    reads: bool
    writes: bool
    ca: Path | None
    cert: Path | None
    key: Path | None
    token_file: Path | None
    token_command: str | None
    patience: float
    min_rate: int
    chunks: Path | None
    chunks_size: int
    wait: float

    def __str__(self) -> str:
        """Return what names the server in messages, without its options."""
        if self.scheme == "unix":
            return f"unix:{self.place}"
        return f"{self.scheme}://{self.place}" + (f"/{self.name}" if self.name else "")

    @property
    def is_http(self) -> bool:
        """Whether HTTP is spoken, not gRPC."""
        return self.scheme in ("http", "https")

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in ("grpcs", "https")


def parse(url: str, kind: Kind = CACHE) -> Address:
    """Read a server's URL; raise UserError, which shows nothing of what could be a secret in it."""
    scheme = url.partition(":")[0].lower()
    if "\0" in unquote(url) or not url.isprintable():
        raise kind.wrong("has a character in it that is not printed, or is not UTF-8", "leave it out")
    if scheme not in kind.schemes:
        *others, last = (f"{name}:" if name == "unix" else f"{name}://" for name in kind.schemes)
        raise kind.wrong(f"is no {kind.name}", f"begin it with {', '.join(others)} or {last}")
    rest, _, query = url.partition("?")
    options = _options(query, kind, (*kind.options, "instance") if scheme == "unix" else kind.options)
    place, name = _socket(rest, options, kind) if scheme == "unix" else _host(rest, scheme, kind)
    mode = options.get("mode", _MODES[0])
    if mode not in _MODES:
        raise kind.wrong("has an unknown mode", f"give one of {', '.join(_MODES)}")
    address = Address(
        scheme=scheme,
        place=place,
        name=name,
        reads=mode != "write",
        writes=mode != "read",
        ca=_path(options, "ca"),
        cert=_path(options, "cert"),
        key=_path(options, "key"),
        token_file=_path(options, "token-file"),
        token_command=options.get("token-command"),
        patience=_seconds(options, "patience", kind.patience, kind),
        min_rate=int(_number(options, "min-rate", _MIN_RATE, kind)),
        chunks=_chunks(options),
        chunks_size=int(_number(options, "chunks-size", _CHUNKS_SIZE, kind)),
        wait=_seconds(options, "wait", _WAIT, kind),
    )
    _check(address, kind)
    return address


def _options(query: str, kind: Kind, known: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in known:
            raise kind.wrong("has an option that is not known", f"the options are {', '.join(known)}")
        if name in options:
            raise kind.wrong(f"has {name} twice", "leave one out")
        if name in _FILES and not value:
            raise kind.wrong(f"has nothing behind {name}=", "name it, or leave the option out")
        options[name] = unquote(value)
    return options


def _socket(rest: str, options: dict[str, str], kind: Kind) -> tuple[str, str]:
    path = rest.partition(":")[2]
    if not path.startswith("/"):
        raise kind.wrong("names no socket", "give its absolute path, as in unix:/run/casd.sock")
    return unquote(path), options.pop("instance", "")


def _host(rest: str, scheme: str, kind: Kind) -> tuple[str, str]:
    try:
        parts = urlsplit(rest)
        port = parts.port or _PORTS[scheme]
    except ValueError:
        raise kind.wrong("has a wrong host or port", "write it as in grpc://cache:8980/instance") from None
    if parts.username is not None or parts.password is not None:
        raise kind.wrong("has a password in it", "put a bearer token into a file and add ?token-file=FILE")
    if not parts.hostname or parts.fragment:
        raise kind.wrong("names no host", "write it as in grpc://cache:8980/instance")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", unquote(parts.path).strip("/")


def _check(address: Address, kind: Kind) -> None:
    if bool(address.cert) != bool(address.key):
        raise kind.wrong("has only one of cert and key", "give both, PEM files")
    if (address.ca or address.cert) and not address.is_encrypted:
        raise kind.wrong("has certificates but no TLS", "write grpcs:// or https://")
    if address.token_file and address.token_command:
        raise kind.wrong("has two sources of a token", "give token-file or token-command")
    has_token = address.token_file or address.token_command
    if has_token and not (address.is_encrypted or address.scheme == "unix" or _is_loopback(address.place)):
        raise kind.wrong("would send its token unencrypted", "write grpcs:// or https://")


def _is_loopback(place: str) -> bool:
    host = place.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(options: dict[str, str], name: str) -> Path | None:
    value = options.get(name)
    return Path(value).expanduser() if value else None


def _chunks(options: dict[str, str]) -> Path | None:
    if "chunks" in options:
        return _path(options, "chunks")
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "mystikos-tool" / "chunks"
    except RuntimeError:  # this user has no home
        return None


def _seconds(options: dict[str, str], name: str, default: str, kind: Kind) -> float:
    seconds = _number(options, name, default, kind)
    if seconds > _LONGEST:
        raise kind.wrong(f"has a wrong {name}", f"give a number of seconds, at most {_LONGEST:,}")
    return seconds


def _number(options: dict[str, str], name: str, default: str, kind: Kind) -> float:
    text = options.get(name, default)
    scale = _UNITS.get(text[-1:].upper(), 1)
    try:
        number = float(text if scale == 1 else text[:-1]) * scale
    except ValueError:
        number = 0
    if not 0 < number < 1e18:
        raise kind.wrong(f"has a wrong {name}", f"give a number, as in {name}={default}")
    return number
