"""A machine that uses a remote cache: a directory and a client."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mystikos_tool.cache.remote import address, results
from mystikos_tool.cache.remote.client import Client, made

# What several files of one action look like: nothing, little, more than fits into a batch.
FILES: Mapping[str, tuple[bytes, int]] = {
    "out/nothing": (b"", 0o644),
    "out/program": (b"#!/bin/sh\n" * 7, 0o755),
    "out/large": (random.Random(1).randbytes(2_500_000), 0o640),
}


class Machine:
    """Stores and fetches below a directory; ``warnings`` are those of its client."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        separator = "&" if "?" in url else "?"
        if "chunks=" not in url:
            url += f"{separator}chunks={directory / 'chunks'}"
        self.client = Client(address.parse(url), self.warnings.append)
        self.seconds = 0.0

    def write(self, files: Mapping[str, tuple[bytes, int]] = FILES) -> None:
        for name, (data, mode) in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(mode)

    def store(self, files: Mapping[str, tuple[bytes, int]] = FILES, signature: str = "signature") -> None:
        self.write(files)
        self.store_names(list(files), signature)

    def store_names(self, names: Sequence[str], signature: str = "signature") -> None:
        found = [made(name, self.directory / name) for name in names]
        started = time.monotonic()
        self.client.store(results.key(signature, names), [file for file in found if file], 2.0)
        self.seconds = time.monotonic() - started

    def fetch(
        self,
        names: Sequence[str] = tuple(FILES),
        signature: str = "signature",
        accepts: Callable[[Sequence[Path]], bool] = lambda paths: True,
    ) -> bool:
        places = {name: self.directory / name for name in names}
        for path in places.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        fetched = self.client.fetch(results.key(signature, list(names)), places, accepts)
        self.seconds = time.monotonic() - started
        return fetched

    def files(self) -> dict[str, tuple[bytes, int]]:
        """What there is beside the chunks."""
        return {
            str(path.relative_to(self.directory)): (path.read_bytes(), path.stat().st_mode & 0o7777)
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and "chunks" not in path.relative_to(self.directory).parts
        }
