"""The runtime compiled into the user's cache is taken only where nobody else can have put it there."""

from __future__ import annotations

import hashlib
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.io import user_cache
from mystikos_tool.runtime import build, cache, digests


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime as it lies in the cache, of images whose digests are the expected ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = tmp_path / "mystikos-tool" / f"runtime-{build.sources_digest()[:16]}"
    for image in build.IMAGES:
        path = directory / image.output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.output.encode())
        path.chmod(0o755)
    for path in (tmp_path, tmp_path / "mystikos-tool", *directory.rglob("*")):
        path.chmod(0o755)
    known = {image.output: hashlib.sha256(image.output.encode()).hexdigest() for image in build.IMAGES}
    monkeypatch.setattr(digests, "expected", lambda: known)
    return directory


def refused() -> str:
    with pytest.raises(UserError) as error:
        cache.compiled()
    return str(error.value)


def test_a_runtime_with_the_expected_digests_is_taken(compiled: Path) -> None:
    assert cache.compiled() == compiled


@pytest.mark.parametrize("given", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_in_the_environment_the_cache_is_where_the_system_has_it(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=f"/home of {uid}"))
    assert user_cache.directory() == Path(f"/home of {os.getuid()}/.cache/mystikos-tool")


def test_the_runtime_is_compiled_without_a_home_in_the_environment_and_in_no_relative_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\necho "$ZIG_GLOBAL_CACHE_DIR" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    with pytest.raises(UserError, match=f"status 1; see its messages:\n{user_cache.home()}/zig\n"):
        build.compile_image(build.IMAGES[0], tmp_path / "made", str(script))
    assert user_cache.home().is_absolute()


@pytest.mark.parametrize("image", build.IMAGES, ids=lambda image: image.output)
def test_an_image_with_another_digest_is_refused(compiled: Path, image: build.Image) -> None:
    (compiled / image.output).write_bytes(b"trojan")
    assert f"{image.output}: is not what the runtime's sources give" in refused()


@pytest.mark.parametrize("place", [".", "..", "bin", "bin/myst", "lib/openenclave"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_may_write_is_refused(compiled: Path, place: str, mode: int) -> None:
    (compiled / place).chmod(mode)
    assert "may be written by other users" in refused()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
@pytest.mark.parametrize("place", [".", "..", "bin", "bin/myst"])
def test_what_belongs_to_another_user_is_refused(compiled: Path, place: str) -> None:
    os.chown(compiled / place, 65534, 65534)
    assert "belongs to another user (uid 65534)" in refused()


def test_a_link_to_a_runtime_is_refused(compiled: Path) -> None:
    compiled.rename(compiled.with_name("elsewhere"))
    compiled.symlink_to("elsewhere")
    assert "is a symbolic link" in refused()


def test_a_link_that_leads_nowhere_is_refused(compiled: Path) -> None:
    compiled.rename(compiled.with_name("elsewhere"))
    compiled.symlink_to("nowhere")
    assert "is a symbolic link" in refused()
