"""What the actions do: each function runs one stage of the core and returns the line that tells of it.

Loaded when the first stage runs, so that a build with nothing to do does not pay for it; and each
stage loads what it needs itself, for packing needs nothing of what takes long to load.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mystikos_tool.cache.incremental import Archives
from mystikos_tool.io import atomic, progress
from mystikos_tool.root.tree import TOO_LONG_TO_BOOT, join
from mystikos_tool.scons import partial
from mystikos_tool.scons.enclave import Enclave
from mystikos_tool.scons.nodes import store

if TYPE_CHECKING:
    from mystikos_tool import pipeline


def pack(target: list[Any], source: list[Any], env: Any) -> str:
    """Pack the sources of a root file system."""
    tree = join([node.take_tree() for node in source])
    size = tree.size
    with progress.bar("packing", size):
        Archives(store()).pack(tree, _path(target[0]))
    for path in tree.left_out:
        _warn(f"{path}: is a device or FIFO and was left out of {target[0]}")
    for path in tree.too_long_to_boot:
        _warn(f"{path}: {TOO_LONG_TO_BOOT}")
    for node in source:
        for path in node.stray:
            _warn(f"{node}/{path}: has no source and no builder and was left out; describe it or remove it")
    return f"packed {tree.files:,} files, {_shown_size(size)} → {target[0]}"


def measure(target: list[Any], source: list[Any], env: Any) -> str:
    """Measure an enclave."""
    from mystikos_tool import pipeline

    inputs = _inputs(target[0].attributes.myst)
    if inputs.rootfs:
        inputs = inputs._replace(archive=Archives(store()).read(inputs.rootfs))
    for warning in inputs.config.warnings:
        _warn(warning)
    with partial.kept(target[0]):
        measured = pipeline.measure(inputs, partial.begin(target[0], inputs))
        atomic.write(_path(target[0]), measured.to_json())
    return f"measured MRENCLAVE {measured.mrenclave.hex()} → {target[0]}"


def sign(target: list[Any], source: list[Any], env: Any) -> str:
    """Sign an enclave image that was measured."""
    from mystikos_tool import pipeline
    from mystikos_tool.enclave.measurement import Measurement
    from mystikos_tool.signing import keys

    measurement, key = source
    with partial.kept(measurement):
        path = _path(measurement)
        measured = Measurement.from_json(atomic.read_input(path, "measurement"), str(measurement))
        inputs = _inputs(target[0].attributes.myst)
        signer = keys.load_key(_path(key))
        day = pipeline.signing_day(env.subst("$SOURCE_DATE_EPOCH"))
        atomic.write(_path(target[0]), pipeline.sign(measured, inputs.runtime, inputs.config, signer, day))
    return f"signed with {key} → {target[0]}"


def package(target: list[Any], source: list[Any], env: Any) -> str:
    """Append everything to the loader."""
    from mystikos_tool import pipeline
    from mystikos_tool.io.content import FileContent

    node, image = target[0], _path(source[0])
    inputs = _inputs(node.attributes.myst)
    try:
        size = partial.commit(node, inputs, FileContent.of(image))
        if size is None:
            size = pipeline.assemble(inputs, image, _path(node))
    finally:
        partial.abort(node)
    return f"packaged {_shown_size(size)} → {node}"


def make_key(target: list[Any], source: list[Any], env: Any) -> str:
    """Make a key, unless there is one."""
    from mystikos_tool.signing import keys

    path = _path(target[0])
    if path.exists():
        keys.load_key(path)
        return f"kept the key → {path}"
    keys.generate_key(path)
    return f"made a development key → {path}"


def compile(target: list[Any], source: list[Any], env: Any) -> str:
    """Compile one image of the embedded runtime."""
    from mystikos_tool.runtime import build

    node = target[0]
    path = Path(node.get_abspath())
    build.compile_image(
        build.IMAGE_BY_OUTPUT[node.attributes.myst_image], path, env["MYST_RUNTIME_CC"] or None
    )
    return f"compiled {_shown_size(path.stat().st_size)} → {node}"


def _inputs(enclave: Enclave) -> pipeline.Inputs:
    from mystikos_tool import config, pipeline
    from mystikos_tool.runtime import Runtime

    return pipeline.Inputs(
        runtime=Runtime(*map(_path, enclave.runtime)),
        config=config.load(_path(enclave.config)),
        rootfs=_path(enclave.rootfs) if enclave.rootfs else None,
        pubkeys=[_path(node) for node in enclave.pubkeys],
        roothashes=[_path(node) for node in enclave.roothashes],
    )


def _path(node: Any) -> Path:
    """Return a node's path, relative to the top of the build where it lies below it."""
    return Path(str(node))


def _warn(text: str) -> None:
    sys.stderr.write(f"mystikos: warning: {text}\n")


def _shown_size(size: int) -> str:
    """Return a number of bytes for people: ``200.1 MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
