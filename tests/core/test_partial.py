"""Packages that are written while their enclave is measured: the bytes of one written at once, or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runtime import DAY, build, inputs, key, root_path

from examples import examples
from mystikos_tool import pipeline, proof
from mystikos_tool.errors import UserError
from mystikos_tool.io.content import FileContent
from mystikos_tool.packaging.partial import PartialPackage
from mystikos_tool.pipeline import Inputs


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    (tmp_path / "made").mkdir()
    return inputs(tmp_path / "made")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "app"


def begun(given: Inputs, target: Path) -> PartialPackage:
    parts = pipeline.package_parts(given, pipeline.unsigned_image(given))
    return PartialPackage(given.runtime.loader, parts, target)


def finished(given: Inputs, image: Path, target: Path, partial: PartialPackage) -> int:
    """Commit a package if its parts are still the same, or else write it anew."""
    content = FileContent.of(image)
    if partial.is_of(given.runtime.loader, pipeline.package_parts(given, content)):
        return partial.commit(content)
    return pipeline.package(given, content, target)


def measured(given: Inputs, partial: PartialPackage, image: Path) -> Path:
    """Measure and sign with a package begun; return the signed image's path."""
    measurement = pipeline.measure(given, partial.rootfs)
    image.write_bytes(pipeline.sign(measurement, given.runtime, given.config, key(), DAY))
    return image


def beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


@given(st.integers(0, 3 * 4096 + 5) | st.sampled_from([4095, 4096, 4097, 600_000, 600_001]))
@settings(
    max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_committed_package_is_the_package_that_is_written_at_once(
    made: Inputs, target: Path, tmp_path: Path, size: int
) -> None:
    archive = root_path(made)
    motd = archive.parent / "appdir" / "motd"
    motd.write_bytes(os.urandom(size))
    pipeline.pack(motd.parent, archive)
    archive.write_bytes(archive.read_bytes() + bytes(size % 3))  # as other programs may end one
    partial = begun(made, target)
    image = measured(made, partial, tmp_path / "image")
    content = FileContent.of(image)
    assert partial.is_of(made.runtime.loader, pipeline.package_parts(made, content))
    assert partial.commit(content) == target.stat().st_size
    assert target.read_bytes() == build(made, tmp_path / "at-once").read_bytes()
    assert target.stat().st_mode == (tmp_path / "at-once").stat().st_mode
    assert beside(target) == {"app"}


def test_until_it_is_committed_the_earlier_package_stays(made: Inputs, target: Path, tmp_path: Path) -> None:
    target.write_bytes(b"earlier")
    partial = begun(made, target)
    measured(made, partial, tmp_path / "image")
    assert target.read_bytes() == b"earlier"
    assert len(beside(target)) == 2
    partial.abort()
    assert target.read_bytes() == b"earlier"
    assert beside(target) == {"app"}


def test_all_but_the_image_and_the_root_is_written_when_a_package_is_begun(
    made: Inputs, target: Path, tmp_path: Path
) -> None:
    """Nothing is left to be written where a disk became full meanwhile and the package is aborted."""
    partial = begun(made, target)
    (beside_it,) = target.parent.iterdir()
    assert beside_it.stat().st_size == build(made, tmp_path / "at-once").stat().st_size
    partial.abort()


def test_what_is_committed_cannot_be_aborted(made: Inputs, target: Path, tmp_path: Path) -> None:
    partial = begun(made, target)
    finished(made, measured(made, partial, tmp_path / "image"), target, partial)
    partial.abort()
    partial.abort()
    assert proof.verify(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: root_path(files).write_bytes(root_path(files).read_bytes()[:-1] + b"x"),
        lambda files: files.runtime.loader.write_bytes(files.runtime.loader.read_bytes()),
        lambda files: files.runtime.kernel.write_bytes(files.runtime.kernel.read_bytes()),
        lambda files: files.pubkeys[0].write_bytes(files.pubkeys[0].read_bytes() + b"\n"),
    ],
    ids=["root", "loader", "kernel", "public key"],
)
def test_what_has_changed_since_is_written_anew(
    made: Inputs, target: Path, tmp_path: Path, change: Callable[[Inputs], object]
) -> None:
    own = tmp_path / "public.pem"
    own.write_bytes(made.pubkeys[0].read_bytes())
    changing = Inputs(made.runtime, made.config, made.root, (own,))
    partial = begun(changing, target)
    image = measured(changing, partial, tmp_path / "image")
    change(changing)
    finished(changing, image, target, partial)
    partial.abort()
    pipeline.package(changing, FileContent.of(image), tmp_path / "at-once")
    assert target.read_bytes() == (tmp_path / "at-once").read_bytes()
    assert beside(target) == {"app"}


def test_a_package_of_which_nothing_was_measured_is_written_anew(
    made: Inputs, target: Path, tmp_path: Path
) -> None:
    expected = build(made, tmp_path / "at-once").read_bytes()
    partial = begun(made, target)
    image = tmp_path / "image"
    image.write_bytes(pipeline.sign(pipeline.measure(made), made.runtime, made.config, key(), DAY))
    finished(made, image, target, partial)
    partial.abort()
    assert target.read_bytes() == expected
    assert beside(target) == {"app"}


@pytest.mark.parametrize("way", ["refused", "refused once", "in part"])
def test_what_cannot_be_written_beside_is_measured_nevertheless_and_takes_no_space(
    made: Inputs, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    write = os.pwritev

    def full(descriptor: int, buffers: list[memoryview], place: int) -> int:
        if way == "refused once":
            patched.setattr(os, "pwritev", write)
        if way != "in part":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, [buffers[0][:1]], place)

    motd = root_path(made).parent / "appdir" / "motd"
    motd.write_bytes(bytes(4 << 20))  # more than is read at once
    pipeline.pack(motd.parent, root_path(made))
    partial = begun(made, target)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        image = measured(made, partial, tmp_path / "image")
    assert sum(path.stat().st_size for path in target.parent.iterdir()) == 0
    finished(made, image, target, partial)
    partial.abort()
    assert beside(target) == {"app"}
    assert target.read_bytes() == build(made, tmp_path / "at-once").read_bytes()


def test_a_disk_that_is_full_at_the_end_is_told_and_the_earlier_package_stays(
    made: Inputs, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.write_bytes(b"earlier")
    partial = begun(made, target)
    image = measured(made, partial, tmp_path / "image")

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mystikos_tool.io.content.FileContent.write_to", full)
    with pytest.raises(UserError, match="no space left"):
        finished(made, image, target, partial)
    assert target.read_bytes() == b"earlier"
    assert beside(target) == {"app"}


def test_a_place_where_nothing_can_be_written_is_told(made: Inputs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        begun(made, tmp_path)
    with pytest.raises(UserError, match="make the directory first"):
        begun(made, tmp_path / "missing" / "app")
    with pytest.raises(UserError, match="acts as the loader"):
        begun(made, tmp_path / "myst")
