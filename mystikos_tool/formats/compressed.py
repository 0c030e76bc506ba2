"""Compressed sections of ELF files: their content, in pieces, and bounded.

The forms are those of the ELF specification (gABI, "Section Compression": SHF_COMPRESSED and Elf64_Chdr)
and the older one of GNU tools, sections called ``.zdebug_*`` that begin with ``ZLIB`` and their size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from mystikos_tool.formats.stripping import Section
from mystikos_tool.io.content import Content

_CHDR = struct.Struct("<IIQQ")  # ch_type, ch_reserved, ch_size, ch_addralign
_ELFCOMPRESS_ZLIB = 1
_SHF_COMPRESSED = 0x800
_OLD_NAME, _OLD_MAGIC, _OLD_HEADER = ".zdebug", b"ZLIB", 12

_PIECE = 1 << 20


class NotReadError(Exception):
    """A section is compressed in another way than by zlib, damaged, or too large."""


def is_compressed(section: Section) -> bool:
    """Tell whether a section's content is compressed."""
    return bool(section.flags & _SHF_COMPRESSED) or section.name.startswith(_OLD_NAME)


def chunks(section: Section, file: Content, most: int) -> Iterator[bytes]:
    """Yield the content of a compressed section, uncompressed, in pieces of at most 1 MiB.

    Raises NotReadError for any other compression than zlib's, for damaged content and behind ``most``
    bytes.
    """
    if section.end > file.size:
        raise NotReadError("lies behind the end")
    content = file.part(section.offset, section.end - section.offset)
    start = _start(section, content)
    unpacker, size = zlib.decompressobj(), 0
    for piece in content.part(start, content.size - start).chunks(_PIECE):
        data = bytes(piece)
        while data and not unpacker.eof:
            try:
                out = unpacker.decompress(data, _PIECE)
            except zlib.error as error:
                raise NotReadError(str(error)) from error
            size += len(out)
            if size > most:
                raise NotReadError(f"more than {most} bytes")
            yield out
            data = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise NotReadError("incomplete")


def _start(section: Section, content: Content) -> int:
    """Return the offset at which zlib's stream begins."""
    if section.flags & _SHF_COMPRESSED:
        header = content.part(0, min(_CHDR.size, content.size)).read()
        if len(header) == _CHDR.size and _CHDR.unpack(header)[0] == _ELFCOMPRESS_ZLIB:
            return _CHDR.size
    elif content.size >= _OLD_HEADER and content.part(0, len(_OLD_MAGIC)).read() == _OLD_MAGIC:
        return _OLD_HEADER
    raise NotReadError("not by zlib")
