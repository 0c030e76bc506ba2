"""What a file is told to be that stands in the place of another."""

from __future__ import annotations

import pytest

from mystikos_tool.formats import cpio, kinds, luks


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "empty"),
        (b"\x7fELF\2\1\1", "an ELF file"),
        (cpio.MAGIC, "a CPIO archive"),
        (b"-----BEGIN PUBLIC KEY-----\n", "a PEM file"),
        (b"#!/bin/sh\n", "a script"),
        (bytes(1080) + b"\x53\xef", "a disk"),
        (luks.MAGIC, "a disk"),
        (b'\n{"format": 1, "mrenclave": "00", "sigstruct": "00"}', "a measurement"),
        (b'{"format": 1, "mrenclave": "00"}', "a JSON document"),
        (b'{"ApplicationPath": "/bin/app"}', "a configuration"),
        (b"hello", ""),
        (bytes(5000), ""),
    ],
)
def test_a_file_is_told_by_what_it_begins_with(start: bytes, kind: str) -> None:
    assert kinds.kind(start) == kind


def test_what_is_not_known_is_told_to_be_not_what_is_wanted() -> None:
    assert kinds.instead_of(b"hello", "package") == "is no package"
    assert kinds.instead_of(b"", "package") == "is empty, no package"
