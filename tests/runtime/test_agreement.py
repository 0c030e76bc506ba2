"""The loader measures any enclave as the packager does, the unusual ones included."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny_elf
from compiling import HERE, compile_sanitized, needs_compiler
from hypothesis import HealthCheck, given, settings
from test_mrenclave import enclaves
from tiny_enclave import TinyEnclave

from examples import examples
from mystikos_tool.enclave.mrenclave import mrenclave
from mystikos_tool.runtime.build import IMAGES, SOURCE_DIRECTORY, units

pytestmark = needs_compiler

LoaderMeasures = Callable[..., str]
RELATIVE = 8


@pytest.fixture(scope="session")
def loader_measures(tmp_path_factory: pytest.TempPathFactory) -> LoaderMeasures:
    """The loader's MRENCLAVE of an enclave, or why it refuses to measure it."""
    directory = tmp_path_factory.mktemp("measure_package")
    loader = next(image for image in IMAGES if image.output == "bin/myst")
    sources = [SOURCE_DIRECTORY / unit for unit in units(loader) if unit != "loader/main.c"]
    program = compile_sanitized(directory / "measure", HERE / "measure_package.c", *sources)

    def loader_measures(enclave: TinyEnclave, *, cut_to: int | None = None) -> str:
        package = directory / "package"
        package.write_bytes(packaged(enclave))
        cut = [] if cut_to is None else [str(cut_to)]
        done = subprocess.run([program, package, *cut], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return (done.stdout or done.stderr).strip()

    return loader_measures


def packaged(enclave: TinyEnclave) -> bytes:
    """A package of the enclave, not signed."""
    return tiny_elf.with_sections(
        tiny_elf.build(),
        (".mystenc", enclave.prepared().file()),
        (".libmystcrt", enclave.crt),
        (".libmystkernel", enclave.kernel),
        (".mystrootfs", enclave.rootfs),
        (".mystpubkeys", enclave.pubkeys),
        (".mystroothashes", enclave.roothashes),
        (".mystconfig", enclave.config.data),
    )


def configured(enclave: TinyEnclave) -> TinyEnclave:
    """The enclave with a configuration that says of its memory what the enclave has."""
    members = {"ApplicationPath": "/bin/app", "MemorySize": enclave.config.memory_size}
    data = json.dumps(members).encode().ljust(len(enclave.config.data))
    return replace(enclave, config=enclave.config._replace(data=data))


def python_measures(enclave: TinyEnclave) -> str:
    return mrenclave(enclave.laid_out()).hex()


@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(enclave=enclaves())
def test_any_enclave_has_the_packager_s_measurement(
    loader_measures: LoaderMeasures, enclave: TinyEnclave
) -> None:
    given_enclave = configured(enclave)
    assert loader_measures(given_enclave) == python_measures(given_enclave)


def test_an_empty_rela_dyn_does_not_keep_rela_plt_out(loader_measures: LoaderMeasures) -> None:
    rows = ((0x2000, RELATIVE, 0, 1),)
    record = tiny_elf.oeinfo()
    empty = configured(TinyEnclave(tiny_elf.enclave(record, rela_dyn=(), rela_plt=rows)))
    absent = configured(TinyEnclave(tiny_elf.enclave(record, rela_plt=rows)))
    assert empty.laid_out().regions[0].offset == absent.laid_out().regions[0].offset + 4096
    assert loader_measures(empty) == python_measures(empty)
    assert loader_measures(absent) == python_measures(absent)


@pytest.mark.parametrize(("threads", "stack_pages"), [(1024, 1), (1, 300)])
def test_the_most_threads_and_a_deep_stack_are_measured(
    loader_measures: LoaderMeasures, threads: int, stack_pages: int
) -> None:
    record = tiny_elf.oeinfo(tcs_count=threads, stack_pages=stack_pages)
    enclave = configured(TinyEnclave(tiny_elf.enclave(record)))
    assert loader_measures(enclave) == python_measures(enclave)


@pytest.mark.long
def test_an_enclave_of_more_than_64_gib_is_measured(loader_measures: LoaderMeasures) -> None:
    enclave = configured(TinyEnclave(tiny_elf.enclave(tiny_elf.oeinfo(heap_pages=1 << 25))))
    assert enclave.laid_out().loaded_size > 64 << 30
    assert loader_measures(enclave) == python_measures(enclave)


@pytest.mark.parametrize("size", [4 << 20, (9 << 20) + 1])
def test_a_large_root_that_is_read_while_it_is_hashed_is_measured(
    loader_measures: LoaderMeasures, size: int
) -> None:
    enclave = configured(TinyEnclave(rootfs=random.Random(size).randbytes(size), pubkeys=b"key\0"))
    assert loader_measures(enclave) == python_measures(enclave)


@pytest.mark.parametrize("size", [5000, 9 << 20])
def test_a_package_that_is_cut_while_it_is_read_is_refused(
    loader_measures: LoaderMeasures, size: int
) -> None:
    enclave = configured(TinyEnclave(rootfs=bytes(size)))
    assert loader_measures(enclave, cut_to=size // 2) == "package: became shorter while it was read"
