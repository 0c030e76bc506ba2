"""What every server of a remote cache can do, whatever it speaks."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import BinaryIO, NamedTuple, Protocol

from mystikos_tool.cache.remote.digest import Digest

# Bytes of blobs in one request, however much a server takes: one answer has to come within the patience.
LARGEST_BATCH = 1 << 20
# Bytes a second that a server is supposed to verify and store of what it has whole.
STORING_RATE = 1 << 24
# Bytes of a transfer that are held in memory at a time.
PIECE = 1 << 18


class Trouble(enum.Enum):
    """What is wrong with a server, by what follows from it."""

    GONE = "gone"  # it is not reached, or does not answer in time: nothing more is asked
    REFUSED = "refused"  # it does not let this client do this
    FULL = "full"  # it takes nothing more
    FAILED = "failed"  # this request only


class ServerError(Exception):
    """A request that failed; the message is of our own words, never of the server's."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


class MissingError(Exception):
    """A blob that the server does not have, or has not as its digest says."""


class Chunking(NamedTuple):
    """Parameters of FastCDC 2020: average size of a chunk in bytes, and seed."""

    average: int
    seed: int

    @property
    def worthwhile(self) -> int:
        """The size in bytes from which on a blob is cut: that of the largest chunk (REAPI)."""
        return 4 * self.average


class Limits(NamedTuple):
    """What a server advertises; sizes in bytes, ``largest_blob`` 0 where there is no limit."""

    batch: int = LARGEST_BATCH
    largest_blob: int = 0
    updates: bool = True
    zstd: bool = False
    batch_zstd: bool = False
    splits: Chunking | None = None
    splices: Chunking | None = None

    def usable(self) -> Limits:
        """Return limits without what this machine has no module for."""
        limits = self
        if not find_spec("zstandard"):
            limits = limits._replace(zstd=False, batch_zstd=False)
        return limits if find_spec("pyfastcdc") else limits._replace(splits=None, splices=None)


class Traffic:
    """Counts requests and the bytes that move; all only grow."""

    def __init__(self) -> None:
        self.requests = 0
        self.received = 0
        self.sent = 0


class Server(Protocol):
    """A content-addressable store and an action cache; every method raises ServerError.

    Data that is read is not verified.
    """

    def limits(self) -> Limits:
        """Connect, and return what the server advertises."""

    def result(self, key: Digest, inlined: Sequence[str]) -> bytes | None:
        """Return an encoded ActionResult, None where there is none; contents of ``inlined`` may be in it."""

    def put_result(self, key: Digest, result: bytes) -> None:
        """Set an ActionResult."""

    def missing(self, digests: Sequence[Digest]) -> set[Digest]:
        """Return those blobs that the server lacks."""

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """Return small blobs, LARGEST_BATCH bytes together; MissingError where one is not there."""

    def write_batch(self, blobs: Mapping[Digest, bytes]) -> None:
        """Store small blobs, at most ``Limits.batch`` bytes together."""

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob of any size in pieces; MissingError where it is not there."""

    def write(self, digest: Digest, opened: Callable[[], BinaryIO]) -> None:
        """Store a blob of any size; each attempt reads a file of its own."""

    def split(self, digest: Digest) -> list[Digest] | None:
        """Return the chunks that a blob consists of, None where the server does not know."""

    def splice(self, digest: Digest, chunks: Sequence[Digest]) -> None:
        """Make a blob of chunks that the server has."""

    def close(self) -> None:
        """End all requests that are under way, and the connection."""
