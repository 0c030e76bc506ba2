"""Machines in network namespaces, each behind a shaped link to a common switch. Needs root, ip and tc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

_LATENCY = "200ms"  # of the queue before a link; what waits longer is dropped
_BURST = 1 << 18  # bytes that leave at once
_SECONDS_TO_START = 20
# Ethernet, IP and TCP add 66 bytes to 1448.
FRAMING = 1514 / 1448


class Host(NamedTuple):
    """A machine: its address, the command that runs another one on it, and its port at the switch."""

    address: str
    inside: tuple[str, ...]
    port: str

    def moved(self) -> tuple[int, int]:
        """Return the bytes, with all headers, that it has received and sent."""
        counters = Path("/sys/class/net", self.port, "statistics")
        received, sent = (int((counters / name).read_text()) for name in ("tx_bytes", "rx_bytes"))
        return received, sent


def is_possible() -> bool:
    """Tell whether namespaces and shaped links can be made here."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "tc")))


@contextmanager
def switched(hosts: int, rate: int | None) -> Iterator[list[Host]]:
    """Yield hosts, each with a link of ``rate`` bytes a second each way; None is as fast as can be."""
    name = f"m{os.getpid()}"
    with ExitStack() as stack:
        _run("ip", "link", "add", f"{name}s", "type", "bridge")
        stack.callback(_run, "ip", "link", "delete", f"{name}s")
        _run("ip", "link", "set", f"{name}s", "up")
        yield [_host(stack, name, number, rate) for number in range(hosts)]


@contextmanager
def serving(host: Host, directory: Path) -> Iterator[tuple[str, int]]:
    """Start buildbox-casd on a host; yield its URL and the number of its process."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "core"))
    from remote_servers import casd_binary, free_port

    port = free_port()
    command = [casd_binary() or "buildbox-casd", "--bind", f"{host.address}:{port}", str(directory)]
    with directory.with_suffix(".log").open("wb") as log:
        # What ip starts takes the place of ip: its number is that of the server.
        process = subprocess.Popen([*host.inside, *command], stdout=log, stderr=log)
    try:
        until = time.monotonic() + _SECONDS_TO_START
        while not _listens(host, port):
            if time.monotonic() > until:
                sys.exit("bench: buildbox-casd does not start")
            time.sleep(0.05)
        yield f"grpc://{host.address}:{port}", process.pid
    finally:
        process.kill()
        process.wait()


def _listens(host: Host, port: int) -> bool:
    command = [*host.inside, "cat", "/proc/net/tcp", "/proc/net/tcp6"]
    sockets = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return re.search(rf":{port:04X} 0+:0000 0A", sockets) is not None


def _host(stack: ExitStack, name: str, number: int, rate: int | None) -> Host:
    space, port, inner = f"{name}-{number}", f"{name}p{number}", f"{name}i{number}"
    inside = ("ip", "netns", "exec", space)
    address = f"198.51.100.{number + 1}"
    _run("ip", "netns", "add", space)
    stack.callback(_run, "ip", "netns", "delete", space)
    for command in (
        ("ip", "link", "add", port, "type", "veth", "peer", "name", inner, "netns", space),
        ("ip", "link", "set", port, "master", f"{name}s"),
        ("ip", "link", "set", port, "up"),
        (*inside, "ip", "address", "add", f"{address}/24", "dev", inner),
        (*inside, "ip", "link", "set", inner, "up"),
        (*inside, "ip", "link", "set", "lo", "up"),
        *([_shaped(port, rate), (*inside, *_shaped(inner, rate))] if rate else []),
    ):
        _run(*command)
    return Host(address, inside, port)


def _shaped(device: str, rate: int) -> Sequence[str]:
    shape = ("rate", f"{rate * 8}bit", "burst", str(_BURST), "latency", _LATENCY)
    return ("tc", "qdisc", "add", "dev", device, "root", "tbf", *shape)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
