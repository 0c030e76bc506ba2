from __future__ import annotations

import hashlib
import struct

import pytest
import tiny_elf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import CASES
from tiny_elf import ENCLAVE_SYMBOLS, Load, R, W, oeinfo
from tiny_enclave import CONFIG, TinyEnclave

from examples import examples
from mystikos_tool.enclave.image import EnclaveImage, prepare, reopen
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.runtime import image as image_of

DT_NEEDED, DT_RPATH, DT_RUNPATH = 1, 15, 29
DYNAMIC = ((5, 0x100), (6, 0x100), (10, 1))


def prepared(image: bytes, **settings: object) -> EnclaveImage:
    config = CONFIG._replace(**settings)  # type: ignore[arg-type]
    return prepare(elf.Image(image, "mystenc.so"), config)


def told(image: bytes) -> str:
    with pytest.raises(UserError) as error:
        TinyEnclave(image=image).laid_out()
    return str(error.value)


# What the record says


def record(image: bytes, **settings: object) -> dict[str, int | bytes]:
    return OEINFO.unpack(prepared(image, **settings).record)


def test_identity_and_debugging_come_from_the_configuration() -> None:
    fields = record(tiny_elf.enclave(oeinfo()), product_id=7, security_version=65534, debug=True)
    assert (fields["product_id"], fields["security_version"], fields["attributes"]) == (7, 65534, 6)
    fields = record(tiny_elf.enclave(oeinfo()))
    assert (fields["product_id"], fields["security_version"], fields["attributes"]) == (0, 0, 4)


def test_key_sharing_is_not_asked_for_and_no_family_is_named() -> None:
    fields = record(tiny_elf.enclave(oeinfo(attributes=0x86)))
    assert fields["attributes"] == 4
    assert fields["family_id"] == fields["extended_product_id"] == bytes(16)


def test_faults_are_reported_to_the_enclave_whatever_the_runtime_s_record_says() -> None:
    assert prepared(tiny_elf.enclave(oeinfo(flags=0))).capture_pf_gp
    enclave = prepared(tiny_elf.enclave(oeinfo()))
    assert not EnclaveImage(enclave.image, oeinfo(flags=2), enclave.relocations).capture_pf_gp
    assert record(tiny_elf.enclave(oeinfo(flags=0)))["flags"] == 1
    assert record(tiny_elf.enclave(oeinfo(flags=0xF0)))["flags"] == 1


@pytest.mark.parametrize(
    ("own", "asked", "address", "flags", "start"),
    [
        (1, None, None, 1, 0x5000),
        (1, None, 0x9000, 1, 0x5000),
        (1, True, 0x9000, 3, 0x9000),
        (3, None, None, 3, 0x100000000),
        (3, None, 0x9000, 3, 0x9000),
        (3, True, None, 3, 0x100000000),
        (3, True, 0x9000, 3, 0x9000),
        (3, False, None, 1, 0x5000),
        (3, False, 0x9000, 1, 0x5000),
    ],
)
def test_base_and_start_address(
    own: int, asked: bool | None, address: int | None, flags: int, start: int
) -> None:
    """The start address is that of the configuration with a zero base, else that of the runtime's record."""
    fields = record(
        tiny_elf.enclave(oeinfo(flags=own, start_address=0x5000)),
        create_zero_base_enclave=asked,
        enclave_start_address=address,
    )
    assert (fields["flags"], fields["start_address"]) == (flags, start)


def test_a_zero_base_that_the_runtime_is_not_built_for_needs_a_start_address() -> None:
    image = tiny_elf.enclave(oeinfo(flags=1))
    with pytest.raises(UserError, match='without a start address; add "EnclaveStartAddress": 4294967296'):
        record(image, create_zero_base_enclave=True)
    assert record(image, create_zero_base_enclave=True, enclave_start_address=1 << 32)["flags"] == 3


def test_sizes_stay_as_the_runtime_has_them() -> None:
    fields = record(tiny_elf.enclave(oeinfo(heap_pages=9, stack_pages=5, tcs_count=77)))
    assert (fields["heap_pages"], fields["stack_pages"], fields["tcs_count"]) == (9, 5, 77)


def test_the_image_fields_of_the_file_stay_as_they_were() -> None:
    own = bytearray(oeinfo())
    struct.pack_into("<6Q", own, 96, 1, 2, 3, 4, 5, 6)
    fields = record(tiny_elf.enclave(bytes(own)))
    names = ("oeinfo_rva", "oeinfo_size", "reloc_rva", "reloc_size", "heap_rva", "enclave_size")
    assert [fields[name] for name in names] == [1, 2, 3, 4, 5, 6]


def test_an_earlier_signature_is_not_measured() -> None:
    own = bytearray(oeinfo())
    own[144:1952] = b"\x55" * 1808
    signed_before = prepared(tiny_elf.enclave(bytes(own)))
    assert signed_before.record == prepared(tiny_elf.enclave(oeinfo())).record


# The file


def test_the_configuration_is_in_the_file_byte_for_byte() -> None:
    config = b"// a comment\n{ }\n"
    image = prepared(tiny_elf.enclave(oeinfo()), data=config).image
    assert image.section_bytes(".mystconfig") == config


def test_the_digests_of_the_file_are_those_of_its_bytes() -> None:
    image = prepared(tiny_elf.enclave(oeinfo()))
    for sigstruct in (b"\x77" * 1808, b"\x78" * 1808):
        assert image.digest(sigstruct) == hashlib.sha256(image.file(sigstruct)).hexdigest()
    assert image.sha256 == hashlib.sha256(image.file()).hexdigest()


def test_reopening_a_signed_file_gives_back_what_was_signed() -> None:
    before = prepared(tiny_elf.enclave(oeinfo()), product_id=3)
    after, structure = reopen(before.file(b"\x77" * 1808), "mystenc.so")
    assert structure == b"\x77" * 1808
    assert (after.record, after.relocations) == (before.record, before.relocations)
    assert after.file(structure) == before.file(structure)


def test_an_image_that_could_not_have_been_signed_is_not_reopened() -> None:
    file = prepared(tiny_elf.enclave(oeinfo())).file()
    with pytest.raises(UserError, match="is no shared object or PIE"):
        reopen(tiny_elf.patched(file, 16, "H", 2), "mystenc.so")


def test_a_section_longer_than_its_record_keeps_what_follows() -> None:
    image = tiny_elf.enclave(oeinfo() + b"behind")
    file = prepared(image).file(b"\x77" * 1808)
    assert elf.Image(file, "file").section_bytes(".oeinfo").endswith(b"behind")


# What is refused


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (tiny_elf.build(entry=0x100), "mystenc.so: has no section .oeinfo"),
        (tiny_elf.enclave(oeinfo(), kind=2), "mystenc.so: is no shared object or PIE"),
        (tiny_elf.enclave(oeinfo(), (Load(0x2FFF, b"x"),)), "its PT_LOADs overlap in the page at 0x2fff"),
        (tiny_elf.enclave(oeinfo(), dynamic=((DT_RPATH, 1), *DYNAMIC)), "has DT_RPATH"),
        (tiny_elf.enclave(oeinfo(), dynamic=((DT_RUNPATH, 1), *DYNAMIC)), "has DT_RUNPATH"),
        (tiny_elf.enclave(oeinfo(), dynamic=((DT_NEEDED, 1), *DYNAMIC)), "needs a shared library"),
        (tiny_elf.enclave(oeinfo(), entry=0), "has no entry point"),
        (tiny_elf.enclave(oeinfo(), entry=0x3000), "has no entry point"),
        (tiny_elf.enclave(oeinfo(), (Load(0x5000, b"x", flags=0),)), "has a PT_LOAD without permissions"),
        (
            tiny_elf.enclave(oeinfo(), (Load(0x6000, b"x"), Load(0x5000, b"y"))),
            "its PT_LOADs are not in order of their addresses",
        ),
        (tiny_elf.enclave(oeinfo()[:1959]), ".oeinfo: has 1959 bytes, not 1960"),
        (tiny_elf.enclave(oeinfo(size=1961)), ".oeinfo: holds no record of an SGX enclave"),
        (tiny_elf.enclave(oeinfo(end_marker=0)), ".oeinfo: holds no record of an SGX enclave"),
        (tiny_elf.enclave(oeinfo(attributes=2)), "asks for the attributes 0x2"),
        (tiny_elf.enclave(oeinfo(attributes=0x14)), "asks for the attributes 0x14"),
        (tiny_elf.enclave(oeinfo(), symbols=()), "does not export the symbol _enclave_rva"),
        (
            tiny_elf.enclave(oeinfo(), symbols=(("_enclave_rva", 0x2000), ("_reloc_size", 0x2008))),
            "does not export the symbol _reloc_rva",
        ),
        (
            tiny_elf.enclave(oeinfo(), symbols=tuple((name, 0x2FF9) for name in ENCLAVE_SYMBOLS)),
            "its symbol _enclave_rva lies outside of its segments",
        ),
        (tiny_elf.enclave(oeinfo(start_address=0x1001)), "start address 0x1001 is 0 or not a multiple"),
        (tiny_elf.enclave(oeinfo(), rela_dyn=((0, 5, 1, 0),)), "relocation 0 has type 5"),
        (tiny_elf.enclave(oeinfo(), rela_plt=((0, 5, 1, 0),)), "relocation 0 has type 5"),
        (
            tiny_elf.enclave(oeinfo(), rela_dyn=(), rela_plt=((0, 16, 1, 0),)),
            ".rela.plt: relocation 0 has type 16",
        ),
    ],
)
def test_an_image_that_the_reference_would_not_sign_is_told(image: bytes, problem: str) -> None:
    assert problem in told(image)


def test_a_record_that_is_in_no_segment_is_told() -> None:
    file = tiny_elf.enclave(oeinfo())
    header = tiny_elf.section_header(file, ".oeinfo")
    address, offset = struct.unpack_from("<QQ", file, header + 16)  # sh_addr, sh_offset
    assert address == 0x2100
    others = [(0, offset), (0x2108, offset), (0x20F8, offset), (0x7000, offset)]
    # One that ends or begins outside of its segment.
    for other in (*others, (address + 8, offset + 8), (0x1FF8, offset - 0x108)):
        assert ".oeinfo: lies in no PT_LOAD" in told(tiny_elf.patched(file, header + 16, "QQ", *other))


def test_a_record_is_looked_at_where_it_begins_with_its_segment() -> None:
    file = tiny_elf.enclave(oeinfo())
    header = tiny_elf.section_header(file, ".oeinfo")
    load, (address, offset) = elf.Image(file, "file").loads[1], struct.unpack_from("<QQ", file, header + 16)
    moved = tiny_elf.patched(file, header + 16, "QQ", load.address, offset + load.address - address)
    assert ".oeinfo: holds no record of an SGX enclave" in told(moved)


@pytest.mark.parametrize(
    "symbols",
    [
        tuple((name, 0x2FF8) for name in ENCLAVE_SYMBOLS),
        (("_enclave_rva", 0x2000), ("_reloc_rva", 0x2008), ("_reloc_size", 0x2010)),
        (("_enclave_rva", 0x2000), ("_reloc_rva", 0x2008), ("_reloc_size", 0x2010), ("_reloc_rva", 0x7000)),
    ],
    ids=["at the end of the segments", "only those that are required", "the first one of a name counts"],
)
def test_an_image_may_have_any_symbols_that_lie_in_it(symbols: tuple[tuple[str, int], ...]) -> None:
    enclave = TinyEnclave(image=tiny_elf.enclave(oeinfo(), symbols=symbols))
    assert enclave.laid_out().image_size == 0x3000


def test_a_signed_image_is_not_prepared_again() -> None:
    signed = prepared(tiny_elf.enclave(oeinfo())).file()
    assert "has a section .mystconfig already" in told(signed)


@pytest.mark.parametrize("name", ["a-debug", "b-debug"])
def test_the_recorded_runtimes_are_accepted(name: str) -> None:
    inputs = CASES[name].inputs
    assert prepare(image_of(inputs.runtime.enclave), inputs.config).relocations


IMAGE = tiny_elf.enclave(
    oeinfo(),
    (Load(0x5000, bytes(64), flags=R | W),),
    rela_dyn=((0x2000, 8, 0, 1), (0x2008, 18, 3, 1)),
    dynamic=DYNAMIC,
)


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_damaged_image_gives_a_usererror_or_a_layout(data: st.DataObject) -> None:
    damaged = bytearray(IMAGE)
    table = struct.unpack_from("<Q", IMAGE, 40)[0]
    sections = elf.Image(IMAGE, "mystenc.so")
    tables_end, own_record = sections.loads[0].file_size, sections.section(".oeinfo").offset
    places = (
        st.integers(0, tables_end - 1)
        | st.integers(own_record, own_record + 160)
        | st.integers(table, len(IMAGE) - 1)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(places)] = data.draw(st.integers(0, 255))
    try:
        # A size that is allowed may still be more than a test should take.
        if all(load.end < 16 << 20 for load in elf.Image(bytes(damaged), "mystenc.so").loads):
            TinyEnclave(image=bytes(damaged)).laid_out()
    except UserError as error:
        assert str(error).startswith("mystenc.so")
