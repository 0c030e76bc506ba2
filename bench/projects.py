"""The same packages by three ways to build them: the tool, SCons' Tar builder, a Command."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.inputs import Scenario, change_file, resize_file, some_file, write_config

CHECKOUT = Path(__file__).resolve().parents[1]
OURS, TAR, COMMAND = "mystikos", "SCons Tar", "Command"
COLUMNS = (OURS, TAR, COMMAND)

_SCONSTRUCTS = {
    OURS: """\
from mystikos_tool.scons import mystikos

env = Environment(tools=[mystikos], MYST_RUNTIME={runtime}, MYST_CONFIG="config.json", MYST_KEY="key.pem")
for name, appdir in {apps}:
    env.MystPackage(f"out/{{name}}", appdir)
""",
    TAR: """\
env = Environment(tools=["tar"])
for name, appdir in {apps}:
    env.Tar(f"out/{{name}}.tar", env.Dir(appdir))
""",
    COMMAND: """\
import os

env = Environment(tools=[], ENV=os.environ)
for name, appdir in {apps}:
    package = env.Command(f"out/{{name}}", [], [[
        {python}, "-m", "mystikos_tool", "package-sgx", "--runtime", {runtime}, "-o", "$TARGET",
        appdir, "key.pem", "config.json",
    ]])
    env.AlwaysBuild(package)
""",
}

# SCons' own; and one by which Python compiles a checkout in every process, as it does no installed tool.
_OPTIONS = ("SCONSFLAGS", "PYTHONDONTWRITEBYTECODE")


def environment(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Return the environment of every build: a checkout's tool, no options of the user's."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OPTIONS}
    return {**inherited, "PYTHONPATH": str(checkout), "SOURCE_DATE_EPOCH": "1767312000"}


def tool(*arguments: str | Path, checkout: Path = CHECKOUT) -> processes.Usage:
    """Run a checkout's command line in a process of its own; paths are absolute.

    Python looks for modules in the working directory before it does in PYTHONPATH.
    """
    command = [sys.executable, "-m", "mystikos_tool", *arguments]
    return processes.run(command, cwd=checkout, environment=environment(checkout))


@dataclass(frozen=True)
class Project:
    """A directory with an SConstruct that packages each of ``appdirs``, by the tool of ``checkout``."""

    directory: Path
    appdirs: Sequence[Path]
    scenario: Scenario
    checkout: Path = CHECKOUT

    def build(
        self,
        jobs: int | None = None,
        module: Sequence[str] = ("SCons",),
        under: Sequence[str] = (),
    ) -> processes.Usage:
        """Build everything, with as many jobs as there are cores if no number is given.

        ``under`` is a command that starts scons.
        """
        command = [*under, sys.executable, "-m", *module, "-Q", f"-j{jobs or os.cpu_count()}"]
        return processes.run(command, cwd=self.directory, environment=environment(self.checkout))

    def forget(self) -> None:
        """Remove everything that a build made, and what it remembers."""
        shutil.rmtree(self.directory / "out", ignore_errors=True)
        for path in self.directory.glob(".sconsign*"):
            path.unlink()

    def change_file(self) -> None:
        """Change one file of one app."""
        change_file(some_file(self.appdirs[0], self.scenario.files))

    def resize_file(self) -> None:
        """Change the size of one file of one app."""
        resize_file(some_file(self.appdirs[0], self.scenario.files))

    def change_key(self) -> None:
        """Sign with the other key from now on."""
        current, other = self.directory / "key.pem", self.directory / "other.pem"
        current.rename(self.directory / "swap.pem")
        other.rename(current)
        (self.directory / "swap.pem").rename(other)

    def change_config(self) -> None:
        """Raise the version in the configuration that all apps share."""
        path = self.directory / "config.json"
        write_config(path, SecurityVersion=json.loads(path.read_text()).get("SecurityVersion", 0) + 1)


def make(column: str, directory: Path, appdirs: Sequence[Path], scenario: Scenario, runtime: Path) -> Project:
    """Make the project of one column for application directories."""
    directory.mkdir()
    for name in ("key.pem", "other.pem"):
        tool("keygen", directory / name)
    write_config(directory / "config.json")
    apps = [(appdir.name, str(appdir)) for appdir in appdirs]
    text = _SCONSTRUCTS[column].format(apps=apps, runtime=repr(str(runtime)), python=repr(sys.executable))
    (directory / "SConstruct").write_text(text)
    return Project(directory, appdirs, scenario)
