"""The runtime as nodes: the embedded one, built or prebuilt, or an installed Mystikos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import SCons.Builder
import SCons.Errors
import SCons.Node.FS

from mystikos_tool.errors import UserError
from mystikos_tool.runtime import CRT, ENCLAVE, KERNEL, LOADER, PREBUILT, Runtime
from mystikos_tool.scons import variables
from mystikos_tool.scons.actions import StageAction
from mystikos_tool.scons.nodes import digested

_FILES = (LOADER, ENCLAVE, KERNEL, CRT)


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
    nodes = [directory.File(path) for path in _FILES]
    if not any(node.is_derived() for node in nodes):
        try:
            Runtime.installed(Path(directory.get_abspath()))
        except UserError as error:
            raise SCons.Errors.UserError(str(error)) from error
    loader, enclave, kernel, crt = map(digested, nodes)
    return loader, enclave, kernel, crt


_COMPILE = SCons.Builder.Builder(
    action=StageAction("compile", "MYSTRUNTIMECOMSTR", ("MYST_RUNTIME_CC", "_MYST_TOOLCHAIN")),
    target_factory=SCons.Node.FS.get_default_fs().File,
    source_factory=SCons.Node.FS.get_default_fs().File,
)


def _compiled(env: Any, directory: Any, output: str) -> Any:
    """Return the node of one compiled image, the same for every call with the same compiler."""
    from mystikos_tool.runtime import build

    node = directory.File(output)
    compiler = env["MYST_RUNTIME_CC"]
    if node.has_explicit_builder():
        if node.attributes.myst_compiler != compiler:
            raise SCons.Errors.UserError(
                f"MYST_RUNTIME_CC differs for one runtime in {directory}; give each its own MYST_RUNTIME_DIR"
            )
        return node
    sources = [str(path) for path in build.sources(build.IMAGE_BY_OUTPUT[output])]
    env = env.Override({"_MYST_TOOLCHAIN": "" if compiler else f"ziglang {build.ZIG_VERSION}"})
    _COMPILE(env, node, sources)
    node.attributes.myst_image = output
    node.attributes.myst_compiler = compiler
    env.Precious(node)
    return digested(node)
