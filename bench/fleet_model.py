"""A model of what a fleet of build machines asks of its cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bench.network import FRAMING

# What one file takes beside its own bytes: requests, and bytes (docs/fleet.md, "Sizing").
REQUESTS_FOUND, REQUESTS_STORED, REQUESTS_MISSED = 2, 4, 1
OVERHEAD_FOUND, OVERHEAD_MISSED = 700, 150
# Bytes that a change of one file moves where the server keeps chunks of 512 KiB.
CHUNKS_OF_A_CHANGE = 2 << 19


class Cost(NamedTuple):
    """Seconds of processor time of a request and of a byte."""

    request: float
    byte: float

    def of(self, requests: float, size: float) -> float:
        """Return the processor time of requests that move so many bytes."""
        return requests * self.request + size * self.byte


class Costs(NamedTuple):
    """What fetching costs the server and the machines, as it was measured."""

    server: Cost
    machine: Cost

    def of(self, load: Load) -> float:
        """Return the processor time that a load takes, the server's and the machines'."""
        return self.server.of(load.requests, load.size) + self.machine.of(load.requests, load.size)


@dataclass(frozen=True)
class Load:
    """What comes to the server: requests, and bytes of content that it sends."""

    requests: float
    size: float

    def on_link(self) -> float:
        """Return the bytes on the link, with all headers."""
        return self.size * FRAMING


def clean_checkouts(machines: int, packages: int, size: float) -> Load:
    """Return what comes of every machine that fetches every package."""
    files = machines * packages
    return Load(machines + files * REQUESTS_FOUND, files * (size + OVERHEAD_FOUND))


def misses(machines: int, packages: int) -> Load:
    """Return what comes of machines that ask for what nobody has stored."""
    files = machines * packages
    return Load(machines + files * REQUESTS_MISSED, files * OVERHEAD_MISSED)


def seconds(load: Load, rate: float, costs: Costs, cores: int | None) -> float:
    """Return how long a load takes on links of ``rate`` bytes a second.

    The server's link, or a machine's, is full meanwhile, or, where servers and machines share so many
    ``cores``, these are busy.
    """
    busy = [load.on_link() / rate]
    if cores is not None:
        busy.append(costs.of(load) / cores)
    return max(busy)


@dataclass(frozen=True)
class Fleet:
    """A fleet in its busiest hour: ``builds`` are those of a machine, ``clean`` is the part from nothing.

    A build finds ``changed`` packages of ``size`` bytes that another machine has made since the last one.
    """

    machines: int = 1_000
    packages: int = 10_000
    size: float = 20e6
    builds: float = 4
    changed: int = 100
    clean: float = 0.0


class Need(NamedTuple):
    """What a server needs: requests, bytes and bits of its link a second, cores, bytes stored in an hour."""

    requests: float
    size: float
    link: float
    cores: float
    stored: float


def needed(fleet: Fleet, costs: Costs, *, chunks: bool) -> Need:
    """Return what the server of a fleet needs in its busiest hour."""
    moved = CHUNKS_OF_A_CHANGE if chunks else fleet.size
    builds = fleet.machines * fleet.builds
    extra = 1 if chunks else 0  # SplitBlob
    from_nothing = builds * fleet.clean * fleet.packages
    later = builds * (1 - fleet.clean) * fleet.changed
    requests = builds + from_nothing * REQUESTS_FOUND + later * (REQUESTS_FOUND + extra)
    size = from_nothing * (fleet.size + OVERHEAD_FOUND) + later * (moved + OVERHEAD_FOUND)
    stored = fleet.changed * fleet.builds * moved
    a_second = Load(requests / 3600, size / 3600)
    return Need(
        a_second.requests,
        a_second.size,
        a_second.on_link() * 8,
        costs.server.of(a_second.requests, a_second.size),
        stored,
    )
