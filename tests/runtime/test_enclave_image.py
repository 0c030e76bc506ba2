"""The enclave image: what it hands to the kernel, and the memory that both find."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from compiling import HERE, compile_static, needs_compiler
from packaging import DATA, make_package, write_appdir

from mystikos_tool import config as config_reader
from mystikos_tool import pipeline
from mystikos_tool.enclave import layout
from mystikos_tool.enclave.layout import SECINFO_R, SECINFO_REG, SECINFO_W, SECINFO_X, Layout
from mystikos_tool.formats import elf
from mystikos_tool.io.pages import PAGE
from mystikos_tool.pipeline import Inputs, prepare
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.runtime import Runtime

pytestmark = needs_compiler

SETTINGS = {"Debug": True, "MemorySize": "1m", "MainStackSize": "64k", "ApplicationPath": "/bin/app"}
ACCESS = {"r": SECINFO_R, "w": SECINFO_W, "x": SECINFO_X}


@dataclass(frozen=True)
class Started:
    """A package whose kernel prints what it was given, and what the packager laid out."""

    layout: Layout
    lines: dict[str, list[str]]

    def span(self, name: str) -> tuple[int, int]:
        (line,) = self.lines[name]
        offset, size = map(int, line.split())
        return offset, size


@pytest.fixture(scope="module")
def package(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Layout]:
    directory = tmp_path_factory.mktemp("handoff")
    kernel = compile_static(directory / "kernel", HERE / "handoff.c")
    runtime = Runtime(runtime.loader, runtime.enclave, kernel, runtime.crt)
    appdir = write_appdir(directory / "appdir", {"bin/app": b"#!/bin/app\n"})
    roothash = DATA / "keys" / "disk1.roothash"
    path = make_package(directory, runtime, appdir, SETTINGS, roothashes=[roothash])
    config = config_reader.load(directory / "config.json")
    archive = directory / "rootfs.cpio"
    pipeline.pack(appdir, archive)
    inputs = Inputs(runtime, config, ArchiveRoot(archive), roothashes=[roothash])
    return path, lay_out(inputs)


def lay_out(inputs: Inputs) -> Layout:
    runtime = inputs.runtime
    return layout.lay_out(
        layout.Parts(
            enclave=prepare(runtime, inputs.config),
            kernel=elf.Image(runtime.kernel.read_bytes(), "kernel"),
            crt=elf.Image(runtime.crt.read_bytes(), "crt"),
            rootfs=inputs.root.content(),
            pubkeys=inputs.pubkeys_content(),
            roothashes=inputs.roothashes_content(),
            config=inputs.config.data,
            memory_size=inputs.config.memory_size,
        )
    )


def start(package: Path, *arguments: str) -> dict[str, list[str]]:
    environment = {"FIRST": "1", "SECOND": "two words"}
    done = subprocess.run([package, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (17, "")
    lines: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        lines.setdefault(key, []).append(value)
    return lines


@pytest.fixture(scope="module")
def started(package: tuple[Path, Layout]) -> Started:
    return Started(package[1], start(package[0], "one", "two words"))


@pytest.mark.parametrize("name", ["kernel", "crt", "rootfs", "pubkeys", "roothashes", "config"])
def test_the_kernel_is_told_where_a_region_lies(started: Started, name: str) -> None:
    (region,) = [region for region in started.layout.regions if region.name == name]
    assert started.span(name) == (region.offset, region.file_size)


def test_the_kernel_is_told_how_much_of_the_enclave_is_mapped(started: Started) -> None:
    assert started.span("enclave") == (0, started.layout.loaded_size)


def test_the_kernel_starts_as_a_program_without_an_environment_of_its_own(started: Started) -> None:
    assert started.lines["arguments"] == ["1 libmystkernel 0"]
    assert started.lines["auxv"] == ["4096 0 56"]
    assert started.lines["machine"] == ["1 1"]


def test_the_kernel_runs_on_its_measured_stack(started: Started) -> None:
    (region,) = [region for region in started.layout.regions if region.name == "kernel.enter.stack"]
    (stack,) = started.lines["stack"]
    assert region.offset + PAGE <= int(stack) < region.offset + region.size


def test_what_the_host_gave_is_passed_on(package: tuple[Path, Layout], started: Started) -> None:
    assert started.lines["name"] == ["package"]
    assert started.lines["argument"] == [str(package[0]), "one", "two words"]
    assert started.lines["terminated"] == ["1"]
    assert started.lines["variable"] == ["FIRST=1", "SECOND=two words"]
    assert started.lines["debug"] == ["1"]


def test_each_start_has_random_bytes_of_its_own(package: tuple[Path, Layout], started: Started) -> None:
    again = start(package[0])["random"]
    assert re.fullmatch("[0-9a-f]{16}", again[0])
    assert again != started.lines["random"]


def access_of(flags: int) -> str:
    if not flags & SECINFO_REG:
        return "---"
    return "".join(letter if flags & bit else "-" for letter, bit in ACCESS.items())


def wanted_access(laid_out: Layout) -> Iterator[tuple[int, str]]:
    (mman,) = [region for region in laid_out.regions if region.name == "mman"]
    for run in laid_out.runs:
        for page in range(run.pages):
            offset = run.offset + page * PAGE
            in_mman = mman.offset <= offset < mman.offset + mman.size
            yield offset, "---" if in_mman else access_of(run.flags)


def test_every_page_has_the_permissions_of_its_secinfo_and_all_else_none(started: Started) -> None:
    found = {}
    for line in started.lines["mapping"]:
        first, end, access = line.split()
        found |= dict.fromkeys(range(int(first), int(end), PAGE), access)
    pages = range(0, started.layout.loaded_size, PAGE)
    assert found == dict.fromkeys(pages, "---") | dict(wanted_access(started.layout))
    assert not [access for access in found.values() if "w" in access and "x" in access]


def test_an_enclave_image_that_cannot_relocate_itself_says_so(runtime: Runtime, tmp_path: Path) -> None:
    image = elf.Image(runtime.enclave.read_bytes(), "mystenc.so")
    data, entry = bytearray(image.data), image.section(".rela.dyn").offset
    (info,) = struct.unpack_from("<Q", data, entry + 8)
    assert info == elf.R_X86_64_RELATIVE
    struct.pack_into("<Q", data, entry + 8, elf.R_X86_64_GLOB_DAT)
    (tmp_path / "mystenc.so").write_bytes(data)
    changed = Runtime(runtime.loader, tmp_path / "mystenc.so", runtime.kernel, runtime.crt)
    appdir = write_appdir(tmp_path / "appdir", {"bin/app": b"#!/bin/app\n"})
    package = make_package(tmp_path / "made", changed, appdir, SETTINGS)
    done = subprocess.run([package], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "package: mystikos: enclave image: it has a relocation of a type that it cannot apply\n"
    )
