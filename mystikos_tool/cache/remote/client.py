"""Fetch and store what actions make, through a server that may be slow, gone or lying."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache.remote import results
from mystikos_tool.cache.remote.address import Address
from mystikos_tool.cache.remote.chunks import ChunkStore, cut
from mystikos_tool.cache.remote.digest import Digest
from mystikos_tool.cache.remote.health import Health
from mystikos_tool.cache.remote.results import Key, Output, Result
from mystikos_tool.cache.remote.server import (
    Chunking,
    Limits,
    MissingError,
    Server,
    ServerError,
    Traffic,
    Trouble,
)
from mystikos_tool.cache.remote.token import Token
from mystikos_tool.cache.remote.upload import batches, cut_file, send, verified
from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, fingerprint
from mystikos_tool.io.arriving import Arriving, RefusedError

_GROUP = 1 << 22  # bytes of chunks that are held in memory

Accepts = Callable[[Sequence[Path]], bool]
Begin = Callable[[Sequence[Arriving]], object]


class Figures:
    """What a build had of a cache; ``saved`` is in seconds, ``rejected`` counts answers that were wrong."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.stored = 0
        self.rejected = 0
        self.saved = 0.0
        self.lock = threading.Lock()

    def add(self, **numbers: float) -> None:
        """Add to figures."""
        with self.lock:
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)


class Made(NamedTuple):
    """A file that an action made, as it was then."""

    name: str
    path: Path
    version: tuple[int, ...]
    mode: int
    link: str | None


def made(name: str, path: Path) -> Made | None:
    """Look at a file that an action made; None where it is nothing that a cache keeps.

    That is a file with permissions only, and a symbolic link that says the same elsewhere.
    """
    try:
        status = path.lstat()
        link = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else None
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    is_plain = stat.S_ISREG(status.st_mode) and results.is_plain(mode)
    if not (is_plain if link is None else results.is_portable(link)):
        return None
    return Made(name, path, fingerprint.content_version(fingerprint.of(status)), mode, link)


class Client:
    """One remote cache.

    Nothing is loaded and no connection is opened before the first request. No method raises for what a
    server or the network does; ``warn`` is called once at most.
    """

    def __init__(self, address: Address, warn: Callable[[str], None]) -> None:
        self.address = address
        self.figures = Figures()
        self.traffic = Traffic()
        self.health = Health(
            lambda text: warn(f"remote cache {address}: {text}"), reads=address.reads, writes=address.writes
        )
        self._chunks = ChunkStore(address.chunks, address.chunks_size)
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._limits = Limits()

    def connect(self) -> None:
        """Open the connection before the first request, if anything will be fetched."""
        if self.health.reads:
            self._tried(lambda server: True, writing=False)

    def has(self, key: Key, names: Sequence[str]) -> bool:
        """Tell whether there is a result of a key, without fetching it."""
        return self.health.reads and self._tried(
            lambda server: self._result(server, key, names) is not None, writing=False
        )

    def fetch(
        self,
        key: Key,
        files: Mapping[str, Path],
        accepts: Accepts,
        begin: Begin = lambda _: None,
    ) -> bool:
        """Make all files of a key's result, by name, or none of them; tell whether they are made.

        ``accepts`` is given the files, complete and verified, before they take their places; ``begin`` is
        given them when it is known that they come.
        """
        if not self.health.reads:
            return False
        started = time.monotonic()
        saved = 0.0

        def fetched(server: Server) -> bool:
            nonlocal saved
            result = self._result(server, key, list(files))
            if result is None:
                return False
            self._place(server, result, list(files.values()), begin, accepts)
            saved = result.seconds
            return True

        if not self._tried(fetched, writing=False):
            self.figures.add(misses=1)
            return False
        self.figures.add(hits=1, saved=max(saved - (time.monotonic() - started), 0))
        return True

    def store(self, key: Key, files: Sequence[Made], seconds: float) -> None:
        """Store the files that an action made in ``seconds``, unless one changed meanwhile."""

        def stored(server: Server) -> bool:
            if not self._limits.updates:
                raise ServerError(Trouble.REFUSED, "it takes no results from this client")
            outputs = self._upload(server, key, files)
            if not all(made(file.name, file.path) == file for file in files):
                return False
            server.put_result(key.digest, results.encode(Result(outputs, seconds)))
            return True

        if self.health.writes and self._tried(stored, writing=True):
            self.figures.add(stored=1)

    def summary(self) -> str:
        """Return a line that tells what the cache was good for; nothing where it was not asked."""
        figures = self.figures
        if not (figures.hits or figures.misses or figures.stored):
            return ""
        rejected = f", {figures.rejected} wrong or incomplete" if figures.rejected else ""
        return (
            f"remote cache: {figures.hits} hits, {figures.misses} misses{rejected}, {figures.stored} stored, "
            f"{self.traffic.received / 1e6:.1f} MB received, {self.traffic.sent / 1e6:.1f} MB sent, "
            f"{figures.saved:.1f} s saved"
        )

    def close(self) -> None:
        """End the connection, and bound the chunk store."""
        with self._lock:
            server, self._server = self._server, None
        if server:
            server.close()
            self._chunks.trim()

    def _tried(self, request: Callable[[Server], bool], *, writing: bool) -> bool:
        """Return what a request returns; False where anything goes wrong, which is remembered."""
        try:
            done = request(self._connected())
        except MissingError:
            self.figures.add(rejected=1)
        except ServerError as error:
            self.health.failed(error, writing=writing)
            if error.trouble is Trouble.GONE:
                self.close()
        except (OSError, UserError):
            pass  # of this machine: no space left, or a file that is gone
        else:
            self.health.succeeded()
            return done
        return False

    def _connected(self) -> Server:
        with self._lock:
            if not (self.health.reads or self.health.writes):
                raise ServerError(Trouble.GONE, "it is not asked any more")
            if self._server is None:
                try:
                    self._server, self._limits = _connect(self.address, self.traffic)
                except ServerError as error:  # before the next thread waits as long as this one
                    self.health.stop(f"{error}; the build goes on without it")
                    raise
            return self._server

    def _result(self, server: Server, key: Key, names: Sequence[str]) -> Result | None:
        """Return a key's result; MissingError where the server has one that cannot be it."""
        data = server.result(key.digest, names)
        result = results.decode(data, names) if data is not None else None
        if data is not None and result is None:
            raise MissingError
        return result

    def _place(
        self, server: Server, result: Result, paths: Sequence[Path], begin: Begin, accepts: Accepts
    ) -> None:
        """Read a result's files beside their places, verify them, and rename them all."""
        _check_room(result, paths)
        with ExitStack() as stack:
            wanted = [
                (output, Arriving(stack.enter_context(atomic.writing(path, output.mode)), output.digest.size))
                for output, path in zip(result.outputs, paths, strict=True)
                if output.target is None
            ]
            files = [file for _, file in wanted]
            is_whole = False
            try:
                begin(files)
                self._read(server, wanted)
                is_whole = True
            except RefusedError:
                pass  # who refused it tells why
            finally:
                for file in files:
                    file.end()
            places = [Path(f"/proc/self/fd/{each.file.fileno()}") for each in files]
            if not (accepts(places) and is_whole):
                raise MissingError
        for output, path in zip(result.outputs, paths, strict=True):
            if output.target is not None:
                _link(path, output.target)

    def _read(self, server: Server, wanted: Sequence[tuple[Output, Arriving]]) -> None:
        small: dict[Digest, list[Arriving]] = {}
        for output, file in wanted:
            named = output.digest
            if output.content or not named.size:
                file.write(verified(named, output.content))
            elif named.size <= self._limits.batch and not self._is_cut(named):
                small.setdefault(named, []).append(file)
            else:
                self._read_large(server, named, file)
        for batch in batches(small, self._limits.batch):
            blobs = server.read_batch(batch)
            for named in batch:
                for file in small[named]:
                    file.write(verified(named, blobs[named]))

    def _is_cut(self, named: Digest) -> bool:
        """Tell whether the server has a file in chunks, if it has it."""
        chunking = self._limits.splits
        return chunking is not None and named.size > chunking.worthwhile

    def _read_large(self, server: Server, named: Digest, file: Arriving) -> None:
        """Read a file as the chunks that are missing here, or whole where that is most of them."""
        chunking = self._limits.splits
        chunks = server.split(named) if self._is_cut(named) else None
        if chunks and chunking and _make_up(chunks, named, chunking):
            known = sum(chunk.size for chunk in chunks if chunk in self._chunks)
            if 2 * known >= named.size:
                return self._read_chunks(server, named, chunks, file)
        whole = hashlib.sha256()
        for data in server.read(named):
            whole.update(data)
            file.write(data)
        if Digest(whole.hexdigest(), file.written) != named:
            raise MissingError
        if chunks and chunking:
            file.file.seek(0)
            cut(file.file, chunking, self._chunks.put)
        return None

    def _read_chunks(self, server: Server, named: Digest, chunks: Sequence[Digest], file: Arriving) -> None:
        whole = hashlib.sha256()
        for group in batches(chunks, _GROUP):
            blobs = {chunk: self._chunks.get(chunk) for chunk in group}
            missing = {chunk: None for chunk, data in blobs.items() if data is None}
            for chunk, data in self._read_missing(server, list(missing)):
                blobs[chunk] = data
                self._chunks.put(chunk, data)
            for chunk in group:
                data = blobs[chunk] or b""
                whole.update(data)
                file.write(data)
        if Digest(whole.hexdigest(), file.written) != named:
            raise MissingError

    def _read_missing(self, server: Server, chunks: Sequence[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield chunks, verified."""
        small = [chunk for chunk in chunks if chunk.size <= self._limits.batch]
        for batch in batches(small, self._limits.batch):
            for chunk, data in server.read_batch(batch).items():
                yield chunk, verified(chunk, data)
        for chunk in chunks:
            if chunk.size > self._limits.batch:
                yield chunk, verified(chunk, b"".join(server.read(chunk)))

    def _upload(self, server: Server, key: Key, files: Sequence[Made]) -> tuple[Output, ...]:
        """Store the blobs of a key and of files where the server lacks them; return the outputs."""
        keep = self._chunks.put if self.address.reads else None
        cuts = {file.path: cut_file(file.path, self._limits, keep) for file in files if file.link is None}
        send(server, self._limits, key.blobs, cuts)
        return tuple(
            Output(file.name, target=file.link)
            if file.link is not None
            else Output(file.name, cuts[file.path].digest, file.mode)
            for file in files
        )


def _connect(address: Address, traffic: Traffic) -> tuple[Server, Limits]:
    """Open a connection, with the modules that it takes."""
    token = Token(address.token_file, address.token_command)
    server: Server
    try:
        if address.is_http:
            from mystikos_tool.cache.remote.http_server import HttpServer

            server = HttpServer(address, token, traffic)
        else:
            from mystikos_tool.cache.remote.grpc_server import GrpcServer

            server = GrpcServer(address, token, traffic)
    except ImportError as error:
        problem = f"{error.name} is not installed" if error.name else f"not all is installed: {error}"
        raise ServerError(Trouble.GONE, f"{problem} (mystikos-tool[remote])") from None
    try:
        return server, server.limits().usable()
    except BaseException:
        server.close()
        raise


def _make_up(chunks: Sequence[Digest], named: Digest, chunking: Chunking) -> bool:
    """Tell whether chunks may be those of a file: of its size together, and none too large for memory."""
    largest = max(chunk.size for chunk in chunks)
    return largest <= chunking.worthwhile and sum(chunk.size for chunk in chunks) == named.size


def _check_room(result: Result, paths: Sequence[Path]) -> None:
    """Raise OSError where there is not enough space for the files of a result."""
    needed: dict[Path, int] = {}
    for output, path in zip(result.outputs, paths, strict=True):
        needed[path.parent] = needed.get(path.parent, 0) + output.digest.size
    for directory, size in needed.items():
        status = os.statvfs(directory)
        if size > status.f_bavail * status.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def _link(path: Path, target: str) -> None:
    temporary = path.with_name(f".{path.name}.mystikos-part")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
