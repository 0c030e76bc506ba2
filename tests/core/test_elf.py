from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import model
import pytest
import tiny_elf
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_cases import DATA
from tiny_elf import Load, Placed, R, Tls, W, X, build, patched, section_header, with_sections

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.io.content import FileContent

PROGRAM = (DATA / "program").read_bytes()
FILES = {
    "program": PROGRAM,
    "mystenc.so": (DATA / "rt-b/lib/openenclave/mystenc.so").read_bytes(),
    "libmystkernel.so": (DATA / "rt-a/lib/libmystkernel.so").read_bytes(),
    "tiny": build(),
}


def told(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


def told_parsing(data: bytes) -> str:
    return told(lambda: elf.Image(data, "file"))


# Appending sections


@pytest.mark.skipif(not shutil.which("objcopy"), reason="needs objcopy")
@pytest.mark.parametrize("name", FILES)
def test_objcopy_reads_back_the_sections_that_were_appended(tmp_path: Path, name: str) -> None:
    added = {".one": b"first body", ".mystpubkeys": b"", ".two": bytes(range(256)) * 33}
    (tmp_path / "file").write_bytes(with_sections(FILES[name], *added.items()))
    for section, body in added.items():
        if not body:  # objcopy writes no file for an empty section
            continue
        target = tmp_path / "dump"
        command = ["objcopy", f"--dump-section={section}={target}", str(tmp_path / "file"), "/dev/null"]
        subprocess.run(command, check=True)
        assert target.read_bytes() == body


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
@pytest.mark.parametrize("name", FILES)
def test_readelf_finds_the_appended_sections_and_nothing_wrong(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(with_sections(FILES[name], (".one", b"12345"), (".two", b"")))
    command = ["readelf", "-SW", str(tmp_path / "file")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"LC_ALL": "C"})
    rows = [line.split("]", 1)[1].split() for line in done.stdout.splitlines() if "] ." in line]
    by_name = {row[0]: row[1:] for row in rows}
    assert (by_name[".one"][0], int(by_name[".one"][3], 16)) == ("PROGBITS", 5)
    assert (by_name[".two"][0], int(by_name[".two"][3], 16)) == ("PROGBITS", 0)
    assert done.stderr == ""


def test_a_program_with_sections_still_runs(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(with_sections(PROGRAM, (".one", b"x" * 12345)))
    path.chmod(0o755)
    assert subprocess.run([str(path)], check=False).returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_no_segment_moves(name: str) -> None:
    before = elf.Image(FILES[name], name)
    after = elf.Image(with_sections(FILES[name], (".one", b"x" * 999)), name)
    assert after.loads == before.loads
    for load in after.loads[1:]:
        end = load.offset + load.file_size
        assert after.data[load.offset : end] == before.data[load.offset : end]


SECTION_NAMES = st.from_regex(r"\.[a-z][a-z0-9_.-]{0,140}", fullmatch=True).filter(
    lambda name: name != ".symtab"
)


@settings(max_examples=examples(30), deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(SECTION_NAMES, st.binary(max_size=200)), max_size=5, unique_by=lambda row: row[0]),
)
def test_sections_are_appended_as_by_one_insertion_after_the_other(
    name: str, added: list[tuple[str, bytes]]
) -> None:
    expected = FILES[name]
    present = {section.name for section in elf.Image(expected, name).section_list}
    added = [row for row in added if row[0] not in present]
    for section, body in added:
        expected = model.append_section(expected, section, body)
    assert with_sections(FILES[name], *added) == expected


def test_a_name_is_padded_to_whole_units_of_64_bytes() -> None:
    before = elf.Image(PROGRAM, "program").section(".shstrtab").size
    for length, padded in ((2, 64), (63, 64), (64, 128), (127, 128), (128, 192)):
        name = ".".ljust(length, "n")
        after = elf.Image(with_sections(PROGRAM, (name, b"")), "program").section(".shstrtab")
        assert after.size == before + padded


def test_a_section_that_is_there_already_is_told() -> None:
    once = with_sections(PROGRAM, (".mystenc", b"x"))
    problem = told(lambda: with_sections(once, (".mystenc", b"x")))
    assert (
        problem == "file: has a section .mystenc already; give the file as the runtime has it, not a package"
    )


def test_a_file_without_section_names_is_told() -> None:
    assert "has no .shstrtab" in told(lambda: with_sections(patched(PROGRAM, 62, "H", 0), (".one", b"")))


def test_section_headers_that_are_not_at_the_end_are_told() -> None:
    assert "section headers are not at its end" in told(lambda: with_sections(PROGRAM + b"\0", (".one", b"")))


def test_a_segment_behind_the_section_names_is_told() -> None:
    file = build((Load(0x2000, b"x"),))
    offset = elf.Image(file, "file").section(".shstrtab").offset
    moved = patched(file, 64 + 56 + 8, "Q", offset)  # p_offset of the second PT_LOAD
    assert "has a PT_LOAD behind its .shstrtab" in told(lambda: with_sections(moved, (".one", b"")))


@pytest.mark.parametrize(
    ("offset", "size"), [(0x3F, 0), (0, 1)], ids=["in the header", "in the section headers"]
)
def test_section_names_that_begin_or_end_among_headers_are_told(offset: int, size: int) -> None:
    names = elf.Image(PROGRAM, "file").section(".shstrtab")
    place = section_header(PROGRAM, ".shstrtab") + 24  # sh_offset, sh_size
    room = elf.Image(PROGRAM, "file").sections_offset - names.offset
    damaged = patched(PROGRAM, place, "QQ", offset or names.offset, room + size if size else names.size)
    assert "is a damaged ELF file" in told(lambda: with_sections(damaged, (".one", b"")))


def test_a_file_has_fewer_sections_than_the_reserved_numbers_begin_at() -> None:
    present = len(elf.Image(PROGRAM, "file").section_list)
    data = patched(PROGRAM + bytes((0xFEFE - present) * elf.SHDR.size), 60, "H", 0xFEFE)
    assert with_sections(data, (".one", b""))
    assert "has too many sections" in told(lambda: with_sections(data, (".one", b""), (".two", b"")))


# Reading


@pytest.mark.parametrize("name", [*FILES, "enclave"])
def test_everything_is_read_as_pyelftools_reads_it(name: str) -> None:
    data = FILES.get(name) or complete()
    image, expected = elf.Image(data, name), ELFFile(io.BytesIO(data))
    assert (image.entry, image.sections_offset) == (expected["e_entry"], expected["e_shoff"])
    fields = ("sh_addr", "sh_offset", "sh_size", "sh_link", "sh_addralign", "sh_entsize")
    assert [
        (s.name, s.address, s.offset, s.size, s.link, s.align, s.entry_size) for s in image.section_list
    ] == [(s.name, *(s[field] for field in fields)) for s in expected.iter_sections()]
    assert [s.nobits for s in image.section_list] == [
        s["sh_type"] == "SHT_NOBITS" for s in expected.iter_sections()
    ]
    fields = ("p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
    loads = [tuple(s[field] for field in fields) for s in expected.iter_segments("PT_LOAD")]
    assert [load[1:] for load in image.loads] == loads
    tls = [tuple(s[field] for field in fields) for s in expected.iter_segments("PT_TLS")]
    assert [segment[1:] for segment in [image.tls] if segment] == tls
    symbols, dynamic = (expected.get_section_by_name(section) for section in (".dynsym", ".dynamic"))
    assert image.dynamic_symbols == tuple((s.name, s["st_value"]) for s in symbols.iter_symbols())
    if dynamic:
        tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
        known = {"DT_NEEDED": elf.DT_NEEDED, "DT_RPATH": elf.DT_RPATH, "DT_RUNPATH": elf.DT_RUNPATH}
        assert {name for name, tag in known.items() if tag in image.dynamic_tags} == tags & known.keys()


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"#!/bin/sh\n", bytes(4096), b"MZ" + bytes(100)])
def test_what_is_no_elf_file_is_told(data: bytes) -> None:
    assert told_parsing(data) == "file: is not an ELF file; give an x86-64 ELF file"


@pytest.mark.parametrize(
    ("offset", "value", "machine"),
    [(18, struct.pack("<H", 183), "EM_AARCH64"), (18, struct.pack("<H", 243), "EM_RISCV")],
)
def test_a_file_for_another_machine_is_told(offset: int, value: bytes, machine: str) -> None:
    problem = told_parsing(PROGRAM[:offset] + value + PROGRAM[offset + len(value) :])
    assert problem == (f"file: is an ELF file for {machine}, not 64-bit x86-64; give one built for x86-64")


def test_a_32_bit_file_is_told() -> None:
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, *[0] * 10)
    assert "is an ELF file for EM_386, not 64-bit x86-64" in told_parsing(header.ljust(4096, b"\0"))


def test_a_big_endian_file_is_told() -> None:
    header = b"\x7fELF\x02\x02\x01".ljust(16, b"\0") + struct.pack(">HHIQQQIHHHHHH", 2, 22, 1, *[0] * 10)
    assert "not 64-bit x86-64" in told_parsing(header.ljust(4096, b"\0"))


@pytest.mark.parametrize("name", ["program", "mystenc.so", "tiny"])
def test_a_file_cut_anywhere_is_told(name: str) -> None:
    data = FILES[name]
    cuts = {*range(0, 600), *range(600, len(data), 97), *range(len(data) - 600, len(data))}
    for cut in sorted(cuts):
        with pytest.raises(UserError):
            elf.Image(data[:cut], name)


@pytest.mark.parametrize("field", [52, 54, 58], ids=["e_ehsize", "e_phentsize", "e_shentsize"])
def test_headers_of_other_sizes_are_told(field: int) -> None:
    size = struct.unpack_from("<H", PROGRAM, field)[0]
    assert "is a damaged ELF file" in told_parsing(patched(PROGRAM, field, "H", size + 8))


def test_a_file_without_segments_needs_no_size_of_their_headers() -> None:
    assert elf.Image(patched(PROGRAM, 54, "HH", 0, 0), "file").loads == []


def test_a_file_without_section_headers_has_no_sections() -> None:
    assert elf.Image(patched(PROGRAM, 60, "HH", 0, 0), "file").section_list == []


def test_a_section_name_without_end_is_told() -> None:
    field = section_header(PROGRAM, ".shstrtab") + 32  # sh_size
    size = struct.unpack_from("<Q", PROGRAM, field)[0]
    assert "is a damaged ELF file" in told_parsing(patched(PROGRAM, field, "Q", size - 1))


def test_without_a_table_of_them_there_are_no_dynamic_symbols() -> None:
    assert elf.Image(build().replace(b".dynsym\0", b".dynsyx\0"), "file").dynamic_symbols == ()


@pytest.mark.parametrize(
    ("field", "form", "value", "problem"),
    [
        (4, "I", 2, ".dynsym is no symbol table"),  # sh_type
        (32, "Q", 25, ".dynsym is no symbol table"),  # sh_size
        (56, "Q", 25, ".dynsym is no symbol table"),  # sh_entsize
        (40, "I", 99, "is a damaged ELF file"),  # sh_link
    ],
)
def test_dynamic_symbols_that_are_none_are_told(field: int, form: str, value: int, problem: str) -> None:
    file = build(symbols=(("a", 1),))
    image = elf.Image(patched(file, section_header(file, ".dynsym") + field, form, value), "file")
    assert problem in told(lambda: image.dynamic_symbols)


def test_a_section_beyond_the_end_is_told_by_name() -> None:
    file = build()
    damaged = patched(file, section_header(file, ".strtab") + 32, "Q", 1 << 40)
    assert told_parsing(damaged) == (
        "file, section .strtab: lies beyond the end of the file;"
        " the file is truncated: build or install it again"
    )


def test_a_segment_beyond_the_end_is_told() -> None:
    damaged = patched(build(), 64 + 32, "QQ", 1 << 30, 1 << 30)  # p_filesz, p_memsz
    assert "file, PT_LOAD 0: lies beyond the end of the file" in told_parsing(damaged)


def test_two_sections_of_a_name_are_told_when_it_matters_which() -> None:
    twice = build().replace(b".dynstr\0", b".dynsym\0")
    image = elf.Image(twice, "file")
    assert image.find_section(".strtab")
    assert told(lambda: image.section(".dynsym")).startswith("file: has the section .dynsym 2 times")


def test_sections_of_a_file_are_read_without_the_rest_of_it(tmp_path: Path) -> None:
    data = with_sections(PROGRAM, (".one", b"x" * 10))
    (tmp_path / "file").write_bytes(data)
    assert (
        elf.read_sections(FileContent.of(tmp_path / "file"), "file") == elf.Image(data, "file").section_list
    )


def complete() -> bytes:
    """A tiny image with everything in it that is read."""
    return tiny_elf.enclave(
        tiny_elf.oeinfo(),
        (Load(0x5000, bytes(64), flags=R | X),),
        (Placed(".tdata", 0x5000, 40, 8), Placed(".tbss", 0x5028, 10, 4, nobits=True)),
        rela_dyn=((0x2000, 8, 0, 1), (0x2008, 18, 3, 1)),
        rela_plt=((0x2000, 7, 1, 0),),
        dynamic=((5, 0x100), (6, 0x100)),
        tls=Tls(0x5000, 40, 50, 64),
    )


def use(data: bytes) -> None:
    """Do with an image all that is done with one."""
    image = elf.Image(data, "file")
    elf.check_loadable(image)
    if image.size < 16 << 20:  # the checks allow more than a test should take
        for segment in image.loads:
            elf.loaded(image, segment)
    elf.relocations(image, (".rela.dyn", ".rela.plt"), frozenset(range(40)))
    _ = image.dynamic_symbols, image.tls_size
    elf.with_sections(image, [(".one", 1)])


COMPLETE = complete()
HEADERS = [
    *range(elf.Image(COMPLETE, "file").section(".dynsym").offset),
    *range(struct.unpack_from("<Q", COMPLETE, 40)[0], len(COMPLETE)),
]


def test_of_the_complete_image_everything_is_read() -> None:
    use(COMPLETE)
    image = elf.Image(COMPLETE, "file")
    assert len(image.dynamic_symbols) > 3
    assert image.tls_size == 4096
    assert len(elf.relocations(image, (".rela.dyn", ".rela.plt"), frozenset({7, 8, 18}))) == 4096


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_a_damaged_header_gives_a_usererror_or_nothing(data: st.DataObject) -> None:
    damaged = bytearray(COMPLETE)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.sampled_from(HEADERS))] = data.draw(st.integers(0, 255))
    try:
        use(bytes(damaged))
    except UserError as error:
        assert str(error).startswith("file")


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_anywhere_gives_a_usererror_or_nothing(data: st.DataObject) -> None:
    damaged = bytearray(COMPLETE)
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(damaged) - 8))
        damaged[place : place + 8] = data.draw(st.binary(min_size=8, max_size=8))
    try:
        use(bytes(damaged))
    except UserError as error:
        assert str(error).startswith("file")


# What can be laid out


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (patched(build(), 64 + 16, "Q", 0x1000), "first PT_LOAD does not start at address 0"),
        (patched(build(), 64, "I", 4), "first PT_LOAD does not start at address 0"),
        (patched(build(), 64 + 32, "QQ", 0, 0), "PT_LOADs are empty"),
        (build((Load(0x2000, b"x" * 0x1001), Load(0x3800, b"x"))), "PT_LOADs overlap in the page at 0x3800"),
        (build((Load(0x2000, memory_size=(1 << 30) - 0x1FFF),)), "PT_LOADs span more than 1 GiB"),
        (build((Load(0x2000, bytes(64)),), tls=Tls(0x2000, 8, 8)), "PT_TLS and .tdata differ in size"),
        (
            build((Load(0x2000, bytes(64)),), (Placed(".tdata", 0x2008, 8),), tls=Tls(0x2000, 8, 8)),
            "PT_TLS and .tdata differ in address",
        ),
    ],
)
def test_an_image_that_cannot_be_laid_out_is_told(image: bytes, problem: str) -> None:
    assert problem in told(lambda: elf.check_loadable(elf.Image(image, "file")))


def test_thread_data_need_no_segment() -> None:
    file = build((Load(0x2000, bytes(64)),), (Placed(".tdata", 0x2000, 8),))
    elf.check_loadable(elf.Image(file, "file"))


def test_an_image_may_fill_its_pages_and_a_gib_to_the_last_byte() -> None:
    elf.check_loadable(elf.Image(build((Load(0x2000, memory_size=(1 << 30) - 0x2000),)), "file"))
    image = elf.Image(build((Load(0x2000, b"x" * 0x1000, flags=R | W), Load(0x3000, b"x"))), "file")
    elf.check_loadable(image)
    assert image.size == 0x4000


def test_what_a_segment_has_in_memory_is_made_once_and_kept_as_it_is() -> None:
    image = elf.Image(build((Load(0x2800, b"x" * 16),)), "file")
    segment = image.loads[1]
    whole = elf.loaded(image, segment, [(0x1FF8, bytes(8)), (0x3000, b"y")])
    assert whole == bytes(0x800) + b"x" * 16
    assert elf.loaded(image, segment, [(0x1FFC, b"a" * 8), (0x2808, b"b" * 16)]) == (
        b"aaaa" + bytes(0x7FC) + b"x" * 8 + b"b" * 16
    )
    assert elf.loaded(image, segment, [(0x2FFC, b"c" * 8)])[0x810:] == bytes(0x7EC) + b"cccc"
    assert elf.loaded(image, segment) is whole


# Relocations

TPOFF64 = 18


def relocations(rows: tiny_elf.Relocations, accepted: tuple[int, ...] = (8, TPOFF64)) -> bytes:
    image = elf.Image(build(symbols=(("a", 0x111), ("b", 0x222)), rela_dyn=rows), "file")
    return elf.relocations(image, (".rela.dyn",), frozenset(accepted))


def test_a_tpoff64_gets_its_symbol_s_value_and_other_entries_stay() -> None:
    data = relocations(((0x10, TPOFF64, 2, 5), (0x18, 8, 0, -6)))
    assert data[:48] == struct.pack("<QQqQQq", 0x10, 2 << 32 | TPOFF64, 0x222, 0x18, 8, -6)
    assert data[48:] == bytes(4096 - 48)


def test_an_unsupported_type_is_told_with_its_number() -> None:
    assert told(lambda: relocations(((0x10, 8, 0, 0), (0x18, 37, 0, 0)))) == (
        "file, section .rela.dyn: relocation 1 has type 37, which an enclave cannot apply;"
        " compile the image as position-independent code (-fPIE) with hidden symbols"
    )


def test_a_tpoff64_of_a_symbol_that_is_not_there_is_told() -> None:
    assert "relocation 0 names symbol 3, which is not there" in told(
        lambda: relocations(((0x10, TPOFF64, 3, 0),))
    )


@pytest.mark.parametrize(("field", "value"), [(32, 23), (56, 16)], ids=["sh_size", "sh_entsize"])
def test_a_table_of_other_entries_is_told(field: int, value: int) -> None:
    file = build(rela_dyn=((0x10, 8, 0, 0),))
    damaged = patched(file, section_header(file, ".rela.dyn") + field, "Q", value)
    image = elf.Image(damaged, "file")
    assert "is not a table of RELA entries" in told(
        lambda: elf.relocations(image, (".rela.dyn",), frozenset({8}))
    )
