"""Starting a package from a build."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import SCons.Errors
import SCons.Node.FS
import SCons.Subst
from SCons.Util import flatten, is_String

from mystikos_tool.errors import UserError
from mystikos_tool.io import console
from mystikos_tool.scons import arguments, blame, scons_internals, variables
from mystikos_tool.scons.input_file import InputFile
from mystikos_tool.scons.input_node import origin_of, path_of
from mystikos_tool.scons.stages import Package, stage_for, stage_of
from mystikos_tool.scons.target_file import TargetFile

COMSTR = "MYSTRUNCOMSTR"
DISK = "MYST_ROOTFS_PATH"

# Seconds before a program that is busy is started once more; 2 s in all.
_PAUSES = tuple(0.001 * 2**number for number in range(11))


_started: dict[Any, Any] = {}


class StartedFile(InputFile):
    """A program that is started; the first call that starts it is named where it is not there."""

    def __init__(self, origin: Any, builder: str) -> None:
        super().__init__(origin, builder)
        self.call = blame.current()

    def missing(self) -> bool:
        """Tell that the file is there or will be made; raise StopError, with the call, where it is not."""
        try:
            return super().missing()
        except SCons.Errors.StopError as error:
            raise SCons.Errors.StopError(blame.named(str(error), self.call)) from error

    def create_remedy(self) -> str:
        """Return what to do about a file that is not there."""
        return "build it, or correct the name"


def started_file(origin: Any, builder: str) -> Any:
    """Return the one input node of a program that ``builder`` starts; that of a stage is its own."""
    if isinstance(origin, TargetFile):
        return origin
    if origin not in _started:
        origin.must_be_same(SCons.Node.FS.File)
        _started[origin] = StartedFile(origin, builder)
    return _started[origin]


class StartAction(scons_internals.ActionBase):  # type: ignore[misc]
    """Starts a package, without a shell between, on the build's own terminal.

    No FunctionAction: SCons takes the code of one apart for its signature, and a build may have an
    alias like this for each of a thousand packages.
    """

    def __init__(self, package: Any, given: Sequence[str]) -> None:
        super().__init__()
        self.package = package
        self.arguments = given
        self.call = blame.current()

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
        try:
            with started(env, self.package, self.arguments) as command:
                environment = process_environment(env, self.package)
                status = run(command, env=environment).returncode
        except (UserError, OSError) as error:
            return SCons.Errors.BuildError(
                target, blame.named(str(not_started(self.package, error)), self.call), exitstatus=2
            )
        if status == 0:
            return None
        ended = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        return SCons.Errors.BuildError(target, f"{self.package} {ended}", status=status, exitstatus=2)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program that this build has perhaps just written, as `subprocess.run` does.

    A process that another thread starts has what is being written open too, until it becomes its own
    program. For so long the system starts nothing of it (ETXTBSY).
    """
    for pause in _PAUSES:
        try:
            return subprocess.run(command, check=False, **options)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            time.sleep(pause)
    return subprocess.run(command, check=False, **options)


# Packages that are started by exec-linux and of which that was told.
_told: set[Any] = set()


@contextmanager
def started(env: Any, package: Any, given: Sequence[str]) -> Iterator[list[str]]:
    """Yield the command that starts a package with arguments: itself, or exec-linux of its Mystikos.

    Raises UserError where MYST_START asks for exec-linux and there is none.
    """
    way, loader = env["MYST_START"], _loader_of_mystikos(package)
    if way == variables.EXEC_LINUX and loader is None:
        problem = "is not made with an installed Mystikos, whose exec-linux would start it"
        raise UserError(str(package), problem, f'set MYST_RUNTIME, or MYST_START="{variables.AUTO}"')
    if loader is None or way == variables.ITSELF:
        yield [str(package.get_abspath()), *given]
        return
    from mystikos_tool.packaging import exec_linux

    if way == variables.AUTO and (exec_linux.has_sgx() or not stage_for(package, Package).enclave.rootfs):
        yield [str(package.get_abspath()), *given]
        return
    if package not in _told:
        _told.add(package)
        line = exec_linux.told(loader, f'MYST_START="{variables.ITSELF}" starts the package itself')
        console.write_line(f"mystikos: {package} is {blame.below_top(line)}", sys.stderr)
    with exec_linux.of_package(Path(package.get_abspath()), loader, given) as command:
        yield command


def _loader_of_mystikos(package: Any) -> Path | None:
    """Return the loader of the installed Mystikos that a package was made with; None for another package."""
    stage = stage_of(package)
    if not isinstance(stage, Package):
        return None
    from mystikos_tool.runtime import Runtime

    runtime = Runtime(*(path_of(node) for node in stage.enclave.runtime))
    return None if runtime.is_embedded else Path(runtime.loader)


def root_disks(package: Any) -> list[Any]:
    """Return the node of the disk that is the root of a package, where it is at hand."""
    stage = stage_of(package)
    disk = stage.enclave.disk if isinstance(stage, Package) else None
    return [origin_of(disk)] if disk else []


def process_environment(env: Any, package: Any) -> dict[str, str]:
    """Return the variables of ENV as SCons gives them to a process; raise UserError for a bad name.

    A package whose root is a disk at hand finds it there, unless ENV names another one.
    """
    variables = {}
    if disks := root_disks(package):
        variables[DISK] = str(disks[0].rfile().get_abspath())
    for name, value in env["ENV"].items():
        if not is_String(name) or not name or "=" in name or not arguments.is_usable(name):
            raise UserError("ENV", f"{name!r} is no name of a variable", "correct it")
        variables[str(name)] = os.pathsep.join(map(str, flatten([value])))
    return variables


def not_started(package: Any, error: UserError | OSError) -> UserError:
    """Return the error of a program that the system does not start."""
    if isinstance(error, UserError):
        return error
    remedy = f"chmod +x {package}" if isinstance(error, PermissionError) else "give a program that starts"
    return UserError(str(package), f"cannot be started: {(error.strerror or str(error)).lower()}", remedy)
