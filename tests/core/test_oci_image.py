"""Images as sources of a root: what layers, whiteouts and links leave, from every form of an image."""

from __future__ import annotations

import gzip
import os
import random
import stat
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images import (
    INDEX,
    LAYER,
    Made,
    MadeImage,
    as_json,
    described,
    device,
    digest,
    directory,
    file,
    hard_link,
    layer,
    member,
    opaque,
    symlink,
    whiteout,
)

from mystikos_tool.errors import UserError
from mystikos_tool.root import archive
from mystikos_tool.root.oci import image as images
from mystikos_tool.root.oci import pruning
from mystikos_tool.root.oci.layer import Member
from mystikos_tool.root.oci.layer_cache import LayerCache
from mystikos_tool.root.oci.source import ImageSource
from mystikos_tool.root.oci.whiteout import merged
from mystikos_tool.root.tree import Tree

Root = Callable[..., Tree]


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "cache")


@pytest.fixture
def root(tmp_path: Path, cache: LayerCache) -> Root:
    """The tree of layers of members."""

    def tree(*layers: list[Made], **options: Any) -> Tree:
        made = MadeImage([layer(*members) for members in layers], **options)
        return source(made.layout(tmp_path / "image"), cache).tree()

    return tree


def source(path: Path, cache: LayerCache, **options: Any) -> ImageSource:
    return ImageSource(images.in_file(path), cache=cache, **options)


def refused(path: Path, cache: LayerCache) -> str:
    with pytest.raises(UserError) as error:
        source(path, cache).tree()
    assert not list((path.parent / "cache").glob("*")), "nothing is half-made"
    return str(error.value)


HELLO = [directory("bin", 0o700), file("bin/hello", "hello", 0o4755), symlink("bin/sh", "/bin/hello")]


def test_files_directories_and_links_are_as_the_layer_has_them(root: Root) -> None:
    assert described(root(HELLO)) == {
        "bin": ("directory", 0o700, b""),
        "bin/hello": ("file", 0o4755, b"hello"),
        "bin/sh": ("link", 0o777, b"/bin/hello"),
    }


@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd"])
def test_every_compression_gives_the_same_tree(root: Root, compression: str) -> None:
    large = [file("large", b"0123456789abcdef" * 200_000)]
    found = described(root(HELLO, large, compression=compression))
    assert found["large"][2] == b"0123456789abcdef" * 200_000
    assert found["bin/hello"] == ("file", 0o4755, b"hello")


def test_several_gzip_members_are_one_layer(tmp_path: Path, cache: LayerCache) -> None:
    whole = layer(*HELLO)
    made = MadeImage([whole])
    packed = gzip.compress(whole[:700]) + gzip.compress(whole[700:]) + bytes(512)
    made.manifest["layers"] = [made.added(f"{LAYER}+gzip", packed)]
    made.descriptor = made.added(made.descriptor["mediaType"], as_json(made.manifest))
    assert "bin/hello" in described(source(made.layout(tmp_path / "image"), cache).tree())


def test_an_archive_of_either_kind_gives_the_tree_of_the_layout(tmp_path: Path, cache: LayerCache) -> None:
    made = MadeImage([layer(*HELLO), layer(file("etc/motd", "hi")), layer(*HELLO)])
    layout = source(made.layout(tmp_path / "layout"), cache)
    for path in (made.oci_archive(tmp_path / "oci.tar"), made.docker_archive(tmp_path / "docker.tar")):
        found = source(path, LayerCache(tmp_path / f"{path.name}.cache"))
        assert described(found.tree()) == described(layout.tree())
        assert found.fingerprint() == layout.fingerprint()


def test_a_whiteout_hides_what_lower_layers_have_and_nothing_of_its_own(root: Root) -> None:
    lower = [file("a"), directory("d"), file("d/x"), file("e/x"), file("e/y")]
    upper = [whiteout("a"), whiteout("d"), file("e/x", "new"), whiteout("e/x"), whiteout("e/none")]
    assert described(root(lower, upper)) == {
        "e": ("directory", 0o755, b""),
        "e/x": ("file", 0o644, b"new"),
        "e/y": ("file", 0o644, b""),
    }


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_hides_what_was_in_it_in_whatever_order(root: Root, first: bool) -> None:
    lower = [directory("d"), file("d/x"), file("d/sub/y"), file("d/sub/deep/z")]
    rest = [directory("d", 0o711), file("d/new"), file("d/sub/own")]
    upper = [opaque("d"), *rest] if first else [*rest, opaque("d")]
    assert list(described(root(lower, upper))) == ["d", "d/new", "d/sub", "d/sub/own"]


def test_whiteouts_in_and_above_one_directory_hide_what_each_of_them_names(root: Root) -> None:
    lower = [file("d/sub/x"), file("d/sub/deep/y"), file("d/z"), file("other/sub/x")]
    upper = [
        opaque("d/sub/deep"),
        file("d/sub/own"),
        opaque("d/sub"),
        directory("d/sub"),
        whiteout("d"),
        opaque("d"),
    ]
    assert list(described(root(lower, upper))) == [
        "d",
        "d/sub",
        "d/sub/own",
        "other",
        "other/sub",
        "other/sub/x",
    ]
    assert list(described(root(lower, upper, [opaque("d")]))) == ["d", "other", "other/sub", "other/sub/x"]


@pytest.mark.parametrize("hidden", [opaque("d"), whiteout("d")])
def test_whiteouts_of_one_directory_cost_no_more_than_its_files(hidden: Made) -> None:
    path, count = hidden[0].name.encode(), 5000
    files = [Member(b"d/%d" % number, stat.S_IFREG | 0o644, 0, 0) for number in range(count)]
    whiteouts = [Member(path, stat.S_IFREG | 0o644, 0, 0)] * count
    started = time.process_time()
    assert len(merged([[*files, *whiteouts]], ["layer"])) == 1 + count
    assert time.process_time() - started < 3  # looking at each file for each whiteout takes a minute


def test_a_directory_that_replaces_a_link_is_no_way_to_what_the_link_led_to(root: Root) -> None:
    lower = [file("data/x"), symlink("d", "data")]
    upper = [directory("d"), opaque("d"), file("d/own")]
    assert list(described(root(lower, upper))) == ["d", "d/own", "data", "data/x"]


def test_what_the_upper_layer_has_replaces_files_links_and_directories(root: Root) -> None:
    lower = [file("f"), symlink("l", "f"), directory("d"), file("d/x"), directory("m", 0o700), file("m/x")]
    upper = [symlink("f", "l"), directory("l"), file("d", "file"), directory("m", 0o711)]
    assert described(root(lower, upper)) == {
        "d": ("file", 0o644, b"file"),
        "f": ("link", 0o777, b"l"),
        "l": ("directory", 0o755, b""),
        "m": ("directory", 0o711, b""),
        "m/x": ("file", 0o644, b""),
    }


def test_names_go_through_links_of_lower_layers_and_never_out_of_the_root(root: Root) -> None:
    lower = [
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("out", "../../../etc"),
        symlink("abs", "/srv"),
    ]
    upper = [file("lib/libc.so"), file("out/passwd"), file("abs/www")]
    found = described(root(lower, upper))
    assert {"usr/lib/libc.so", "etc/passwd", "srv/www"} <= found.keys()
    assert found["lib"] == ("link", 0o777, b"usr/lib")


def test_a_hard_link_is_a_file_of_its_own_also_to_a_lower_layer(root: Root) -> None:
    lower = [file("a", "old", 0o755), hard_link("b", "a")]
    upper = [hard_link("c", "./b"), file("a", "new")]
    tree = root(lower, upper)
    assert {path: data for path, (_, _, data) in described(tree).items()} == {
        "a": b"new",
        "b": b"old",
        "c": b"old",
    }
    a, b, c = tree.entries
    assert b.mode == c.mode
    assert b.contents.identity(b) == c.contents.identity(c) != a.contents.identity(a)


def test_devices_and_fifos_are_left_out_and_named(root: Root) -> None:
    lower = [device("dev/null"), device("dev/sda", tarfile.BLKTYPE), device("run/pipe", tarfile.FIFOTYPE)]
    tree = root([*lower, file("f")], [whiteout("dev/sda")])
    assert tree.left_out == ("dev/null", "run/pipe")
    assert list(described(tree)) == ["dev", "f", "run"]


def test_all_belongs_to_root(root: Root) -> None:
    assert {entry.contents.owner(entry) for entry in root(HELLO).entries} == {(0, 0)}


def test_long_names_and_names_that_are_no_text_are_kept(root: Root) -> None:
    long = "/".join(["n" * 60] * 4)
    tree = root([file(long), file("caf\udce9")])
    assert [entry.path for entry in tree.entries if entry.size == 0][-1] == long.encode()
    assert tree.entries[0].path == b"caf\xe9"


def test_what_is_excluded_stays_out(tmp_path: Path, cache: LayerCache) -> None:
    made = MadeImage([layer(*HELLO, file("usr/share/doc/x"), device("dev/null"))])
    tree = source(made.layout(tmp_path / "image"), cache, exclude=("usr/share", "dev")).tree()
    assert list(described(tree)) == ["bin", "bin/hello", "bin/sh", "usr"]
    assert tree.left_out == ()


def test_the_variables_of_an_image_are_in_appenv_json(root: Root) -> None:
    tree = root(HELLO, process={"Env": ["PATH=/bin", "A=b=c"]})
    assert (
        described(tree)["appenv.json"][2]
        == b'{\n    "Env": [\n        "PATH=/bin",\n        "A=b=c"\n    ]\n}\n'
    )
    own = root([*HELLO, file("appenv.json", "own")], process={"Env": ["PATH=/bin"]})
    assert described(own)["appenv.json"][2] == b"own"


def test_a_tree_of_an_image_becomes_an_archive(root: Root, tmp_path: Path) -> None:
    tree = root(HELLO, [file("large", b"x" * 3_000_000)], process={"Env": ["A=b"]})
    written = archive.write(tree, tmp_path / "rootfs.cpio")
    found = archive.read(tmp_path / "rootfs.cpio")
    assert [member.path for member in found.members] == [entry.path for entry in tree.entries]
    member = written.find("/large")
    assert member and found.data(member) == b"x" * 3_000_000


def bytes_read() -> int:
    """What this process has read by system calls so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("form", ["layout", "oci_archive", "docker_archive"])
def test_what_an_image_is_is_known_without_reading_its_layers(
    tmp_path: Path, cache: LayerCache, form: str
) -> None:
    """Where nothing changed this is all that a build asks for."""
    noise = random.Random(1).randbytes(1 << 20)
    made = MadeImage([layer(file(f"{number}", noise)) for number in range(4)])
    path = getattr(made, form)(tmp_path / form)
    before = bytes_read()
    assert source(path, cache).fingerprint()
    assert bytes_read() - before < 64 << 10
    assert not (tmp_path / "cache").exists()


def test_a_layer_that_is_known_is_not_read_again(tmp_path: Path, cache: LayerCache) -> None:
    made = MadeImage([layer(*HELLO), layer(file("old"))])
    before = source(made.layout(tmp_path / "image"), cache).tree()
    changed = MadeImage([layer(*HELLO), layer(file("new"))])
    path = changed.layout(tmp_path / "image2")
    first = changed.manifest["layers"][0]["digest"]
    (path / "blobs" / first.replace(":", "/")).unlink()
    after = source(path, cache).tree()
    assert list(described(after)) == ["bin", "bin/hello", "bin/sh", "new"]
    assert after.entries[1].fingerprint == before.entries[1].fingerprint
    assert after.entries[3].fingerprint != before.entries[3].fingerprint


def test_a_cache_that_others_may_write_to_is_not_believed(tmp_path: Path, cache: LayerCache) -> None:
    path = MadeImage([layer(*HELLO)]).layout(tmp_path / "image")
    source(path, cache).tree()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(UserError, match="so that layers could be another's"):
        source(path, cache).tree()


def test_memory_does_not_grow_with_a_layer(tmp_path: Path, cache: LayerCache) -> None:
    path = MadeImage([layer(file("large", bytes(40 << 20)))]).layout(tmp_path / "image")
    tracemalloc.start()
    archive.write(source(path, cache).tree(), tmp_path / "rootfs.cpio")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_more_layers_than_any_image_has_are_refused(tmp_path: Path) -> None:
    path = MadeImage([layer(file("a"))] * 257).layout(tmp_path / "image")
    assert "has 257 layers, more than 256" in told(path)


@pytest.mark.parametrize("damage", ["index", "tar", "gone"])
def test_a_layer_that_was_changed_in_the_cache_is_made_again(
    tmp_path: Path, cache: LayerCache, damage: str
) -> None:
    made = MadeImage([layer(*HELLO)])
    path = made.layout(tmp_path / "image")
    before = described(source(path, cache).tree())
    (tar,), (index,) = (list((tmp_path / "cache").glob(f"*.{kind}")) for kind in ("tar", "index"))
    if damage == "index":
        index.write_bytes(index.read_bytes().replace(b"hello", b"hellO"))
    elif damage == "tar":
        tar.write_bytes(tar.read_bytes().replace(b"hello", b"hellO"))
    else:
        tar.unlink()
    assert described(source(path, cache).tree()) == before


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (file("../etc/passwd"), "'../etc/passwd' has .. in it, which leads out"),
        (file("a/../../b"), "'a/../../b' has .. in it"),
        (file("/etc/passwd"), "'/etc/passwd' is absolute"),
        (hard_link("b", "/etc/passwd"), "a hard link to '/etc/passwd' is absolute"),
        (hard_link("b", "../x"), "a hard link to '../x' has .. in it"),
        (file("./"), "is a name of the root, and no directory"),
        (member("s", tarfile.GNUTYPE_SPARSE, 0o644), "s is a sparse file, which is not read here"),
        (member("m", b"Z", 0o644), "of the type b'Z', which is not known in layers"),
        (symlink("l", ""), "a symbolic link that no system can hold"),
        (file("a" * 5000), "has more than 4,095 bytes"),
    ],
)
def test_what_no_layer_may_hold_is_refused_and_leaves_nothing(
    tmp_path: Path, cache: LayerCache, member: Made, problem: str
) -> None:
    path = MadeImage([layer(file("fine"), member)]).layout(tmp_path / "image")
    assert problem in refused(path, cache)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([file("a"), file("./a")], "a: is twice in the layer"),
        ([file("a"), directory("a")], "a: is twice in the layer"),
        ([file("a/b"), file("a")], "a: is twice in the layer"),
        ([file("a"), file("a/b")], "a/b: lies below what is no directory"),
        ([hard_link("a", "b")], "a: is a hard link to b, which is not there"),
        ([directory("b"), hard_link("a", "b")], "a: is a hard link to b, which is a directory"),
        ([file(".wh.")], ".wh.: is a whiteout of nothing"),
        ([file(".wh.a/b")], ".wh.a/b: lies below a whiteout"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/c")], "a/c: lies below what is no directory"),
    ],
)
def test_layers_that_contradict_themselves_are_refused(root: Root, members: list[Made], problem: str) -> None:
    with pytest.raises(UserError) as error:
        root(members)
    assert f", layer sha256:{MadeImage([layer(*members)]).manifest['layers'][0]['digest'][7:]}" in str(
        error.value
    )
    assert problem in str(error.value)


def test_a_whiteout_below_what_is_no_directory_hides_nothing(root: Root) -> None:
    lower = [file("a", "content"), symlink("b", "a")]
    assert described(root(lower, [whiteout("a/x"), opaque("b")])) == described(root(lower))


def test_a_directory_that_is_named_again_is_no_mistake(root: Root) -> None:
    assert described(root([directory("a", 0o700), file("a/b"), directory("a", 0o711)]))["a"][1] == 0o711


@pytest.mark.parametrize("name", ["/", "//", ".", "./", "././"])
def test_the_root_itself_may_be_named_in_any_way(root: Root, name: str) -> None:
    info, data = directory("x", 0o700)
    info.name = name
    assert list(described(root([(info, data), file("a")]))) == ["a"]


def test_an_archive_of_a_layout_may_have_its_blobs_as_hard_links(tmp_path: Path, cache: LayerCache) -> None:
    """As tar packs a layout that shares its blobs with another one in the same archive."""
    made = MadeImage([layer(file("a"))])
    whole = [file(f"first/{name}", data) for name, data in made.files().items()]
    again = [hard_link(name, f"first/{name}") for name in made.files()]
    path = tmp_path / "image.tar"
    path.write_bytes(layer(*whole, *again))
    assert list(described(source(path, cache).tree())) == ["a"]


@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd"])
@pytest.mark.parametrize("change", ["bit", "short", "long", "gone"])
def test_a_layer_that_is_not_what_its_digest_says_is_refused(
    tmp_path: Path, cache: LayerCache, compression: str, change: str
) -> None:
    made = MadeImage([layer(*HELLO, file("more", bytes(range(256)) * 100))], compression)
    path = made.layout(tmp_path / "image")
    blob = path / "blobs" / made.manifest["layers"][0]["digest"].replace(":", "/")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes({"bit": data, "short": data[:-9], "long": data + b"\0", "gone": b""}[change])
    expected = {
        "bit": "has another digest than sha256:",
        "short": "ends 9 bytes too early",
        "long": "has more bytes than its descriptor says",
        "gone": "bytes too early",
    }
    assert expected[change] in refused(path, cache)


def test_a_layer_is_held_to_the_digest_that_the_configuration_has_of_it(
    tmp_path: Path, cache: LayerCache
) -> None:
    made, other = MadeImage([layer(*HELLO)]), MadeImage([layer(file("other"))])
    made.blobs.update(other.blobs)
    made.manifest["layers"] = other.manifest["layers"]
    made.descriptor = made.added(made.descriptor["mediaType"], as_json(made.manifest))
    assert "has another digest than sha256:" in refused(made.layout(tmp_path / "image"), cache)
    saved = MadeImage([layer(*HELLO)])
    saved.layers = [layer(file("other"))]
    assert "has another digest than sha256:" in refused(saved.docker_archive(tmp_path / "docker.tar"), cache)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no archive" * 100, "offset 0: is no tar archive"),
        (layer(file("a", "x" * 2000))[:1500], "offset 0: is truncated"),
        (layer(file("a"))[:512] + b"x" * 512 + bytes(1024), "offset 512: is damaged"),
        (layer(file("a"))[:512] + bytes(512) + layer(file("b")), "offset 512: is no end of a tar archive"),
        (b"", "offset 0: is empty"),
    ],
)
def test_a_layer_that_is_no_archive_is_refused(
    tmp_path: Path, cache: LayerCache, data: bytes, problem: str
) -> None:
    assert problem in refused(MadeImage([data]).layout(tmp_path / "image"), cache)


def test_a_layer_of_nothing_changes_nothing(tmp_path: Path, cache: LayerCache) -> None:
    """Builders write one, 1,024 zeros, for a step that changes no file."""
    plain, made = MadeImage([layer(*HELLO)]), MadeImage([bytes(1024), layer(*HELLO), layer()])
    expected = described(source(plain.layout(tmp_path / "plain"), cache).tree())
    assert described(source(made.layout(tmp_path / "made"), cache).tree()) == expected


def test_a_name_of_megabytes_is_not_read(tmp_path: Path, cache: LayerCache) -> None:
    huge = layer(member("././@LongLink", tarfile.GNUTYPE_LONGNAME, 0o644, b"a" * (2 << 20)), file("a"))
    assert "has a header of 2,097,152 bytes" in refused(MadeImage([huge]).layout(tmp_path / "image"), cache)


def test_an_archive_of_an_image_that_is_compressed_says_what_to_do(tmp_path: Path, cache: LayerCache) -> None:
    path = tmp_path / "image.tar.gz"
    path.write_bytes(
        gzip.compress(MadeImage([layer(*HELLO)]).oci_archive(tmp_path / "image.tar").read_bytes())
    )
    assert "is compressed by gzip, and is read at many places; decompress it first: gzip -d" in refused(
        path, cache
    )


def index(*images: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": list(images)}


def platform(image: MadeImage, architecture: str, **variant: str) -> dict[str, Any]:
    return {**image.descriptor, "platform": {"os": "linux", "architecture": architecture, **variant}}


def test_of_an_index_the_image_for_linux_amd64_is_taken(tmp_path: Path, cache: LayerCache) -> None:
    made, other = MadeImage([layer(*HELLO)]), MadeImage([layer(file("other"))])
    made.blobs.update(other.blobs)
    listed = index(platform(other, "arm64"), platform(other, "amd64", variant="v3"), platform(made, "amd64"))
    inner = made.added(INDEX, as_json(listed))
    for listing in (listed, index(inner)):
        assert "bin/hello" in described(source(made.layout(tmp_path / "image", listing), cache).tree())
    path = made.layout(tmp_path / "image", index(platform(other, "arm64"), platform(other, "s390x")))
    assert "has no image for linux/amd64, only linux/arm64, linux/s390x" in told(path)


def test_an_image_that_says_it_is_for_another_machine_is_refused(tmp_path: Path) -> None:
    path = MadeImage([layer(*HELLO)], architecture="arm64").layout(tmp_path / "image")
    assert "is an image for linux/arm64; give one for linux/amd64" in told(path)


def test_of_several_images_one_is_taken_by_its_name(tmp_path: Path, cache: LayerCache) -> None:
    made, other = MadeImage([layer(*HELLO)]), MadeImage([layer(file("other"))])
    made.blobs.update(other.blobs)
    listed = index(*made.index("1.0")["manifests"], *other.index("2.0")["manifests"])
    path = made.layout(tmp_path / "image", listed)
    assert "has several images: 1.0, 2.0; say which one by its name" in told(path)
    assert "has no image '3.0', only 1.0, 2.0" in told(path, "3.0")
    assert list(described(ImageSource(images.in_file(path, "2.0"), cache=cache).tree())) == ["other"]
    saved = made.docker_archive(tmp_path / "docker.tar", "app:1", "app:latest")
    assert images.in_file(saved, "app:1").config == images.in_file(saved).config
    assert "has no image 'app:2': app:1, app:latest" in told(saved, "app:2")


def told(path: Path, name: str = "") -> str:
    with pytest.raises(UserError) as error:
        images.in_file(path, name)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layers": 3}, "layers cannot be 3"),
        ({"layers": [{"mediaType": "text/html"}]}, "size cannot be None"),
        ({"config": None}, "a descriptor cannot be None"),
        ({"manifests": []}, "has both layers and manifests, so that it could be two things"),
        ({"layers": []}, "has 1 digests of layers, and the image 0 layers"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    made = MadeImage([layer(*HELLO)])
    made.descriptor = made.added(made.descriptor["mediaType"], as_json({**made.manifest, **change}))
    assert problem in told(made.layout(tmp_path / "image"))


def test_media_types_that_are_not_known_are_named(tmp_path: Path) -> None:
    made = MadeImage([layer(*HELLO)])
    for part, kind in (("layers", "application/x-encrypted"), ("config", "application/vnd.helm+json")):
        item = made.manifest[part]
        changed = [{**item[0], "mediaType": kind}] if part == "layers" else {**item, "mediaType": kind}
        descriptor = made.added(made.descriptor["mediaType"], as_json({**made.manifest, part: changed}))
        assert repr(kind) in told(made.layout(tmp_path / part, index(descriptor)))
    odd = {**made.descriptor, "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    assert "v1+prettyjws', which is no image" in told(made.layout(tmp_path / "odd", index(odd)))


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"a": ' * 100_000, b"\xff"])
def test_a_layout_with_damaged_files_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = MadeImage([layer(*HELLO)]).layout(tmp_path / "image")
    (path / name).write_bytes(data)
    assert str(path / name) in told(path)


def test_a_directory_and_a_file_that_are_no_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no image" * 1000)
    assert "is no tar archive" in told(tmp_path / "file")
    assert "is no image: there is no oci-layout in it" in told(tmp_path)
    assert "cannot be read: no such file or directory" in told(tmp_path / "none")


def test_a_fifo_where_an_image_keeps_a_file_is_refused_and_not_waited_for(
    tmp_path: Path, cache: LayerCache
) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert told(tmp_path / "fifo") == (
        f"{tmp_path}/fifo: is no regular file; give an OCI layout or an archive of an image"
    )
    path = MadeImage([layer(*HELLO)]).layout(tmp_path / "image")
    for blob in (path / "blobs" / "sha256").iterdir():
        blob.unlink()
        os.mkfifo(blob)
    assert refused(path, cache).endswith(": is no regular file; make the image again")
    (path / "index.json").unlink()
    os.mkfifo(path / "index.json")
    assert "is no image: there is no index.json in it" in told(path)


def test_sizes_are_checked_before_they_are_believed(tmp_path: Path) -> None:
    made = MadeImage([layer(*HELLO)])
    path = made.layout(tmp_path / "image", index({**made.descriptor, "size": 1 << 40}))
    assert "has 1,099,511,627,776 bytes, more than the 4,194,304 that are accepted" in told(path)


# The cache


def named(cache: Path) -> set[str]:
    return {path.name.partition(".")[0].removeprefix("sha256-") for path in cache.iterdir()}


def test_a_layer_that_is_removed_or_made_once_more_is_read_to_its_end(
    tmp_path: Path, cache: LayerCache
) -> None:
    path = MadeImage([layer(*HELLO)]).layout(tmp_path / "image")
    tree = source(path, cache).tree()
    for each in (tmp_path / "cache").iterdir():
        each.unlink()
    again = source(path, LayerCache(tmp_path / "cache")).tree()
    assert described(tree) == described(again)
    (tar,) = (tmp_path / "cache").glob("*.tar")
    tar.write_bytes(tar.read_bytes())
    with pytest.raises(UserError, match=r"\.tar: changed while it was read"):
        described(again)


def test_pruning_removes_what_was_used_longest_ago_and_what_is_open_is_read_to_its_end(
    tmp_path: Path,
) -> None:
    made = [MadeImage([layer(file(name, name * 5000))]) for name in "abc"]
    layers = tmp_path / "layers"
    trees = []
    for number, each in enumerate(made):
        trees.append(source(each.layout(tmp_path / str(number)), LayerCache(layers)).tree())
        for path in layers.glob(f"*{digest(each.layers[0])[7:]}.index"):
            os.utime(path, (number, number))
    before = sum(path.stat().st_size for path in layers.iterdir())
    (layers / "notes").write_text("the user's")
    source(tmp_path / "0", LayerCache(layers)).tree()  # used again
    found = pruning.prune(tmp_path, before * 2 // 3)
    assert named(layers) == {"notes", *(digest(made[number].layers[0])[7:] for number in (0, 2))}
    assert (found.removed, found.size + found.left) == (1, before)
    assert pruning.prune(tmp_path, 0).left == 0
    assert named(layers) == {"notes"}
    assert [described(tree)[name][2][:1] for tree, name in zip(trees, "abc", strict=True)] == [
        b"a",
        b"b",
        b"c",
    ]
    assert pruning.prune(tmp_path / "none", 0) == (0, 0, 0)
