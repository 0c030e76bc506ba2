"""What SCons loads as the tool ``mystikos``.

SCons looks for a tool beside its own, and the wheel puts a copy of this module there, as
``SCons/Tool/mystikos.py``: SCons knows no other place that an installed package can add a tool to.
"""

from typing import Any

from mystikos_tool.scons import exists, generate
from mystikos_tool.scons.variables import VARIABLES

__all__ = ["exists", "generate", "options"]


def options(variables: Any) -> None:
    """Let the command line give the tool's variables.

    SCons calls this before :func:`generate`, and would set what has a default here in place of what the
    environment has already.
    """
    for variable in VARIABLES:
        variables.Add((variable.name, variable.help, None))
