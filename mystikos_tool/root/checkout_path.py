"""Programs of a root in which the path of the checkout is, so that MRENCLAVE is another one elsewhere.

Compilers write it into debug information, and for ``__FILE__`` and messages into what is loaded.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from mystikos_tool.formats import compressed, stripping
from mystikos_tool.formats.cpio import Member
from mystikos_tool.formats.stripping import Section
from mystikos_tool.io.content import Content, Window
from mystikos_tool.printable import few
from mystikos_tool.root.archive import Archive

_MAGIC = b"\x7fELF"
_CHUNK = 1 << 22
_ENDS = (b"/", b"\0")
_MOST_UNPACKED, _MOST_RATIO = 1 << 30, 64  # bytes of a file's debug information, and of its size


class Found(NamedTuple):
    """A program or library with the path in it: in its debug information, in what is loaded, or both.

    ``unread`` says that debug information is compressed so that it was not looked into.
    """

    path: str
    in_debug: bool
    in_loaded: bool
    unread: bool = False


def found(archive: Archive, unchanged: Collection[bytes], directory: str) -> list[Found]:
    """Return the ELF files of an archive, but for the ``unchanged`` ones, that hold a directory's path.

    Each file is read once, in pieces; of others than ELF files four bytes are.
    """
    needle = os.fsencode(directory.rstrip("/"))
    if not needle:
        return []
    files = []
    with archive.content.at_any_offset() as read_at:
        read = Window(read_at).read
        for member in archive.members:
            is_new = member.path not in unchanged and member.size > len(needle)
            if is_new and stat.S_ISREG(member.mode) and read(member.offset, len(_MAGIC)) == _MAGIC:
                files.append(member)
    return [one for member in files if (one := _in(archive, member, needle))]


def _in(archive: Archive, member: Member, needle: bytes) -> Found | None:
    content = archive.content_of(member)
    debug = loaded = False
    with content.at_any_offset() as read_at:
        sections = sorted(stripping.sections(read_at), key=lambda section: section.offset)
    starts = [section.offset for section in sections]
    in_compressed = _in_compressed(sections, content, needle)
    debug = bool(in_compressed)
    for offset in _offsets(content.chunks(_CHUNK), needle):
        number = bisect_right(starts, offset) - 1
        if number >= 0 and sections[number].is_debug:
            debug = True
        # Where all checkouts lie right below the root, such a path may be one of the root itself.
        elif needle.count(b"/") > 1:
            loaded = True
        if debug and loaded:
            break
    path = member.path.decode(errors="backslashreplace")
    unread = in_compressed is None and not debug  # where it was found, no more is to be said
    return Found(path, debug, loaded, unread) if debug or loaded or unread else None


def _in_compressed(sections: list[Section], content: Content, needle: bytes) -> bool | None:
    """Tell whether the needle is in compressed debug information; None where that was not looked into.

    How much is uncompressed is bounded by the size of the file.
    """
    left = min(_MOST_UNPACKED, content.size * _MOST_RATIO + _CHUNK)
    for section in sections:
        if section.is_debug and compressed.is_compressed(section):
            counted = _Counted(compressed.chunks(section, content, left))
            try:
                if next(_offsets(counted, needle), None) is not None:
                    return True
            except compressed.NotReadError:
                return None
            left -= counted.size
    return False


class _Counted:
    """Pieces, and how many bytes of them were taken."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            yield piece


def _offsets(chunks: Iterable[bytes | memoryview], needle: bytes) -> Iterator[int]:
    """Yield where the needle is, as a whole path or the start of one."""
    data, end = b"", 0
    for chunk in chunks:
        data = data[-len(needle) :] + bytes(chunk)
        end += len(chunk)
        at = data.find(needle)
        while at >= 0:
            if data[at + len(needle) : at + len(needle) + 1] in _ENDS:
                yield end - len(data) + at
            at = data.find(needle, at + 1)


def told(files: list[Found], where: str, directory: str, strip: str) -> list[str]:
    """Return what is to be warned of; ``strip`` is how the user asks for stripping."""
    mapped = f"compile with -ffile-prefix-map={directory}=."
    kinds = (
        (
            "the debug information of",
            [f"/{file.path}" for file in files if file.in_debug],
            f"{strip}, or {mapped}",
        ),
        ("the code or data of", [f"/{file.path}" for file in files if file.in_loaded], mapped),
    )
    warnings = [
        f"{where}: the path of this checkout, {directory}, is in {what} {few(those)}, so that MRENCLAVE"
        f" is another one elsewhere; {remedy}"
        for what, those, remedy in kinds
        if those
    ]
    unread = [f"/{file.path}" for file in files if file.unread]
    if unread:
        problem = f"the debug information of {few(unread)} is compressed and was not looked into"
        warnings.append(
            f"{where}: {problem}; where it has the path of this checkout, {directory}, MRENCLAVE is"
            f" another one elsewhere; {strip}, or {mapped}"
        )
    return warnings
