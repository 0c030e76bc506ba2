"""A fleet at its cache, in network namespaces, and a model held to it: ``python -m bench --fleet``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from bench import fleet_model
from bench.fleet_machine import Done, Work
from bench.fleet_model import Cost, Costs, Fleet, Load
from bench.network import Host, is_possible, serving, switched
from bench.report import Table, aligned, markdown, progress

MACHINES, PACKAGES, CHANGED = 8, 300, 30
# By the rate of every link, in bytes a second: the size of a package, so that a run takes a minute.
LINKS = {12_500_000: 200_000, 125_000_000: 2_000_000}
_CALIBRATION = (400, 4_000), (40, 8_000_000)
_MISSED = 1_000
_TICKS = os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    """A step of the fleet: what it took, and what the model says.

    ``processor`` is the server's processor time, in seconds.
    """

    step: str
    load: Load
    predicted: float
    predicted_processor: float
    seconds: float
    requests: int
    size: int
    processor: float

    def row(self) -> Sequence[str]:
        """Return it as a row of a table."""
        return (
            self.step,
            f"{self.requests:,}",
            f"{self.load.requests:,.0f}",
            f"{self.size / 1e6:,.1f} MB",
            f"{self.load.size / 1e6:,.1f} MB",
            f"{self.processor:.1f} s",
            f"{self.predicted_processor:.1f} s",
            f"{self.seconds:.1f} s",
            f"{self.predicted:.1f} s",
            f"{self.seconds / self.predicted:.2f}",
        )


HEAD = (
    *("step", "requests", "model", "from the server", "model"),
    *("server's processor", "model", "time", "model", "time / model"),
)


def main(output: Path | None) -> int:
    """Measure, print the tables and write them to ``output``/fleet.md."""
    if not is_possible():
        sys.stderr.write("bench: --fleet makes network namespaces: it needs root, ip and tc\n")
        return 2
    tables, below = measure()
    text = "\n".join(aligned(table) for table in tables)
    sys.stdout.write(f"{text}\n{below}\n")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        parts = ["# A fleet at its cache\n", *map(markdown, tables), below]
        (output / "fleet.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    return 0


def measure() -> tuple[list[Table], str]:
    """Return the tables of the simulation and of the model, and what they are of."""
    costs = _costs()
    tables = [_simulated(rate, size, costs) for rate, size in LINKS.items()]
    server, machine = costs
    below = (
        f"{MACHINES} machines with 4 jobs each and the server, buildbox-casd, shared {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}. Processor time, measured without a limit of the links: "
        f"{_shown(server)} at the server, {_shown(machine)} at a machine."
    )
    return [*tables, _needs(costs)], below


def _shown(cost: Cost) -> str:
    return (
        f"{cost.found * 1e3:.2f} ms a request, {cost.missed * 1e3:.2f} ms one that finds nothing and "
        f"{cost.byte * 1e9:.2f} ns a byte"
    )


def _needs(costs: Costs) -> Table:
    """Return what the server of a large fleet needs."""
    fleet = Fleet()
    clean = Fleet(clean=0.01)
    head = (
        f"{fleet.machines:,} machines, {fleet.packages:,} packages of {fleet.size / 1e6:.0f} MB",
        *("requests/s", "content", "link", "server's cores", "stored in an hour"),
    )
    rows: Table = [head]
    cases = {
        f"{fleet.builds:.0f} builds an hour, {fleet.changed} packages changed": (fleet, False),
        "the same with chunks": (fleet, True),
        "with chunks, 1 of 100 builds from nothing": (clean, True),
    }
    for name, (case, chunks) in cases.items():
        need = fleet_model.needed(case, costs, chunks=chunks)
        rows.append(
            (
                name,
                f"{need.requests:,.0f}",
                f"{need.size / 1e6:,.0f} MB/s",
                f"{need.link / 1e9:,.1f} Gbit/s",
                f"{need.cores:,.1f}",
                f"{need.stored / 1e9:,.1f} GB",
            )
        )
    return rows


def _costs() -> Costs:
    """Measure what requests and a byte cost where no link is slow: small files, large ones, none."""
    with _fleet(1, None) as fleet:
        small, large = (_spent(fleet, Work("fetch", range(count), size, 0)) for count, size in _CALIBRATION)
        missed = _spent(fleet, Work("fetch", range(_MISSED), 0, 2), stores=False)
    return Costs(*(_cost(*three) for three in zip(small, large, missed, strict=True)))


def _spent(fleet: _Fleet, work: Work, *, stores: bool = True) -> tuple[Spent, Spent]:
    """Return what a work takes of the server and of the machine."""
    if stores:
        fleet.run([work._replace(step="store")])
    fleet.run([work])  # what is loaded at first is not counted
    before = fleet.processor()
    (done,) = fleet.run([work])
    spent = fleet.processor() - before
    return Spent(done.requests, done.received, spent), Spent(done.requests, done.received, done.processor)


def _cost(small: Spent, large: Spent, missed: Spent) -> Cost:
    """Solve the two equations of requests and bytes; what is missed has no bytes."""
    determinant = small.requests * large.size - large.requests * small.size
    found = (small.processor * large.size - large.processor * small.size) / determinant
    byte = (large.processor * small.requests - small.processor * large.requests) / determinant
    return Cost(max(found, 0.0), max(byte, 0.0), missed.processor / missed.requests)


def _simulated(rate: int, size: int, costs: Costs) -> Table:
    """Run the steps of a fleet behind links of a rate."""
    title = f"{MACHINES} machines, {PACKAGES} packages of {size / 1e6:g} MB, {rate * 8 / 1e6:,.0f} Mbit/s"
    progress(title)
    every, changed = range(PACKAGES), range(CHANGED)
    steps: list[tuple[str, Work, Load]] = [
        (
            "clean checkouts on all",
            Work("fetch", every, size, 0),
            fleet_model.clean_checkouts(MACHINES, PACKAGES, size),
        ),
        (
            f"{CHANGED} packages changed, on all",
            Work("fetch", changed, size, 1),
            fleet_model.clean_checkouts(MACHINES, CHANGED, size),
        ),
        (
            "nobody has stored any",
            Work("fetch", every, size, 2),
            fleet_model.misses(MACHINES, PACKAGES),
        ),
    ]
    rows: Table = [(title, *HEAD[1:])]
    with _fleet(MACHINES, rate) as fleet:
        fleet.run([Work("store", every, size, 0)])
        fleet.run([Work("store", changed, size, 1)])
        fleet.run([Work("fetch", [], size, 0)] * MACHINES)  # every machine has loaded what it needs
        for name, work, load in steps:
            predicted = fleet_model.seconds(load, rate, costs, os.cpu_count())
            rows.append(_step(fleet, name, work, load, predicted, costs.server.of(load)).row())
    return rows


def _step(
    fleet: _Fleet, name: str, work: Work, load: Load, predicted: float, predicted_processor: float
) -> Measured:
    _, before = fleet.server.moved()
    processor, started = fleet.processor(), time.monotonic()
    done = fleet.run([work] * len(fleet.machines))
    seconds = time.monotonic() - started
    _, after = fleet.server.moved()
    expected = len(work.files) * len(done) if work.version < 2 else 0
    if sum(each.found for each in done) != expected:
        sys.exit(f"bench: {name}: {sum(each.found for each in done)} files were found, not {expected}")
    requests = sum(each.requests for each in done)
    spent = fleet.processor() - processor
    return Measured(name, load, predicted, predicted_processor, seconds, requests, after - before, spent)


class Spent(NamedTuple):
    """Requests, bytes, and the processor time that they took, in seconds."""

    requests: int
    size: int
    processor: float


class _Fleet:
    """Machines and a server that run."""

    def __init__(self, server: Host, pid: int, machines: list[subprocess.Popen[str]]) -> None:
        self.server = server
        self.machines = machines
        self._pid = pid

    def run(self, works: Sequence[Work]) -> list[Done]:
        """Let one machine each do a work, all at once."""
        busy = self.machines[: len(works)]
        for machine, work in zip(busy, works, strict=True):
            line = json.dumps({**work._asdict(), "files": list(work.files)})
            _pipe(machine.stdin).write(line + "\n")
            _pipe(machine.stdin).flush()
        return [Done(**json.loads(_pipe(machine.stdout).readline())) for machine in busy]

    def processor(self) -> float:
        """Return the processor time of the server in seconds."""
        user, system = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS


@contextmanager
def _fleet(machines: int, rate: int | None) -> Iterator[_Fleet]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = stack.enter_context(switched(machines + 1, rate))
        url, casd = stack.enter_context(serving(hosts[0], directory / "casd"))
        clients = [_machine(host, url, directory / f"machine{n}") for n, host in enumerate(hosts[1:])]
        for client in clients:
            stack.callback(_end, client)
        yield _Fleet(hosts[0], casd, clients)


def _machine(host: Host, url: str, directory: Path) -> subprocess.Popen[str]:
    command = [*host.inside, sys.executable, "-m", "bench.fleet_machine", url, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("not a pipe")
    return pipe


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
