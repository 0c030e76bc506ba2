"""Errors and warnings name the line of the user's script that made the call."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import SCons.Errors
import SCons.Node.FS

from mystikos_tool.errors import UserError, explained
from mystikos_tool.io import console
from mystikos_tool.printable import one_line
from mystikos_tool.scons import scons_internals

_NOT_THE_USER_S = (str(Path(__file__).parents[1]) + os.sep, f"{os.sep}SCons{os.sep}")


class Call(NamedTuple):
    """A call of a builder in a script of the user's."""

    builder: str
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.builder} at {below_top(self.file)}:{self.line}"


_calls: list[Call] = []


def at_the_caller(name: str, builder: Callable[..., Any]) -> Callable[..., Any]:
    """Make a builder's UserError, and what SCons warns of meanwhile, name the line that called it.

    SCons names the deepest frame that is not its own, which would be the tool's.
    """

    @functools.wraps(builder)
    def call(*arguments: Any, **named: Any) -> Any:
        frame = _caller(sys._getframe())
        _calls.append(Call(name, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        try:
            with scons_internals.warnings_to(_warn_at_the_caller):
                return builder(*arguments, **named)
        except (SCons.Errors.UserError, UserError, TypeError) as error:
            told = _as_shown(error, name, builder, arguments, named)
            if told is None:
                raise
            raise told.with_traceback(_place(frame)) from error.__cause__
        finally:
            _calls.pop()

    return call


def of_caller(error: UserError) -> SCons.Errors.UserError:
    """Return an error as SCons' own that names the user's line, from which all this was called."""
    shown = SCons.Errors.UserError(str(error))
    return shown.with_traceback(_place(_caller(sys._getframe())))


def current() -> Call | None:
    """Return the call that is being read; None between the calls."""
    return _calls[-1] if _calls else None


def named(message: str, call: Call | None) -> str:
    """Return a message with the call that it is about, and with paths as SCons shows them."""
    message = below_top(explained(message))
    return f"{message} ({call})" if call else message


def warn(message: str, call: Call | None = None) -> None:
    """Print a warning on standard error, on one line."""
    console.write_line(f"mystikos: warning: {one_line(named(message, call))}", sys.stderr)


class KindMismatchError(SCons.Errors.UserError, TypeError):  # type: ignore[misc]
    """A file where a directory is described, or a directory where a file is; to SCons a TypeError."""


def mismatch(message: str) -> KindMismatchError:
    """Return the error, at the line that describes it, of a file in a directory's place, or the reverse."""
    remedy = "Remove it if an earlier build has made it; otherwise rename one of the two."
    error = KindMismatchError(f"{below_top(message)} {remedy}")
    return error.with_traceback(_place(_caller(sys._getframe())))


_told: dict[str, object] = {}


def warn_once(message: str, call: Call | None = None) -> None:
    """Print a warning that was not printed yet, in any thread."""
    mine = object()
    if _told.setdefault(message, mine) is mine:
        warn(message, call)


def below_top(text: str) -> str:
    """Return text with the paths in it relative to the top of the build, where they lie below it."""
    return text.replace(str(SCons.Node.FS.get_default_fs().Top.get_abspath()) + os.sep, "")


def _as_shown(
    error: SCons.Errors.UserError | UserError | TypeError,
    name: str,
    builder: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> SCons.Errors.UserError | None:
    """Return what SCons tells of a user's mistake in a call; None where it is the tool's own."""
    if isinstance(error, SCons.Errors.UserError):
        return error
    if isinstance(error, UserError):
        return SCons.Errors.UserError(below_top(str(error)))
    return _mismatch(name, builder, arguments, named)


def _mismatch(
    name: str, builder: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> SCons.Errors.UserError | None:
    """Return the error of a call that the builder's parameters do not fit; None where they do."""
    signature = inspect.signature(builder)
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        _, *parameters = signature.parameters.values()
        takes = ", ".join(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)
        return SCons.Errors.UserError(f"{name}: {error}; it takes {takes or 'no arguments'} and variables")
    return None


def _warn_at_the_caller(warning: Any) -> None:
    """Print a warning of SCons' as SCons does."""
    call = _calls[-1]
    sys.stderr.write("\nscons: warning: %s\n" % warning.args[0])  # noqa: UP031 the text, or a tuple of it
    sys.stderr.write(f'File "{call.file}", line {call.line}, in {call.function}\n')


def _place(frame: FrameType) -> TracebackType:
    return TracebackType(None, frame, frame.f_lasti, frame.f_lineno)


def _caller(frame: FrameType) -> FrameType:
    while frame.f_back and not _is_the_user_s(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


@functools.cache
def _is_the_user_s(file: str) -> bool:
    return not any(part in file for part in _NOT_THE_USER_S)
