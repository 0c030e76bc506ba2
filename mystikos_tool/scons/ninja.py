"""SCons' ninja tool knows the actions of SCons alone, and hangs on others: it is refused beside this tool."""

from __future__ import annotations

import SCons.Errors

from mystikos_tool.scons import blame, scons_internals

_watched: list[blame.Call | None] = []


def refuse(builder: str) -> None:
    """Raise SCons' UserError where the ninja tool is to build what ``builder`` makes.

    It is looked for now, and once more when all SConscripts are read, for it may be loaded later.
    """
    _refuse(builder, None)
    if not _watched:
        call = blame.current()  # SCons would not find its line any more when it has ended
        _watched.append(call)
        scons_internals.after_reading(lambda: _refuse(builder, call))


def _refuse(builder: str, call: blame.Call | None) -> None:
    if scons_internals.writes_ninja_file():
        problem = (
            f"{builder} makes what SCons' ninja tool cannot build;"
            ' leave out --experimental=ninja and SetOption("experimental", "ninja")'
        )
        raise SCons.Errors.UserError(blame.named(problem, call))
