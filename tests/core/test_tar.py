"""Tar archives: what tarfile and GNU tar write is read as they meant it, and what is damaged is refused."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool.errors import UserError
from mystikos_tool.formats import tar
from mystikos_tool.formats.tar import Member

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
KINDS = (tar.FILE, tar.HARD_LINK, tar.SYMBOLIC_LINK, tar.DIRECTORY)
KINDS += (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE, tar.FIFO, b"7", b"\0", b"Z")

parts = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
names = st.lists(parts, min_size=1, max_size=6).map("/".join)


@st.composite
def infos(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(names))
    info.type = draw(st.sampled_from(KINDS))
    info.mode = draw(st.integers(0, 0o7777))
    info.mtime = draw(st.integers(0, 1 << 31) | st.floats(0, 1 << 31))
    info.uid = draw(st.integers(0, 1 << 40))
    info.uname = draw(parts)
    info.linkname = draw(st.just("") | names)
    data = draw(st.binary(max_size=1200)) if info.type not in tarfile.SUPPORTED_TYPES or info.isreg() else b""
    info.size = len(data)
    return info, data


def of_bytes(data: bytes) -> list[Member]:
    return list(tar.members(lambda offset, size: data[offset : offset + size], len(data), "archive"))


def told(data: bytes) -> str:
    with pytest.raises(UserError) as error:
        of_bytes(data)
    return str(error.value)


def written(*members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT, **options: object) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, **options) as archive:  # type: ignore[call-overload]
        for info in members:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return target.getvalue()


def member(name: str, kind: bytes = tar.FILE, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@given(st.lists(infos(), min_size=1, max_size=5), st.sampled_from(tuple(FORMATS.values())))
def test_what_tarfile_writes_is_read_as_it_reads_it(
    made: list[tuple[tarfile.TarInfo, bytes]], form: int
) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for info, data in made:
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:  # ustar holds no such name or number
                return
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        expected = [
            Member(
                os.fsencode(found.name),
                tar.FILE if found.isreg() else found.type,
                stat.S_IMODE(found.mode),
                0 if found.type in tarfile.SUPPORTED_TYPES and not found.isreg() else found.size,
                found.offset_data,
                os.fsencode(found.linkname),
            )
            for found in archive
        ]
    found = of_bytes(target.getvalue())
    assert [each._replace(name=each.name.removesuffix(b"/")) for each in found] == expected
    assert [target.getvalue()[each.offset :][: each.size] for each in found] == [data for _, data in made]


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_what_it_was_given(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "tree"
    name = "n" * 90 if form in ("v7", "ustar") else "n" * 200
    (tree / "d" / name[:80]).mkdir(parents=True)
    (tree / "d" / "caf\udce9").write_bytes(b"0123456789" * 300)
    (tree / name).write_bytes(b"long")
    (tree / "link").symlink_to(name)
    os.link(tree / name, tree / "second")
    if form != "v7":
        os.mkfifo(tree / "pipe", 0o600)
    (tree / "d" / "caf\udce9").chmod(0o4755)
    command = ("tar", "--format", form, "--sort=name", "-C", tree, "-cf", tmp_path / "made.tar", ".")
    subprocess.run(command, check=True, timeout=20)
    data = (tmp_path / "made.tar").read_bytes()
    found = {each.name: each for each in of_bytes(data)}
    long = name.encode()
    assert {path: each.kind for path, each in found.items()} == {
        b"./": tar.DIRECTORY,
        b"./d/": tar.DIRECTORY,
        b"./d/" + long[:80] + b"/": tar.DIRECTORY,
        b"./d/caf\xe9": tar.FILE,
        b"./link": tar.SYMBOLIC_LINK,
        b"./" + long: tar.FILE,
        b"./second": tar.HARD_LINK,
        **({} if form == "v7" else {b"./pipe": tar.FIFO}),
    }
    assert found[b"./link"].target == long
    assert found[b"./second"].target == b"./" + long
    large = found[b"./d/caf\xe9"]
    assert large.mode == 0o4755
    assert data[large.offset :][: large.size] == b"0123456789" * 300


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_file_of_a_terabyte_has_its_size(form: str) -> None:
    """Beyond eleven octal digits sizes are in base 256, or in a pax header."""
    large, last = member("large", size=(1 << 40) + 5), member("last", size=3)
    head = large.tobuf(FORMATS[form])
    tail = last.tobuf(FORMATS[form]) + bytes(512 + 1024)
    behind = len(head) + (1 << 40) + 512

    def read(offset: int, size: int) -> bytes:
        in_head, in_tail = head[offset : offset + size], tail[max(offset - behind, 0) :]
        return in_head if offset < len(head) else in_tail[:size] if offset >= behind else bytes(size)

    found = list(tar.members(read, behind + len(tail), "archive"))
    assert [(each.name, each.size) for each in found] == [(b"large", (1 << 40) + 5), (b"last", 3)]
    assert found[1].offset == behind + 512


def test_the_prefix_of_star_ends_before_its_times() -> None:
    block = bytearray(member(f"{'p' * 131}/{'n' * 90}").tobuf(tarfile.USTAR_FORMAT))
    block[345 + 131 : 345 + 155] = b"00000000001 00000000001 "
    block[508:512] = b"tar\0"
    (found,) = of_bytes(with_sum(block) + bytes(1024))
    assert found.name == b"p" * 131 + b"/" + b"n" * 90


def with_sum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_sums_of_signed_bytes_are_accepted_and_no_others() -> None:
    block = bytearray(member("caf\udce9\x7f\udc80").tobuf(tarfile.GNU_FORMAT))
    stated = int(block[148:154], 8)
    block[148:156] = b"%06o\0 " % (stated - 2 * 256)
    assert of_bytes(bytes(block) + bytes(1024))[0].name == b"caf\xe9\x7f\x80"
    block[148:156] = b"%06o\0 " % (stated - 2 * 256 + 1)
    assert "offset 0: is no tar archive" in told(bytes(block) + bytes(1024))


def changed(change: Callable[[bytearray], None]) -> bytes:
    block = bytearray(member("a").tobuf(tarfile.USTAR_FORMAT))
    change(block)
    return with_sum(block) + bytes(1024)


def put(start: int, data: bytes) -> Callable[[bytearray], None]:
    def change(block: bytearray) -> None:
        block[start : start + len(data)] = data

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put(124, b"00000000008\0"), "offset 0: has b'00000000008\\x00' in place of a number"),
        (put(124, b"00000000009\0"), "in place of a number"),
        (put(124, b"00000001_00\0"), "in place of a number"),
        (put(124, b"      0o100\0"), "in place of a number"),
        (put(124, b"\xff" * 12), "in place of a number"),  # -1
        (put(124, b"00000002001\0"), "is truncated"),
        (put(124, b"\x80" + b"\xff" * 11), "is truncated"),
        (put(100, b"rwxr-xr-"), "in place of a number"),
        (put(257, b"USTAR\x0000"), "is a header of an unknown form"),
    ],
)
def test_a_header_that_is_none_is_refused(change: Callable[[bytearray], None], problem: str) -> None:
    assert problem in told(changed(change))


def test_a_number_of_no_digits_is_0() -> None:
    (found,) = of_bytes(changed(put(100, b"       \0" + bytes(28))))
    assert (found.mode, found.size) == (0, 0)


def extension(kind: bytes, data: bytes) -> bytes:
    header = member("x", kind, len(data)).tobuf(tarfile.USTAR_FORMAT)
    return header + data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    data = f" {key}={value}\n".encode()
    size = next(size for size in range(len(data), len(data) + 9) if len(str(size)) + len(data) == size)
    return b"%d" % size + data


PLAIN = member("a").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (extension(b"x", b"nonsense"), "has a damaged pax header"),
        (extension(b"x", b"8 path=a\n"), "has a damaged pax header"),
        (extension(b"x", b"99 path=a\n"), "has a damaged pax header"),
        (extension(b"x", b"8 path a\n"), "has a damaged pax header"),
        (extension(b"x", b"0 path=a\n"), "has a damaged pax header"),
        (extension(b"x", record("path", "b") + b"\0" * 9), "has a damaged pax header"),
        (extension(b"x", record("size", "-1")), "has b'-1' in place of a size"),
        (extension(b"x", record("size", "9" * 20)), "is truncated"),
        (extension(b"x", record("size", "9" * 21)), "in place of a size"),
        (extension(b"x", record("size", "9999")), "is truncated"),
        (extension(b"x", record("GNU.sparse.major", "1")), "a is a sparse file, which is not read here"),
        (member("a", tarfile.GNUTYPE_SPARSE).tobuf(), "a is a sparse file, which is not read here"),
        (extension(b"g", record("path", "b")), "says for all members path"),
        (extension(b"x", record("path", "b")) + extension(b"L", b"c\0"), "says once more path"),
        (extension(b"K", b"b\0") + extension(b"K", b"c\0"), "says once more linkpath"),
        (extension(b"L", bytes((1 << 20) + 1)), "has a header of 1,048,577 bytes, more than 1,048,576"),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(data: bytes, problem: str) -> None:
    assert problem in told(data + PLAIN)


def test_an_extension_of_1_mib_is_read() -> None:
    assert [each.name for each in of_bytes(extension(b"L", b"b".ljust(1 << 20, b"\0")) + PLAIN)] == [b"b"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "offset 0: is empty"),
        (b"x" * 1024, "offset 0: is no tar archive"),
        (PLAIN[:512] + b"x" * 512, "offset 512: is damaged, or ends without its end"),
        (PLAIN[:512] + extension(b"L", b"b\0") + bytes(1024), "offset 1,536: is no end of a tar archive"),
        (PLAIN[:512] + bytes(512) + b"x" * 512, "offset 512: is no end of a tar archive"),
    ],
)
def test_what_is_no_archive_or_no_end_of_one_is_told(data: bytes, problem: str) -> None:
    assert problem in told(data)


@pytest.mark.parametrize("blocks", [0, 1, 2, 20])
def test_an_archive_ends_with_any_number_of_blocks_of_zeros(blocks: int) -> None:
    assert [each.name for each in of_bytes(PLAIN[:512] + bytes(512 * blocks))] == [b"a"]


@pytest.mark.parametrize("size", [1024, tarfile.RECORDSIZE])
def test_an_archive_of_nothing_but_its_end_has_no_members(size: int) -> None:
    assert of_bytes(bytes(size)) == []


def test_what_pax_headers_say_of_times_and_of_nothing_changes_nothing() -> None:
    said = record("mtime", "1.5") + record("SCHILY.xattr.user.a", "b\nc") + record("path", "")
    data = extension(b"g", record("comment", "0123")) + extension(b"x", said) + PLAIN
    assert [each.name for each in of_bytes(data)] == [b"a"]


@pytest.mark.parametrize(
    "before", [b"", extension(b"x", record("size", "9999"))], ids=["header", "pax header"]
)
def test_what_is_no_file_has_no_data_whatever_is_said_of_their_size(before: bytes) -> None:
    found = of_bytes(before + member("d", tar.DIRECTORY, 9999).tobuf() + PLAIN)
    assert [(each.kind, each.size) for each in found] == [(tar.DIRECTORY, 0), (tar.FILE, 0)]


def test_a_name_of_the_oldest_form_that_ends_with_a_slash_is_a_directory() -> None:
    found = of_bytes(b"".join(member("d/", kind).tobuf() for kind in (b"\0", b"7", b"0")))
    assert [each.kind for each in found] == [tar.DIRECTORY, tar.FILE, tar.FILE]


@given(st.data())
def test_any_damage_is_refused_or_leads_nowhere_else(data: st.DataObject) -> None:
    whole = written(member("a" * 150, size=600), member("b", tar.SYMBOLIC_LINK, linkname="c" * 120))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(whole)))])
    try:
        found = of_bytes(cut)
    except UserError:
        return
    assert all(0 <= each.offset <= each.offset + each.size <= len(cut) for each in found)
