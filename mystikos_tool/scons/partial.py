"""Partial packages in a build: measuring begins one, and the package's own stage commits it.

A package's node keeps its partial package from the one stage to the other; nothing else knows of it.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Node

from mystikos_tool.errors import UserError
from mystikos_tool.scons.stages import Measurement, Package, stage_of

if TYPE_CHECKING:
    from mystikos_tool.io.content import Content, Readable
    from mystikos_tool.pipeline import Inputs

# Bytes of a root from which on a package is written while it is measured.
LARGE_ROOT = 1 << 24


def begin(measurement: Any, inputs: Inputs) -> Readable | None:
    """Begin the package of a measurement, and return its root to be measured.

    None where the package will not be made in this build, or where it is not worth it.
    """
    from mystikos_tool import pipeline
    from mystikos_tool.packaging.partial import PartialPackage

    package = _package_of(measurement)
    is_wanted = package is not None and package.get_state() == SCons.Node.pending
    if not is_wanted or inputs.root.content().size < LARGE_ROOT:
        return None
    abort(package)
    with suppress(UserError):  # what is wrong is told when the package is made
        parts = pipeline.package_parts(inputs, pipeline.unsigned_image(inputs))
        partial = PartialPackage(inputs.runtime.loader, parts, Path(str(package)))
        _stage(package).partial = partial
        atexit.register(abort, package)
        return partial.rootfs
    return None


def commit(package: Any, inputs: Inputs, image: Content) -> int | None:
    """Finish a package that was begun with these inputs; return its size in bytes, None without one."""
    from mystikos_tool import pipeline

    partial = _stage(package).partial
    if partial and partial.is_of(inputs.runtime.loader, pipeline.package_parts(inputs, image)):
        return partial.commit(image)
    return None


@contextmanager
def kept(measurement: Any) -> Iterator[None]:
    """Abort the package of a measurement when a stage before it fails."""
    try:
        yield
    except BaseException:
        if package := _package_of(measurement):
            abort(package)
        raise


def abort(package: Any) -> None:
    """Leave nothing of a package that was begun, unless it was committed."""
    stage = _stage(package)
    partial, stage.partial = stage.partial, None
    if partial:
        partial.abort()


def _package_of(measurement: Any) -> Any:
    """Return the node of the package that is made of a measurement; None where there is none."""
    stage = stage_of(measurement)
    return stage.package if isinstance(stage, Measurement) else None


def _stage(package: Any) -> Package:
    stage = stage_of(package)
    assert isinstance(stage, Package)  # noqa: S101
    return stage
