"""Programs of a root in which the path of the checkout is, so that MRENCLAVE is another one elsewhere.

Compilers write it into debug information, and for ``__FILE__`` and messages into what is loaded.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import NamedTuple

from mystikos_tool.formats import stripping
from mystikos_tool.formats.cpio import Member
from mystikos_tool.io.content import Content
from mystikos_tool.root.archive import Archive

_MAGIC = b"\x7fELF"
_CHUNK = 1 << 22
_ENDS = (b"/", b"\0")
_SHOWN = 5


class Found(NamedTuple):
    """A program or library with the path in it: in its debug information, in what is loaded, or both."""

    path: str
    in_debug: bool
    in_loaded: bool


def found(archive: Archive, unchanged: Collection[bytes], directory: str) -> list[Found]:
    """Return the ELF files of an archive, but for the ``unchanged`` ones, that hold a directory's path.

    Each file is read once, in pieces; of others than ELF files four bytes are.
    """
    needle = os.fsencode(directory.rstrip("/"))
    if not needle:
        return []
    files = []
    with archive.content.at_any_offset() as read_at:
        for member in archive.members:
            is_new = member.path not in unchanged and member.size > len(needle)
            if is_new and stat.S_ISREG(member.mode) and read_at(member.offset, len(_MAGIC)) == _MAGIC:
                files.append(member)
    return [one for member in files if (one := _in(archive, member, needle))]


def _in(archive: Archive, member: Member, needle: bytes) -> Found | None:
    content = archive.content_of(member)
    debug = loaded = False
    with content.at_any_offset() as read_at:
        sections = sorted(stripping.sections(read_at), key=lambda section: section.offset)
    starts = [section.offset for section in sections]
    for offset in _offsets(content, needle):
        number = bisect_right(starts, offset) - 1
        if number >= 0 and sections[number].is_debug:
            debug = True
        # Where all checkouts lie right below the root, such a path may be one of the root itself.
        elif needle.count(b"/") > 1:
            loaded = True
        if debug and loaded:
            break
    path = member.path.decode(errors="backslashreplace")
    return Found(path, debug, loaded) if debug or loaded else None


def _offsets(content: Content, needle: bytes) -> Iterator[int]:
    """Yield where the needle is, as a whole path or the start of one."""
    data, end = b"", 0
    for chunk in content.chunks(_CHUNK):
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
        ("the debug information of", [file for file in files if file.in_debug], f"{strip}, or {mapped}"),
        ("the code or data of", [file for file in files if file.in_loaded], mapped),
    )
    return [
        f"{where}: the path of this checkout, {directory}, is in {what} {_few(those)}, so that MRENCLAVE"
        f" is another one elsewhere; {remedy}"
        for what, those, remedy in kinds
        if those
    ]


def _few(files: list[Found]) -> str:
    more = len(files) - _SHOWN
    return ", ".join(f"/{file.path}" for file in files[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
