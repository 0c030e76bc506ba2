"""The loader: it measures as the packager does, and refuses whatever is not what was signed.

MYST_TAMPER_CASES=20000 takes so many random damages for the sanitized loader instead of a hundred.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_elf
from compiling import compile_sanitized, compile_static, needs_compiler
from packaging import DATA, KEY, OTHER_KEY, SIGNING_DAY, make_package, write_appdir

from mystikos_tool import config, pipeline
from mystikos_tool.formats import elf
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.formats.sigstruct import SIGSTRUCT, SIGSTRUCT_SIZE, mrsigner
from mystikos_tool.root.root import ArchiveRoot, DiskRoot
from mystikos_tool.runtime import Runtime
from mystikos_tool.runtime.build import IMAGES, SOURCE_DIRECTORY, units
from mystikos_tool.signing import pem
from mystikos_tool.signing.enclave_key import sign

pytestmark = needs_compiler

SECTIONS = (
    ".mystenc",
    ".libmystcrt",
    ".libmystkernel",
    ".mystrootfs",
    ".mystpubkeys",
    ".mystroothashes",
    ".mystconfig",
)
SETTINGS = {
    "Debug": True,
    "ProductID": 7,
    "SecurityVersion": 3,
    "MemorySize": "00001m",
    "MainStackSize": "64k",
    "ApplicationPath": "/bin/app",
    "HostApplicationParameters": True,
}
IMAGE_FIELDS_IN_OEINFO = OEINFO.fields["oeinfo_rva"].offset
SIGSTRUCT_IN_OEINFO = OEINFO.fields["sigstruct"].offset
CASES = int(os.environ.get("MYST_TAMPER_CASES", "30"))
# Of what is measured, every byte is changed in a long run, some in a quick one.
STEP = 1 if CASES > 30 else 5
APPLICATION = r"""
#include <stdio.h>
int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("[%s]", argv[i]);
    puts("");
    if (argc > 1 && argv[1][0] == '<')
        for (int c; (c = getchar()) != EOF;)
            putchar(c);
    return 42;
}
"""


@pytest.fixture(scope="session")
def working(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose application prints its arguments and ends with status 42."""
    directory = tmp_path_factory.mktemp("working")
    source = directory / "app.c"
    source.write_text(APPLICATION)
    appdir = write_appdir(directory / "appdir", {"bin/app": compile_static(directory / "app", source)})
    return make_package(directory, runtime, appdir, {**SETTINGS, "MemorySize": "16m"})


@pytest.fixture(scope="session")
def small(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with something in every section, made to be damaged."""
    return make_small(tmp_path_factory.mktemp("small"), runtime)


def make_small(directory: Path, runtime: Runtime) -> Path:
    appdir = write_appdir(directory / "appdir", {"bin/app": b"#!/bin/app\n", "data": bytes(range(256)) * 33})
    return make_package(
        directory,
        runtime,
        appdir,
        SETTINGS,
        pubkeys=[DATA / "keys" / "key-a.pub.pem"],
        roothashes=[DATA / "keys" / "disk1.roothash"],
    )


def run(package: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([package, *arguments], capture_output=True, text=True, check=False, **options)


class Damaged:
    """A copy of a package that is changed in place, and knows where what lies in it."""

    def __init__(self, original: Path, path: Path) -> None:
        self.original = original.read_bytes()
        self.path = path
        shutil.copy(original, path)
        sections = elf.Image(self.original, "package")
        self.sections = {name: sections.section(name) for name in SECTIONS}
        self.enclave = elf.Image(self.content(".mystenc"), "enclave")
        self.record = self.sections[".mystenc"].offset + self.enclave.section(".oeinfo").offset
        self.sigstruct = self.record + SIGSTRUCT_IN_OEINFO

    def content(self, section: str) -> bytes:
        place = self.sections[section]
        return self.original[place.offset : place.offset + place.size]

    def write(self, changes: Mapping[int, bytes]) -> None:
        with self.path.open("r+b") as file:
            for offset, data in changes.items():
                file.seek(offset)
                file.write(data)

    def restore(self, changes: Mapping[int, bytes]) -> None:
        self.write({offset: self.original[offset : offset + len(data)] for offset, data in changes.items()})

    def flipped(self, offset: int, bit: int) -> dict[int, bytes]:
        return {offset: bytes([self.original[offset] ^ 1 << bit])}

    def signed_anew(self, values: Mapping[str, int | bytes]) -> dict[int, bytes]:
        structure = self.original[self.sigstruct : self.sigstruct + SIGSTRUCT_SIZE]
        changed = SIGSTRUCT.patch(structure, values)
        return {self.sigstruct: sign(changed, pem.load(KEY), SIGNING_DAY)}


@pytest.fixture
def damaged(small: Path, tmp_path: Path) -> Damaged:
    return Damaged(small, tmp_path / "package")


def refusal(package: Path, *arguments: str) -> str:
    """Start a package that must be refused; return what is wrong with it."""
    done = run(package, *arguments)
    assert (done.returncode, done.stdout) == (125, "")
    prefix, newline = f"{package.name}: mystikos: ", "\n"
    assert done.stderr.startswith(prefix)
    assert done.stderr.count(newline) == 1
    return done.stderr[len(prefix) : -1]


# What is right runs.


def test_a_package_runs_its_application_and_ends_with_its_status(working: Path) -> None:
    done = run(working, "one", "two words", "")
    assert (done.returncode, done.stdout, done.stderr) == (42, "[/bin/app][one][two words][]\n", "")


def test_info_prints_the_identity_that_the_packager_computed(working: Path) -> None:
    done = run(working, "--myst-info")
    assert (done.returncode, done.stderr) == (0, "")
    info = dict(line.split(": ") for line in done.stdout.splitlines())
    package = Damaged(working, working.with_name("copy"))
    structure = package.original[package.sigstruct :][:SIGSTRUCT_SIZE]
    assert info["mrenclave"] == SIGSTRUCT.get_bytes(structure, "mrenclave").hex()
    assert info["mrsigner"] == mrsigner(pem.load(KEY).modulus).hex()
    identity = (info["product id"], info["security version"], info["debug"], info["signed"])
    assert identity == ("7", "3", "yes", SIGNING_DAY.isoformat())
    assert {name: int(info[name]) for name in SECTIONS} == {n: s.size for n, s in package.sections.items()}
    assert int(info["memory size"]) == 16 << 20
    assert int(info["package size"]) == len(package.original)
    assert int(info["loaded size"]) <= int(info["enclave size"]) < 2 * int(info["loaded size"])


def test_verify_prints_one_line_and_runs_nothing(working: Path) -> None:
    done = run(working, "--myst-verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("package: verified: MRENCLAVE ")
    assert done.stdout.count("\n") == 1


RECORDED = [
    row
    for row in json.loads((DATA / "cases.json").read_text())
    if "mrenclave" in json.loads((DATA / "expected" / f"{row['name']}.json").read_text())
]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["name"])
def test_a_recorded_enclave_has_the_mrenclave_that_the_reference_computed(
    runtime: Runtime, tmp_path: Path, case: dict[str, Any]
) -> None:
    """Thread-local data, a zero base, many threads: more than the embedded runtime's own image has."""
    recorded = Runtime.at(DATA / case["runtime"])
    archives = DATA / "expected" / "rootfs"
    appdir = case["appdir"]
    root = ArchiveRoot(archives / f"{Path(appdir).name}.cpio") if appdir else DiskRoot()
    inputs = pipeline.Inputs(
        Runtime(runtime.loader, recorded.enclave, recorded.kernel, recorded.crt),
        config.load(DATA / case["config"]),
        root,
        [DATA / path for path in case.get("pubkeys", [])],
        [DATA / path for path in case.get("roothashes", [])],
    )
    package = tmp_path / "package"
    pipeline.build(inputs, pem.load(DATA / case["key"]), SIGNING_DAY, package)
    expected = json.loads((DATA / "expected" / f"{case['name']}.json").read_text())
    assert f"mrenclave: {expected['mrenclave']}\n" in run(package, "--myst-info").stdout


# Damage is refused.


def loaded_offsets(image: elf.Image) -> Iterator[tuple[int, int]]:
    """Ranges of the file that are put into memory."""
    for load in image.loads:
        yield load.offset, load.offset + load.file_size


def measured_ranges(damaged: Damaged) -> list[tuple[int, int]]:
    """Ranges of the package in which every bit is measured or signed."""
    ranges = []
    for name in SECTIONS:
        section = damaged.sections[name]
        inner = [(0, section.size)]
        if name in (".mystenc", ".libmystcrt", ".libmystkernel"):
            image = elf.Image(damaged.content(name), name)
            inner = list(loaded_offsets(image))
            if name == ".libmystkernel":
                tables = [image.section(table) for table in (".symtab", ".strtab", ".dynsym", ".dynstr")]
                inner += [(table.offset, table.offset + table.size) for table in tables]
        ranges += [(section.offset + start, section.offset + end) for start, end in inner]
    return ranges


def is_filled_in_later(damaged: Damaged, offset: int) -> bool:
    """The image fields of the record: whoever lays the enclave out sets them."""
    return IMAGE_FIELDS_IN_OEINFO <= offset - damaged.record < SIGSTRUCT_IN_OEINFO


def refused(damaged: Damaged, offsets: Sequence[int]) -> int:
    """Flip a bit of each byte in turn; return how many of these packages are refused.

    The others must be none the worse: nothing that is measured is changed, and what runs has
    the same MRENCLAVE.
    """
    chance = random.Random(1)
    untouched = run(damaged.path, "--myst-verify").stdout
    ranges = measured_ranges(damaged)
    count = 0
    for offset in offsets:
        change = damaged.flipped(offset, chance.randrange(8))
        damaged.write(change)
        done = run(damaged.path, "--myst-verify")
        damaged.restore(change)
        where = f"offset {offset:#x}: {done.stderr}"
        if done.returncode == 0:
            measured = any(start <= offset < end for start, end in ranges)
            assert done.stdout == untouched, where
            assert not measured or is_filled_in_later(damaged, offset), where
        else:
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1), where
            count += 1
    return count


def test_a_flipped_bit_anywhere_in_sigstruct_is_refused(damaged: Damaged) -> None:
    offsets = range(damaged.sigstruct, damaged.sigstruct + SIGSTRUCT_SIZE, STEP)
    assert refused(damaged, offsets) == len(offsets)


def test_a_flipped_bit_anywhere_in_the_configuration_is_refused(damaged: Damaged) -> None:
    section = damaged.sections[".mystconfig"]
    own = damaged.sections[".mystenc"].offset + damaged.enclave.section(".mystconfig").offset
    for start in (section.offset, own):
        assert refused(damaged, range(start, start + section.size)) == section.size


def test_a_flipped_bit_in_the_record_is_refused_but_for_fields_that_are_set_later(damaged: Damaged) -> None:
    first = range(damaged.record, damaged.record + IMAGE_FIELDS_IN_OEINFO)
    later = range(damaged.record + IMAGE_FIELDS_IN_OEINFO, damaged.sigstruct, STEP)
    assert refused(damaged, first) == len(first)
    assert refused(damaged, later) == 0


@pytest.mark.parametrize("name", SECTIONS)
def test_a_flipped_bit_in_a_section_is_refused_or_changes_nothing(damaged: Damaged, name: str) -> None:
    section = damaged.sections[name]
    step = (541 if section.size > 2048 else 7) * STEP
    start = section.offset + random.Random(name).randrange(min(step, section.size))
    assert refused(damaged, range(start, section.offset + section.size, step))


def test_a_flipped_bit_in_headers_that_nothing_loads_is_refused_or_changes_nothing(damaged: Damaged) -> None:
    start = damaged.sections[".mystenc"].offset
    names = damaged.enclave.section(".shstrtab")
    headers = start + damaged.enclave.sections_offset
    refused(damaged, range(start + names.offset, start + names.offset + names.size, 3 * STEP))
    refused(damaged, range(headers, headers + len(damaged.enclave.section_list) * 64, 3 * STEP))


def test_nothing_of_a_damaged_package_runs(working: Path, tmp_path: Path) -> None:
    damaged = Damaged(working, tmp_path / "package")
    for start, end in measured_ranges(damaged):
        if start == end:
            continue
        change = damaged.flipped((start + end) // 2, 3)
        damaged.write(change)
        assert refusal(damaged.path)
        damaged.restore(change)
    assert run(damaged.path).returncode == 42


# Each check has its message.


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (".mystrootfs", "MRENCLAVE: what is in the package is not what was signed"),
        (".mystpubkeys", "MRENCLAVE: what is in the package is not what was signed"),
        (".mystroothashes", "MRENCLAVE: what is in the package is not what was signed"),
        (".mystconfig", "configuration: the package's is not the enclave image's"),
    ],
)
def test_damaged_data_is_named(damaged: Damaged, section: str, problem: str) -> None:
    damaged.write(damaged.flipped(damaged.sections[section].offset + 3, 0))
    assert refusal(damaged.path) == problem


def test_a_configuration_changed_in_both_places_is_refused(damaged: Damaged) -> None:
    own = damaged.sections[".mystenc"].offset + damaged.enclave.section(".mystconfig").offset
    at = damaged.content(".mystconfig").index(b'"ProductID": 7') + len('"ProductID": ')
    damaged.write({damaged.sections[".mystconfig"].offset + at: b"8", own + at: b"8"})
    assert refusal(damaged.path).startswith("MRENCLAVE: ")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("header", bytes(12), "SIGSTRUCT: HEADER is wrong"),
        ("type", 0x80000000, "SIGSTRUCT: HEADER is wrong"),
        ("vendor", 1, "SIGSTRUCT: VENDOR is 0x1"),
        ("header2", bytes(16), "SIGSTRUCT: HEADER2 is wrong"),
        ("exponent", 65537, "SIGSTRUCT: EXPONENT is 65537, not 3"),
        ("date", 0x20260103, "signature: the signature is not that of this SIGSTRUCT"),
        ("swdefined", 1, "signature: the signature is not that of this SIGSTRUCT"),
        ("modulus", b"\xff" * 384, "signature: q1 "),
        ("modulus", bytes(384), "signature: the modulus is not that of an RSA key of 3072 bits"),
        ("signature", b"\xff" * 384, "signature: the signature is not below the modulus"),
        ("q1", bytes(384), "signature: q1 "),
        ("q2", bytes(384), "signature: q2 "),
        ("mrenclave", bytes(32), "signature: the signature is not that of this SIGSTRUCT"),
    ],
)
def test_a_field_of_sigstruct_that_einit_refuses_is_named(
    damaged: Damaged, field: str, value: int | bytes, problem: str
) -> None:
    structure = damaged.original[damaged.sigstruct :][:SIGSTRUCT_SIZE]
    damaged.write({damaged.sigstruct: SIGSTRUCT.patch(structure, {field: value})})
    assert refusal(damaged.path).startswith(problem)


def ends_of_reserved_fields() -> Iterator[int]:
    """Offset of the first and the last byte of each gap between the fields of SIGSTRUCT."""
    fields = [*SIGSTRUCT.fields.values()]
    for field, following in pairwise(fields):
        end = field.offset + struct.calcsize(f"<{field.format}")
        if end < following.offset:
            yield from (end, following.offset - 1)


def test_sigstruct_has_four_reserved_fields() -> None:
    assert len([*ends_of_reserved_fields()]) == 8


@pytest.mark.parametrize("offset", [*ends_of_reserved_fields()])
def test_a_reserved_byte_that_is_not_zero_is_refused(damaged: Damaged, offset: int) -> None:
    damaged.write(damaged.flipped(damaged.sigstruct + offset, 0))
    assert refusal(damaged.path) == "SIGSTRUCT: a reserved field is not zero"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"mrenclave": bytes(32)}, "MRENCLAVE: what is in the package is not what was signed"),
        ({"attributes": 0x14}, "ATTRIBUTES: the enclave's are 0x6, the signed ones 0x14"),
        ({"attributes": 0x4}, "ATTRIBUTES: DEBUG is set but not signed"),
        ({"xfrm": 0x103}, "ATTRIBUTES: the enclave's XFRM is 0x3, the signed one 0x103"),
        ({"miscselect": 2}, "MISCSELECT: the enclave's is 0x0, the signed one 0x2"),
        ({"product_id": 8}, "ISVPRODID: the enclave's is 7, the signed one 8"),
        ({"security_version": 2}, "ISVSVN: the enclave's is 3, the signed one 2"),
        ({"family_id": b"f" * 16}, "ISVFAMILYID: "),
        ({"extended_product_id": b"e" * 16}, "ISVFAMILYID: "),
    ],
)
def test_a_signed_value_that_is_not_the_enclave_s_is_refused(
    damaged: Damaged, values: dict[str, int | bytes], problem: str
) -> None:
    damaged.write(damaged.signed_anew(values))
    assert refusal(damaged.path).startswith(problem)


@pytest.mark.parametrize(
    "values", [{"vendor": 0x8086}, {"swdefined": 5}, {"xfrm": 7}, {"miscselect": 1}, {"attributes": 0x82}]
)
def test_a_signed_value_that_einit_leaves_open_is_accepted(
    damaged: Damaged, values: dict[str, int | bytes]
) -> None:
    damaged.write(damaged.signed_anew(values))
    assert run(damaged.path, "--myst-verify").returncode == 0


# A file that is no package is refused.


def header_of(damaged: Damaged, name: str) -> int:
    """Offset of the package's section header for a section."""
    return tiny_elf.section_header(damaged.original, name)


def rename_section(damaged: Damaged, old: str, new: str) -> None:
    package = elf.Image(damaged.original, "package")
    names = package.section(".shstrtab")
    at = package.section_bytes(".shstrtab").index(old.encode() + b"\0")
    damaged.write({names.offset + at: new.encode().ljust(len(old) + 1, b"\0")})


def test_the_bare_loader_says_that_it_holds_no_package(runtime: Runtime) -> None:
    assert refusal(runtime.loader) == "package: this is the loader; it holds no package"
    assert refusal(runtime.loader, "--myst-info") == "package: this is the loader; it holds no package"


def test_a_missing_section_is_named(damaged: Damaged) -> None:
    rename_section(damaged, ".mystrootfs", ".mystrootfz")
    assert refusal(damaged.path) == "package: section .mystrootfs is missing"


def test_a_section_that_is_there_twice_is_named(damaged: Damaged) -> None:
    rename_section(damaged, ".mystpubkeys", ".mystrootfs")
    assert refusal(damaged.path) == "package: section .mystrootfs is there twice"


SHDR_OFFSET = 24


@pytest.mark.parametrize(("offset", "size"), [(0, 1 << 63), (1 << 63, 16), ((1 << 64) - 8, 16), (0, 1 << 40)])
def test_a_section_outside_of_the_file_is_named(damaged: Damaged, offset: int, size: int) -> None:
    damaged.write({header_of(damaged, ".mystrootfs") + SHDR_OFFSET: struct.pack("<QQ", offset, size)})
    assert refusal(damaged.path) == "package: section .mystrootfs lies beyond the end of the file"


def test_a_truncated_package_is_refused(damaged: Damaged) -> None:
    for size in (len(damaged.original) - 1, len(damaged.original) * 2 // 3):
        os.truncate(damaged.path, size)
        assert refusal(damaged.path) == "package: section headers lie beyond the end of the file"


EHDR_TYPE, EHDR_MACHINE, EHDR_ENTRY = 16, 18, 24
EHDR_PHOFF, EHDR_SHOFF, EHDR_PHENTSIZE, EHDR_PHNUM, EHDR_SHSTRNDX = 32, 40, 54, 56, 62
PHDR_FLAGS, PHDR_OFFSET, PHDR_VADDR, PHDR_FILESZ, PHDR_MEMSZ = 4, 8, 16, 32, 40


def first_load(image: elf.Image, data: bytes) -> int:
    (phoff,) = struct.unpack_from("<Q", data, EHDR_PHOFF)
    return next(phoff + 56 * i for i in range(64) if data[phoff + 56 * i] == 1)


@pytest.mark.parametrize("section", [".mystenc", ".libmystkernel", ".libmystcrt"])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda load: {0: b"\x7fFLE"}, "is not an ELF file"),
        (lambda load: {EHDR_MACHINE: b"\xb7"}, "is not an ELF file for x86-64"),
        (lambda load: {EHDR_TYPE: b"\2"}, "is not a shared object or PIE"),
        (lambda load: {EHDR_ENTRY: b"\xff" * 8}, "the entry point lies outside of the image"),
        (lambda load: {EHDR_PHOFF: b"\xff" * 8}, "program headers lie beyond the end of the file"),
        (lambda load: {EHDR_PHNUM: b"\xff\xff"}, "program headers lie beyond the end of the file"),
        (lambda load: {EHDR_PHNUM: b"\0\0"}, "has nothing to load"),
        (lambda load: {EHDR_PHENTSIZE: b"\1"}, "e_phentsize is 1"),
        (lambda load: {EHDR_SHOFF: b"\xff" * 8}, "section headers lie beyond the end of the file"),
        (lambda load: {EHDR_SHSTRNDX: b"\xff\xff"}, "has no .shstrtab"),
        (lambda load: {load + PHDR_OFFSET: b"\xff" * 8}, "a PT_LOAD lies beyond the end of the file"),
        (lambda load: {load + PHDR_FILESZ: b"\xff" * 16}, "a PT_LOAD lies beyond the end of the file"),
        (lambda load: {load + PHDR_MEMSZ: b"\0" * 8}, "a PT_LOAD lies beyond the end of the file"),
        (lambda load: {load + PHDR_MEMSZ: b"\xff" * 8}, "a PT_LOAD lies beyond 1 GiB"),
        (lambda load: {load + PHDR_VADDR: b"\xff" * 8}, "a PT_LOAD lies beyond 1 GiB"),
        (lambda load: {load + PHDR_VADDR: b"\0\x10"}, "the first PT_LOAD does not start at address 0"),
        (lambda load: {load + PHDR_MEMSZ: b"\0\0\0\1"}, "PT_LOADs share a page or are out of order"),
    ],
)
def test_a_hostile_header_is_refused(
    damaged: Damaged, section: str, change: Callable[[int], dict[int, bytes]], problem: str
) -> None:
    content, start = damaged.content(section), damaged.sections[section].offset
    load = first_load(elf.Image(content, section), content)
    damaged.write({start + offset: data for offset, data in change(load).items()})
    assert refusal(damaged.path) == f"{section}: {problem}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"size": 1961}, "holds no record of an SGX enclave"),
        ({"enclave_type": 3}, "holds no record of an SGX enclave"),
        ({"end_marker": 0}, "holds no record of an SGX enclave"),
        ({"tcs_count": 0}, "asks for no thread"),
        ({"tcs_count": 1025}, "asks for no thread"),
        ({"tcs_count": 1 << 63}, "asks for no thread"),
        ({"stack_pages": 1 << 63}, "asks for no thread"),
        ({"stack_pages": 0}, "asks for no thread"),
        ({"heap_pages": 1 << 60}, "asks for too large a heap"),
        ({"flags": 3, "start_address": 1 << 60}, "has a start address that no enclave can have"),
        ({"flags": 3, "start_address": 0}, "has a start address that no enclave can have"),
        ({"flags": 3, "start_address": 4097}, "has a start address that no enclave can have"),
    ],
)
def test_a_hostile_record_is_refused(damaged: Damaged, values: dict[str, int | bytes], problem: str) -> None:
    record = damaged.original[damaged.record :][: OEINFO.size]
    damaged.write({damaged.record: OEINFO.patch(record, values)})
    assert refusal(damaged.path).startswith(".mystenc: .oeinfo " + problem)


def test_an_enclave_that_no_cpu_could_hold_is_refused(damaged: Damaged) -> None:
    record = damaged.original[damaged.record :][: OEINFO.size]
    damaged.write({damaged.record: OEINFO.patch(record, {"heap_pages": 1 << 34})})
    assert refusal(damaged.path) == "package: the enclave is larger than 64 TiB"


VAST = {"tcs_count": 1024, "stack_pages": 1 << 20}


def test_what_is_laid_out_in_more_than_twice_the_machine_s_memory_is_refused(damaged: Damaged) -> None:
    record = damaged.original[damaged.record :][: OEINFO.size]
    damaged.write({damaged.record: OEINFO.patch(record, VAST)})
    problem = "package: the enclave is laid out in 4194"
    assert refusal(damaged.path).startswith(problem)


def test_signature_and_signer_come_before_all_that_takes_long(damaged: Damaged) -> None:
    record = damaged.original[damaged.record :][: OEINFO.size]
    damaged.write({damaged.record: OEINFO.patch(record, VAST)})
    assert refusal(damaged.path, "--myst-signer=" + "0" * 64).startswith("MRSIGNER: is ")
    at = damaged.sigstruct + SIGSTRUCT.fields["signature"].offset
    damaged.write(damaged.flipped(at, 0))
    assert refusal(damaged.path).startswith("signature: ")


@pytest.mark.parametrize(
    ("section", "size", "problem"),
    [
        (".mystconfig", (16 << 20) + 1, "package: section .mystconfig has more than 16777216 bytes"),
        (".libmystkernel", (1 << 30) + 1, "package: section .libmystkernel has more than 1073741824 bytes"),
        (".mystrootfs", 100 << 30, "package: the enclave is laid out in 10"),
    ],
)
def test_a_section_too_large_is_refused_before_it_is_read(
    damaged: Damaged, section: str, size: int, problem: str
) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if section == ".mystrootfs" and size <= 2 * memory:
        pytest.skip("this machine could hold the root")
    end = damaged.path.stat().st_size
    os.truncate(damaged.path, end + size)
    headers = {header_of(damaged, section) + SHDR_OFFSET: struct.pack("<QQ", end, size)}
    damaged.write(headers)
    assert refusal(damaged.path).startswith(problem)


def test_a_start_address_that_leaves_no_room_is_refused(damaged: Damaged) -> None:
    record = damaged.original[damaged.record :][: OEINFO.size]
    damaged.write({damaged.record: OEINFO.patch(record, {"flags": 3, "start_address": (1 << 47) - 4096})})
    assert refusal(damaged.path) == "package: the start address leaves no room for the enclave below 2^47"


def test_more_memory_than_an_enclave_can_have_is_refused(damaged: Damaged) -> None:
    own = damaged.sections[".mystenc"].offset + damaged.enclave.section(".mystconfig").offset
    at = damaged.content(".mystconfig").index(b"00001m")
    damaged.write({damaged.sections[".mystconfig"].offset + at: b"65537g", own + at: b"65537g"})
    assert refusal(damaged.path).startswith("configuration: line 1: MemorySize: expected a size")


# The loader's options.


def test_arguments_that_are_not_the_loader_s_are_left_alone(working: Path) -> None:
    done = run(working, "--help", "--myst-verify", "--", "--myst-nonsense")
    assert done.stdout == "[/bin/app][--help][--myst-verify][--][--myst-nonsense]\n"


def test_an_unknown_option_of_the_loader_is_refused_with_the_known_ones(working: Path) -> None:
    problem = refusal(working, "--myst-verfy")
    assert problem.startswith("options: --myst-verfy is unknown; there are ")
    known = ("--myst-info", "--myst-verify", "--myst-signer=HEX", "--myst-help", "--myst-version")
    assert all(option in problem for option in known)


@pytest.mark.parametrize("option", ["--myst-verify=1", "--myst-infos", "--myst-", "--myst-signer"])
def test_an_option_is_taken_only_as_a_whole(working: Path, option: str) -> None:
    assert refusal(working, option).startswith(f"options: {option} is unknown")


def test_options_that_exclude_each_other_are_refused(working: Path) -> None:
    assert "exclude each other" in refusal(working, "--myst-info", "--myst-verify")


def test_the_demanded_signer_runs_and_its_option_is_not_passed_on(working: Path) -> None:
    expected = mrsigner(pem.load(KEY).modulus).hex()
    for spelling in (expected, expected.upper()):
        done = run(working, f"--myst-signer={spelling}", "argument")
        assert (done.returncode, done.stdout) == (42, "[/bin/app][argument]\n")


def test_another_signer_is_refused(working: Path) -> None:
    signed_by, other = (mrsigner(pem.load(key).modulus).hex() for key in (KEY, OTHER_KEY))
    for extra in ([], ["--myst-verify"], ["--myst-info"]):
        problem = refusal(working, *extra, f"--myst-signer={other}")
        assert problem == f"MRSIGNER: is {signed_by}, not what --myst-signer demands"


@pytest.mark.parametrize("value", ["", "12", "g" * 64, "0" * 63, "0" * 65, "0x" + "0" * 62])
def test_a_signer_that_is_not_64_digits_is_refused(working: Path, value: str) -> None:
    problem = "options: --myst-signer takes 64 hexadecimal digits"
    assert refusal(working, f"--myst-signer={value}") == problem


def test_two_different_signers_are_refused(working: Path) -> None:
    problem = refusal(working, "--myst-signer=" + "0" * 64, "--myst-signer=" + "1" * 64)
    assert problem == "options: --myst-signer is given twice, and not the same"


def test_help_and_version_need_no_package(runtime: Runtime, working: Path) -> None:
    for program in (runtime.loader, working):
        assert "--myst-signer=HEX" in run(program, "--myst-help").stdout
        assert run(program, "--myst-version").stdout.startswith("myst 0.")


def test_output_that_can_t_be_written_is_an_error(working: Path) -> None:
    for option in ("--myst-info", "--myst-verify", "--myst-help"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([working, option], stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (125, b"package: mystikos: output: cannot be written\n")


# However it is started.


def test_it_runs_through_a_symbolic_link_and_under_another_name(working: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(working)
    shutil.copy(working, tmp_path / "renamed")
    for name in ("link", "renamed"):
        assert run(tmp_path / name, "x").stdout == "[/bin/app][x]\n"


def test_it_runs_through_path(working: Path, tmp_path: Path) -> None:
    shutil.copy(working, tmp_path / "on-the-path")
    done = subprocess.run(
        ["env", "on-the-path", "x"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (42, "[/bin/app][x]\n")


@pytest.mark.parametrize(
    ("character", "printed"),
    [
        (b"\n", b"?"),
        (b"\x1b", b"?"),
        (b"\x7f", b"?"),
        (b"\x9b", b"?"),
        (b"\xc2\x9b", b"??"),
        (b"\xc3\x9b", b"\xc3\x9b"),
        (b"\xe2\x9b\x84", b"\xe2\x9b\x84"),
        (b"\xe2\x9b", b"\xe2?"),
        (b"\xf0\x9f\x9b\x84", b"\xf0\x9f\x9b\x84"),
    ],
)
def test_a_message_shows_every_character_but_those_that_control_a_terminal(
    working: Path, character: bytes, printed: bytes
) -> None:
    done = subprocess.run([working, b"--myst-" + character], capture_output=True, check=False)
    assert done.stderr.startswith(b"package: mystikos: options: --myst-" + printed + b" is unknown; ")


@pytest.mark.parametrize("argv0", ["", "/", "no/such/file", "\x1b[2J\n"])
def test_it_does_not_matter_what_it_is_called(working: Path, argv0: str) -> None:
    done = subprocess.run([argv0, "x"], executable=working, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (42, b"[/bin/app][x]\n")
    done = subprocess.run([argv0, "--myst-x"], executable=working, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"\x1b" not in done.stderr


def test_a_file_that_is_replaced_while_it_runs_changes_nothing(working: Path, tmp_path: Path) -> None:
    shutil.copy(working, tmp_path / "package")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([tmp_path / "package", "<"], **pipes) as process:
        (tmp_path / "garbage").write_bytes(b"garbage")
        (tmp_path / "garbage").replace(tmp_path / "package")
        output, _ = process.communicate(b"still here")
    assert (process.returncode, output) == (42, b"[/bin/app][<]\nstill here")


def test_memory_that_nothing_was_put_in_costs_no_ram(runtime: Runtime, tmp_path: Path) -> None:
    """4 GiB for the application have 36 MiB of measured tables, all zero."""
    appdir = write_appdir(tmp_path / "appdir", {"bin/app": b"#!/bin/app\n"})
    package = make_package(tmp_path, runtime, appdir, {**SETTINGS, "MemorySize": "4g"})
    script = (
        "import os, resource, sys\n"
        "if os.fork() == 0: os.execv(sys.argv[1], [sys.argv[1], '--myst-verify'])\n"
        "os.wait()\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verified" in done.stdout
    assert int(done.stdout.split()[-1]) < 20 * 1024


# The same code with sanitizers.


@pytest.fixture(scope="module")
def sanitized(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sanitized")
    loader = next(image for image in IMAGES if image.output == "bin/myst")
    program = compile_sanitized(directory / "myst", *(SOURCE_DIRECTORY / unit for unit in units(loader)))
    return make_small(directory, Runtime(program, runtime.enclave, runtime.kernel, runtime.crt))


def test_no_damage_makes_the_loader_misbehave(sanitized: Path, tmp_path: Path) -> None:
    """Values that parsers stumble over, in the places where they look."""
    damaged, chance = Damaged(sanitized, tmp_path / "package"), random.Random(1)
    assert run(damaged.path, "--myst-verify").returncode == 0
    package = elf.Image(damaged.original, "package")
    places = [
        (package.sections_offset, len(package.section_list) * 64),
        (damaged.record, SIGSTRUCT_IN_OEINFO),
    ]
    for name in (".mystenc", ".libmystkernel", ".libmystcrt"):
        start, image = damaged.sections[name].offset, elf.Image(damaged.content(name), name)
        places += [(start, 64 + 56 * 9), (start + image.sections_offset, len(image.section_list) * 64)]
        places += [(start + image.section(".rela.dyn").offset, image.section(".rela.dyn").size)]
    values = [0, 1, 0x7F, 0x80, 0xFF, 0xFFF, 1 << 31, 1 << 32, 1 << 36, 1 << 63, (1 << 64) - 1, (1 << 64) - 8]
    for _ in range(CASES):
        start, size = chance.choice(places)
        at = start + chance.randrange(size - 8) // 8 * 8
        value = chance.choice([*values, chance.randrange(1 << 64)]).to_bytes(8, "little")
        change = {at: value[: chance.choice([1, 2, 4, 8])]}
        damaged.write(change)
        done = run(damaged.path, "--myst-verify")
        damaged.restore(change)
        assert done.returncode in (0, 125), (at, value, done.stderr)
        assert done.stderr.count("\n") == (1 if done.returncode else 0), (at, value, done.stderr)
