"""The SCons tool: builders whose dependency graph follows appdir, configuration, runtime and key.

    env = Environment(tools=["default", "mystikos"])
    env.Program("appdir/bin/hello", "hello.c")
    env.MystPackage("hello", "appdir", MYST_CONFIG="config.json", MYST_KEY="private.pem")

From an installed wheel: ``from mystikos_tool.scons import mystikos`` and
``Environment(tools=["default", mystikos])``.
"""

from __future__ import annotations

from typing import Any

from mystikos_tool.scons.builders import BUILDERS
from mystikos_tool.scons.variables import defaults


def generate(env: Any, **_: Any) -> None:
    """Add the builders and the defaults of their construction variables to an environment."""
    for name, value in defaults().items():
        env.SetDefault(**{name: value})
    for name, builder in BUILDERS.items():
        env.AddMethod(builder, name)


def exists(_: Any) -> bool:
    """Tell SCons that the tool can be used: it needs nothing but itself."""
    return True


def mystikos(env: Any, **options: Any) -> None:
    """Be the tool as a callable, for ``Environment(tools=[...])``."""
    generate(env, **options)
