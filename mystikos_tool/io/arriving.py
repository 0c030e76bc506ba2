"""A file that comes piece by piece: who reads it waits for what is not there yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import BinaryIO

from mystikos_tool.io.content import ReadAt


class RefusedError(Exception):
    """Nobody wants what comes of a file."""


class Arriving:
    """A file that one thread writes from its start, while others read what is there of it.

    ``size`` is what it has in bytes when it is whole. Whoever writes it says in the end that nothing
    more comes, whether it is whole or not. Whoever reads it may refuse what still comes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.written = 0
        self._has_ended = False
        self._is_refused = False
        self._changed = Condition()

    def write(self, data: bytes | memoryview) -> None:
        """Add data; they can be read at once. Raises RefusedError when the file is refused."""
        if self._is_refused:
            raise RefusedError
        self.file.write(data)
        self.file.flush()
        with self._changed:
            self.written += len(data)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def refuse(self) -> None:
        """Say that the file is not as it should be."""
        self._is_refused = True

    @contextmanager
    def at_any_offset(self) -> Iterator[ReadAt]:
        """Begin to read at any offset, waiting for what comes; fewer bytes are read where no more come."""
        descriptor = os.dup(self.file.fileno())
        try:

            def read_at(offset: int, size: int) -> bytes:
                there = self.written
                if there < offset + size:
                    there = self._waited_for(offset + size)
                return os.pread(descriptor, max(min(size, there - offset), 0), offset)

            yield read_at
        finally:
            os.close(descriptor)

    def _waited_for(self, end: int) -> int:
        """Wait until the file has so many bytes, or gets no more; return how many it has."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self.written >= end)
            return self.written
