"""What is told of a root when it is put together."""

from __future__ import annotations

from pathlib import Path

from mystikos_tool.root.assembly import Options, assembled
from mystikos_tool.root.source import DirectorySource, Excluding, Source, excluding

OPTIONS = Options(exclude=("*.pyc",))


def directory(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_each_of_two_roots_that_are_made_at_a_time_tells_of_its_own_patterns(tmp_path: Path) -> None:
    one, other = directory(tmp_path / "one", "a", "a.pyc"), directory(tmp_path / "other", "a")

    def meanwhile(exclude: Excluding) -> Source:
        source = DirectorySource(one, exclude=exclude)
        source.tree()
        assert assembled(other, OPTIONS).warnings == ["*.pyc: is excluded, and nothing in the root matches"]
        return source

    assert assembled(meanwhile, OPTIONS).warnings == []


def test_a_root_does_not_forget_which_patterns_have_excluded_something_elsewhere(tmp_path: Path) -> None:
    shared = excluding(OPTIONS.exclude)
    assert shared
    assert shared(b"a.pyc")
    assembled(directory(tmp_path / "root", "a"), OPTIONS)
    assert excluding(OPTIONS.exclude) is shared
    assert shared.unused == set()
