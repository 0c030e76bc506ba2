"""One build machine of the simulation: stores and fetches files as it is told, one line of JSON each time.

python -m bench.fleet_machine URL DIRECTORY
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache.remote import address, results
from mystikos_tool.cache.remote.client import Client, made

JOBS = 4


class Work(NamedTuple):
    """What one build asks of the cache: files by number, all of ``size`` bytes, of the state ``version``.

    ``step`` is "store" or "fetch".
    """

    step: str
    files: Sequence[int]
    size: int
    version: int


class Done(NamedTuple):
    """What that took: seconds of time and of processor time, and what moved."""

    seconds: float
    processor: float
    requests: int
    received: int
    sent: int
    found: int


def do(url: str, directory: Path, work: Work) -> Done:
    """Do the work of a build with a client of its own; no file is left."""
    warnings: list[str] = []
    client = Client(address.parse(f"{url}?patience=60&chunks="), warnings.append)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    processor = _processor()
    started = time.monotonic()
    with ThreadPoolExecutor(JOBS) as pool:
        found = sum(pool.map(lambda number: _file(client, directory, work, number), work.files))
    seconds = time.monotonic() - started
    client.close()
    if warnings:
        sys.exit(f"fleet_machine: {warnings}")
    traffic = client.traffic
    spent = _processor() - processor
    return Done(seconds, spent, traffic.requests, traffic.received, traffic.sent, found)


def _file(client: Client, directory: Path, work: Work, number: int) -> bool:
    name = f"package{number}"
    path, key = directory / name, results.key(f"{number} {work.version}", [name])
    if work.step == "fetch":
        found = client.fetch(key, {name: path}, lambda _: True)
    else:
        path.write_bytes(random.Random(f"{number} {work.version}").randbytes(work.size))
        file = made(name, path)
        client.store(key, [file] if file else [], 1.0)
        found = True
    path.unlink(missing_ok=True)
    return found


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Do the work of each line, and say what it took."""
    url, directory = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        done = do(url, directory, Work(**json.loads(line)))
        sys.stdout.write(json.dumps(done._asdict()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
