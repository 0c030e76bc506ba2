"""Tests that run on a farm: ``MYST_REMOTE_EXECUTOR="grpc://farm:8980/instance"``.

A test is started there as it would be here, and held to its expectation by the same code.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Errors

from mystikos_tool.cache.remote import address
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.scons import running, scons_internals, variables
from mystikos_tool.scons.expectations import Expectation

if TYPE_CHECKING:
    from mystikos_tool.cache.remote.executor import Done, Executor, Program

_DISK = "input/disk"
# Options of the runtime that name a file of the machine that a package is started on.
_LOCAL_OPTIONS = ("--myst-mount=", "--myst-rootfs=")
# Tells what of a status, stdout and stderr is not as expected.
Compared = Callable[..., list[str]]
_HERE = f'run this test here with {variables.REMOTE_EXECUTOR}=""'


def place(env: Any) -> str:
    """Return what names the farm that tests run on in messages; "" where they run here."""
    return str(_address(env[variables.REMOTE_EXECUTOR])) if env[variables.REMOTE_EXECUTOR] else ""


def check(env: Any, expectation: Expectation) -> None:
    """Raise SCons' UserError for a test that cannot run elsewhere, and for a URL that is none."""
    if not place(env):
        return
    local = [word for word in expectation.args if word.startswith(_LOCAL_OPTIONS)]
    named = [running.DISK] if running.DISK in {*env["ENV"], *(expectation.environment or {})} else []
    if local or named:
        problem = f"{[*local, *named][0]} names a file of this machine, and the test runs on a farm"
        raise SCons.Errors.UserError(f"MystTest: {problem}; {_HERE}")
    if env["MYST_START"] == variables.EXEC_LINUX:
        problem = (
            f'MYST_START="{variables.EXEC_LINUX}" is this machine\'s Mystikos, and the test runs on a farm'
        )
        raise SCons.Errors.UserError(f"MystTest: {problem}; {_HERE}")


def run(env: Any, package: Any, expectation: Expectation, compared: Compared) -> list[str]:
    """Run a test; return what is not as expected. A result that is known counts only if all is.

    Raises UserError, OSError and subprocess.TimeoutExpired.
    """
    executor = _executor(env[variables.REMOTE_EXECUTOR])
    program = _program(env, package, expectation)
    done, wrong = _tried(executor, program, expectation, compared, fresh=False)
    if wrong and done.is_known:
        done, wrong = _tried(executor, program, expectation, compared, fresh=True)
    return wrong


def _tried(
    executor: Executor, program: Program, expectation: Expectation, compared: Compared, *, fresh: bool
) -> tuple[Done, list[str]]:
    from mystikos_tool.cache.remote.executor import TimedOut

    try:
        done = executor.run(program, fresh=fresh)
    except TimedOut:
        raise subprocess.TimeoutExpired(str(program.path), expectation.timeout) from None
    status = -done.signal if done.signal and expectation.status < 0 else done.status
    return done, compared(expectation, status, done.stdout, done.stderr)


def _program(env: Any, package: Any, expectation: Expectation) -> Program:
    from mystikos_tool.cache.remote.executor import Program

    path = Path(package.get_abspath())
    if not os.access(path, os.X_OK):
        code = errno.EACCES if lookup.exists(path) else errno.ENOENT
        raise OSError(code, os.strerror(code), str(path))
    environment = running.process_environment(env, package)
    files: dict[str, Path] = {}
    if running.DISK in environment:
        files[_DISK] = Path(environment[running.DISK])
        environment[running.DISK] = _DISK
    return Program(
        path,
        expectation.args,
        environment | dict(expectation.environment or {}),
        expectation.stdin.encode(errors="surrogateescape"),
        files,
        expectation.timeout,
        variables.platform(env[variables.TEST_PLATFORM]),
    )


def _address(url: str) -> address.Address:
    try:
        return address.parse(str(url), address.EXECUTOR)
    except UserError as error:
        raise SCons.Errors.UserError(str(error)) from error


@lru_cache(None)
def _executor(url: str) -> Executor:
    """Return the one client of a farm, which ends with the build."""
    try:
        from mystikos_tool.cache.remote.executor import Executor
    except ImportError as error:
        where = f"remote executor {_address(url)}"
        raise UserError(where, f"{error.name or error} is missing", "install mystikos-tool[remote]") from None
    executor = Executor(_address(url))
    scons_internals.at_interrupt(executor.interrupt)
    scons_internals.at_end_of_build(executor.close)
    return executor
