"""A mistake in a call is shown at the line of the user's script that made the call."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import SCons.Errors

_NOT_THE_USER_S = (str(Path(__file__).parents[1]) + os.sep, f"{os.sep}SCons{os.sep}")


def at_the_caller(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Make a builder's UserError name the line that called the builder.

    SCons names the deepest frame of the traceback that is not its own, which would be the tool's.
    """

    @functools.wraps(builder)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return builder(*arguments, **named)
        except SCons.Errors.UserError as error:
            frame = _caller(sys._getframe())
            place = TracebackType(None, frame, frame.f_lasti, frame.f_lineno)
            raise error.with_traceback(place) from error.__cause__

    return call


def _caller(frame: FrameType) -> FrameType:
    while frame.f_back and any(part in frame.f_code.co_filename for part in _NOT_THE_USER_S):
        frame = frame.f_back
    return frame
