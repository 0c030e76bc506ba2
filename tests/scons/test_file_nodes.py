"""The nodes of targets, which are looked up more cheaply than SCons does it, and are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = ("a", "b", "..", ".", "", "sub", "var", "#", "#a", "there", "x y", "é")
NAMES = st.tuples(
    st.sampled_from(("", "/", "//")), st.lists(st.sampled_from(PARTS), min_size=1, max_size=4)
).map(lambda parts: parts[0] + "/".join(parts[1]))


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("top")
    (directory / "there").mkdir()
    (directory / "sub" / "var").mkdir(parents=True)
    return directory


@settings(max_examples=300, deadline=None)
@given(name=NAMES, place=st.sampled_from((".", "sub", "sub/var")), variant=st.booleans(), first=st.booleans())
def test_a_target_s_node_is_the_one_that_scons_has_for_its_name(
    top: Path, name: str, place: str, *, variant: bool, first: bool
) -> None:
    from SCons.Node.FS import FS

    from mystikos_tool.scons import scons_internals

    filesystem = FS(str(top))
    if variant:
        filesystem.VariantDir("sub/var", "sub", duplicate=0)
    filesystem._cwd = filesystem.Dir(place)

    def ours() -> Any:
        return _node_or_error(lambda: scons_internals.file_node(filesystem, name))

    def of_scons() -> Any:
        return _node_or_error(lambda: filesystem.File(name))

    (one, other) = (ours(), of_scons()) if first else (of_scons(), ours())
    assert one == other


def _node_or_error(find: Any) -> Any:
    try:
        return find()
    except TypeError as error:
        return str(error)
