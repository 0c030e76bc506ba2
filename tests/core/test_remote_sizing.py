"""What an action costs the server, as docs/fleet.md says it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from reapi_server import ReapiServer
from remote_machine import Machine

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"
SMALL, LARGE = 4000, 3_000_000


def row(step: str) -> tuple[list[str], int]:
    """The requests and the bytes beside the files' own that docs/fleet.md gives for a step."""
    (found,) = re.findall(rf"^\| {step} \| (.*) \| ≤ (\d+) \|$", DOCS.read_text(), re.MULTILINE)
    return sorted(re.findall(r"`(\w+)`", found[0])), int(found[1])


@pytest.mark.parametrize(
    ("step", "size", "average"),
    [
        ("a small file found", SMALL, 0),
        ("a large file found", LARGE, 0),
        ("a changed file found, in chunks", LARGE, 1 << 16),
        ("nothing found", 0, 0),
        ("a small file stored", SMALL, 0),
        ("a large file stored", LARGE, 0),
        ("a changed file stored, in chunks", LARGE, 1 << 16),
    ],
)
def test_a_step_takes_the_requests_and_bytes_that_the_documentation_says(
    step: str, size: int, average: int, tmp_path: Path
) -> None:
    server = ReapiServer(average=average).start()
    one, other = Machine(tmp_path / "one", server.url), Machine(tmp_path / "other", server.url)
    data = random.Random(1).randbytes(size)
    if average:
        one.store({"file": (data, 0o755)}, "before")
        other.fetch(["file"], "before")
        data = data[:-1] + bytes([data[-1] ^ 1])
    stores = step.endswith("stored") or step.endswith("stored, in chunks")
    if not stores and size:
        one.store({"file": (data, 0o755)})
    machine = one if stores else other
    if not average:
        machine.fetch(["other"], "connects")
    traffic = machine.client.traffic
    calls, before = server.calls.copy(), traffic.sent + traffic.received
    if stores:
        machine.store({"file": (data, 0o755)})
    else:
        assert machine.fetch(["file"]) == bool(size)
    requests, overhead = row(step)
    assert sorted((server.calls - calls).elements()) == requests
    moved = traffic.sent + traffic.received - before
    content = min(size, 4 * average) if average else size
    assert moved - content <= overhead
    server.stop()
