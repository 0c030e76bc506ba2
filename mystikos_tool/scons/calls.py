"""What every call of a builder does: it looks at its variables, and describes a target of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import SCons.Errors

from mystikos_tool.scons import leftovers, ninja, root_source, scons_internals, variables
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.stages import Stage
from mystikos_tool.scons.target_file import target_file


def environment(
    env: Any, builder: str, overrides: Mapping[str, Any], parameters: tuple[str, ...] = ("target", "source")
) -> Any:
    """Return the environment of one call, its variables checked."""
    ninja.refuse(builder)
    root_source.follow_directories()
    values = env.Dictionary()
    variables.check_names(values)
    if values.get(variables.REMOTE_CACHE):
        variables.use_remote_cache(env)
    if overrides:
        variables.check_keywords(builder, overrides, parameters, env)
        variables.check_remote_cache(overrides)
        env = env.Override(overrides)
        values = {**values, **overrides}
    variables.check_values(values)
    variables.check_runtime(overrides, env)
    return env


def check_no_source(node: Any, parts: Iterable[Any]) -> None:
    """Raise SCons' UserError where a target is to take the place of what it is made of."""
    if node in [part.origin if isinstance(part, InputNode) else part for part in parts]:
        raise SCons.Errors.UserError(f"{node}: is what it is made of, too; name the target otherwise")


def made(builder: Any, env: Any, node: Any, parts: list[Any], stage: Stage) -> Any:
    """Describe what a stage makes. A failed build keeps the earlier target, which was made whole."""
    check_no_source(node, parts)
    scons_internals.describe(builder, env, node, parts)
    node.set_precious()
    leftovers.clean(env, node)
    return target_file(node, stage)
