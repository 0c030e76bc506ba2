"""Another local user finds no way into a package that runs, whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from starting import Caller, MakePackage

ANOTHER = 54322
# Each line says what the user of the first argument could do to the processes whose numbers are the others.
ATTEMPTS = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
for process in sys.argv[2:]:
    for name in ("root", "cwd", "exe", "fd/0", "environ", "maps", "mem", "root/bin/probe"):
        try:
            os.close(os.open(f"/proc/{process}/{name}", os.O_RDONLY))
            print("opened", name)
        except OSError:
            pass
    for name, attempt in {
        "setns": lambda: os.close(os.open(f"/proc/{process}/ns/user", os.O_RDONLY)),
        "signal": lambda: os.kill(int(process), 0),
        "write": lambda: os.close(os.open(f"/proc/{process}/oom_score_adj", os.O_WRONLY)),
    }.items():
        try:
            attempt()
            print(name)
        except OSError:
            pass
"""


def family_of(process: int) -> list[str]:
    """The numbers of a process and of all that descend from it."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [str(process), *(number for child in listed for number in family_of(int(child)))]


def attempts(user: int, processes: list[str]) -> list[str]:
    """What a user can do to the processes."""
    command = [sys.executable, "-ISc", ATTEMPTS, str(user), *processes]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts programs as others")
def test_another_user_neither_enters_nor_reads_nor_signals(package: MakePackage, caller: Caller) -> None:
    with caller.start(package(), "endure") as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        processes = family_of(process.pid)
        assert len(processes) > 2
        assert attempts(ANOTHER, processes) == []
        assert {"opened root", "opened root/bin/probe", "signal"} <= set(attempts(0, processes))
        os.kill(process.pid, signal.SIGKILL)
