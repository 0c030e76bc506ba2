"""The areas of an enclave: its image, its relocations, Mystikos' regions, heap and threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mystikos_tool.enclave.layout import Layout, Repeat, Run, written_out
from mystikos_tool.io.pages import PAGE

IMAGE, RELOCATIONS, HEAP, THREADS = "image", "image.reloc", "heap", "threads"


class Area(NamedTuple):
    """A part of the enclave range; ``offset`` and ``size`` count bytes from its start, trailers included.

    ``stream`` is what of the page stream lies in it.
    """

    name: str
    offset: int
    size: int
    stream: tuple[Run | Repeat, ...]

    @property
    def runs(self) -> Iterator[Run]:
        """Every run of pages, repetitions written out."""
        return written_out(self.stream)


def areas(layout: Layout) -> list[Area]:
    """Return the areas of a layout in the order of their offsets, which is that of the page stream."""
    spans = [(IMAGE, 0, layout.image_size)]
    regions = [(region.name, region.offset, region.size + PAGE) for region in layout.regions]
    spans.append((RELOCATIONS, layout.image_size, regions[0][1] - layout.image_size))
    size = sum(part.times * part.stride for part in layout.stream if isinstance(part, Repeat))
    spans += [*regions, (HEAP, layout.heap_rva, layout.loaded_size - size - layout.heap_rva)]
    spans.append((THREADS, layout.loaded_size - size, size))
    found: list[Area] = []
    stream = iter([*layout.stream, None])
    operation = next(stream)
    for name, offset, size in spans:
        mine, end = [], layout.base + offset + size
        while operation is not None and _offset(operation) < end:
            mine.append(operation)
            operation = next(stream)
        if size:
            found.append(Area(name, layout.base + offset, size, tuple(mine)))
    return found


def _offset(operation: Run | Repeat) -> int:
    return operation.runs[0].offset if isinstance(operation, Repeat) else operation.offset
