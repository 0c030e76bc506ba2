"""The enclave's layout: the stream of pages that a loader adds, in order (docs/formats.md, section 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.enclave.image import RELOCATIONS, EnclaveImage, patches_in_memory
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.formats.oeinfo import FLAG_ZERO_BASE, OEINFO
from mystikos_tool.io.content import Bytes, Readable, whole
from mystikos_tool.io.pages import PAGE, page_up, power_of_two_up

SECINFO_R, SECINFO_W, SECINFO_X = 1, 2, 4
SECINFO_TCS, SECINFO_REG = 0x100, 0x200

_PERMISSIONS = {elf.PF_R: SECINFO_R, elf.PF_W: SECINFO_W, elf.PF_X: SECINFO_X}
_RO = SECINFO_REG | SECINFO_R
_RW = SECINFO_REG | SECINFO_R | SECINFO_W
_RWX = _RW | SECINFO_X

_TRAILER_MAGIC = 0x1C8093CA739F4E61
_TRAILER = struct.Struct("<Q256sQQQ")
_FDMAPPING_SIZE, _PID_SIZE = 32, 4
_ENTER_STACK_PAGES = 31
_STACK_FILL = 0xCC
_SSA_PAGES, _TLS_EXTRA_PAGES, _TD_OFFSET_PAGES = 2, 1, 4
_NSSA = 2
_NO_LIMIT = 0xFFFFFFFF
# SDM volume 3D, "Thread Control Structure": OSSA, NSSA, OENTRY, FS base, GS base, FS limit, GS limit.
_TCS = struct.Struct("<16xQ4xIQ8xQQII")
_TCS_ADDRESSES = (16, 48, 56)  # OSSA, FS base and GS base; OENTRY is the same for all threads
_ADDRESS = struct.Struct("<Q")
_MODULE_SECTIONS = (".text", ".symtab", ".dynsym", ".strtab", ".dynstr")
_MAX_TCS, _MAX_STACK_PAGES = 1024, 1 << 20
_ADDRESS_SPACE = 1 << 47  # of a process on x86-64

_KERNEL_RELOCATIONS = RELOCATIONS | {elf.R_X86_64_DTPMOD64, elf.R_X86_64_COPY}


class Run(NamedTuple):
    """Consecutive pages with the same SECINFO flags.

    ``offset`` counts bytes from the start of the enclave range; the content is followed by ``fill`` bytes up
    to the last page's end. ``addresses`` are where it has 64-bit addresses, which move with the run.
    """

    offset: int
    pages: int
    flags: int
    measured: bool
    content: Readable = Bytes(b"")
    fill: int = 0
    addresses: tuple[int, ...] = ()

    def moved(self, distance: int) -> Run:
        """Return the run ``distance`` bytes further on in the enclave."""
        content = self.content
        if self.addresses:
            data = bytearray(whole(content))
            for place in self.addresses:
                _ADDRESS.pack_into(data, place, _ADDRESS.unpack_from(data, place)[0] + distance)
            content = Bytes(bytes(data))
        return self._replace(offset=self.offset + distance, content=content)


class Repeat(NamedTuple):
    """The same runs, which lie within ``stride`` bytes, so many ``times``, each time that much further on."""

    runs: tuple[Run, ...]
    times: int
    stride: int

    def moved(self, distance: int) -> Repeat:
        """Return the repetition ``distance`` bytes further on in the enclave."""
        return Repeat(tuple(run.moved(distance) for run in self.runs), self.times, self.stride)

    def each(self) -> Iterator[Run]:
        """Yield all runs in the order of the stream."""
        for number in range(self.times):
            for run in self.runs:
                yield run.moved(number * self.stride)


class Region(NamedTuple):
    """A region of Mystikos: its name, offset and sizes in bytes."""

    name: str
    offset: int
    size: int
    file_size: int


class Parts(NamedTuple):
    """What an enclave is made of; ``memory_size`` is the application's memory in bytes, whole pages."""

    enclave: EnclaveImage
    kernel: elf.Image
    crt: elf.Image
    rootfs: Readable
    pubkeys: bytes
    roothashes: bytes
    config: bytes
    memory_size: int


class Layout(NamedTuple):
    """An enclave laid out; ``stream`` has the pages in the order in which they are added.

    ``size`` is what ECREATE gets, ``loaded_size`` what is in use, ``enclave_size`` the range that the image's
    record states; all in bytes.
    """

    size: int
    loaded_size: int
    enclave_size: int
    base: int
    image_size: int
    heap_rva: int
    regions: tuple[Region, ...]
    stream: tuple[Run | Repeat, ...]

    @property
    def runs(self) -> Iterator[Run]:
        """The stream with every repetition written out."""
        return written_out(self.stream)


def written_out(stream: Iterable[Run | Repeat]) -> Iterator[Run]:
    """Yield every run of a stream, those of a repetition as often as it repeats."""
    for operation in stream:
        yield from operation.each() if isinstance(operation, Repeat) else (operation,)


def lay_out(parts: Parts) -> Layout:
    """Lay an enclave out; raise UserError where an image can't be loaded or the whole is too large."""
    image, record, relocations = parts.enclave.image, parts.enclave.record, parts.enclave.relocations
    base = _base(record, image.where)
    regions, region_runs = _regions(parts, image.size + len(relocations))
    heap_rva = regions[-1].offset + regions[-1].size + PAGE
    heap_size = OEINFO.get_int(record, "heap_pages") * PAGE
    threads, threads_rva = _threads(parts.enclave, base + image.entry), heap_rva + heap_size
    loaded_size = threads_rva + threads.times * threads.stride
    _check_addresses(image.where, base, loaded_size)
    enclave_size = power_of_two_up(loaded_size)
    patches = patches_in_memory(parts.enclave, heap_rva=heap_rva, enclave_size=enclave_size)

    stream: tuple[Run | Repeat, ...] = (
        *_segments(image, patches),
        *(run.moved(image.size) for run in _measured(Bytes(relocations))),
        *region_runs,
        *([Run(heap_rva, heap_size // PAGE, _RW, False)] if heap_size else []),
        threads.moved(threads_rva),
    )
    return Layout(
        size=power_of_two_up(loaded_size + base),
        loaded_size=loaded_size,
        enclave_size=enclave_size,
        base=base,
        image_size=image.size,
        heap_rva=heap_rva,
        regions=tuple(regions),
        stream=tuple(part.moved(base) for part in stream),
    )


def _base(record: bytes, where: str) -> int:
    """Return where in the enclave range the image starts: anywhere but at 0 with a zero base, else at 0."""
    zero_base = bool(OEINFO.get_int(record, "flags") & FLAG_ZERO_BASE)
    start_address = OEINFO.get_int(record, "start_address")
    if start_address % PAGE or (zero_base and not start_address):
        problem = f"start address {start_address:#x} is 0 or not a multiple of 4096"
        raise UserError(where, problem, "give another EnclaveStartAddress")
    return start_address if zero_base else 0


def _check_addresses(where: str, base: int, loaded_size: int) -> None:
    if loaded_size > _ADDRESS_SPACE // 2:
        problem = f"its enclave of {loaded_size} bytes does not fit in an address space"
        raise UserError(where, problem, "give a smaller MemorySize")
    if base + loaded_size > _ADDRESS_SPACE:
        problem = f"start address {base:#x} leaves no room for the enclave below 2^47"
        raise UserError(where, problem, "give a lower EnclaveStartAddress")


def _segments(image: elf.Image, patches: Sequence[tuple[int, bytes]] = ()) -> Iterator[Run]:
    """Yield a run per PT_LOAD: every page that it touches."""
    for segment in image.loads:
        start, end = segment.address // PAGE * PAGE, page_up(segment.end)
        flags = SECINFO_REG | sum(secinfo for flag, secinfo in _PERMISSIONS.items() if segment.flags & flag)
        if end > start:
            yield Run(start, (end - start) // PAGE, flags, True, Bytes(elf.loaded(image, segment, patches)))


def _measured(content: Readable) -> list[Run]:
    """Return the pages of a content, read-only; none where it is empty."""
    pages = page_up(content.size) // PAGE
    return [Run(0, pages, _RO, True, content)] if pages else []


# A region before it has a place: its runs count from its own start.
_Plan = tuple[Region, Iterable[Run]]


def _regions(parts: Parts, offset: int) -> tuple[list[Region], list[Run]]:
    regions: list[Region] = []
    runs: list[Run] = []
    for index, (region, planned) in enumerate(_region_plans(parts)):
        runs += (run.moved(offset) for run in planned)
        trailer = _TRAILER.pack(_TRAILER_MAGIC, region.name.encode(), region.size, region.file_size, index)
        runs.append(Run(offset + region.size, 1, _RO, True, Bytes(trailer)))
        regions.append(region._replace(offset=offset))
        offset += region.size + PAGE
    return regions, runs


def _region_plans(parts: Parts) -> Iterator[_Plan]:
    """Yield Mystikos' sixteen regions in their order."""
    kernel, memory_pages = parts.kernel, parts.memory_size // PAGE
    yield from _module_plans("kernel", kernel)
    for name in (".symtab", ".dynsym"):  # with what follows them in the file
        section = kernel.section(name)
        data = kernel.data[section.offset : section.offset + page_up(section.size)]
        yield _content_plan(f"kernel{name}", Bytes(data.ljust(page_up(section.size), b"\0")))
    for name in (".strtab", ".dynstr"):
        data = kernel.section_bytes(name)
        yield _content_plan(f"kernel{name}", Bytes(data.ljust(page_up(len(data)), b"\0")))
    yield from _module_plans("crt", parts.crt)
    yield _content_plan("rootfs", parts.rootfs)
    yield _table_plan("fdmappings", memory_pages * _FDMAPPING_SIZE)
    yield _content_plan("pubkeys", Bytes(parts.pubkeys))
    yield _content_plan("roothashes", Bytes(parts.roothashes))
    yield _guarded_plan("mman", memory_pages, _RWX, closing_guard=True)
    yield _content_plan("config", Bytes(parts.config))
    yield _guarded_plan("kernel.enter.stack", _ENTER_STACK_PAGES, _RW, closing_guard=False)
    yield _table_plan("mman.pids", memory_pages * _PID_SIZE)


def _module_plans(name: str, image: elf.Image) -> Iterator[_Plan]:
    """Yield a kernel or C runtime and its relocations; raise UserError where the reference refuses it."""
    elf.check_loadable(image)
    for section in _MODULE_SECTIONS:
        if not image.find_section(section):
            remedy = "take it from a Mystikos runtime, or don't strip it"
            raise UserError(image.where, f"has no section {section}", remedy)
    if image.section(".text").address == 0:
        where = f"{image.where}, section .text"
        raise UserError(where, "has no address", "link it as a shared object or PIE")
    yield Region(name, 0, image.size, image.size), _segments(image)
    relocations = elf.relocations(image, (".rela.dyn",), _KERNEL_RELOCATIONS)
    yield _content_plan(f"{name}.reloc", Bytes(relocations))


def _content_plan(name: str, content: Readable) -> _Plan:
    return Region(name, 0, page_up(content.size), content.size), _measured(content)


def _table_plan(name: str, file_size: int) -> _Plan:
    size = page_up(file_size)
    return Region(name, 0, size, file_size), [Run(0, size // PAGE, _RW, True)]


def _guarded_plan(name: str, pages: int, flags: int, *, closing_guard: bool) -> _Plan:
    """Pages that are not measured behind a measured guard page, which has no permissions."""
    runs = [Run(0, 1, SECINFO_REG, True), Run(PAGE, pages, flags, False)]
    if closing_guard:
        runs.append(Run((pages + 1) * PAGE, 1, SECINFO_REG, True))
    size = (pages + 1 + closing_guard) * PAGE
    return Region(name, 0, size, size), runs


def _threads(enclave: EnclaveImage, entry: int) -> Repeat:
    """Return the runs of the first thread, from 0 on, and how they repeat; ``entry`` is the same for all.

    A thread has its stack, a TCS, two SSA frames and the thread-local storage, with guards between.
    """
    count, stack_pages = (OEINFO.get_int(enclave.record, name) for name in ("tcs_count", "stack_pages"))
    if not (1 <= count <= _MAX_TCS and 1 <= stack_pages <= _MAX_STACK_PAGES):
        asked = f".oeinfo asks for {count} threads with {stack_pages} stack pages each"
        problem = f"{asked}, not for 1 to {_MAX_TCS} with 1 to {_MAX_STACK_PAGES}"
        raise UserError(enclave.image.where, problem, "take mystenc.so from a Mystikos runtime")
    tls_pages = enclave.image.tls_size // PAGE
    tcs = (stack_pages + 2) * PAGE
    segment = tcs + (_TD_OFFSET_PAGES + tls_pages) * PAGE
    structure = _TCS.pack(tcs + PAGE, _NSSA, entry, segment, segment, _NO_LIMIT, _NO_LIMIT)
    runs = (
        Run(PAGE, stack_pages, _RW, True, fill=_STACK_FILL),
        Run(tcs, 1, SECINFO_TCS, True, Bytes(structure), addresses=_TCS_ADDRESSES),
        Run(tcs + PAGE, _SSA_PAGES, _RW, True),
        Run(tcs + _TD_OFFSET_PAGES * PAGE, tls_pages + _TLS_EXTRA_PAGES, _RW, True),
    )
    return Repeat(runs, count, segment + PAGE)
