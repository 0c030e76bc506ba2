"""Starting a package from a build."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import SCons.Action
import SCons.Errors
import SCons.Subst

COMSTR = "MYSTRUNCOMSTR"


def start_action(package: Any, arguments: Sequence[str]) -> Any:
    """Return the action that starts a package, without a shell between, on the build's own terminal."""

    def start(target: list[Any], source: list[Any], env: Any) -> Any:
        command = [str(package.get_abspath()), *arguments]
        environment = {name: str(value) for name, value in env["ENV"].items()}
        status = subprocess.run(command, env=environment, check=False).returncode
        if status == 0:
            return None
        ended = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        return SCons.Errors.BuildError(target, f"{package} {ended}", status=status, exitstatus=2)

    def shown(target: list[Any], source: list[Any], env: Any) -> str:
        if env.get(COMSTR) is not None:
            return str(env.subst(env[COMSTR], SCons.Subst.SUBST_RAW, target, source))
        return shlex.join([str(package), *arguments])

    return SCons.Action.Action(start, shown)
