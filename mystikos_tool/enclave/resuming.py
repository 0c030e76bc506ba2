"""MRENCLAVE of an enclave whose stream is, up to a place in its root, that of one measured before.

What is hashed of a page is a whole number of SHA-256's blocks. The digest's state behind every so many pages
of the root is kept, and from the last one before the first change hashing goes on.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mystikos_tool.enclave.layout import Layout, Run
from mystikos_tool.enclave.mrenclave import MEASURED_PAGE, write_pages
from mystikos_tool.io import progress
from mystikos_tool.io.content import FileContent, Readable
from mystikos_tool.io.pages import PAGE
from mystikos_tool.io.sha256 import STATE_SIZE, Sha256

_BETWEEN = 1 << 10  # pages between two states: 4 MiB of a root, which are hashed in 4 ms
_BEGINNING = struct.Struct(f"<{STATE_SIZE}sQQQ")


class States(NamedTuple):
    """The states of a root, 32 bytes each; ``beginning`` has what was hashed before it, and where it lies."""

    beginning: bytes = b""
    states: bytes = b""


_NONE = States()


def mrenclave(
    layout: Layout, root: Readable, earlier: States = _NONE, unchanged: int = 0
) -> tuple[bytes, States]:
    """Return a layout's MRENCLAVE, 32 bytes, and the states of its ``root``, which has content.

    The first ``unchanged`` bytes of the root, a file's, are those of which ``earlier`` states are.
    """
    runs = ((at, run) for at, run in enumerate(layout.stream) if isinstance(run, Run))
    number, run = next((at, run) for at, run in runs if run.content is root)
    digest = Sha256()
    write_pages((layout.size, *layout.stream[:number]), digest.update)
    beginning, start = _BEGINNING.pack(digest.state, digest.size, run.offset, run.flags), digest.size
    states = bytearray()
    if beginning == earlier.beginning and isinstance(root, FileContent):
        states += earlier.states[: unchanged // PAGE // _BETWEEN * STATE_SIZE]
    pages = len(states) // STATE_SIZE * _BETWEEN
    if pages and isinstance(root, FileContent):
        digest.go_on(bytes(states[-STATE_SIZE:]), start + pages * MEASURED_PAGE)
        progress.advance(pages * PAGE)
        rest = root.part(pages * PAGE, root.size - pages * PAGE)
        run = run._replace(offset=run.offset + pages * PAGE, pages=run.pages - pages, content=rest)

    def write(piece: bytes | memoryview) -> None:
        digest.update(piece)
        if digest.size - start == (len(states) // STATE_SIZE + 1) * _BETWEEN * MEASURED_PAGE:
            states.extend(digest.state)

    if run.pages:
        write_pages([run], write)
    write_pages(layout.stream[number + 1 :], digest.update)
    return digest.digest(), States(beginning, bytes(states))
