"""What probably made a file another one, by what of it differs, and what to do about it."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mystikos_tool.explain.contents import SectionChange, section_content
from mystikos_tool.io.content import Content


@dataclass(frozen=True)
class Cause:
    """A likely cause in a few words, and the remedy."""

    cause: str
    remedy: str


_MAX_READ = 1 << 24  # bytes of a file that are read to find a cause
_SEARCHED = 1 << 24  # bytes of a section
_WINDOW = 1 << 11  # bytes on both sides of the first that differs

PYC_TIME = Cause(
    "the time of a source file in a .pyc",
    "compile with SOURCE_DATE_EPOCH set or 'python -m compileall --invalidation-mode unchecked-hash', or"
    " leave __pycache__ out (MYST_ROOTFS_EXCLUDE)",
)
PYC_VERSION = Cause(
    "another version of Python compiled a .pyc", "build with the same Python, or leave __pycache__ out"
)
PYC_PATH = Cause(
    "a build path in a .pyc",
    "compile with 'python -m compileall -s DIR -p /', so that the paths are those in the root, or leave"
    " __pycache__ out (MYST_ROOTFS_EXCLUDE)",
)
PYC_THERE = Cause("Python wrote __pycache__ in one of the two", "leave __pycache__ out (MYST_ROOTFS_EXCLUDE)")
DEBUG_PATH = Cause(
    "a build path in debug information",
    "compile with -ffile-prefix-map=DIR=. and assemble with --debug-prefix-map, or strip the file",
)
DEBUG = Cause("debug information only", "strip the file, or compile with the same options in the same place")
BUILD_ID = Cause(
    "the linker's build ID, a digest of what the file was before it was stripped",
    "find what differs in the files that are not stripped, or link with -Wl,--build-id=none",
)
COMPILER = Cause("another compiler or linker, which .comment names", "build both with the same toolchain")
PATH = Cause(
    "a build path in the content",
    "build in the same directory, or compile with -ffile-prefix-map=DIR=. where it is __FILE__",
)
TIME = Cause(
    "a time or date in the content",
    "build with SOURCE_DATE_EPOCH set, to the same number, and without __DATE__ and __TIME__",
)
GZIP = Cause("a time or a name in a gzip header", "compress with gzip -n")
ZIP = Cause(
    "a zip or jar archive with its own dates or order, and the same files",
    "make it with SOURCE_DATE_EPOCH set, or run strip-nondeterminism on it",
)
TAR = Cause(
    "a tar archive with its own dates, owners or modes, and the same files",
    "make it with tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner",
)
AR = Cause("a static library with its own dates or owners", "make it with 'ar D' and 'ranlib -D'")
MODES = Cause(
    "permissions, which depend on the umask of whoever checked the files out",
    'take canonical modes in both (MYST_ROOTFS_MODES="canonical", --modes canonical)',
)
CODE = Cause("other code", "build from the same source, with the same compiler and options")
ORDER = Cause(
    "the order of the files, that of a file system's list",
    "pack with MystRootfs or mkcpio, which sort",
)
FIELDS = Cause(
    "an archive with its own dates, numbers or names in the headers",
    "pack with MystRootfs or mkcpio, which write the same headers everywhere",
)

_TIME = re.compile(
    rb"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d|"
    rb"\d{1,2}[ -](?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ -]\d{4}|(?<!\d)1[5-9]\d{8}(?!\d)"
)
_PATH = re.compile(rb"/[\w.+~-]+(?:/[\w.+~-]+)+")
_STRING = re.compile(rb"[\x20-\x7e]{4,}")
_PYC_HEADER = struct.Struct("<4sIII")
_BUILD_IDS = {".note.gnu.build-id", ".gnu_debuglink", ".gnu_debugaltlink"}
_DEBUG_PREFIXES = (".debug_", ".zdebug_", ".gnu.debug", ".stab", ".rela.debug_")
_SYMBOLS = {".symtab", ".strtab", ".shstrtab"}


def of_file(
    path: str,
    changes: Sequence[str],
    first_byte: int | None,
    sections: Sequence[SectionChange],
    a: Content | None,
    b: Content | None,
) -> Cause | None:
    """Return what probably made a file another one, None where nothing of it tells.

    ``changes``, ``first_byte`` and ``sections`` are as in `FileChange`. What is read is bounded.
    """
    if a is None or b is None:
        return PYC_THERE if "__pycache__" in path.split("/") else None
    if first_byte is None:
        return MODES if tuple(changes) == ("mode",) else None
    if sections:
        return of_elf(sections, a, b)
    if max(a.size, b.size) > _MAX_READ:
        return _around(a, b, first_byte)
    contents = a.read(), b.read()
    for kind in _KINDS:
        if cause := kind(path, *contents):
            return cause
    return _around(a, b, first_byte)


def of_elf(sections: Sequence[SectionChange], a: Content, b: Content) -> Cause:
    """Return what probably made an ELF file another one, by the sections that differ."""
    loaded = [section for section in sections if not _is_beside(section.name)]
    if not loaded:
        debug = [section for section in sections if section.name.startswith(_DEBUG_PREFIXES)]
        if any(_paths_in(section, a) != _paths_in(section, b) for section in debug):
            return DEBUG_PATH
        return DEBUG if debug else BUILD_ID
    if any(section.name == ".comment" for section in loaded):
        return COMPILER
    for section in loaded:
        cause = _around_section(section, a, b)
        if cause:
            return cause
    return CODE


def _is_beside(name: str) -> bool:
    return name in _BUILD_IDS or name in _SYMBOLS or name.startswith(_DEBUG_PREFIXES)


def _paths_in(section: SectionChange, file: Content) -> set[bytes]:
    """Return the strings of a section that are paths: a compiler sorts them by their hash."""
    content = section_content(file, section.name)
    data = content.part(0, min(content.size, _SEARCHED)).read() if content else b""
    return {text for text in _STRING.findall(data) if _PATH.search(text)}


def _around_section(section: SectionChange, a: Content, b: Content) -> Cause | None:
    one, other = section_content(a, section.name), section_content(b, section.name)
    if one is None or other is None or section.first_byte is None:
        return None
    return _around(one, other, section.first_byte)


def _around(a: Content, b: Content, first: int) -> Cause | None:
    """Tell a path or a time by the text that the first byte that differs lies in."""
    one, other = _string_at(a, first), _string_at(b, first)
    if one == other or not one or not other:
        return None
    if _TIME.search(one) and _TIME.search(other) and _TIME.sub(b"", one) == _TIME.sub(b"", other):
        return TIME
    if _PATH.search(one) and _PATH.search(other):
        return PATH
    return TIME if _TIME.search(one) and _TIME.search(other) else None


def _string_at(content: Content, offset: int) -> bytes:
    start = max(offset - _WINDOW, 0)
    data = content.part(start, max(min(content.size - start, 2 * _WINDOW), 0)).read()
    place = offset - start
    for match in _STRING.finditer(data):
        if match.start() <= place <= match.end():
            return match[0]
    return b""


def _pyc(path: str, a: bytes, b: bytes) -> Cause | None:
    size = _PYC_HEADER.size
    if not path.endswith((".pyc", ".pyo")) or min(len(a), len(b)) < size:
        return None
    (magic, flags, time, length), (other_magic, other_flags, other_time, other_length) = (
        _PYC_HEADER.unpack(data[:size]) for data in (a, b)
    )
    if magic != other_magic:
        return PYC_VERSION
    if a[size:] == b[size:] and flags == other_flags == 0 and length == other_length:
        return PYC_TIME if time != other_time else None
    paths = [set(_PATH.findall(data)) for data in (a, b)]
    return PYC_PATH if paths[0] ^ paths[1] and len(paths[0]) == len(paths[1]) else None


def _gzip(path: str, a: bytes, b: bytes) -> Cause | None:
    if not (a[:3] == b[:3] == b"\x1f\x8b\x08"):
        return None
    return GZIP if _behind_gzip_header(a) == _behind_gzip_header(b) else None


def _behind_gzip_header(data: bytes) -> bytes:
    """Return what follows a gzip header of RFC 1952 with no more than a name in it."""
    with_name = len(data) > 3 and data[3] & 8
    return data[data.find(b"\0", 10) + 1 :] if with_name else data[10:]


def _zip(path: str, a: bytes, b: bytes) -> Cause | None:
    if not (a[:4] == b[:4] == b"PK\3\4"):
        return None
    files = [_zip_files(data) for data in (a, b)]
    return ZIP if files[0] and files[0] == files[1] else None


def _zip_files(data: bytes) -> list[tuple[str, int, int]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return sorted((info.filename, info.CRC, info.file_size) for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error, EOFError):
        return []


def _tar(path: str, a: bytes, b: bytes) -> Cause | None:
    if not (a[257:262] == b[257:262] == b"ustar"):
        return None
    files = [_tar_files(data) for data in (a, b)]
    return TAR if files[0] and files[0] == files[1] else None


def _tar_files(data: bytes) -> list[tuple[str, bytes, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            return sorted(
                (
                    member.name,
                    member.type,
                    data[member.offset_data : member.offset_data + member.size] or member.linkname.encode(),
                )
                for member in archive
            )
    except (tarfile.TarError, ValueError, OverflowError, UnicodeError, EOFError):
        return []


def _ar(path: str, a: bytes, b: bytes) -> Cause | None:
    if not (a[:8] == b[:8] == b"!<arch>\n"):
        return None
    files = [_ar_files(data) for data in (a, b)]
    return AR if files[0] and files[0] == files[1] else None


def _ar_files(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and content of what is in a static library: headers of 60 bytes, even offsets."""
    files, at = [], 8
    while at + 60 <= len(data):
        header = data[at : at + 60]
        if not header[48:58].strip().isdigit():
            return []
        size = int(header[48:58])
        files.append((header[:16], data[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
    return files


_KINDS: tuple[Callable[[str, bytes, bytes], Cause | None], ...] = (_pyc, _gzip, _zip, _tar, _ar)
