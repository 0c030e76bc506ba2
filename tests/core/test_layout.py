from __future__ import annotations

import struct
from dataclasses import replace

import pytest
import tiny_elf
from reference_cases import CASES
from tiny_elf import Load, Placed, R, Tls, W, X, build, oeinfo
from tiny_enclave import TinyEnclave, pages

from mystikos_tool import pipeline
from mystikos_tool.config import Config
from mystikos_tool.enclave import layout
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.root.root import ArchiveRoot

P = 4096
RO, RW, RWX, REG, TCS = 0x201, 0x203, 0x207, 0x200, 0x100
RELATIVE = 8

REGIONS = (
    "kernel",
    "kernel.reloc",
    "kernel.symtab",
    "kernel.dynsym",
    "kernel.strtab",
    "kernel.dynstr",
    "crt",
    "crt.reloc",
    "rootfs",
    "fdmappings",
    "pubkeys",
    "roothashes",
    "mman",
    "config",
    "kernel.enter.stack",
    "mman.pids",
)


def recorded(name: str) -> layout.Layout:
    inputs = CASES[name].inputs
    runtime, config = inputs.runtime, inputs.config
    return layout.lay_out(
        layout.Parts(
            pipeline.prepare(runtime, config),
            elf.Image(runtime.kernel.read_bytes(), "kernel"),
            elf.Image(runtime.crt.read_bytes(), "crt"),
            inputs.root.content(),
            inputs.pubkeys_content(),
            inputs.roothashes_content(),
            config.data,
            config.memory_size,
        )
    )


def told(enclave: TinyEnclave) -> str:
    with pytest.raises(UserError) as error:
        enclave.laid_out()
    return str(error.value)


def region(enclave: TinyEnclave, name: str) -> tuple[layout.Region, bytes]:
    """A region and the content of its pages."""
    laid_out = enclave.laid_out()
    found = next(region for region in laid_out.regions if region.name == name)
    within = [page for page in pages(laid_out) if found.offset <= page.offset < found.offset + found.size]
    return found, b"".join(page.content for page in within)


# A layout computed by hand. The image has three pages, of which the middle one is a gap.

RELA = ((0x2000, RELATIVE, 0, 0),)
SMALL = TinyEnclave(
    image=tiny_elf.enclave(oeinfo(heap_pages=2, stack_pages=2), rela_dyn=RELA),
    rootfs=b"\x11" * 5000,
    roothashes=b"\x22" * 32,
)
SMALL_PAGES = [
    *[(0, RO, True), (2, RW, True)],  # image
    (3, RO, True),  # relocations
    *[(4, RO, True), (5, RO, True)],  # kernel and its trailer
    (6, RO, True),  # kernel.reloc: nothing but the trailer
    *[(page, RO, True) for page in range(7, 15)],  # symtab, dynsym, strtab, dynstr: a page and a trailer each
    *[(15, RO, True), (16, RO, True)],  # crt
    (17, RO, True),  # crt.reloc
    *[(18, RO, True), (19, RO, True), (20, RO, True)],  # rootfs
    *[(21, RW, True), (22, RO, True)],  # fdmappings
    (23, RO, True),  # pubkeys
    *[(24, RO, True), (25, RO, True)],  # roothashes
    *[(26, REG, True), (27, RWX, False), (28, RWX, False), (29, REG, True), (30, RO, True)],  # mman
    *[(31, RO, True), (32, RO, True)],  # config
    *[(33, REG, True), *((page, RW, False) for page in range(34, 65)), (65, RO, True)],  # kernel.enter.stack
    *[(66, RW, True), (67, RO, True)],  # mman.pids
    *[(68, RW, False), (69, RW, False)],  # heap
    *[
        (71, RW, True),
        (72, RW, True),
        (74, TCS, True),
        (75, RW, True),
        (76, RW, True),
        (78, RW, True),
    ],  # thread
]


def test_a_small_enclave_has_the_pages_that_one_computes_by_hand() -> None:
    laid_out = SMALL.laid_out()
    assert [(page.offset // P, page.flags, page.measured) for page in pages(laid_out)] == SMALL_PAGES
    assert (laid_out.image_size, laid_out.heap_rva) == (3 * P, 68 * P)
    assert (laid_out.loaded_size, laid_out.enclave_size, laid_out.size) == (79 * P, 128 * P, 128 * P)


def test_each_region_is_followed_by_its_trailer() -> None:
    laid_out = SMALL.laid_out()
    by_offset = {page.offset: page for page in pages(laid_out)}
    assert tuple(region.name for region in laid_out.regions) == REGIONS
    for index, found in enumerate(laid_out.regions):
        trailer = by_offset[found.offset + found.size].content
        magic, name, size, file_size, number = struct.unpack_from("<Q256sQQQ", trailer)
        assert magic == 0x1C8093CA739F4E61
        assert name.rstrip(b"\0").decode() == found.name
        assert (size, file_size, number) == (found.size, found.file_size, index)
        assert not any(trailer[8 + 256 + 24 :])


def test_region_sizes_count_whole_pages_and_file_sizes_the_data() -> None:
    sizes = {region.name: (region.size, region.file_size) for region in SMALL.laid_out().regions}
    assert sizes["kernel"] == (P, P)
    assert sizes["kernel.strtab"] == (P, P)
    assert sizes["rootfs"] == (2 * P, 5000)
    assert sizes["fdmappings"] == (P, 2 * 32)
    assert sizes["mman.pids"] == (P, 2 * 4)
    assert sizes["pubkeys"] == (0, 0)
    assert sizes["roothashes"] == (P, 32)
    assert sizes["mman"] == (4 * P, 4 * P)
    assert sizes["kernel.enter.stack"] == (32 * P, 32 * P)


def test_stack_pages_hold_0xcc_and_all_other_writable_pages_zeros() -> None:
    writable = {page.offset // P: page.content for page in pages(SMALL.laid_out()) if page.flags == RW}
    del writable[2]  # the image's own data
    stack = {71, 72}
    assert writable == {number: (b"\xcc" if number in stack else b"\0") * P for number in writable}
    assert stack < writable.keys()


def test_the_tcs_names_its_ssa_the_entry_point_and_the_segments() -> None:
    tcs = next(page for page in pages(SMALL.laid_out()) if page.flags == TCS)
    segment = 74 * P + 4 * P
    fields = (0, 0, 75 * P, 0, 2, 0x1000, 0, segment, segment, 0xFFFFFFFF, 0xFFFFFFFF)
    assert tcs.content == struct.pack("<QQQIIQQQQII", *fields).ljust(P, b"\0")


def test_a_zero_base_moves_every_page_and_address_by_the_start_address() -> None:
    start = 0x100000000
    config = SMALL.config._replace(create_zero_base_enclave=True, enclave_start_address=start)
    moved = replace(SMALL, config=config).laid_out()
    assert [page.offset - start for page in pages(moved)] == [number * P for number, *_ in SMALL_PAGES]
    assert (moved.base, moved.size, moved.enclave_size) == (start, 2 * start, 128 * P)
    tcs = next(page for page in pages(moved) if page.flags == TCS)
    _, _, ossa, _, _, entry, _, fs, gs = struct.unpack_from("<QQQIIQQQQ", tcs.content)
    assert (ossa, entry) == (start + 75 * P, start + 0x1000)
    assert fs == gs == start + 78 * P


@pytest.mark.parametrize("start", [P, 0x7FF000, 1 << 33, (1 << 46) - P, (1 << 47) - 79 * P])
def test_a_zero_base_enclave_reaches_from_0_to_the_next_power_of_two(start: int) -> None:
    config = SMALL.config._replace(create_zero_base_enclave=True, enclave_start_address=start)
    laid_out = replace(SMALL, config=config).laid_out()
    assert laid_out.size // 2 < start + laid_out.loaded_size <= laid_out.size
    assert laid_out.size & (laid_out.size - 1) == 0
    assert laid_out.enclave_size == 128 * P


def test_a_runtime_made_for_a_zero_base_has_one_unless_the_configuration_says_no() -> None:
    record = oeinfo(flags=3, start_address=0x200000000)
    made_for_it = TinyEnclave(image=tiny_elf.enclave(record))
    assert made_for_it.laid_out().base == 0x100000000
    refused = made_for_it.config._replace(create_zero_base_enclave=False)
    assert replace(made_for_it, config=refused).laid_out().base == 0


# What holds for every layout


@pytest.mark.parametrize("name", ["a-debug", "b-release", "b-zero-base", "a-floating-base", "a-ext2"])
def test_pages_come_in_order_without_overlap(name: str) -> None:
    laid_out = recorded(name)
    end = laid_out.base
    for run in laid_out.runs:
        assert run.offset >= end
        assert run.offset % P == 0
        assert run.content.size <= run.pages * P
        end = run.offset + run.pages * P
    assert end == laid_out.base + laid_out.loaded_size
    assert end <= laid_out.size


@pytest.mark.parametrize(("name", "tls_pages"), [("a-debug", 0), ("b-release", 2), ("b-zero-base", 2)])
def test_one_page_is_left_out_in_front_of_each_part_of_a_thread(name: str, tls_pages: int) -> None:
    laid_out = recorded(name)
    threads = [run for run in laid_out.runs if run.offset >= laid_out.base + laid_out.heap_rva][1:]
    end = laid_out.base + laid_out.loaded_size
    for stack, tcs, ssa, tls in zip(*(iter(threads),) * 4, strict=True):
        assert (stack.pages, tcs.pages, ssa.pages, tls.pages) == (2, 1, 2, tls_pages + 1)
        assert tcs.offset == stack.offset + (2 + 1) * P
        assert ssa.offset == tcs.offset + P
        assert tls.offset == ssa.offset + (2 + 1) * P
    assert len(threads) == 4 * 1024
    assert threads[-1].offset + threads[-1].pages * P == end


@pytest.mark.parametrize("name", ["a-trusted-disks", "b-zero-base", "a-ext2"])
def test_the_regions_are_found_from_the_heap_backwards(name: str) -> None:
    """As the enclave does it: it knows where the heap begins, and in front of it lies a trailer."""
    case = CASES[name]
    laid_out = recorded(name)
    by_offset = {
        page.offset - laid_out.base: page.content
        for page in pages(laid_out._replace(stream=laid_out.stream[:-1]))
    }
    found: dict[str, bytes] = {}
    end = laid_out.heap_rva
    for index in reversed(range(len(REGIONS))):
        magic, raw, size, file_size, number = struct.unpack_from("<Q256sQQQ", by_offset[end - P])
        assert (magic, number, raw.rstrip(b"\0").decode()) == (0x1C8093CA739F4E61, index, REGIONS[index])
        start = end - P - size
        zeros = bytes(P)
        if size < 1 << 20:
            content = b"".join(by_offset.get(offset, zeros) for offset in range(start, end - P, P))
            found[REGIONS[index]] = content[:file_size]
        end = start
    assert end == laid_out.regions[0].offset
    inputs = case.inputs
    assert found["rootfs"] == inputs.root.content().read()
    assert found["config"] == inputs.config.data
    assert found["pubkeys"] == b"".join(path.read_bytes() + b"\0" for path in case.pubkeys)
    assert found["roothashes"] == b"".join(bytes.fromhex(path.read_text()) for path in case.roothashes)


@pytest.mark.parametrize("memory_pages", [1, 127, 128, 129, 1023, 1025])
def test_the_tables_of_memory_pages_have_an_entry_each(memory_pages: int) -> None:
    config = SMALL.config._replace(memory_size=memory_pages * P)
    laid_out = replace(SMALL, config=config).laid_out()
    sizes = {region.name: (region.size, region.file_size) for region in laid_out.regions}
    assert sizes["mman"][0] == (memory_pages + 2) * P
    assert sizes["fdmappings"] == (-(-memory_pages * 32 // P) * P, memory_pages * 32)
    assert sizes["mman.pids"] == (-(-memory_pages * 4 // P) * P, memory_pages * 4)


def test_a_large_memory_takes_no_memory_to_lay_out() -> None:
    laid_out = replace(SMALL, config=SMALL.config._replace(memory_size=1 << 40)).laid_out()
    assert len(laid_out.stream) < 100
    assert laid_out.size == 1 << 41


def test_what_is_empty_adds_no_run() -> None:
    image, kernel = tiny_elf.enclave(oeinfo(heap_pages=0)), build((Load(0x9000, memory_size=0),))
    assert all(run.pages for run in TinyEnclave(image=image, kernel=kernel, rootfs=b"").laid_out().runs)


def test_an_empty_root_is_only_a_trailer() -> None:
    found, content = region(replace(SMALL, rootfs=b""), "rootfs")
    assert (found.size, found.file_size, content) == (0, 0, b"")


def test_many_public_keys_lie_one_after_the_other() -> None:
    keys = b"".join(b"key %d" % number + b"\0" for number in range(2000))
    found, content = region(replace(SMALL, pubkeys=keys), "pubkeys")
    assert (found.file_size, content[: len(keys)]) == (len(keys), keys)
    assert not any(content[len(keys) :])


def test_content_of_a_file_is_laid_out_like_bytes() -> None:
    root = CASES["a-debug"].inputs.root
    assert isinstance(root, ArchiveRoot)
    parts = replace(SMALL, rootfs=root.path.read_bytes()).parts()
    from_file = layout.lay_out(parts._replace(rootfs=root.content()))
    assert pages(from_file) == pages(layout.lay_out(parts))


# Images


def test_pages_that_no_segment_touches_are_not_added_but_keep_their_place() -> None:
    kernel = build((Load(0x3800, b"\x55" * 0x900, flags=R | X), Load(0x8000, memory_size=1, flags=R | W)))
    laid_out = replace(SMALL, kernel=kernel).laid_out()
    start = laid_out.regions[0].offset
    assert laid_out.regions[0].size == 9 * P
    added = [
        ((page.offset - start) // P, page.flags)
        for page in pages(laid_out)
        if start <= page.offset < start + 9 * P
    ]
    assert added == [(0, RO), (3, 0x205), (4, 0x205), (8, RW)]


def test_a_segment_s_pages_hold_its_data_and_zeros_around_it() -> None:
    kernel = build((Load(0x3800, b"\x55" * 0x900, memory_size=0x1900),))
    _, content = region(replace(SMALL, kernel=kernel), "kernel")
    first = len(content) - 3 * P
    assert content[first:] == bytes(0x800) + b"\x55" * 0x900 + bytes(0x1F00)


def test_symtab_takes_what_follows_it_in_the_file_up_to_a_whole_page() -> None:
    kernel = build(symtab_size=48, strtab=b"\0abc\0", behind_strtab=b"\x77" * 5000)
    found, content = region(replace(SMALL, kernel=kernel), "kernel.symtab")
    section = elf.Image(kernel, "kernel").section(".symtab")
    assert (found.size, found.file_size) == (P, P)
    assert content == kernel[section.offset : section.offset + P]
    assert b"\0abc\0" + b"\x77" * 100 in content


def test_symtab_at_the_end_of_the_file_is_followed_by_zeros() -> None:
    kernel = build(symtab_size=24)
    _, content = region(replace(SMALL, kernel=kernel), "kernel.symtab")
    rest = kernel[elf.Image(kernel, "kernel").section(".symtab").offset :]
    assert len(rest) < P
    assert content == rest.ljust(P, b"\0")


def test_strtab_is_padded_with_zeros() -> None:
    kernel = build(strtab=b"\0abc\0", behind_strtab=b"\x77" * 5000)
    _, content = region(replace(SMALL, kernel=kernel), "kernel.strtab")
    assert content == b"\0abc\0".ljust(P, b"\0")


@pytest.mark.parametrize("name", [".text", ".symtab", ".dynsym", ".strtab", ".dynstr"])
@pytest.mark.parametrize("part", ["kernel", "crt"])
def test_a_kernel_or_c_runtime_without_its_sections_is_told(part: str, name: str) -> None:
    file = build().replace(name.encode() + b"\0", name.encode()[:-1] + b"x\0")
    enclave = replace(SMALL, **{part: file})  # type: ignore[arg-type]
    assert told(enclave).startswith(f"{part}: has no section {name}; ")


@pytest.mark.parametrize("part", ["kernel", "crt"])
def test_a_kernel_or_c_runtime_whose_segments_share_a_page_is_told(part: str) -> None:
    file = build((Load(0x2000, b"x"), Load(0x2800, b"y")))
    enclave = replace(SMALL, **{part: file})  # type: ignore[arg-type]
    assert told(enclave).startswith(f"{part}: its PT_LOADs overlap in the page at 0x2800; ")


def test_a_kernel_whose_text_has_no_address_is_told() -> None:
    kernel = build()
    damaged = tiny_elf.patched(kernel, tiny_elf.section_header(kernel, ".text") + 16, "Q", 0)
    assert told(replace(SMALL, kernel=damaged)).startswith("kernel, section .text: has no address; ")


def test_segments_of_a_kernel_are_taken_in_the_order_of_their_addresses() -> None:
    first, second = Load(0x3000, b"a"), Load(0x5000, b"b")
    _, sorted_content = region(replace(SMALL, kernel=build((first, second))), "kernel")
    _, content = region(replace(SMALL, kernel=build((second, first))), "kernel")
    # But for the first page, which has the headers.
    assert content[P:] == sorted_content[P:]


def test_the_kernel_s_relocations_are_those_of_rela_dyn_only() -> None:
    rows = ((0x10, RELATIVE, 0, 7), (0x18, 16, 1, 8))
    kernel = build(rela_dyn=rows, rela_plt=((0x20, 7, 1, 0),), symbols=(("x", 1),))
    found, content = region(replace(SMALL, kernel=kernel), "kernel.reloc")
    expected = struct.pack("<QQqQQq", 0x10, RELATIVE, 7, 0x18, 1 << 32 | 16, 8)
    assert (found.size, found.file_size) == (P, P)
    assert content == expected.ljust(P, b"\0")


def test_a_kernel_may_have_the_relocations_that_it_applies_and_no_others() -> None:
    for kind in (1, 5, 6, RELATIVE, 16, 18):
        replace(SMALL, kernel=build(rela_dyn=((0x10, kind, 1, 0),), symbols=(("x", 1),))).laid_out()
    for kind in (0, 2, 4, 7, 9, 17, 19, 37):
        kernel = build(rela_dyn=((0x10, kind, 1, 0),), symbols=(("x", 1),))
        assert f"relocation 0 has type {kind}" in told(replace(SMALL, kernel=kernel))


# The enclave image in memory


def memory(enclave: TinyEnclave) -> bytes:
    """The page at 0x2000 and what follows it, where tiny enclaves have their words and record."""
    image = [page.content for page in pages(enclave.laid_out()) if page.offset < 0x4000]
    return b"".join(image[1:])


def words(enclave: TinyEnclave) -> dict[str, int]:
    values = struct.unpack_from("<9Q", memory(enclave))
    return dict(zip(tiny_elf.ENCLAVE_SYMBOLS, values, strict=True))


def test_the_record_in_memory_has_the_image_fields_and_no_sigstruct() -> None:
    record = memory(SMALL)[0x100 : 0x100 + 1960]
    assert struct.unpack_from("<6Q", record, 96) == (0x2100, 1960, 3 * P, P, 68 * P, 128 * P)
    assert not any(record[144:1952])


def test_the_symbols_in_memory_say_where_things_are() -> None:
    assert words(SMALL) == {
        "_enclave_rva": 0x2000,
        "_reloc_rva": 3 * P,
        "_reloc_size": P,
        "_td_from_tcs_offset": 4 * P,
        "_tdata_rva": 0,
        "_tdata_size": 0,
        "_tdata_align": 0,
        "_tbss_size": 0,
        "_tbss_align": 0,
    }


def tls_enclave(*placed: Placed, tls: Tls) -> TinyEnclave:
    return TinyEnclave(
        image=tiny_elf.enclave(oeinfo(), (Load(0x5000, bytes(64), flags=R | W),), placed, tls=tls)
    )


def tls_pages(enclave: TinyEnclave) -> int:
    return list(enclave.laid_out().runs)[-1].pages - 1


def test_zero_initialised_thread_local_data_alone_gets_its_pages() -> None:
    enclave = tls_enclave(Placed(".tbss", 0x5000, 5000, 16, nobits=True), tls=Tls(0x5000, 0, 5000, 16))
    assert tls_pages(enclave) == 2
    assert words(enclave)["_td_from_tcs_offset"] == (2 + 4) * P
    assert (words(enclave)["_tbss_size"], words(enclave)["_tbss_align"]) == (5000, 16)
    assert words(enclave)["_tdata_rva"] == 0


def test_initialised_data_is_aligned_as_pt_tls_says_and_zeros_as_their_section_says() -> None:
    enclave = tls_enclave(
        Placed(".tdata", 0x5000, 40, 8),
        Placed(".tbss", 0x5028, 10, 4, nobits=True),
        tls=Tls(0x5000, 40, 50, 64),
    )
    values = words(enclave)
    assert (values["_tdata_rva"], values["_tdata_size"], values["_tdata_align"]) == (0x5000, 40, 64)
    assert (values["_tbss_size"], values["_tbss_align"]) == (10, 4)


@pytest.mark.parametrize(("zeros", "count"), [(4032, 1), (4033, 2), (4034, 2)])
def test_thread_local_data_rounds_each_part_to_its_alignment(zeros: int, count: int) -> None:
    enclave = tls_enclave(
        Placed(".tdata", 0x5000, 40, 8),
        Placed(".tbss", 0x5028, zeros, 2, nobits=True),
        tls=Tls(0x5000, 40, 40 + zeros, 64),
    )
    assert tls_pages(enclave) == count


@pytest.mark.parametrize(("count", "stack_pages"), [(1, 3), (3, 1), (1024, 3), (1, 1 << 20)])
def test_there_are_as_many_threads_as_the_record_says(count: int, stack_pages: int) -> None:
    enclave = TinyEnclave(image=tiny_elf.enclave(oeinfo(tcs_count=count, stack_pages=stack_pages)))
    laid_out = enclave.laid_out()
    assert sum(run.flags == TCS for run in laid_out.runs) == count
    assert laid_out.loaded_size == laid_out.heap_rva + 2 * P + count * (stack_pages + 2 + 0 + 5) * P


@pytest.mark.parametrize(
    ("rela_dyn", "rela_plt", "size"),
    [
        (None, None, 0),
        (None, ((0x2000, 7, 1, 0),), 0),
        ((), ((0x2000, 7, 1, 0),), P),
        (((0x2000, 8, 0, 1),), None, P),
        (((0x2000, 8, 0, 1),) * 170, ((0x2000, 7, 1, 0),), 2 * P),
    ],
)
def test_relocation_data_is_rela_dyn_and_rela_plt_and_nothing_without_the_first(
    rela_dyn: tuple[tuple[int, int, int, int], ...] | None,
    rela_plt: tuple[tuple[int, int, int, int], ...] | None,
    size: int,
) -> None:
    enclave = TinyEnclave(image=tiny_elf.enclave(oeinfo(), rela_dyn=rela_dyn, rela_plt=rela_plt))
    laid_out = enclave.laid_out()
    assert laid_out.regions[0].offset == laid_out.image_size + size
    rows = (*(rela_dyn or ()), *(rela_plt or ()))
    expected = b"".join(struct.pack("<QQq", a, symbol << 32 | kind, add) for a, kind, symbol, add in rows)
    within = [page for page in pages(laid_out) if 0 <= page.offset - laid_out.image_size < size]
    assert b"".join(page.content for page in within) == expected.ljust(size, b"\0")[:size]


# What no enclave can be


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"memory_size": 1 << 46}, "does not fit in an address space; give a smaller MemorySize"),
        (
            {"create_zero_base_enclave": True, "enclave_start_address": (1 << 47) - 78 * P},
            "leaves no room for the enclave below 2^47; give a lower EnclaveStartAddress",
        ),
        (
            {"create_zero_base_enclave": True, "enclave_start_address": (1 << 63) - P},
            "leaves no room for the enclave",
        ),
        ({"create_zero_base_enclave": True, "enclave_start_address": 0}, "start address 0x0 is 0"),
        ({"create_zero_base_enclave": True, "enclave_start_address": 100}, "not a multiple of 4096"),
    ],
)
def test_an_enclave_that_does_not_fit_in_an_address_space_is_told(
    change: dict[str, int | bool], problem: str
) -> None:
    config: Config = SMALL.config._replace(**change)  # type: ignore[arg-type]
    assert problem in told(replace(SMALL, config=config))


def test_an_enclave_may_have_half_of_an_address_space_and_no_more() -> None:
    heap_pages = (1 << 46) // P - (79 - 2)
    half, more = (
        replace(SMALL, image=tiny_elf.enclave(oeinfo(heap_pages=pages, stack_pages=2), rela_dyn=RELA))
        for pages in (heap_pages, heap_pages + 1)
    )
    assert half.laid_out().loaded_size == 1 << 46
    assert "does not fit in an address space" in told(more)


@pytest.mark.parametrize(
    "record",
    [
        oeinfo(tcs_count=0),
        oeinfo(stack_pages=0),
        oeinfo(tcs_count=1025),
        oeinfo(tcs_count=(1 << 64) - 1),
        oeinfo(stack_pages=(1 << 20) + 1),
        oeinfo(stack_pages=(1 << 64) - 1),
        oeinfo(heap_pages=(1 << 64) - 1),
    ],
)
def test_a_record_that_asks_for_too_little_or_too_much_is_told(record: bytes) -> None:
    assert told(TinyEnclave(image=tiny_elf.enclave(record))).startswith("mystenc.so: ")


def test_runs_are_the_model_s_pages() -> None:
    modelled = SMALL.modelled()
    assert pages(SMALL.laid_out()) == modelled.pages
    assert SMALL.laid_out().size == modelled.size
