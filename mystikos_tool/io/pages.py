"""Page arithmetic: SGX works in pages of 4096 bytes."""

from __future__ import annotations

PAGE = 4096


def page_up(size: int) -> int:
    """Round a size in bytes up to a whole number of pages."""
    return -(-size // PAGE) * PAGE


def align_up(value: int, alignment: int) -> int:
    """Round up to a multiple of ``alignment``; 0 counts as 1, as in an ELF section header."""
    step = max(alignment, 1)
    return -(-value // step) * step


def power_of_two_up(size: int) -> int:
    """Return the smallest power of two that is at least ``size``."""
    return 1 << max(size - 1, 0).bit_length()
