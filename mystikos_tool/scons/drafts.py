"""The package that a measurement begins: its node keeps it until the package's own stage finishes it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Node

from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.packaging.partial import Draft
    from mystikos_tool.pipeline import Inputs

# Bytes of a root from which on stages do at the same time what they can.
LARGE_ROOT = 1 << 24


def begun(measurement: Any, inputs: Inputs) -> Draft | None:
    """Begin the package of a measurement where SCons is about to make it; None where it is not worth it."""
    from mystikos_tool import pipeline

    package = measurement.attributes.myst_package
    is_wanted = package is not None and package.get_state() == SCons.Node.pending
    if not is_wanted or inputs.root.content().size < LARGE_ROOT:
        return None
    drop(package)
    with suppress(UserError):  # what is wrong is told when the package is made
        package.attributes.myst_draft = pipeline.draft(inputs, Path(str(package)))
        atexit.register(drop, package)
    return package.attributes.myst_draft  # type: ignore[no-any-return]


@contextmanager
def kept(measurement: Any) -> Iterator[None]:
    """Drop the package of a measurement when a stage before it fails."""
    try:
        yield
    except BaseException:
        drop(measurement.attributes.myst_package)
        raise


def drop(package: Any) -> None:
    """Leave nothing of a package that was begun, unless it is finished."""
    draft = package.attributes.myst_draft if package else None
    if draft:
        package.attributes.myst_draft = None
        draft.discard()
