"""Debug information taken out of programs, and the checkout's path found in them."""

from __future__ import annotations

import shutil
import stat
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mystikos_tool.cache.incremental import IncrementalArchives
from mystikos_tool.cache.store import Store
from mystikos_tool.formats import stripping
from mystikos_tool.root import archive, checkout_path
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.stripped import Stripping

needs_compiler = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("strip") and shutil.which("readelf")),
    reason="gcc and binutils are not installed",
)

SOURCE = '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'
KINDS = {
    "dynamic": [],
    "static": ["-static"],
    "library.so": ["-shared", "-fPIC"],
    "with-relocations": ["-Wl,--emit-relocs"],
    "compressed": ["-gz"],
}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the same program in several kinds, each with debug information."""
    directory = tmp_path_factory.mktemp("checkout") / "project"
    directory.mkdir()
    (directory / "hello.c").write_text(SOURCE)
    for name, options in KINDS.items():
        subprocess.run(["gcc", "-g", *options, "-o", name, "hello.c"], cwd=directory, check=True)
    return directory


def strip(data: bytes) -> bytes | str | None:
    plan = stripping.plan(lambda offset, size: data[offset : offset + size], len(data))
    if not isinstance(plan, list):
        return plan
    stripped = b"".join(
        piece
        if isinstance(piece, bytes)
        else bytes(piece)
        if isinstance(piece, int)
        else data[piece[0] : sum(piece)]
        for piece in plan
    )
    assert stripping.size_of(plan) == len(stripped)
    return stripped


def section_names(path: Path) -> list[str]:
    shown = subprocess.run(
        ["readelf", "--wide", "--section-headers", path], capture_output=True, text=True, check=True
    )
    assert shown.stderr == ""
    rows = [line.split("] ")[1].split() for line in shown.stdout.splitlines() if line.startswith("  [")]
    return [row[0] for row in rows if row and row[0] != "Name"]


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_sections_stay_as_of_the_strip_of_binutils(
    programs: Path, tmp_path: Path, kind: str
) -> None:
    stripped = strip((programs / kind).read_bytes())
    assert isinstance(stripped, bytes)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(stripped)
    subprocess.run(["strip", "-o", theirs, programs / kind], check=True)
    assert section_names(ours) == section_names(theirs)
    assert len(stripped) < theirs.stat().st_size + 512  # the names of what is gone
    assert strip(stripped) is None
    if not kind.endswith(".so"):
        ours.chmod(0o755)
        assert subprocess.run([ours], capture_output=True, check=True).stdout == b"hello\n"


@needs_compiler
def test_what_cannot_be_stripped_is_told_or_left_as_it_is(programs: Path, tmp_path: Path) -> None:
    data = (programs / "dynamic").read_bytes()
    assert "data behind its sections" in str(strip(data + b"payload"))
    assert strip(data[:-1]) is None  # its section headers are not all there
    assert strip(b"#!/bin/sh\n" * 20) is None
    relocatable = bytearray(data)
    struct.pack_into("<H", relocatable, 16, 1)
    assert strip(bytes(relocatable)) is None
    for size in (10, 63, 64, 100):
        assert strip(data[:size]) is None


@needs_compiler
def test_what_is_taken_out_before_the_end_of_what_is_loaded_leaves_zeros(
    programs: Path, tmp_path: Path
) -> None:
    data = (programs / "dynamic").read_bytes()
    size, note = len(data), b"a segment behind the sections".ljust(64, b"\0")
    # As patchelf writes: the header of a note that nobody needs is that of a segment at the end.
    at = next(at for at in range(64, 64 + 56 * 20, 56) if struct.unpack_from("<I", data, at)[0] == 0x6474E551)
    moved = bytearray(data + note)
    struct.pack_into("<IIQQQQQQ", moved, at, 4, 4, size, size, size, len(note), len(note), 1)
    stripped = strip(bytes(moved) + b"\0")
    assert isinstance(stripped, bytes)
    assert str(programs).encode() in data
    assert str(programs).encode() not in stripped
    assert stripped[size : size + len(note)] == note
    program = tmp_path / "stripped"
    program.write_bytes(stripped)
    program.chmod(0o755)
    assert not {".debug_info", ".symtab"} & set(section_names(program))
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"hello\n"


@needs_compiler
def test_damaged_headers_end_in_no_exception(programs: Path) -> None:
    data = (programs / "dynamic").read_bytes()
    table = struct.unpack_from("<Q", data, 40)[0]
    for start in (0, table):
        for at in range(start, min(start + 2048, len(data)), 3):
            for value in (0, 0xFF):
                strip(data[:at] + bytes([value]) + data[at + 1 :])


def packed(directory: Path, target: Path, stripper: Stripping | None = None) -> Archive:
    tree = DirectorySource(directory).tree()
    return archive.write(stripper.tree(tree) if stripper else tree, target)


@needs_compiler
def test_only_files_that_match_are_stripped_and_their_modes_stay(programs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(programs, root)
    (root / "payload").write_bytes((root / "dynamic").read_bytes() + b"payload")
    stripper = Stripping(("*.so", "payload", "hello.c"))
    found = packed(root, tmp_path / "archive", stripper)
    assert found.data(found.by_path[b"dynamic"]) == (root / "dynamic").read_bytes()
    assert found.data(found.by_path[b"library.so"]) == strip((root / "library.so").read_bytes())
    assert found.data(found.by_path[b"hello.c"]).decode() == SOURCE
    assert stat.S_IMODE(found.by_path[b"library.so"].mode) == 0o755
    (warning,) = stripper.warnings()
    assert warning.startswith(f"{root}/payload: was not stripped: it has data behind its sections")


@needs_compiler
def test_an_archive_of_stripped_files_is_made_out_of_the_earlier_one(
    programs: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    root, target = tmp_path / "root", tmp_path / "archive"
    shutil.copytree(programs, root)
    for number in range(300):
        (root / f"file{number}").write_text(str(number))
    while DirectorySource(root).is_racy():
        pass
    store = Store(None)

    def pack(stripper: Stripping | None) -> set[str]:
        opened()
        IncrementalArchives(store).pack(DirectorySource(root).tree(), target, stripper)
        return {name for name in opened() if (root / name).exists()}

    assert "dynamic" in pack(Stripping())
    whole = target.read_bytes()
    assert pack(Stripping()) == set()
    assert target.read_bytes() == whole
    (root / "file7").write_text("changed")
    assert pack(Stripping()) == {"file7"}
    assert "dynamic" in pack(None)
    assert target.read_bytes() == packed(root, tmp_path / "anew").content.read()
    assert "dynamic" in pack(Stripping(("dynamic",)))
    assert target.read_bytes() == packed(root, tmp_path / "anew", Stripping(("dynamic",))).content.read()


# The checkout's path


@needs_compiler
def test_the_path_of_the_checkout_is_found_in_debug_information_and_in_what_is_loaded(
    programs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "text").write_text(f"{programs}/hello.c")
    shutil.copy(programs / "dynamic", root / "debug")
    (root / "hello.c").write_text(SOURCE.replace('"hello"', "__FILE__"))
    source = programs / "named.c"
    source.write_text((root / "hello.c").read_text())
    subprocess.run(["gcc", "-o", root / "loaded", source], check=True)
    subprocess.run(
        ["gcc", "-g", f"-ffile-prefix-map={programs}=.", "-o", root / "mapped", source], check=True
    )
    found = checkout_path.found(packed(root, tmp_path / "archive"), (), str(programs))
    assert [(one.path, one.in_debug, one.in_loaded) for one in found] == [
        ("debug", True, False),
        ("loaded", False, True),
    ]
    assert checkout_path.found(packed(root, tmp_path / "archive"), {b"debug", b"loaded"}, str(programs)) == []
    assert checkout_path.found(packed(root, tmp_path / "archive"), (), str(programs)[:-1]) == []
    assert checkout_path.found(packed(root, tmp_path / "archive"), (), "/") == []
    in_debug, in_loaded = checkout_path.told(found, "hello.cpio", str(programs), "strip it")
    assert f"{programs}, is in the debug information of /debug, so that MRENCLAVE" in in_debug
    assert in_debug.endswith(f"; strip it, or compile with -ffile-prefix-map={programs}=.")
    assert "is in the code or data of /loaded" in in_loaded
    stripped = packed(root, tmp_path / "archive", Stripping())
    assert [one.path for one in checkout_path.found(stripped, (), str(programs))] == ["loaded"]


def with_compressed(section: bytes, flags: int, content: bytes) -> bytes:
    """A program with one section of debug information, which is compressed."""
    names = b"\0" + section + b"\0.shstrtab\0"
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, flags, 0, 120, len(content), 0, 0, 1, 0),
        (2 + len(section), 3, 0, 0, 120 + len(content), len(names), 0, 0, 1, 0),
    ]
    at = 120 + len(content) + len(names)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, at, 0, 64, 56, 1, 64, 3, 2)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 120, 120, 1)
    return header + load + content + names + b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)


SHF_COMPRESSED = 0x800


def chdr(kind: int, size: int) -> bytes:
    return struct.pack("<IIQQ", kind, 0, size, 1)


@pytest.mark.parametrize("name", [b".debug_str", b".zdebug_str"])
def test_the_path_of_the_checkout_is_found_in_compressed_debug_information(
    tmp_path: Path, name: bytes
) -> None:
    text = b"x" * 3_000_000 + str(tmp_path).encode() + b"/hello.c\0"
    old = name.startswith(b".z")
    header = b"ZLIB" + len(text).to_bytes(8, "big") if old else chdr(1, len(text))
    data = with_compressed(name, 0 if old else SHF_COMPRESSED, header + zlib.compress(text))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/program").write_bytes(data)
    made = packed(tmp_path / "root", tmp_path / "archive")
    assert checkout_path.found(made, (), str(tmp_path)) == [checkout_path.Found("program", True, False)]
    assert checkout_path.found(made, (), str(tmp_path / "other")) == []


NOT_READ = {
    "another compression": (SHF_COMPRESSED, chdr(2, 1000) + b"(\xb5/\xfd" + bytes(100)),
    "what is damaged": (SHF_COMPRESSED, chdr(1, 1000) + zlib.compress(b"x")[:-6] + b"\xff" * 6),
    "what ends too early": (SHF_COMPRESSED, chdr(1, 1000) + zlib.compress(b"x" * 1000)[:-6]),
    "a header that is cut off": (SHF_COMPRESSED, chdr(1, 1000)[:20]),
    "the old form without its size": (0, b"ZLIB"),
    "what grows without end": (SHF_COMPRESSED, chdr(1, 1000) + zlib.compress(bytes(20_000_000))),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_compressed_debug_information_that_is_not_looked_into_is_told(tmp_path: Path, case: str) -> None:
    flags, content = NOT_READ[case]
    (tmp_path / "root").mkdir()
    name = b".debug_str" if flags else b".zdebug_str"
    (tmp_path / "root/program").write_bytes(with_compressed(name, flags, content))
    found = checkout_path.found(packed(tmp_path / "root", tmp_path / "archive"), (), str(tmp_path))
    (told,) = checkout_path.told(found, "hello.cpio", str(tmp_path), "strip it")
    assert "the debug information of /program is compressed and was not looked into" in told
    assert f"; strip it, or compile with -ffile-prefix-map={tmp_path}=." in told


@needs_compiler
def test_the_path_of_the_checkout_is_found_in_what_a_compiler_compressed(
    tmp_path: Path,
) -> None:
    checkout = tmp_path / ("long-" * 40)  # a section that compressing makes no smaller stays as it is
    for directory in (checkout, tmp_path / "root"):
        directory.mkdir()
    (checkout / "hello.c").write_text(SOURCE)
    program = tmp_path / "root" / "compressed"
    subprocess.run(["gcc", "-g", "-gz", "-o", program, "hello.c"], cwd=checkout, check=True)
    assert bytes(checkout) not in program.read_bytes()
    found = checkout_path.found(packed(tmp_path / "root", tmp_path / "archive"), (), str(checkout))
    assert found == [checkout_path.Found("compressed", True, False)]


@needs_compiler
def test_a_path_across_two_pieces_that_are_read_is_found(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(programs / "dynamic", root / "debug")
    made = packed(root, tmp_path / "archive")
    for size in (1, 7, 100, 4096):
        monkeypatch.setattr(checkout_path, "_CHUNK", size)
        assert [one.path for one in checkout_path.found(made, (), str(programs))] == ["debug"], size
