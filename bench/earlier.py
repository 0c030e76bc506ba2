"""An earlier version of the tool, out of the repository, to be measured in turn with this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.projects import CHECKOUT, environment
from mystikos_tool.errors import UserError

_WHERE = "import mystikos_tool; print(mystikos_tool.__file__)"
_RUNTIME = "from mystikos_tool import runtime; print(runtime.embedded().loader.parents[1])"


@dataclass(frozen=True)
class Version:
    """A version's tool below ``checkout``; ``column`` is the beginning of its commit's name, 7 digits."""

    column: str
    checkout: Path

    def runtime(self) -> Path:
        """Return its embedded runtime, which takes a minute to compile, once."""
        cache = {"XDG_CACHE_HOME": str(self.checkout / "cache")}
        return Path(self._python(_RUNTIME, **cache))

    def check(self) -> None:
        """Raise FailedError where Python takes another version's tool for it."""
        found = self._python(_WHERE)
        if not Path(found).is_relative_to(self.checkout):
            raise processes.FailedError(f"{self.column}: Python imports {found} in place of it")

    def _python(self, program: str, **variables: str) -> str:
        """Run a program of one line with this version's tool; return the line that it prints last."""
        usage = processes.run(
            [sys.executable, "-c", program],
            cwd=self.checkout.parent,
            environment={**environment(self.checkout), **variables},
        )
        return usage.output.splitlines()[-1]


@contextmanager
def unpacked(revision: str | None, repository: Path = CHECKOUT) -> Iterator[Version | None]:
    """Hold a revision's tool in a temporary directory; raise UserError where it cannot be had.

    Without a revision there is none.
    """
    if revision is None:
        yield None
        return
    commit = _git(repository, revision, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        archive, checkout = Path(name, "archive.tar"), Path(name, "checkout")
        _git(repository, revision, "archive", f"--output={archive}", commit, "mystikos_tool")
        shutil.unpack_archive(archive, checkout)
        version = Version(commit[:7], checkout)
        version.check()
        yield version


def _git(repository: Path, revision: str, *arguments: str) -> str:
    """Return what git prints in the repository itself, not in one around it."""
    where = f"--against {revision}"
    if not (repository / ".git").exists():
        problem = f"{repository} is not a clone of the repository, which earlier versions are in"
        raise UserError(where, problem, "clone it and run the benchmark there")
    git = shutil.which("git")
    if git is None:
        raise UserError(where, "git, which has earlier versions, is not installed", "install git")
    done = subprocess.run([git, "-C", repository, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        problem = f"is no revision of the tool in {repository} ({reason})"
        raise UserError(where, problem, "name one of `git log`; `git fetch --unshallow` brings older ones")
    return done.stdout.strip()
