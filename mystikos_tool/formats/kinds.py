"""What a file is by what it begins with, for messages about one that stands in the place of another."""

from __future__ import annotations

from mystikos_tool.formats import cpio

SIZE = 4096  # bytes: more are not looked at

EMPTY, CONFIGURATION, JSON = "empty", "a configuration", "a JSON document"
ELF, ARCHIVE, DISK, MEASUREMENT = "an ELF file", "a CPIO archive", "a disk", "a measurement"

_MAGICS = ((b"\x7fELF", ELF), (cpio.MAGIC, ARCHIVE), (b"-----BEGIN ", "a PEM file"), (b"#!", "a script"))
_EXT2_MAGIC, _EXT2_MAGIC_OFFSET = b"\x53\xef", 1080


def kind(start: bytes) -> str:
    """Return what begins like this, as in "is a disk"; "" for an unknown file."""
    start = start[:SIZE]
    if not start:
        return EMPTY
    for magic, name in _MAGICS:
        if start.startswith(magic):
            return name
    if start.lstrip().startswith(b"{"):
        return _kind_of_json(start)
    return DISK if is_disk(start) else ""


def is_disk(start: bytes) -> bool:
    """Tell a disk by the magic number of ext2, as the reference does, or of LUKS; it takes 1082 bytes."""
    from mystikos_tool.formats import luks  # most files are no disks

    return start[_EXT2_MAGIC_OFFSET:].startswith(_EXT2_MAGIC) or luks.is_header(start)


def _kind_of_json(start: bytes) -> str:
    if b'"mrenclave"' in start and b'"sigstruct"' in start:
        return MEASUREMENT
    return CONFIGURATION if b'"ApplicationPath"' in start else JSON


def instead_of(start: bytes, wanted: str) -> str:
    """Return what is wrong with what begins like this where something else is wanted."""
    found = kind(start)
    return f"is {found}, no {wanted}" if found else f"is no {wanted}"
