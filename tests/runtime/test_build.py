"""The table that compiles the runtime, and what an image must be like to be packaged."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from compiling import needs_compiler

from fuzz.targets import READERS, TARGETS
from mystikos_tool import __version__
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.runtime import CRT, ENCLAVE, KERNEL, LOADER, Runtime
from mystikos_tool.runtime import digests as shipped
from mystikos_tool.runtime.build import (
    IMAGES,
    SOURCE_DIRECTORY,
    ZIG_VERSION,
    Image,
    build,
    check_toolchain,
    command,
    compile_image,
    sources,
    units,
)

PROJECT = SOURCE_DIRECTORY.parent.parent
OUTPUTS = [image.output for image in IMAGES]
DT_TEXTREL = 22  # code that the dynamic linker would have to change


def read(runtime: Runtime, output: str) -> elf.Image:
    files = {
        "myst": runtime.loader,
        "mystenc.so": runtime.enclave,
        "libmystkernel.so": runtime.kernel,
        "libmystcrt.so": runtime.crt,
    }
    path = files[Path(output).name]
    return elf.Image(path.read_bytes(), str(path))


def digests(directory: Path) -> dict[str, str]:
    return {output: hashlib.sha256((directory / output).read_bytes()).hexdigest() for output in OUTPUTS}


def build_elsewhere(place: Path, umask: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Build from a copy of the sources with nothing compiled before but the toolchain's C library."""
    sources = PROJECT / "mystikos_tool"
    shutil.copytree(sources, place / "mystikos_tool", ignore=shutil.ignore_patterns("__pycache__"))
    scratch = place / "scratch"
    scratch.mkdir()
    script = (
        f"import os; os.umask({umask}); from pathlib import Path;"
        "from mystikos_tool.runtime.build import build; build(Path('runtime'))"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": str(place),
            "TMPDIR": str(scratch),
            "ZIG_LOCAL_CACHE_DIR": str(place / "cache"),
            **variables,
        },
    )
    return digests(place / "runtime")


@needs_compiler
@pytest.mark.long
def test_the_bytes_are_the_same_wherever_and_whenever_it_is_compiled(
    runtime: Runtime, tmp_path: Path
) -> None:
    headers = dict.fromkeys(["CPATH", "C_INCLUDE_PATH"], str(tmp_path))
    (tmp_path / "stdio.h").write_text("#error these are not the toolchain's headers")
    other = {"TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1", **headers}
    there = build_elsewhere(tmp_path / "another path" / "b", 0o077, other)
    assert digests(runtime.loader.parents[1]) == there


def test_the_shipped_digests_are_those_of_a_fresh_build(runtime: Runtime) -> None:
    """After a change of the sources: python -m mystikos_tool.runtime.digests."""
    images = (runtime.loader, runtime.enclave, runtime.kernel, runtime.crt)
    fresh = {str(path): shipped.of(path) for path in images}
    known = shipped.expected()
    assert known, "the digests are of other sources: run python -m mystikos_tool.runtime.digests"
    assert fresh == {
        str(path): known[output] for path, output in zip(images, (LOADER, ENCLAVE, KERNEL, CRT), strict=True)
    }


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_image_holds_no_path_of_the_machine(runtime: Runtime, output: str) -> None:
    image = read(runtime, output)
    roots = [str(PROJECT), str(Path(sys.executable).parent.parent), "/ziglang/", "/zig/"]
    assert not [root for root in roots if root.encode() in image.data]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_image_has_no_debugging_information_and_no_build_id(runtime: Runtime, output: str) -> None:
    names = {section.name for section in read(runtime, output).section_list}
    assert not [name for name in names if name.startswith((".debug", ".note.gnu.build-id", ".comment"))]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_image_is_position_independent_and_needs_nothing(runtime: Runtime, output: str) -> None:
    image = read(runtime, output)
    assert image.type == elf.ET_DYN
    assert image.loads[0].address == 0
    assert not {elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH, DT_TEXTREL} & image.dynamic_tags
    assert not [load for load in image.loads if load.flags & elf.PF_W and load.flags & elf.PF_X]


def test_the_kernel_has_the_tables_that_are_measured(runtime: Runtime) -> None:
    kernel = read(runtime, "lib/libmystkernel.so")
    assert kernel.section_bytes(".symtab")
    assert kernel.section_bytes(".dynsym")
    assert kernel.section_bytes(".dynstr")
    assert b"\0main\0" in kernel.section_bytes(".strtab")


def test_the_enclave_image_has_a_record_for_a_quick_start(runtime: Runtime) -> None:
    image = read(runtime, "lib/openenclave/mystenc.so")
    record = image.section_bytes(".oeinfo")
    assert len(record) == OEINFO.size == 1960
    fields = OEINFO.unpack(record)
    assert (fields["heap_pages"], fields["stack_pages"], fields["tcs_count"]) == (1, 2, 1)
    assert (fields["attributes"], fields["flags"], fields["start_address"]) == (4, 1, 0)
    assert fields["sigstruct"] == bytes(1808)


@pytest.mark.parametrize("name", ["_enclave_rva", "_reloc_rva", "_reloc_size", "_td_from_tcs_offset"])
def test_the_enclave_image_exports_what_it_is_told_in_writable_memory(runtime: Runtime, name: str) -> None:
    image = read(runtime, "lib/openenclave/mystenc.so")
    value = dict(image.dynamic_symbols)[name]
    writable = [load for load in image.loads if load.flags & elf.PF_W]
    assert any(load.address <= value and value + 8 <= load.end for load in writable)


def test_every_c_file_and_header_belongs_to_an_image() -> None:
    used = {path for image in IMAGES for path in sources(image)}
    there = {path for suffix in ("c", "h", "ld") for path in SOURCE_DIRECTORY.rglob(f"*.{suffix}")}
    assert used == there


# They pass on what a reader has made of what others wrote.
USERS_OF_READERS = {
    "crt/execute.c",
    *(f"kernel/{name}.c" for name in ("kernel", "no_isolation", "served_disk", "unpack_disk")),
}
READERS_HEADER = re.compile(
    r'#include ["<](?:.*/)?(?:archive|config_reader|elf|ext2|interpreter|json)\.h[">]'
)


def test_every_c_file_that_reads_what_others_wrote_is_fuzzed() -> None:
    fuzzed = {source for target in TARGETS for source in target.sources}
    files = {str(path.relative_to(SOURCE_DIRECTORY)): path for path in SOURCE_DIRECTORY.rglob("*.c")}
    readers = {name for name, path in files.items() if READERS_HEADER.search(path.read_text())}
    assert readers - fuzzed == USERS_OF_READERS
    assert set(READERS) <= fuzzed
    assert all(target.corpus for target in TARGETS)


def test_a_missing_fuzzer_is_a_failure_where_it_is_required() -> None:
    environment = {**os.environ, "FUZZ_CC": "/no/compiler"}
    for options, status in (([], 0), (["--required"], 1)):
        command = [sys.executable, "-m", "fuzz", *options, "config"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=PROJECT
        )
        assert (done.returncode, done.stdout[:14]) == (status, "fuzz: skipped:")
    assert "-m fuzz --seconds 3 --seed 1 --required\n" in (PROJECT / ".ci" / "run").read_text()


def test_the_command_names_the_sources_relative_to_their_directory() -> None:
    for image in IMAGES:
        arguments = command(image, Path("/out/file"))
        assert arguments[:4] == [sys.executable, "-m", "ziglang", "cc"]
        assert arguments[-2:] == ["-o", "/out/file"]
        assert set(units(image)) <= set(arguments)
        assert not [argument for argument in arguments if str(SOURCE_DIRECTORY) in argument]


def test_another_compiler_gets_no_option_that_only_zig_has() -> None:
    for image in IMAGES:
        arguments = command(image, Path("/out/file"), "clang --sysroot='/a b'")
        assert arguments[:2] == ["clang", "--sysroot=/a b"]
        assert not {"-target", "-mcpu=x86_64", "-Werror"} & set(arguments)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_the_enclave_image_compiles_with_another_compiler(tmp_path: Path) -> None:
    image = next(image for image in IMAGES if image.freestanding)
    compile_image(image, tmp_path / "mystenc.so", "gcc")
    parsed = elf.Image((tmp_path / "mystenc.so").read_bytes(), "mystenc.so")
    elf.check_loadable(parsed)
    assert "_enclave_rva" in dict(parsed.dynamic_symbols)
    assert len(parsed.section_bytes(".oeinfo")) == OEINFO.size


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("image", IMAGES, ids=OUTPUTS)
def test_another_compiler_takes_the_sources_of_every_image(tmp_path: Path, image: Image) -> None:
    checking = command(image, tmp_path / "image", "gcc -fsyntax-only -Werror=implicit-function-declaration")
    done = subprocess.run(checking, cwd=SOURCE_DIRECTORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_fails_is_reported_with_its_words_and_leaves_nothing(tmp_path: Path) -> None:
    cc = f"{sys.executable} -c 'import sys; sys.exit(\"no such register\")'"
    with pytest.raises(UserError, match="no such register"):
        build(tmp_path, cc)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/no/such/cc .*MYST_RUNTIME_CC"):
        build(tmp_path, "/no/such/cc")


def test_a_missing_toolchain_comes_with_the_command_that_installs_it(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path[:] = [{str(PROJECT)!r}] + [p for p in sys.path if 'site-packages' not in p]\n"
        "from mystikos_tool.runtime.build import check_toolchain\ncheck_toolchain()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert "not installed" in done.stderr
    assert f"pip install ziglang=={ZIG_VERSION}" in done.stderr


def test_a_toolchain_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "ziglang-0.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: ziglang\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    remedy = f"pip install ziglang=={re.escape(ZIG_VERSION)}"
    with pytest.raises(UserError, match=rf"ziglang is 0\.1\.0.*{remedy}"):
        check_toolchain()


def test_the_loader_has_the_version_of_the_project() -> None:
    header = re.search(r'MYST_VERSION "(.+)"', (SOURCE_DIRECTORY / "common" / "version.h").read_text())
    assert header
    assert header[1] == __version__
    extra = re.search(r'"ziglang==(.+)"', (PROJECT / "pyproject.toml").read_text())
    assert extra and extra[1] == ZIG_VERSION


def test_the_embedded_runtime_is_told_from_an_installed_one_by_its_kernel(runtime: Runtime) -> None:
    assert runtime.is_embedded
    assert not Runtime.at(Path(__file__).parent.parent / "data" / "rt-a").is_embedded
