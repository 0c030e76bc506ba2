"""Fixed-size binary records described by a table of fields."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple


class Field(NamedTuple):
    """A field's name, offset in bytes and ``struct`` format; a ``filled`` one is filled up with zeros."""

    name: str
    offset: int
    format: str
    filled: bool = False

    @property
    def size(self) -> int:
        """Number of bytes."""
        return struct.calcsize("<" + self.format)

    def takes(self, value: bytes) -> bool:
        """Tell whether a value has the right number of bytes."""
        return len(value) == self.size or (self.filled and len(value) < self.size)


class Record:
    """Packs and unpacks ``size`` bytes, little-endian unless ``order`` is ">"; what has no field is zero."""

    def __init__(self, size: int, fields: tuple[Field, ...], order: str = "<") -> None:
        self.size = size
        self._order = order
        self.fields = {field.name: field for field in fields}
        ends = (0, *(field.offset + field.size for field in fields))
        formats = (f"{field.offset - end}x{field.format}" for field, end in zip(fields, ends, strict=False))
        self._layout = struct.Struct(order + "".join(formats))

    def pack(self, values: Mapping[str, int | bytes]) -> bytes:
        """Return the record's bytes; a field without a value is zero."""
        return self.patch(bytes(self.size), values)

    def patch(self, record: bytes, values: Mapping[str, int | bytes]) -> bytes:
        """Return ``record`` with the named fields replaced; raise ValueError for a wrong number of bytes."""
        if len(record) != self.size:
            raise ValueError(f"a record of {self.size} bytes was expected, not of {len(record)}")
        data = bytearray(record)
        for name, value in values.items():
            field = self.fields[name]
            if isinstance(value, bytes) and not field.takes(value):  # struct would pad or cut it
                raise ValueError(f"{name} has {field.size} bytes, not {len(value)}")
            struct.pack_into(self._order + field.format, data, field.offset, value)
        return bytes(data)

    def unpack(self, record: bytes) -> dict[str, int | bytes]:
        """Return every field's value: an int, or bytes for a ``Ns`` format."""
        return dict(zip(self.fields, self._layout.unpack_from(record), strict=True))

    def get_int(self, record: bytes, name: str) -> int:
        """Return the value of an integer field."""
        return int(self._value(record, name))

    def get_bytes(self, record: bytes, name: str) -> bytes:
        """Return the value of a bytes field."""
        return bytes(self._value(record, name))

    def _value(self, record: bytes, name: str) -> int | bytes:
        field = self.fields[name]
        value: int | bytes = struct.unpack_from(self._order + field.format, record, field.offset)[0]
        return value

    def different(self, record: bytes, other: bytes) -> list[str]:
        """Return the names of the fields in which two records differ."""
        return [name for name in self.fields if self._value(record, name) != self._value(other, name)]

    def reserved(self, record: bytes) -> bytes:
        """Return the bytes that no field covers, in order."""
        covered = bytearray(self.size)
        for field in self.fields.values():
            covered[field.offset : field.offset + field.size] = b"\1" * field.size
        return bytes(byte for byte, used in zip(record, covered, strict=True) if not used)
