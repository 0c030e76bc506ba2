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
    from mystikos_tool.package.partial import PartialPackage

    package = measurement.attributes.myst_package
    is_wanted = package is not None and package.get_state() == SCons.Node.pending
    if not is_wanted or inputs.root_content().size < LARGE_ROOT:
        return None
    abort(package)
    with suppress(UserError):  # what is wrong is told when the package is made
        parts = pipeline.package_parts(inputs, pipeline.unsigned_image(inputs))
        partial = PartialPackage(inputs.runtime.loader, parts, Path(str(package)))
        package.attributes.myst_partial = partial
        atexit.register(abort, package)
        return partial.rootfs
    return None


def commit(package: Any, inputs: Inputs, image: Content) -> int | None:
    """Finish a package that was begun with these inputs; return its size in bytes, None without one."""
    from mystikos_tool import pipeline

    partial = package.attributes.myst_partial
    if partial and partial.is_of(inputs.runtime.loader, pipeline.package_parts(inputs, image)):
        return int(partial.commit(image))
    return None


@contextmanager
def kept(measurement: Any) -> Iterator[None]:
    """Abort the package of a measurement when a stage before it fails."""
    try:
        yield
    except BaseException:
        abort(measurement.attributes.myst_package)
        raise


def abort(package: Any) -> None:
    """Leave nothing of a package that was begun, unless it was committed."""
    partial = package.attributes.myst_partial if package else None
    if partial:
        package.attributes.myst_partial = None
        partial.abort()
