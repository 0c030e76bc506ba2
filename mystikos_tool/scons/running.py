"""Starting a package from a build."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import SCons.Errors
import SCons.Subst

from mystikos_tool.io import console
from mystikos_tool.scons import scons_internals

COMSTR = "MYSTRUNCOMSTR"


class StartAction(scons_internals.ActionBase):  # type: ignore[misc]
    """Starts a package, without a shell between, on the build's own terminal.

    No FunctionAction: SCons takes the code of one apart for its signature, and a build may have an
    alias like this for each of a thousand packages.
    """

    def __init__(self, package: Any, arguments: Sequence[str]) -> None:
        super().__init__()
        self.package = package
        self.arguments = arguments

    def __str__(self) -> str:
        return shlex.join([str(self.package), *self.arguments])

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> str:
        """Return what stands for the action in signatures."""
        return str(self)

    def get_implicit_deps(self, target: Any, source: Any, env: Any, executor: Any = None) -> list[Any]:
        """Return nothing: the package is the alias' source."""
        return []

    def strfunction(self, target: Any, source: Any, env: Any, executor: Any = None) -> str:
        """Return the line to print before: the user's, or the command."""
        if env.get(COMSTR) is not None:
            shown = str(env.subst(env[COMSTR], SCons.Subst.SUBST_RAW, target, source))
        else:
            shown = str(self)
        return console.shown(shown, sys.stdout)

    def execute(self, target: Any, source: Any, env: Any, executor: Any = None) -> Any:
        """Start the package and wait for its end."""
        command = [str(self.package.get_abspath()), *self.arguments]
        environment = {name: str(value) for name, value in env["ENV"].items()}
        status = subprocess.run(command, env=environment, check=False).returncode
        if status == 0:
            return None
        ended = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        return SCons.Errors.BuildError(target, f"{self.package} {ended}", status=status, exitstatus=2)
