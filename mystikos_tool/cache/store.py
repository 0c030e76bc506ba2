"""What one build remembers for the next, in one file: small tables, and large values read when needed.

What is remembered may be lost, of another version or damaged: then there is nothing, and nothing
that is not as it was written is ever returned.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from mystikos_tool.errors import UserError

_MAGIC = b"mystikos-tool store 5\n"
_HEAD = struct.Struct(f"<{len(_MAGIC)}s32sQ")  # with the digest and the size of the index
# Without references between equal values, which take longer to find than to write again.
_MARSHAL_VERSION = 2

_Place = tuple[int, int, bytes]  # offset behind the index, size, SHA-256


class Store:
    """Tables and values by name, kept at ``path`` (None: not kept)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changed = False
        self._tables: dict[str, dict[Any, Any]] = {}
        self._places: dict[str, _Place] = {}
        self._values: dict[str, bytes | None] = {}
        self._start = 0
        if path:
            self._load(path)

    def table(self, name: str) -> dict[Any, Any]:
        """Return a table of plain values, to be looked up and, with :meth:`change`, changed."""
        return self._tables.setdefault(name, {})

    def change(self, table: str, key: object, value: object) -> None:
        """Set a table's value."""
        self.table(table)[key] = value
        self._changed = True

    def value(self, name: str) -> Any:
        """Return a large value, None where there is none."""
        data = self._values[name] if name in self._values else self._read(name)
        return None if data is None else marshal.loads(data)

    def keep(self, name: str, value: Any) -> None:
        """Set a large value."""
        self._values[name] = marshal.dumps(value, _MARSHAL_VERSION)
        self._changed = True

    def forget(self, name: str) -> None:
        """Remove a large value, if it is there."""
        if name in self._places or name in self._values:
            self._values[name] = None
            self._changed = True

    def save(self) -> None:
        """Write the store beside its place and rename it; one that can't be written costs only time."""
        if not (self._path and self._changed):
            return
        from mystikos_tool.io.atomic import writing  # a build with nothing to do writes nothing

        others = self._places.keys() - self._values.keys()
        values = {name: self._read(name) for name in sorted(others)} | self._values
        kept = {name: data for name, data in values.items() if data is not None}
        places: dict[str, _Place] = {}
        offset = 0
        for name, data in kept.items():
            places[name] = (offset, len(data), hashlib.sha256(data).digest())
            offset += len(data)
        index = marshal.dumps((self._tables, places), _MARSHAL_VERSION)
        with suppress(OSError, UserError), writing(self._path) as file:
            file.write(_HEAD.pack(_MAGIC, hashlib.sha256(index).digest(), len(index)) + index)
            file.writelines(kept.values())
        self._changed = False

    def _load(self, path: Path) -> None:
        with suppress(OSError, ValueError, EOFError, TypeError, struct.error, OverflowError, MemoryError):
            with path.open("rb") as file:
                magic, digest, size = _HEAD.unpack(file.read(_HEAD.size))
                index = file.read(size)
            # marshal trusts its input: only what was written whole by this version is given to it.
            if magic == _MAGIC and hashlib.sha256(index).digest() == digest:
                self._tables, self._places = marshal.loads(index)
                self._start = _HEAD.size + size

    def _read(self, name: str) -> bytes | None:
        """Read a value's data; None where the file is another one by now, or damaged."""
        if self._path is None or name not in self._places:
            return None
        offset, size, digest = self._places[name]
        with suppress(OSError), self._path.open("rb") as file:
            data = os.pread(file.fileno(), size, self._start + offset)
            if hashlib.sha256(data).digest() == digest:
                return data
        return None
