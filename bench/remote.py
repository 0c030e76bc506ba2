"""Measures the remote cache against buildbox-casd on loopback: ``python -m bench.remote``.

With root, ``ip`` and ``tc``, the server is put behind a link of 1 Gbit/s in a network namespace; and scons
fetches a package into a clean checkout over such a link and over one of 100 Mbit/s.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, "tests/core")

from reapi_server import ReapiServer
from remote_machine import Machine
from remote_servers import casd_binary, free_port

from bench import inputs, installed, projects
from bench.network import FRAMING, serving, switched

PACKAGE = 200_000_000
PARALLEL, PART = 16, 32_000_000
CHUNK = 1 << 19
_TRIES, _CHECKOUTS = 100, 3
GIGABIT = 125_000_000  # bytes a second
# The rate of the link; files of a package, bytes of a file, packages.
CHECKOUTS = (
    (GIGABIT // 10, 5_000, 40_000, 1),
    (GIGABIT, 5_000, 40_000, 1),
    (GIGABIT, 5_000, 200_000, 1),
    (GIGABIT, 1_500, 40_000, 8),
)


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _one_change(directory / "change")
        with _casd(directory / "casd", "127.0.0.1") as url:
            _transfers(directory / "loopback", url, None)
        if os.geteuid() == 0 and shutil.which("ip") and shutil.which("tc"):
            with _link() as (address, namespace), _casd(directory / "far", address, *namespace) as url:
                _transfers(directory / "link", url, GIGABIT)
            for rate, *shape in CHECKOUTS:
                _clean_checkouts(directory / "checkouts", rate, *shape)


def _one_change(directory: Path) -> None:
    """A package of which one file of 4 kB changed, through a server that knows FastCDC."""
    server = ReapiServer(average=CHUNK).start()
    data = random.Random(1).randbytes(PACKAGE)
    changed = data[: PACKAGE // 2] + bytes(4000) + data[PACKAGE // 2 + 4000 :]
    one, other = Machine(directory / "one", server.url), Machine(directory / "other", server.url)
    one.store({"package": (data, 0o755)}, "before")
    other.fetch(["package"], "before")
    sent, received = one.client.traffic.sent, other.client.traffic.received
    one.store({"package": (changed, 0o755)}, "after")
    _say(f"one change: {(one.client.traffic.sent - sent) / 1e6:.2f} MB sent in {one.seconds:.2f} s")
    _check(other, other.fetch(["package"], "after"))
    moved = other.client.traffic.received - received
    _say(f"one change: {moved / 1e6:.2f} MB received in {other.seconds:.2f} s")
    server.stop()


def _transfers(directory: Path, url: str, rate: int | None) -> None:
    place = "link of 1 Gbit/s" if rate else "loopback"
    one, other = Machine(directory / "one", url), Machine(directory / "other", url)
    one.store({"package": (random.Random(2).randbytes(PACKAGE), 0o755)})
    _told(f"{place}: one file stored", PACKAGE, one.seconds, rate)
    _check(other, other.fetch(["package"]))
    _told(f"{place}: one file fetched", PACKAGE, other.seconds, rate)
    parts = {str(number): (random.Random(number).randbytes(PART), 0o755) for number in range(PARALLEL)}
    for name, content in parts.items():
        one.store({name: content}, name)
    started = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        fetched = list(pool.map(lambda name: other.fetch([name], name), parts))
    _check(other, all(fetched))
    _told(f"{place}: {PARALLEL} files fetched at once", PARALLEL * PART, time.monotonic() - started, rate)


def _clean_checkouts(directory: Path, rate: int, files: int, file_size: int, packages: int = 1) -> None:
    """Packages that scons fetches, from its start to its end, against their bytes on a link.

    What it takes beside is told by a build with -n, which finds out what there is to fetch.
    """
    directory.mkdir()
    installed.write(directory / "runtime")
    scenario = inputs.Scenario("clean checkouts", packages, files, file_size)
    appdirs = inputs.write_apps(scenario, directory)
    project = projects.make(projects.OURS, directory / "project", appdirs, scenario, directory / "runtime")
    with (
        switched(2, rate) as (server, client),
        serving(server, directory / "casd") as (url, _),
    ):
        sconstruct = project.directory / "SConstruct"
        named = f"MYST_REMOTE_CACHE={url + '?chunks='!r}, MYST_RUNTIME="
        sconstruct.write_text(sconstruct.read_text().replace("MYST_RUNTIME=", named))
        project.build(under=server.inside)
        size = sum(project.directory.joinpath("out", appdir.name).stat().st_size for appdir in appdirs)
        link = size * FRAMING / rate
        for jobs in (2, 8) if packages > 1 else (2,):
            for _ in range(_CHECKOUTS):
                project.forget()
                beside = project.build(jobs, ("SCons", "-n"), client.inside).seconds
                project.forget()
                used = project.build(jobs, under=client.inside)
                if f"{packages} hits, 0 misses" not in used.output:
                    sys.exit(f"was not fetched: {used.output}")
                place = f"link of {rate * 8 / 1e6:,.0f} Mbit/s, -j{jobs}"
                what = f"{place}: {packages} of {size / packages / 1e6:.0f} MB into a clean checkout"
                _told(what, size, used.seconds, rate)
                _say(f"    of it {beside:.2f} s beside; without {(used.seconds - beside) / link:.2f} times")
    shutil.rmtree(directory)


def _told(what: str, size: int, seconds: float, rate: int | None) -> None:
    against = f", {seconds * rate / (size * FRAMING):.2f} times what the link takes" if rate else ""
    _say(f"{what}: {size / 1e6:.0f} MB in {seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s{against}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _check(machine: Machine, fetched: bool) -> None:
    if not fetched:
        sys.exit(f"was not fetched: {machine.warnings}")


@contextmanager
def _casd(directory: Path, address: str, *before: str) -> Iterator[str]:
    port = free_port()
    command = [*before, casd_binary() or "buildbox-casd", "--bind", f"{address}:{port}", str(directory)]
    process = subprocess.Popen(command)
    url = f"grpc://{address}:{port}"
    try:
        for _ in range(_TRIES):
            probe = Machine(directory.with_name("probe"), url)
            if not probe.fetch(["x"]) and not probe.warnings:
                break
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def _link() -> Iterator[tuple[str, tuple[str, ...]]]:
    """A namespace behind a shaped link; yields its address and what runs a command in it."""
    name = f"myst{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    shape = ("root", "tbf", "rate", "1gbit", "burst", "256kb", "latency", "50ms")
    with ExitStack() as stack:
        subprocess.run(["ip", "netns", "add", name], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
        for command in (
            ("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name),
            ("ip", "address", "add", "198.51.100.1/30", "dev", f"{name}a"),
            ("ip", "link", "set", f"{name}a", "up"),
            (*inside, "ip", "address", "add", "198.51.100.2/30", "dev", f"{name}b"),
            (*inside, "ip", "link", "set", f"{name}b", "up"),
            ("tc", "qdisc", "add", "dev", f"{name}a", *shape),
            (*inside, "tc", "qdisc", "add", "dev", f"{name}b", *shape),
        ):
            subprocess.run(command, check=True)
        yield "198.51.100.2", inside


if __name__ == "__main__":
    main()
