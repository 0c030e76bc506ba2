"""SHA-256 with a state that can be kept: the functions of OpenSSL, of which hashlib hands no state out."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from functools import lru_cache

BLOCK = 64
STATE_SIZE = 32

_WORDS = struct.Struct(">8I")


class _Context(ctypes.Structure):
    """SHA256_CTX (openssl/sha.h)."""

    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("bits_low", ctypes.c_uint32),
        ("bits_high", ctypes.c_uint32),
        ("data", ctypes.c_uint32 * 16),
        ("num", ctypes.c_uint),
        ("md_len", ctypes.c_uint),
    )


class Sha256:
    """A digest of which, behind a whole number of blocks, the state can be had, and set.

    Raises OSError or AttributeError where there are no such functions, see :func:`is_available`.
    """

    def __init__(self) -> None:
        self._functions = _functions()
        self._context = _Context()
        self._functions.SHA256_Init(ctypes.byref(self._context))
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Hash bytes; a view has to be of memory that may be written. Other threads run meanwhile."""
        given = data if isinstance(data, bytes) else (ctypes.c_char * len(data)).from_buffer(data)
        self._functions.SHA256_Update(ctypes.byref(self._context), given, ctypes.c_size_t(len(data)))
        self.size += len(data)

    @property
    def state(self) -> bytes:
        """The state behind ``size`` bytes, 32 bytes; ``size`` is a multiple of BLOCK."""
        return _WORDS.pack(*self._context.h)

    def go_on(self, state: bytes, size: int) -> None:
        """Go on where ``state`` was had, behind ``size`` bytes, a multiple of BLOCK."""
        self._functions.SHA256_Init(ctypes.byref(self._context))
        self._context.h[:] = _WORDS.unpack(state)
        self._context.bits_high, self._context.bits_low = divmod(size * 8, 1 << 32)
        self.size = size

    def digest(self) -> bytes:
        """Return the digest, 32 bytes; nothing more can be hashed."""
        found = ctypes.create_string_buffer(STATE_SIZE)
        self._functions.SHA256_Final(found, ctypes.byref(self._context))
        return found.raw


@lru_cache(None)
def is_available() -> bool:
    """Tell whether there are such functions, and they do what is expected of them here."""
    data = bytes(range(BLOCK))
    try:
        begun, resumed = Sha256(), Sha256()
        begun.update(data)
        resumed.go_on(begun.state, begun.size)
        resumed.update(memoryview(bytearray(data))[1:])
        return resumed.digest() == hashlib.sha256(data + data[1:]).digest()
    except (OSError, AttributeError):
        return False


@lru_cache(None)
def _functions() -> ctypes.CDLL:
    """Return the library that has the functions: the one that hashlib is linked to."""
    import _hashlib

    return ctypes.CDLL(getattr(_hashlib, "__file__", None))  # None where the interpreter itself has it
