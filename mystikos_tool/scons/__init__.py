"""The SCons tool: builders whose dependency graph follows appdir, configuration, runtime and key.

    env = Environment(tools=["default", "mystikos"])
    env.Program("appdir/bin/hello", "hello.c")
    env.MystPackage("hello", "appdir", MYST_CONFIG="config.json", MYST_KEY="private.pem")

Where SCons is installed in another place than this package, so that it does not find the tool by its
name: ``from mystikos_tool.scons import mystikos`` and ``Environment(tools=["default", mystikos])``.
"""

from __future__ import annotations

import atexit
import gc
from typing import Any

from mystikos_tool.scons import blame, scons_internals
from mystikos_tool.scons.builders import BUILDERS
from mystikos_tool.scons.variables import VARIABLES, Variable, defaults, remember_origin, use_remote_cache

_GC_THRESHOLD = 1_000_000  # objects; a thousand packages with nothing to do have half of that

_helped = False


def generate(env: Any, **_: Any) -> None:
    """Add the builders and the defaults of their construction variables to an environment."""
    _spare_collections()
    for name, value in defaults().items():
        env.SetDefault(**{name: value})
    for name, builder in BUILDERS.items():
        env.AddMethod(blame.at_the_caller(name, builder), name)
    scons_internals.tell_of_mismatches(blame.mismatch)
    remember_origin(env)
    use_remote_cache(env)
    _help(env)


def options(variables: Any) -> None:
    """Add the tool's construction variables to SCons' ``Variables``, to be set on the command line.

    variables = Variables(None, ARGUMENTS)
    mystikos_tool.scons.options(variables)
    env = Environment(tools=["default", "mystikos"], variables=variables)
    """
    for variable in VARIABLES:
        variables.Add((variable.name, variable.help, variable.default))


def _help(env: Any) -> None:
    """Append builders and variables to what ``scons -h`` prints, once, behind the project's own help."""
    global _helped
    if _helped or not env.GetOption("help"):
        return
    _helped = True
    scons_internals.after_reading(lambda: env.Help(_text(), append=True))


def _text() -> str:
    lines = ["", "Builders for Mystikos enclave packages:"]
    lines += [f"  {name:13} {_first_line(builder)}" for name, builder in BUILDERS.items()]
    lines += ["", "Their construction variables:"]
    lines += [f"  {variable.name:21} {variable.help}{_default(variable)}" for variable in VARIABLES]
    return "\n".join(lines) + "\n"


def _first_line(builder: Any) -> str:
    return str(builder.__doc__).splitlines()[0].replace("``", "")


def _default(variable: Variable) -> str:
    return f" [{variable.default}]" if variable.default else ""


def _spare_collections() -> None:
    """Let the garbage collector walk a large build graph, which lives to the end, less often.

    At the end it dies with the process: to take it apart first is a third of a build with nothing to do.
    """
    if gc.get_threshold()[0] < _GC_THRESHOLD:
        gc.set_threshold(_GC_THRESHOLD, 50, 50)
        atexit.register(gc.freeze)


def exists(_: Any) -> bool:
    """Tell SCons that the tool can be used: it needs nothing but itself."""
    return True


def mystikos(env: Any, **options: Any) -> None:
    """Be the tool as a callable, for ``Environment(tools=[...])``."""
    generate(env, **options)
