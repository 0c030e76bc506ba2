"""The package that a measurement begins: its node keeps it until the package's own stage finishes it."""

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
    from mystikos_tool.packaging.partial import Draft
    from mystikos_tool.pipeline import Inputs

# Bytes of a root from which on stages do at the same time what they can.
LARGE_ROOT = 1 << 24


def begun(measurement: Any, inputs: Inputs) -> Draft | None:
    """Begin the package of a measurement where SCons is about to make it; None where it is not worth it."""
    from mystikos_tool import pipeline

    stage = stage_of(measurement)
    package = stage.package if isinstance(stage, Measurement) else None
    is_wanted = package is not None and package.get_state() == SCons.Node.pending
    if not is_wanted or inputs.root.content().size < LARGE_ROOT:
        return None
    drop(package)
    with suppress(UserError):  # what is wrong is told when the package is made
        package_stage = _package(package)
        package_stage.draft = pipeline.draft(inputs, Path(str(package)))
        atexit.register(drop, package)
        return package_stage.draft
    return None


@contextmanager
def kept(measurement: Any) -> Iterator[None]:
    """Drop the package of a measurement when a stage before it fails."""
    try:
        yield
    except BaseException:
        stage = stage_of(measurement)
        if isinstance(stage, Measurement) and stage.package:
            drop(stage.package)
        raise


def drop(package: Any) -> None:
    """Leave nothing of a package that was begun, unless it is finished."""
    stage = _package(package)
    draft, stage.draft = stage.draft, None
    if draft:
        draft.discard()


def _package(node: Any) -> Package:
    stage = stage_of(node)
    assert isinstance(stage, Package)  # noqa: S101
    return stage
