"""The runtime as nodes: the embedded one, built or prebuilt, or an installed Mystikos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import SCons.Errors

from mystikos_tool.errors import UserError
from mystikos_tool.runtime import CRT, ENCLAVE, KERNEL, LOADER, PREBUILT, Runtime
from mystikos_tool.scons import variables
from mystikos_tool.scons.actions import stage_builder
from mystikos_tool.scons.stages import RuntimeImage, stage_of
from mystikos_tool.scons.target_file import target_file

_FILES = (LOADER, ENCLAVE, KERNEL, CRT)
_RUNTIME = stage_builder("runtime")


def runtime_nodes(env: Any) -> tuple[Any, Any, Any, Any]:
    """Return the nodes of loader, enclave image, kernel and C runtime."""
    runtime = env.subst("$MYST_RUNTIME")
    if runtime != variables.EMBEDDED:
        return _installed(env.Dir(runtime))
    if PREBUILT.is_dir() and not env["MYST_RUNTIME_CC"]:
        return _installed(env.Dir(str(PREBUILT)))
    directory = env.Dir(env["MYST_RUNTIME_DIR"])
    loader, enclave, kernel, crt = (_compiled(env, directory, output) for output in _FILES)
    return loader, enclave, kernel, crt


@lru_cache
def _installed(directory: Any) -> tuple[Any, Any, Any, Any]:
    loader, enclave, kernel, crt = nodes = [directory.File(path) for path in _FILES]
    if not any(node.is_derived() for node in nodes):
        try:
            Runtime.installed(Path(directory.get_abspath()))
        except UserError as error:
            raise SCons.Errors.UserError(str(error)) from error
    return loader, enclave, kernel, crt


def _compiled(env: Any, directory: Any, output: str) -> Any:
    """Return the node of one compiled image, the same for every call with the same compiler."""
    from mystikos_tool.runtime import build

    node = directory.File(output)
    compiler = env["MYST_RUNTIME_CC"]
    stage = stage_of(node)
    if isinstance(stage, RuntimeImage):
        if stage.compiler != compiler:
            raise SCons.Errors.UserError(
                f"MYST_RUNTIME_CC differs for one runtime in {directory}; give each its own MYST_RUNTIME_DIR"
            )
        return node
    sources = [str(path) for path in build.sources(build.IMAGE_BY_OUTPUT[output])]
    _RUNTIME(env, node, sources)
    env.Precious(node)
    detail = compiler or f"ziglang {build.ZIG_VERSION}"
    return target_file(node, RuntimeImage(detail=detail, output=output, compiler=compiler))
