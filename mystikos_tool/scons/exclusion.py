"""Patterns that keep nothing out of any root are told: most are slips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Of each pattern the sources that it is given for, and the roots that were not packed in this build so far.
_sources: dict[str, list[Any]] = {}
_unpacked: dict[str, set[Any]] = {}


def declare(root: Any, sources: list[Any]) -> None:
    """Remember the patterns for the sources of a root."""
    for source in sources:
        for pattern in source.options.exclude:
            _sources.setdefault(pattern, []).append(source)
            _unpacked.setdefault(pattern, set()).add(root)


def unused_after(root: Any) -> Iterator[str]:
    """Yield, when a root was packed, the patterns that have kept nothing out of any root.

    Several roots may share a pattern that not each has something for: it is yielded after the last
    of them, and in a build that packs only some of them, never.
    """
    for pattern, roots in _unpacked.items():
        if root in roots:
            roots.discard(root)
            if not roots and not any(source.has_excluded(pattern) for source in _sources[pattern]):
                yield pattern
