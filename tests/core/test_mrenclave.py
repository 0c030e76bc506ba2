from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
from pathlib import Path

import model
import pytest
import tiny_elf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model import Laid, Page
from reference_cases import CASES
from tiny_elf import Load, Placed, Tls
from tiny_enclave import CONFIG, TinyEnclave, pages

from examples import examples
from mystikos_tool.enclave import mrenclave as mrenclave_module
from mystikos_tool.enclave.layout import Layout, Repeat, Run
from mystikos_tool.enclave.mrenclave import mrenclave, write_stream
from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Bytes, FileContent

P = 4096
RW = 0x203


def layout_of(*runs: Run | Repeat, size: int = 1 << 20) -> Layout:
    return Layout(size, 0, 0, 0, 0, 0, (), runs)


def test_an_empty_enclave_is_measured_by_its_size_alone() -> None:
    ecreate = b"ECREATE\0" + struct.pack("<IQ", 1, 0x200000) + bytes(44)
    assert len(ecreate) == 64
    assert mrenclave(layout_of(size=0x200000)) == hashlib.sha256(ecreate).digest()


def test_a_page_that_is_not_measured_adds_only_where_it_lies_and_its_flags() -> None:
    eadd = b"EADD\0\0\0\0" + struct.pack("<QQ", 5 * P, RW) + bytes(40)
    expected = hashlib.sha256(b"ECREATE\0" + struct.pack("<IQ", 1, 1 << 20) + bytes(44) + eadd)
    assert mrenclave(layout_of(Run(5 * P, 1, RW, False))) == expected.digest()


def contents(size: int, fill: int) -> list[Run]:
    """The same pages with their content in memory, in a file's middle, and as pages one by one."""
    data = bytes(index * 7 % 251 for index in range(size))
    count = -(-size // P)
    singles = [Run(at * P, 1, RW, True, Bytes(data[at * P : at * P + P]), fill) for at in range(count)]
    return [Run(0, count, RW, True, Bytes(data), fill), *singles]


@pytest.mark.parametrize("fill", [0, 0xCC])
@pytest.mark.parametrize("size", [1, 255, P, P + 1, 63 * P + 5, 64 * P, 64 * P + 1, 130 * P - 1])
def test_how_pages_are_grouped_makes_no_difference(tmp_path: Path, size: int, fill: int) -> None:
    whole, *singles = contents(size, fill)
    (tmp_path / "file").write_bytes(b"before" + whole.content.read() + b"after")
    in_file = whole._replace(content=FileContent(tmp_path / "file", size, 6))
    expected = Laid(
        1 << 20,
        [Page(single.offset, RW, single.content.read().ljust(P, bytes([fill])), True) for single in singles],
    ).mrenclave()
    assert mrenclave(layout_of(whole)) == expected
    assert mrenclave(layout_of(*singles)) == expected
    assert mrenclave(layout_of(in_file)) == expected


@pytest.mark.parametrize("pages_", [1, 63, 64, 65, 1023, 1024, 1025])
@pytest.mark.parametrize("measured", [True, False])
def test_pages_without_content_are_filled(pages_: int, measured: bool) -> None:
    run = Run(3 * P, pages_, RW, measured, fill=0xCC)
    page = b"\xcc" * P
    expected = Laid(1 << 20, [Page((3 + at) * P, RW, page, measured) for at in range(pages_)])
    assert mrenclave(layout_of(run)) == expected.mrenclave()


def test_content_shorter_than_its_pages_is_filled_up() -> None:
    run = Run(0, 3, RW, True, Bytes(b"x" * 100), fill=0xAA)
    content = (b"x" * 100).ljust(3 * P, b"\xaa")
    expected = Laid(1 << 20, [Page(at, RW, content[at : at + P], True) for at in range(0, 3 * P, P)])
    assert mrenclave(layout_of(run)) == expected.mrenclave()


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    path = tmp_path / "root.cpio"
    path.write_bytes(bytes(10 * P))
    run = Run(0, 10, RW, True, FileContent.of(path))
    path.write_bytes(bytes(5 * P))
    with pytest.raises(UserError, match=r"root\.cpio: became shorter while it was read"):
        mrenclave(layout_of(run))


class Failing:
    """A digest that fails at its third piece, the second of the pages."""

    def __init__(self) -> None:
        self.left = 3

    def update(self, _: bytes | memoryview) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("cannot be hashed")

    def copy(self) -> Failing:
        return self


@pytest.mark.parametrize("pages_", [129, 1280, 4095, 4096, 5000])
def test_what_goes_wrong_in_hashing_is_raised(monkeypatch: pytest.MonkeyPatch, pages_: int) -> None:
    """Beside making the pieces, as for many pages, as well as in turn with it."""
    monkeypatch.setattr(mrenclave_module, "_last", [])
    monkeypatch.setattr("hashlib.sha256", Failing)
    with pytest.raises(RuntimeError, match="cannot be hashed"):
        mrenclave(layout_of(Run(0, pages_, RW, True, Bytes(bytes(pages_ * P)))))
    monkeypatch.undo()
    assert (
        mrenclave(layout_of(Run(0, 1, RW, True))) == Laid(1 << 20, [Page(0, RW, bytes(P), True)]).mrenclave()
    )


def test_many_pages_are_measured_as_few_at_a_time_are(tmp_path: Path) -> None:
    path = tmp_path / "root.cpio"
    path.write_bytes(random.Random(1).randbytes(4500 * P + 1))
    whole = Run(0, 4600, RW, True, FileContent.of(path), fill=0xAA)
    parts = [
        Run(at * P, 100, RW, True, FileContent(path, min(100 * P, 4500 * P + 1 - at * P), at * P), fill=0xAA)
        for at in range(0, 4600, 100)
    ]
    assert mrenclave(layout_of(whole)) == mrenclave(layout_of(*parts))


@pytest.mark.parametrize("bits", [48, 64])
def test_an_offset_outside_of_an_address_space_is_a_bug(bits: int) -> None:
    with pytest.raises(OverflowError):
        mrenclave(layout_of(Run((1 << bits) - 5 * P, 6, RW, True)))


@pytest.mark.parametrize("start", [(1 << 47) - 600 * P, (1 << 32) - 7 * P])
def test_pages_lie_anywhere_in_an_address_space(start: int) -> None:
    expected = Laid(1 << 20, [Page(start + at * P, RW, bytes(P), True) for at in range(600)])
    assert mrenclave(layout_of(Run(start, 600, RW, True))) == expected.mrenclave()


# Streams that begin alike


class Counting:
    """SHA-256 that counts the bytes of all its digests."""

    counted = 0

    def __init__(self, digest: hashlib._Hash | None = None) -> None:
        self.digest_ = digest or _SHA256()

    def update(self, data: bytes | memoryview) -> None:
        Counting.counted += len(data)
        self.digest_.update(data)

    def copy(self) -> Counting:
        return Counting(self.digest_.copy())

    def digest(self) -> bytes:
        return self.digest_.digest()


_SHA256 = hashlib.sha256


def image(at: int, fill: int, pages_: int = 6) -> Run:
    return Run(at * P, pages_, RW, True, Bytes(bytes([fill]) * (pages_ * P)))


def anew(layout: Layout) -> bytes:
    """MRENCLAVE as a process finds it that has measured nothing yet."""
    digest = hashlib.sha256()
    write_stream(layout, digest.update)
    return digest.digest()


@settings(max_examples=examples(20), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1 << 20, 1 << 21]),
            st.lists(
                st.builds(
                    image, st.sampled_from([0, 6]), st.sampled_from([1, 2]), st.sampled_from([1, 6, 130])
                )
                | st.just(Repeat((image(0, 3, 1),), 3, P)),
                max_size=4,
            ),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_what_was_measured_before_makes_no_difference(
    enclaves_: list[tuple[int, list[Run | Repeat]]],
) -> None:
    for size, operations in enclaves_:
        layout = layout_of(*operations, size=size)
        assert mrenclave(layout) == anew(layout)


def test_what_enclaves_begin_with_alike_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").write_bytes(b"root" * P)
    root = Run(20 * P, 4, RW, True, FileContent.of(tmp_path / "root"))
    first = layout_of(image(0, 1), image(6, 2), root, image(30, 3))
    monkeypatch.setattr(mrenclave_module, "_last", [])
    monkeypatch.setattr("hashlib.sha256", Counting)
    monkeypatch.setattr(Counting, "counted", 0)
    expected = mrenclave(first)
    whole, Counting.counted = Counting.counted, 0
    assert mrenclave(first) == expected
    # All but ECREATE and the two images: what lies in a file may have changed, and so may what follows it.
    assert whole - Counting.counted == 64 + 2 * 6 * (64 + 16 * (64 + 256))


def test_a_large_content_in_memory_is_not_kept() -> None:
    many = Run(0, 4096, RW, True, Bytes(bytes(4096 * P)))
    mrenclave(layout_of(image(0, 1), many, size=1 << 26))
    assert [operation for operation, _ in mrenclave_module._last] == [1 << 26, image(0, 1)]


# Repetitions


@st.composite
def repetitions(draw: st.DrawFn) -> Repeat:
    """Up to four runs with gaps between them, with addresses anywhere in their content."""
    offset = draw(st.integers(0, 5)) * P
    runs = []
    for _ in range(draw(st.integers(1, 4))):
        offset += draw(st.integers(0, 2)) * P
        count = draw(st.sampled_from([1, 2, 3, 40]))
        words = draw(st.lists(st.integers(0, (1 << 47) - 1), max_size=40 if count == 1 else 600))
        places = st.integers(0, len(words) - 1).map(lambda at: at * 8)
        addresses = draw(st.lists(places, unique=True, max_size=5)) if words else []
        content = Bytes(struct.pack(f"<{len(words)}Q", *words))
        flags, measured, fill = draw(st.integers(0, 0x3FF)), draw(st.booleans()), draw(st.integers(0, 255))
        runs.append(Run(offset, count, flags, measured, content, fill, tuple(addresses)))
        offset += count * P
    stride = offset + draw(st.integers(0, 3)) * P
    return Repeat(tuple(runs), draw(st.sampled_from([1, 2, 9, 70])), stride)


@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@example(Repeat((image(0, 7, 129),), 2, 130 * P))
@given(repetitions())
def test_a_repetition_is_measured_as_its_runs_one_by_one(repeat: Repeat) -> None:
    assert mrenclave(layout_of(repeat)) == mrenclave(layout_of(*repeat.each()))


def test_a_repetition_moves_addresses_and_leaves_all_else() -> None:
    run = Run(P, 1, RW, True, Bytes(struct.pack("<4Q", 1, 2, 3, 4)), addresses=(8, 24))
    first, second = Repeat((run,), 2, 2 * P).each()
    assert first == run
    assert second.offset == 3 * P
    assert second.content == Bytes(struct.pack("<4Q", 1, 2 + 2 * P, 3, 4 + 2 * P))


@pytest.mark.parametrize("stack_pages", [1, 123, 124, 125, 300])
def test_threads_with_any_stack_are_measured_as_the_model_does(stack_pages: int) -> None:
    enclave = TinyEnclave(tiny_elf.enclave(tiny_elf.oeinfo(tcs_count=3, stack_pages=stack_pages)))
    assert mrenclave(enclave.laid_out()) == enclave.modelled().mrenclave()


# Against the model


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("b-large", "a-ext2-untrusted")])
def test_the_model_agrees_with_the_recorded_cases(name: str) -> None:
    case = CASES[name]
    inputs = case.inputs
    enclave = TinyEnclave(
        inputs.runtime.enclave.read_bytes(),
        inputs.runtime.kernel.read_bytes(),
        inputs.runtime.crt.read_bytes(),
        inputs.root.content().read(),
        inputs.pubkeys_content(),
        inputs.roothashes_content(),
        inputs.config,
    )
    assert enclave.modelled().mrenclave().hex() == case.expected["mrenclave"]


SYMBOLS = tuple((name, 0x2000 + 8 * index) for index, name in enumerate(tiny_elf.ENCLAVE_SYMBOLS))


@st.composite
def loads(draw: st.DrawFn, address: int) -> tuple[Load, ...]:
    """Segments from ``address`` on, with gaps, unaligned ends and zero-initialised rests."""
    result = []
    for _ in range(draw(st.integers(0, 3))):
        start = address + draw(st.integers(0, 3)) * P + draw(st.sampled_from([0, 0, 8, 100, 4095]))
        data = bytes([draw(st.integers(1, 255))]) * draw(st.integers(1, 9000))
        zeros = draw(st.sampled_from([0, 0, 1, 5000]))
        result.append(Load(start, data, len(data) + zeros, draw(st.integers(1, 7))))
        address = -(-(start + len(data) + zeros) // P) * P
    return tuple(result)


def relocations(kinds: tuple[int, ...]) -> st.SearchStrategy[tiny_elf.Relocations | None]:
    """Up to three entries, or as many as need a second page."""
    row = st.tuples(
        st.integers(0, 1 << 40),
        st.sampled_from(kinds),
        st.integers(0, len(SYMBOLS)),
        st.integers(-(1 << 63), (1 << 63) - 1),
    )
    few = st.lists(row, max_size=3).map(tuple)
    return st.none() | few | st.lists(row, min_size=1, max_size=1).map(lambda rows: tuple(rows) * 171)


@st.composite
def modules(draw: st.DrawFn) -> bytes:
    """A kernel or C runtime image."""
    return tiny_elf.build(
        draw(loads(0x3000)),
        symbols=SYMBOLS,
        rela_dyn=draw(relocations((1, 5, 6, 8, 16, 18))),
        symtab_size=24 * draw(st.sampled_from([0, 1, 170, 171, 400])),
        strtab=b"\0".ljust(draw(st.sampled_from([1, P, P + 1])), b"s") + b"\0",
        behind_strtab=b"b" * draw(st.sampled_from([0, 10, 5000])),
    )


@st.composite
def enclave_images(draw: st.DrawFn) -> bytes:
    record = tiny_elf.oeinfo(
        heap_pages=draw(st.integers(0, 3)),
        stack_pages=draw(st.integers(1, 3)),
        tcs_count=draw(st.integers(1, 3)),
        flags=draw(st.integers(0, 3)),
        start_address=draw(st.sampled_from([0, P, 1 << 32])),
    )
    tdata, tbss = draw(st.sampled_from([0, 8, 4097])), draw(st.sampled_from([0, 1, 5000]))
    alignment = draw(st.sampled_from([1, 8, 64, 8192]))
    zeros_alignment = draw(st.sampled_from([0, 1, 16]))
    sections = (
        Placed(".tdata", 0x4000, tdata, 8),
        Placed(".tbss", 0x4000 + tdata, tbss, zeros_alignment, nobits=True),
    )
    placed = tuple(section for section in sections if section.size)
    return tiny_elf.enclave(
        record,
        (Load(0x4000, bytes(tdata + 1)), *draw(loads(0x6000))),
        placed,
        rela_dyn=draw(relocations((1, 6, 7, 8, 18))),
        rela_plt=draw(st.none() | st.just(((0x2000, 7, 1, 0),))),
        tls=Tls(0x4000, tdata, tdata + tbss, alignment) if placed else None,
    )


@st.composite
def enclaves(draw: st.DrawFn) -> TinyEnclave:
    zero_base = draw(st.sampled_from([None, False, True]))
    config = CONFIG._replace(
        data=b"{" + b" " * draw(st.sampled_from([0, 1, P - 2, P, 9000])) + b"}",
        memory_size=P * draw(st.sampled_from([1, 2, 127, 128, 129, 1024, 1025])),
        debug=draw(st.booleans()),
        product_id=draw(st.integers(0, 65534)),
        security_version=draw(st.integers(0, 65534)),
        create_zero_base_enclave=zero_base,
        # A base of zero that only the configuration asks for needs an address.
        enclave_start_address=draw(st.sampled_from([*[None] * (not zero_base), P, 1 << 33, (1 << 46) - P])),
    )
    return TinyEnclave(
        draw(enclave_images()),
        draw(modules()),
        draw(modules()),
        b"root" * draw(st.sampled_from([0, 1, 1023, 1024, 1025, 5000])),
        b"key\0" * draw(st.sampled_from([0, 1, 2000])),
        b"h" * 32 * draw(st.sampled_from([0, 1, 128, 129])),
        config,
    )


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(enclaves())
def test_any_enclave_has_the_pages_and_the_measurement_of_the_model(enclave: TinyEnclave) -> None:
    laid_out, modelled = enclave.laid_out(), enclave.modelled()
    assert pages(laid_out) == modelled.pages
    assert laid_out.size == modelled.size
    assert mrenclave(laid_out) == modelled.mrenclave()


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(enclaves())
def test_the_file_to_be_signed_has_the_configuration_and_the_record(
    enclave: TinyEnclave,
) -> None:
    prepared = enclave.prepared()
    file = model.append_section(enclave.image, ".mystconfig", enclave.config.data)
    place = model.Elf(file).sections[".oeinfo"].offset
    assert prepared.record == enclave.modelled_input().signed_record()
    assert prepared.file() == file[:place] + prepared.record + file[place + 1960 :]
    for structure in (bytes(1808), b"s" * 1808):
        assert prepared.digest(structure) == hashlib.sha256(prepared.file(structure)).hexdigest()


# Memory


MEASURE_FILE = """
import sys
from pathlib import Path
from mystikos_tool.enclave.mrenclave import mrenclave
from mystikos_tool.io.content import FileContent
from mystikos_tool.enclave.layout import Layout, Run

content = FileContent.of(Path(sys.argv[1]))
mrenclave(Layout(1 << 40, 0, 0, 0, 0, 0, (), (Run(0, content.size // 4096, 0x201, True, content),)))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
"""


def test_memory_does_not_grow_with_the_root_file_system(tmp_path: Path) -> None:
    peaks = []
    for size in (8 << 20, 200 << 20):
        path = tmp_path / f"{size}.cpio"
        with path.open("wb") as file:
            file.truncate(size)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE_FILE, str(path)], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout) << 10)
    assert peaks[1] < peaks[0] + (10 << 20)
    assert peaks[1] < 150 << 20
