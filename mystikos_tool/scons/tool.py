"""What SCons loads as the tool ``mystikos``.

SCons looks for a tool beside its own, and the wheel puts a copy of this module there, as
``SCons/Tool/mystikos.py``: SCons knows no other place that an installed package can add a tool to.
"""

from mystikos_tool.scons import exists, generate, options

__all__ = ["exists", "generate", "options"]
