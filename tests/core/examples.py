"""How many examples a property is held to: few in each run, MYST_EXAMPLES times as many in a long one."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("MYST_EXAMPLES", "1"))


def examples(quick: int) -> int:
    """Return the number for this run."""
    return quick * TIMES
