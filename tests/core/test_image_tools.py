"""Images held against other tools: what umoci unpacks, skopeo writes and a registry serves is the same tree.

MYST_IMAGE_CASES is how many random images are compared.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import (
    Made,
    MadeImage,
    described,
    directory,
    file,
    hard_link,
    layer,
    opaque,
    symlink,
    whiteout,
)

from mystikos_tool.root.oci import image as images
from mystikos_tool.root.oci import opening
from mystikos_tool.root.oci.layer_cache import LayerCache
from mystikos_tool.root.oci.source import ImageSource

CASES = int(os.environ.get("MYST_IMAGE_CASES", "5"))
NAMES = ("a", "b", "c", "lib")


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if not shutil.which(tool)]
    return pytest.mark.skipif(bool(missing), reason=f"{' '.join(missing)} is not installed")


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=60)


def on_disk(root: Path) -> dict[str, tuple[str, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            described = ("link", 0o777, os.fsencode(path.readlink()))
        elif stat.S_ISDIR(mode):
            described = ("directory", stat.S_IMODE(mode), b"")
        else:
            described = ("file", stat.S_IMODE(mode), path.read_bytes())
        found[str(path.relative_to(root))] = described
    return found


def unpacked(layout: Path, bundle: Path) -> dict[str, tuple[str, int, bytes]]:
    run("umoci", "unpack", "--rootless", "--image", f"{layout}:x", bundle)
    return on_disk(bundle / "rootfs")


def taken(layout: Path, cache: Path) -> dict[str, tuple[str, int, bytes]]:
    return described(ImageSource(images.in_file(layout), cache=LayerCache(cache)).tree())


EVERY_KIND = [
    layer(
        *(
            directory("d"),
            file("d/x", "1", 0o755),
            file("d/sub/y"),
            file("gone"),
            file("e/kept"),
            file("e/gone"),
        ),
        *(directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib"), file("usr/lib/libc.so")),
        *(symlink("dir-link", "d"), file("linked", "l"), hard_link("hard", "linked"), file("becomes")),
        *(directory("other", 0o700), file("other/x"), symlink("abs", "/e"), file("replaced/by/file")),
    ),
    layer(
        *(whiteout("gone"), whiteout("e/gone"), whiteout("none"), opaque("d"), file("d/new")),
        *(file("lib/new.so", "in usr/lib"), directory("becomes"), file("becomes/dir"), file("abs/through")),
        *(directory("dir-link"), opaque("dir-link"), file("dir-link/own"), whiteout("hard")),
        *(hard_link("again", "linked"), whiteout("replaced/by"), file("deep/er/est")),
    ),
    layer(
        *(
            file("linked", "changed"),
            whiteout("lib"),
            file("lib/own.so"),
            whiteout("deep"),
            file("d/new", "2"),
        ),
        *(file("other", "a file now"), directory("usr", 0o711), whiteout("usr/lib/libc.so")),
    ),
]


@needs("umoci")
def test_umoci_unpacks_the_same_tree_of_whiteouts_of_every_kind(tmp_path: Path) -> None:
    made = MadeImage(EVERY_KIND)
    layout = made.layout(tmp_path / "image", made.index("x"))
    assert taken(layout, tmp_path / "cache") == unpacked(layout, tmp_path / "bundle")


@needs("umoci")
@pytest.mark.parametrize("seed", range(CASES))
def test_umoci_unpacks_the_same_tree_of_a_random_image(tmp_path: Path, seed: int) -> None:
    made = MadeImage([layer(*members(random.Random(f"{seed} {number}"), number)) for number in range(4)])
    layout = made.layout(tmp_path / "image", made.index("x"))
    assert taken(layout, tmp_path / "cache") == unpacked(layout, tmp_path / "bundle")


def members(chance: random.Random, number: int) -> Iterator[Made]:
    """Members that contradict themselves in no layer: each path is one thing, below directories alone."""
    directories, used = [""], set()
    for _ in range(12):
        place = chance.choice(directories) + chance.choice(NAMES)
        if place in used:
            continue
        used.add(place)
        kind = chance.choice(("directory", "directory", "file", "link", "whiteout", "hard"))
        if kind == "directory":
            directories.append(f"{place}/")
            yield directory(place, chance.choice((0o755, 0o700)))
            if number and chance.random() < 0.3:
                yield opaque(place)
        elif kind == "file":
            yield file(place, f"{number} {place}", chance.choice((0o644, 0o755)))
        elif kind == "link":
            yield symlink(place, chance.choice(("../x", "/a", "lib", "b/c")))
        elif kind == "whiteout" and number:
            yield whiteout(place)
        elif kind == "hard":
            yield file(f"{place}.first", place)
            yield hard_link(place, f"{place}.first")


@needs("skopeo")
@pytest.mark.parametrize("form", ["docker-archive:{}:app:1", "oci-archive:{}"])
def test_what_skopeo_writes_is_the_same_tree(tmp_path: Path, form: str) -> None:
    layout = MadeImage(EVERY_KIND).layout(tmp_path / "image")
    run("skopeo", "--insecure-policy", "copy", f"oci:{layout}", form.format(tmp_path / "copy"))
    assert taken(tmp_path / "copy", tmp_path / "cache2") == taken(layout, tmp_path / "cache")


CONFIGURATION = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:{port}", secret: none}}
log: {{level: error}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The registry of the distribution, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(CONFIGURATION.format(directory=tmp_path / "registry", port=port))
    output = (tmp_path / "log").open("wb")
    with (
        output,
        subprocess.Popen(["docker-registry", "serve", config], stdout=output, stderr=output) as served,
    ):
        try:
            for _ in range(200):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            served.terminate()


@needs("skopeo", "docker-registry")
@pytest.mark.parametrize("compression", ["+gzip", "+zstd"])  # skopeo compresses what is not
def test_the_distributions_registry_gives_the_same_tree(
    tmp_path: Path, registry: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    made = MadeImage(EVERY_KIND, compression)
    layout = made.layout(tmp_path / "image")
    to = f"docker://{registry}/team/app:1"
    run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}", to)
    pinned = f"{registry}/team/app@{made.descriptor['digest']}"
    found = ImageSource(opening.named(pinned, "", tmp_path / "lock"))
    assert described(found.tree()) == taken(layout, tmp_path / "cache")
