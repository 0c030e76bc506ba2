"""Start packages in the tests of the runtime, as root or as an ordinary user, with or without a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ORDINARY_USER = 54321  # no account is needed
PROBE = "/bin/probe"
SECONDS = 20.0
_SETPRIV = shutil.which("setpriv")

MakePackage = Callable[..., Path]


@dataclass(frozen=True)
class Caller:
    """Who starts a package."""

    user: int | None

    @property
    def credentials(self) -> dict[str, Any]:
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": ()}

    def become(self) -> None:
        if self.user is not None:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)

    @contextlib.contextmanager
    def start(self, package: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A package that runs on; it is killed at the end if it has not ended."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **options}
        with subprocess.Popen([package, *arguments], **self.credentials, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(
        self, package: Path | Sequence[str | Path], *arguments: str, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        options = {
            "stdin": subprocess.DEVNULL,
            "capture_output": True,
            "text": True,
            "timeout": SECONDS,
            **options,
        }
        command = [package] if isinstance(package, Path) else package
        if self.user is None or _SETPRIV is None or options.keys() & {"env", "executable"}:
            return subprocess.run([*command, *arguments], **self.credentials, **options)
        # Python would fork for another user, and copying the page tables of a process that has run thousands
        # of tests takes longer than a package that starts and ends.
        become = [_SETPRIV, f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"]
        return subprocess.run([*become, *command, *arguments], **options)

    def output(self, package: Path | Sequence[str | Path], *arguments: str, **options: Any) -> str:
        """What it prints when all goes well."""
        done = self.run(package, *arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout)


def refusal(done: subprocess.CompletedProcess[Any]) -> str:
    """The one line of a package that did not start."""
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("package: mystikos: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    return str(done.stderr).removeprefix("package: mystikos: ").rstrip()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_line(stream: IO[str]) -> str:
    readable, _, _ = select.select([stream], [], [], SECONDS)
    assert readable, "nothing came"
    return stream.readline().strip()


def interrupt_the_group(process: subprocess.Popen[str]) -> None:
    """Send a signal to the group of a package that tells its signals; it has to come once."""
    assert process.stdout
    assert read_line(process.stdout) == "ready"
    os.killpg(process.pid, signal.SIGINT)
    assert read_line(process.stdout) == str(int(signal.SIGINT))
    process.send_signal(signal.SIGUSR2)  # behind whatever else was on its way
    assert read_line(process.stdout) == str(int(signal.SIGUSR2))
    process.terminate()
    assert process.wait(SECONDS) == 0


class Terminal:
    """A pseudo-terminal with a process in its foreground that runs a function."""

    def __init__(self, caller: Caller, run: Callable[..., None], *arguments: str | Path) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                caller.become()
                run(*arguments)
                os._exit(0)
            os._exit(127)
        self.text = ""

    def type(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def expect(self, line: str) -> None:
        """Read until the next line is complete; it must be this one."""
        first = self._next(line).rstrip()
        assert first.removeprefix("^C").removeprefix("^Z").removeprefix("^\\") == line, first

    def skip(self) -> None:
        """Read a line whatever it is."""
        self._next("a line")

    def _next(self, line: str) -> str:
        while "\n" not in self.text:
            readable, _, _ = select.select([self.descriptor], [], [], SECONDS)
            assert readable, f"{line!r} did not come, only {self.text!r}"
            self.text += os.read(self.descriptor, 4096).decode()
        first, self.text = self.text.split("\n", 1)
        return first

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def execute(*command: str | Path) -> None:
    os.execv(command[0], [str(word) for word in command])
