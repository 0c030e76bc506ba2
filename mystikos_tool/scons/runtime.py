"""The runtime as nodes: the embedded one, built or prebuilt, or an installed Mystikos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import SCons.Errors

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.runtime import CRT, ENCLAVE, KERNEL, LOADER, PREBUILT, Runtime
from mystikos_tool.scons import arguments, leftovers, scons_internals, variables
from mystikos_tool.scons.actions import stage_builder
from mystikos_tool.scons.input_file import InputFile
from mystikos_tool.scons.root_source import made_in
from mystikos_tool.scons.stages import RuntimeImage, stage_of
from mystikos_tool.scons.target_file import target_file

_FILES = (LOADER, ENCLAVE, KERNEL, CRT)
_RUNTIME = stage_builder("runtime")


class RuntimeFile(InputFile):
    """A file of an installed runtime; only what is made of it asks whether it is there."""

    def __init__(self, origin: Any, directory: Any) -> None:
        super().__init__(origin, "MYST_RUNTIME")
        self.directory = directory

    def built_before(self) -> list[Any]:
        """Return what makes the file, or anything in the directory: one builder may make all of it."""
        return list(dict.fromkeys([*super().built_before(), *made_in(self.directory, self)]))

    def missing(self) -> bool:
        """Tell that the file is there or will be made; raise StopError, with a remedy, where it is not."""
        if self.is_missing():
            try:
                Runtime.installed(Path(self.directory.srcnode().get_abspath()))
            except UserError as error:
                raise SCons.Errors.StopError(str(error)) from error
        return False


def runtime_nodes(env: Any) -> tuple[Any, Any, Any, Any]:
    """Return the nodes of loader, enclave image, kernel and C runtime."""
    directory = _installed_directory(env)
    if directory:
        loader, enclave, kernel, crt = (directory.File(path) for path in _FILES)
    else:
        directory = _directory(env, "MYST_RUNTIME_DIR")
        loader, enclave, kernel, crt = (_compiled(env, directory, output) for output in _FILES)
    return loader, enclave, kernel, crt


def runtime_files(env: Any) -> tuple[Any, Any, Any, Any]:
    """Return the input nodes of loader, enclave image, kernel and C runtime."""
    directory = _installed_directory(env)
    return _installed_files(directory) if directory else runtime_nodes(env)


def _installed_directory(env: Any) -> Any:
    """Return the directory of an installed or a prebuilt runtime; None for one that is compiled."""
    if not variables.names_embedded(env):
        return _directory(env, "MYST_RUNTIME")
    return env.Dir(str(PREBUILT)) if lookup.is_dir(PREBUILT) and not env["MYST_RUNTIME_CC"] else None


def _directory(env: Any, variable: str) -> Any:
    value = env[variable]
    name = arguments.text(value)
    try:
        if name is None:
            return env.Dir(value)
        name = arguments.substituted(env, f"{variable}:", name)
        directory = variables.directory_of(env, variable, name)
        return env.Dir(name, directory) if "$" in name else scons_internals.directory_node(directory, name)
    except TypeError as error:
        raise arguments.misplaced(f"{variable}:", value, error) from None


@lru_cache
def _installed_files(directory: Any) -> tuple[Any, Any, Any, Any]:
    loader, enclave, kernel, crt = (RuntimeFile(directory.File(path), directory) for path in _FILES)
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
    leftovers.clean(env, node)
    detail = compiler or f"ziglang {build.ZIG_VERSION}"
    return target_file(node, RuntimeImage(detail=detail, output=output, compiler=compiler))
