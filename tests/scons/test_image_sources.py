"""Container images in a project: MystImage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from image_registry import serving
from images import MadeImage, file, layer, whiteout
from scons_project import MEASURE, PACKAGE, ROOTFS, SIGN, TARGETS, Project

from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.root import archive

BASE = layer(file("bin/hello", "#!/bin/hello\n", 0o755), file("etc/motd", "of the image"))
PROCESS = {"Entrypoint": ["/bin/hello", "one"], "Env": ["A=b"]}


@pytest.fixture
def images(project: Project, tmp_path: Path) -> Project:
    """A project with the layout of an image."""
    MadeImage([BASE, layer(file("app", "1"))], process=PROCESS).layout(project.path("image"))
    project.sconstruct('env.MystPackage("hello", env.MystImage("image"))\n')
    return Project(project.directory, {"XDG_CACHE_HOME": str(tmp_path / "cache")})


def contents(project: Project) -> dict[str, bytes]:
    found = archive.read(project.path("hello.cpio"))
    return {member.path.decode(): found.data(member) for member in found.members if member.mode & 0o100000}


def test_an_image_is_packed_and_nothing_is_to_be_done_afterwards(images: Project, tmp_path: Path) -> None:
    assert images.build().stages == {ROOTFS, MEASURE, SIGN, PACKAGE}
    assert contents(images).keys() == {"bin/hello", "etc/motd", "app", "appenv.json"}
    layers = list((tmp_path / "cache/mystikos-tool/layers").iterdir())
    assert len(layers) == 4
    for path in layers:
        path.unlink()  # a layer is not needed where there is nothing to do
    build = images.build()
    assert build.stages == set(), build.text
    assert not list((tmp_path / "cache/mystikos-tool/layers").iterdir())


def test_of_a_changed_image_only_the_new_layer_is_read(images: Project) -> None:
    images.build()
    changed = MadeImage([BASE, layer(file("app", "2"), whiteout("etc/motd"))], process=PROCESS)
    changed.layout(images.path("image"))
    first = changed.manifest["layers"][0]["digest"]
    (images.path("image/blobs") / first.replace(":", "/")).unlink()
    assert ROOTFS in images.build().stages
    assert contents(images)["app"] == b"2"
    assert "etc/motd" not in contents(images)


def test_an_image_that_a_builder_makes_is_packed_after_it(images: Project, tmp_path: Path) -> None:
    made = MadeImage([BASE], process=PROCESS).docker_archive(tmp_path / "made.tar", "app:1")
    images.sconstruct(
        f'archive = env.Command("app.tar", [], Copy("$TARGET", {str(made)!r}))\n'
        'env.MystPackage("hello", env.MystImage(archive, name="app:1"))\n'
    )
    images.build()
    assert contents(images).keys() == {"bin/hello", "etc/motd", "appenv.json"}
    assert images.build().stages == set()


def test_where_the_configuration_is_silent_the_image_says_what_is_started(images: Project) -> None:
    images.sconstruct(
        'env.MystPackage("hello", env.MystImage("image"), MYST_CONFIG={"version": "0.1", "Debug": True,'
        ' "MemorySize": "1m"})\n'
    )
    build = images.build()
    line = "image: ApplicationPath /bin/hello, ApplicationParameters one, 1 variable in /appenv.json\n"
    assert line in build.out
    assert json.loads(OpenedPackage(images.path("hello")).config)["ApplicationPath"] == "/bin/hello"
    assert images.build().stages == set()
    MadeImage([BASE], process={"Entrypoint": ["/bin/hello", "two"]}).layout(images.path("image"))
    images.build()
    assert json.loads(OpenedPackage(images.path("hello")).config)["ApplicationParameters"] == ["two"]


def test_a_mistake_in_what_an_image_says_is_told_with_the_image(images: Project) -> None:
    MadeImage([BASE], process={"Entrypoint": ["/bin/hello"], "WorkingDir": "/etc/motd"}).layout(
        images.path("image")
    )
    images.sconstruct('env.MystPackage("hello", env.MystImage("image"))\n')
    images.write("config.json", '{"version": "0.1", "Debug": true, "MemorySize": "1m"}\n')
    build = images.fails()
    assert "[hello.measurement.json] image: CurrentWorkingDirectory: " in build.err
    assert "MYST_CONFIG_SET" not in build.err


def test_an_image_is_laid_over_and_under_other_sources(images: Project) -> None:
    images.sconstruct(
        'image = env.MystImage("image", MYST_ROOTFS_EXCLUDE=["app"])\n'
        'env.MystPackage("hello", [image, "appdir"], MYST_ROOTFS_OVERLAY=True)\n'
    )
    images.build()
    assert contents(images)["etc/motd"] == b"good day\n"
    assert "app" not in contents(images)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('env.MystImage("none")', "none: cannot be read: no such file or directory; give"),
        ('env.MystImage("image", name="other")', "image: has no image 'other', only some without a name"),
        (
            'env.MystImage("oci:image")',
            "oci:image: begins with oci:, which is not needed here; write it as image",
        ),
        ("env.MystImage([])", "MystImage takes one image, not 0"),
        ("env.MystImage(3)", "MystImage: the image cannot be 3"),
        ('env.MystImage("image", tag="a")', "MystImage does not take tag; it takes source, name, variables"),
        ('env.MystImage("image", MYST_KEY="a")', "MYST_KEY has no effect: this MystImage does not sign"),
    ],
)
def test_a_call_that_is_mistaken_says_what_to_give(images: Project, call: str, problem: str) -> None:
    images.sconstruct(f'env.MystPackage("hello", {call})\n')
    assert problem in images.fails().text
    assert not images.path(TARGETS[ROOTFS]).exists()


def test_an_image_on_a_registry_is_packed_by_its_digest_or_by_that_of_its_tag(images: Project) -> None:
    with serving() as server:
        made = MadeImage([BASE, layer(file("app", "1"))], process=PROCESS)
        pinned, tag = server.push(made), f"{server.host}/app:1"
        images.sconstruct(f'env.MystPackage("hello", env.MystImage("{tag}"))\n')
        assert f"{tag}: is a tag, which may be another image tomorrow" in images.fails().text
        locked = {"version": 1, "images": {tag: pinned.partition("@")[2]}}
        images.write("mystikos-images.lock.json", json.dumps(locked))
        assert images.build().stages == {ROOTFS, MEASURE, SIGN, PACKAGE}
        assert contents(images)["app"] == b"1"
        asked = len(server.asked)
        assert images.build().stages == set()
        images.sconstruct(f'env.MystPackage("hello", env.MystImage("{pinned}"))\n')
        assert images.build().stages <= {ROOTFS}
        assert len(server.asked) == asked
    assert images.build().stages == set()
