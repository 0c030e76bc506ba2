"""What is remembered in columns says of each entry the same as rows by path would."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool.cache.columns import Columns
from mystikos_tool.io import fingerprint
from mystikos_tool.root.source import host_entry
from mystikos_tool.root.tree import Entry, Tree

FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
NOW = 1_000_000_000_000_000_001

# By path: mode and time; what is as young as NOW could change again and keep its times.
trees = st.dictionaries(
    st.binary(min_size=1, max_size=2).filter(lambda path: b"\0" not in path and b"/" not in path),
    st.tuples(st.sampled_from([FILE, DIRECTORY]), st.sampled_from([1, 2, NOW])),
    max_size=200,
)


def tree_of(entries: dict[bytes, tuple[int, int]]) -> Tree:
    return Tree(tuple(entry_of(path, *entries[path]) for path in sorted(entries)), (), NOW)


def entry_of(path: bytes, mode: int, time: int) -> Entry:
    known = fingerprint.STRUCT.pack(1, 1, 1, time, time, mode)
    return host_entry(path, mode, path)._replace(fingerprint=known)


@given(trees, trees, st.booleans())
def test_an_entry_is_the_same_where_path_mode_and_fingerprint_are_and_it_was_not_racy(
    before: dict[bytes, tuple[int, int]], after: dict[bytes, tuple[int, int]], few_changed: bool
) -> None:
    if few_changed:
        changed = {path: (before[path][0], after[path][1]) for path in before.keys() & after.keys()}
        after = {**before, **changed}
    earlier, now = tree_of(before), tree_of(after)
    everything = list(range(len(earlier.entries)))
    remembered = Columns.of(earlier).settled(earlier, everything, NOW)
    same = dict(zip(now.paths, Columns.of(now).same_in(remembered), strict=True))
    assert same == {
        path: earlier.paths.index(path) if before.get(path) == row and row[1] != NOW else -1
        for path, row in after.items()
    }
    assert remembered.paths == earlier.paths
