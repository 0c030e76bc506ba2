from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from reference_cases import DATA
from tiny_elf import patched, section_header, with_sections

from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import Bytes, FileContent
from mystikos_tool.packaging import sections

PROGRAM = DATA / "program"
BODIES = {name: name.encode() * 100 for name in sections.SECTIONS} | {sections.PUBKEYS: b""}
PARTS = sections.Parts(*(Bytes(body) for body in BODIES.values()))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    sections.write(PROGRAM, PARTS, tmp_path / "app")
    return tmp_path / "app"


def told(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def test_the_seven_sections_are_appended_in_their_order(made: Path) -> None:
    expected = with_sections(PROGRAM.read_bytes(), *BODIES.items())
    assert made.read_bytes() == expected
    assert sections.SECTIONS == (
        ".mystenc",
        ".libmystcrt",
        ".libmystkernel",
        ".mystrootfs",
        ".mystpubkeys",
        ".mystroothashes",
        ".mystconfig",
    )


def test_the_contents_are_read_back(made: Path) -> None:
    opened = sections.read(made)
    assert {name: opened.content(name).read() for name in sections.SECTIONS} == BODIES


def test_an_image_of_another_size_in_the_place_of_a_package_s_own_is_a_bug(
    tmp_path: Path, made: Path
) -> None:
    for size in (len(BODIES[sections.ENCLAVE]) - 1, len(BODIES[sections.ENCLAVE]) + 1):
        with pytest.raises(ValueError, match=f"bytes was expected, not of {size}"):
            sections.write_with_image(sections.read(made), Bytes(bytes(size)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_image_of_the_same_size_takes_the_place_of_a_package_s_own(tmp_path: Path, made: Path) -> None:
    image = Bytes(BODIES[sections.ENCLAVE][::-1])
    sections.write_with_image(sections.read(made), image, tmp_path / "other")
    sections.write(PROGRAM, PARTS._replace(enclave=image), tmp_path / "expected")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "expected").read_bytes()


def test_no_package_gets_the_name_that_acts_as_the_loader(tmp_path: Path, made: Path) -> None:
    with pytest.raises(UserError, match="acts as the loader without a package"):
        sections.write(PROGRAM, PARTS, tmp_path / "myst")
    with pytest.raises(UserError, match="acts as the loader without a package"):
        sections.write_with_image(sections.read(made), PARTS.enclave, tmp_path / "myst")
    assert not (tmp_path / "myst").exists()


def test_contents_may_come_from_files(tmp_path: Path, made: Path) -> None:
    (tmp_path / "root").write_bytes(BODIES[sections.ROOTFS])
    parts = PARTS._replace(rootfs=FileContent.of(tmp_path / "root"))
    size = sections.write(PROGRAM, parts, tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == made.read_bytes()
    assert size == made.stat().st_size


@pytest.mark.parametrize(("mask", "mode"), [(0o000, 0o755), (0o077, 0o700)])
def test_a_package_may_be_executed_by_those_whom_the_umask_lets(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        sections.write(PROGRAM, PARTS, tmp_path / "app")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "app").stat().st_mode) == mode


def test_a_write_that_fails_leaves_the_earlier_package_and_nothing_else(tmp_path: Path, made: Path) -> None:
    before = made.read_bytes()
    (tmp_path / "root").write_bytes(b"12345")
    parts = PARTS._replace(rootfs=FileContent.of(tmp_path / "root"))
    (tmp_path / "root").write_bytes(b"123")
    assert "became shorter while it was read" in told(lambda: sections.write(PROGRAM, parts, made))
    assert made.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"app", "root"}


def test_a_write_that_fails_with_no_earlier_package_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"12345")
    parts = PARTS._replace(rootfs=FileContent.of(tmp_path / "root"))
    (tmp_path / "root").write_bytes(b"")
    told(lambda: sections.write(PROGRAM, parts, tmp_path / "app"))
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


def test_a_package_is_no_loader(tmp_path: Path, made: Path) -> None:
    assert told(lambda: sections.write(made, PARTS, tmp_path / "twice")) == (
        f"{made}: has a section .mystenc already; give the file as the runtime has it, not a package"
    )


@pytest.mark.parametrize(
    ("loader", "problem"),
    [
        ("missing", "there is no such runtime file"),
        ("script", "is not an ELF file"),
        ("", "is a directory, not a runtime file"),
    ],
)
def test_a_loader_that_is_none_is_told(tmp_path: Path, loader: str, problem: str) -> None:
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert problem in told(lambda: sections.write(tmp_path / loader, PARTS, tmp_path / "app"))


# What is no package


def test_a_program_is_no_package() -> None:
    assert told(lambda: sections.read(PROGRAM)) == (
        f"{PROGRAM}: is no package: it has no section .mystenc; give a file made by package-sgx"
    )


@pytest.mark.parametrize("name", sections.SECTIONS)
def test_a_package_that_lacks_a_section_is_told(tmp_path: Path, name: str) -> None:
    rest = [(other, body) for other, body in BODIES.items() if other != name]
    (tmp_path / "app").write_bytes(with_sections(PROGRAM.read_bytes(), *rest))
    assert f"is no package: it has no section {name}" in told(lambda: sections.read(tmp_path / "app"))


@pytest.mark.parametrize("name", sections.SECTIONS)
def test_a_section_that_is_there_twice_is_told(tmp_path: Path, made: Path, name: str) -> None:
    other = ".x" + "y" * (len(name) - 2)
    both = with_sections(made.read_bytes(), (other, b"other content"))
    (tmp_path / "twice").write_bytes(both.replace(other.encode() + b"\0", name.encode() + b"\0"))
    assert told(lambda: sections.read(tmp_path / "twice")) == (
        f"{tmp_path}/twice: has the section {name} 2 times; do not use it; package it again"
    )


def test_a_package_cut_anywhere_is_told(tmp_path: Path, made: Path) -> None:
    data = made.read_bytes()
    for cut in [*range(0, 200), *range(200, len(data), 101), *range(len(data) - 200, len(data))]:
        (tmp_path / "cut").write_bytes(data[:cut])
        with pytest.raises(UserError):
            sections.read(tmp_path / "cut")


def test_a_section_beyond_the_end_is_told(tmp_path: Path, made: Path) -> None:
    data = made.read_bytes()
    field = section_header(data, sections.ROOTFS) + 32
    (tmp_path / "app").write_bytes(patched(data, field, "Q", len(data)))
    assert told(lambda: sections.read(tmp_path / "app")) == (
        f"{tmp_path}/app, section .mystrootfs: lies beyond the end of the file;"
        " the package is truncated: make it again"
    )


@pytest.mark.parametrize("name", sections.MAX_SIZES)
def test_a_section_larger_than_one_of_its_kind_may_be_is_told(tmp_path: Path, made: Path, name: str) -> None:
    data, limit = made.read_bytes(), sections.MAX_SIZES[name]
    path, place = tmp_path / "app", section_header(data, name) + 24  # sh_offset, sh_size
    for size in (limit, limit + 1):
        path.write_bytes(patched(data, place, "QQ", 0, size))
        os.truncate(path, max(len(data), size))
        if size == limit:
            assert sections.read(path).sections[name].size == limit
    problem = f"{path}, section {name}: has {limit + 1:,} bytes, more than {limit:,}; do not use it"
    assert problem in told(lambda: sections.read(path))


def test_a_package_is_made_of_the_parts_with_which_it_would_be_written(tmp_path: Path, made: Path) -> None:
    assert sections.is_made_of(made, PROGRAM, PARTS)
    opened = sections.read(made)
    assert sections.is_made_of(made, PROGRAM, sections.Parts(*map(opened.content, sections.SECTIONS)))
    for name, part in zip(sections.Parts._fields, PARTS, strict=True):
        for other in (b"x" + part.read()[1:], part.read()[:-1] + b"x"):
            assert not sections.is_made_of(made, PROGRAM, PARTS._replace(**{name: Bytes(other)}))
    (tmp_path / "other").write_bytes(PROGRAM.read_bytes().replace(b"\0" * 32, b"\0" * 31 + b"x", 1))
    assert not sections.is_made_of(made, tmp_path / "other", PARTS)


def test_a_link_to_a_package_and_one_with_bytes_behind_it_are_made_of_nothing(
    tmp_path: Path, made: Path
) -> None:
    (tmp_path / "link").symlink_to(made)
    assert not sections.is_made_of(tmp_path / "link", PROGRAM, PARTS)
    (tmp_path / "longer").write_bytes(made.read_bytes() + b"\0")
    assert not sections.is_made_of(tmp_path / "longer", PROGRAM, PARTS)


def test_a_missing_package_is_told(tmp_path: Path) -> None:
    assert "no such file or directory" in told(lambda: sections.read(tmp_path / "app"))


@pytest.mark.parametrize("kind", [1, 7, 8])
def test_a_section_that_is_not_progbits_is_told_as_at_the_start(
    tmp_path: Path, made: Path, kind: int
) -> None:
    data = made.read_bytes()
    field = section_header(data, sections.ROOTFS) + 4
    (tmp_path / "app").write_bytes(patched(data, field, "I", kind))
    if kind == elf.SHT_PROGBITS:
        assert sections.read(tmp_path / "app").sections.keys() == set(sections.SECTIONS)
        return
    assert told(lambda: sections.read(tmp_path / "app")) == (
        f"{tmp_path}/app, section .mystrootfs: is of the type {kind}, not PROGBITS;"
        " do not use it; package it again"
    )


def test_what_is_not_there_or_is_no_regular_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, problem in (
        ("missing", "no such file"),
        ("fifo", "is not a regular file"),
        (".", "is a directory"),
    ):
        with pytest.raises(UserError, match=problem):
            sections.read(tmp_path / name)


def place_of_root(parts: sections.Parts) -> int:
    return next(place for place, piece in sections.pieces(PROGRAM, parts) if piece is parts.rootfs)


def rewritten(
    package: Path, parts: sections.Parts, changed: list[tuple[int, int]], place: int = -1
) -> int | None:
    version = fingerprint.of(package.stat())
    root = place_of_root(parts) if place < 0 else place
    return sections.rewrite(PROGRAM, parts, package, sections.Written(version, root), changed)


def test_a_rewritten_package_is_the_one_that_is_written_anew(tmp_path: Path, made: Path) -> None:
    root = bytearray(BODIES[sections.ROOTFS])
    root[5:8], root[40:41] = b"new", b"!"
    parts = PARTS._replace(rootfs=Bytes(root), enclave=Bytes(BODIES[sections.ENCLAVE][::-1]))
    made.chmod(0o600)
    inode = made.stat().st_ino
    assert rewritten(made, parts, [(5, 3), (40, 1)]) == made.stat().st_size
    sections.write(PROGRAM, parts, tmp_path / "anew")
    assert made.read_bytes() == (tmp_path / "anew").read_bytes()
    assert made.stat().st_mode == (tmp_path / "anew").stat().st_mode
    assert made.stat().st_ino == inode


def test_of_a_root_only_what_changed_is_written(made: Path) -> None:
    before = made.read_bytes()
    assert rewritten(made, PARTS._replace(rootfs=Bytes(bytes(PARTS.rootfs.size))), [])
    assert made.read_bytes() == before


@pytest.mark.parametrize("more", [{"enclave": 9}, {"config": 9}, {"enclave": 9, "config": -9}], ids=str)
def test_a_package_is_not_rewritten_with_parts_of_other_sizes(made: Path, more: dict[str, int]) -> None:
    """Not even where it would stay as large, and only its root move."""
    place, before = place_of_root(PARTS), made.read_bytes()
    others = {name: Bytes(bytes(getattr(PARTS, name).size + size)) for name, size in more.items()}
    assert rewritten(made, PARTS._replace(**others), [], place) is None
    assert made.read_bytes() == before


def test_a_package_that_is_another_one_by_now_is_not_rewritten(made: Path) -> None:
    place, version = place_of_root(PARTS), fingerprint.of(made.stat())
    os.utime(made, ns=(0, 0))
    before = made.read_bytes()
    other = PARTS._replace(config=Bytes(BODIES[sections.CONFIG][::-1]))
    assert sections.rewrite(PROGRAM, other, made, sections.Written(version, place), []) is None
    assert made.read_bytes() == before


def test_a_package_that_is_being_read_is_not_rewritten(made: Path) -> None:
    with made.open("rb"):
        assert rewritten(made, PARTS, []) is None
    assert rewritten(made, PARTS, [])
    assert [path.name for path in made.parent.iterdir()] == ["app"]
