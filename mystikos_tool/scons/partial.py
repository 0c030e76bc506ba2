"""Large packages in a build: measuring begins one, and the package's own stage commits it.

A package's node keeps its partial package from the one stage to the other; nothing else knows of it.
Where the root's archive was written into itself, so is the package: then nothing is begun.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Node

from mystikos_tool.cache import incremental
from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint
from mystikos_tool.scons.database import store
from mystikos_tool.scons.stages import Measurement, Package, stage_for, stage_of

if TYPE_CHECKING:
    from mystikos_tool.enclave.measurement import Measurement as Measured
    from mystikos_tool.io.content import Content, Readable
    from mystikos_tool.packaging import sections
    from mystikos_tool.pipeline import Inputs

# Bytes of a root from which on a package is written while it is measured.
LARGE_ROOT = 1 << 24

# The table of the store with the large packages that were made: what `sections.Written` says of each, and
# the fingerprint of the archive that is its root.
_PACKAGED = "packaged"

# What the large values of the store are called that have states of digests for a measurement.
_STATES = "states of"


def measure(measurement: Any, inputs: Inputs) -> Measured:
    """Measure an enclave, and begin its package where that is worth it.

    Where the archive that was measured last was written into since, only what comes from there on is read.
    """
    from mystikos_tool import pipeline

    path, rootfs, name = inputs.root.path, _begin(measurement, inputs), f"{_STATES} {measurement}"
    if path is None or inputs.root.content().size < LARGE_ROOT:
        return pipeline.measure_unchecked(inputs, rootfs)
    version, since = _version(path), incremental.rewritten(path)
    known, *earlier = store().value(name) or (b"",)
    unchanged = min((at for at, _ in since.changed), default=0) if since and since.before == known else 0
    measured, states = pipeline.measure_resuming(inputs, rootfs, tuple(earlier), unchanged)
    if version == _version(path):
        store().keep(name, (version, *states))
    return measured


def _begin(measurement: Any, inputs: Inputs) -> Readable | None:
    """Begin the package of a measurement, and return its root to be measured.

    None where the package will not be made in this build, where it is not worth it, and where the earlier
    package will be rewritten.
    """
    from mystikos_tool import pipeline
    from mystikos_tool.packaging.partial import PartialPackage

    package = _package_of(measurement)
    is_wanted = package is not None and package.get_state() == SCons.Node.pending
    if not is_wanted or inputs.root.content().size < LARGE_ROOT or _earlier(package, inputs):
        return None
    abort(package)
    with suppress(UserError):  # what is wrong is told when the package is made
        parts = pipeline.package_parts(inputs, pipeline.unsigned_image(inputs))
        partial = PartialPackage(inputs.runtime.loader, parts, Path(str(package)))
        stage_for(package, Package).partial = partial
        atexit.register(abort, package)
        return partial.rootfs
    return None


def finish(package: Any, inputs: Inputs, image: Content) -> int:
    """Make a package: of an earlier one, of what was begun, or anew; return its size in bytes."""
    from mystikos_tool import pipeline

    path, target = inputs.root.path, Path(str(package))
    version = _version(path)
    size = _rewrite(package, inputs, image) or _commit(package, inputs, image)
    size = size or pipeline.package(inputs, image, target)
    root = inputs.root.content().size
    if root >= LARGE_ROOT and version == _version(path):
        place, _ = pipeline.place_of_root(inputs, root)
        store().change(_PACKAGED, str(package), (_version(target), place, version))
    return size


def _commit(package: Any, inputs: Inputs, image: Content) -> int | None:
    """Finish a package that was begun with these inputs; return its size in bytes, None without one."""
    from mystikos_tool import pipeline

    partial = stage_for(package, Package).partial
    if partial and partial.is_of(inputs.runtime.loader, pipeline.package_parts(inputs, image)):
        return partial.commit(image)
    return None


def _rewrite(package: Any, inputs: Inputs, image: Content) -> int | None:
    """Write into an earlier package what was written into its archive since; None where that cannot be."""
    from mystikos_tool import pipeline
    from mystikos_tool.packaging import sections

    found = _earlier(package, inputs)
    if not found:
        return None
    parts = pipeline.package_parts(inputs, image)
    return sections.rewrite(inputs.runtime.loader, parts, Path(str(package)), *found)


def _earlier(package: Any, inputs: Inputs) -> tuple[sections.Written, list[tuple[int, int]]] | None:
    """Return an earlier package, and what in its root has changed since; None where all may have."""
    from mystikos_tool.packaging import sections

    since = incremental.rewritten(inputs.root.path) if inputs.root.path else None
    known = store().table(_PACKAGED).get(str(package)) if since else None
    if not (since and known):
        return None
    version, place, archive = known
    is_same = archive == since.before and version == _version(Path(str(package)))
    is_settled = is_same and not fingerprint.is_racy(version, time.time_ns())
    return (sections.Written(version, place), since.changed) if is_settled else None


def _version(path: Path | None) -> bytes:
    try:
        return fingerprint.of(path.stat()) if path else b""
    except OSError:
        return b""


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
    stage = stage_for(package, Package)
    partial, stage.partial = stage.partial, None
    if partial:
        partial.abort()


def _package_of(measurement: Any) -> Any:
    """Return the node of the package that is made of a measurement; None where there is none."""
    stage = stage_of(measurement)
    return stage.package if isinstance(stage, Measurement) else None
