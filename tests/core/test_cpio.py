"""The archive's form: members are planned and parsed as values, without any file."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool.errors import UserError
from mystikos_tool.formats import cpio

FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


class Reading:
    """Bytes that are read from any offset, and how many were."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0
        self.calls = 0

    def __call__(self, offset: int, size: int) -> bytes:
        found = self.data[offset : offset + size]
        self.read += len(found)
        self.calls += 1
        return found


def archive(files: list[tuple[bytes, bytes]]) -> tuple[list[cpio.Member], bytes]:
    planned = cpio.plan((path, FILE, len(data)) for path, data in files)
    members = (cpio.header(path, FILE, len(data)) + data + cpio.padding(len(data)) for path, data in files)
    written = b"".join((cpio.ROOT, *members))
    return planned, written + cpio.end(len(written))


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {b"\0"[0], b"/"[0]} & set(name) and name not in (b".", b"..", cpio.TRAILER_NAME)
)


@given(st.lists(st.tuples(names, st.binary(max_size=9)), unique_by=lambda file: file[0]))
def test_an_archive_is_read_as_it_was_planned(files: list[tuple[bytes, bytes]]) -> None:
    planned, data = archive(files)
    assert len(data) % 512 == 0
    assert list(cpio.members(Reading(data), len(data), "archive")) == planned
    assert [data[member.offset :][: member.size] for member in planned] == [content for _, content in files]
    ends = [member.end for member in planned]
    assert [member.start for member in planned] == [len(cpio.ROOT), *ends][: len(planned)]


def test_a_member_is_read_when_it_is_asked_for_and_data_are_passed_over() -> None:
    """What is read for an archive follows from the number of its members, not from their size."""
    _, data = archive([(b"%d" % number, bytes(10_000)) for number in range(100)])
    reading = Reading(data)
    members = cpio.members(reading, len(data), "archive")
    assert next(members).path == b"0"
    assert reading.read < 1000
    assert len(list(members)) == 99
    assert reading.read < 102 * 400


def test_many_small_members_are_read_with_few_calls() -> None:
    _, data = archive([(b"%d" % number, b"small") for number in range(10_000)])
    reading = Reading(data)
    assert len(list(cpio.members(reading, len(data), "archive"))) == 10_000
    assert reading.calls < 50
    assert reading.read < 1.1 * len(data)


def test_an_archive_of_too_many_members_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MAX_MEMBERS", 1000)
    files = [(b"%d" % number, b"") for number in range(1000)]
    _, data = archive(files)
    assert len(list(cpio.members(Reading(data), len(data), "archive"))) == 1000
    _, data = archive([*files, *((b"more%d" % number, b"") for number in range(100_000))])
    reading = Reading(data)
    with pytest.raises(UserError, match="more0: is one of more than 1,000 members"):
        list(cpio.members(reading, len(data), "archive"))
    assert reading.read < len(data) / 20


@pytest.mark.parametrize(
    ("path", "mode", "size", "problem"),
    [
        (b"f" * 255, FILE, (1 << 32) - 1, None),
        (b"d", DIRECTORY, 0, None),
        (b"l", LINK, 4, None),
        (b"d/TRAILER!!!", FILE, 0, None),
        (b"f" * 256, FILE, 0, "has 256 bytes and the kernel reads no more than 255"),
        (b"f", FILE, 1 << 32, "the archive holds files below 4 GiB"),
        (b"TRAILER!!!", FILE, 0, "has the name that ends an archive"),
        (b"s", stat.S_IFSOCK | 0o644, 0, "has the type 140000"),
        (b"b", stat.S_IFBLK | 0o644, 0, "has the type 60000"),
    ],
)
def test_what_an_archive_cannot_hold_is_known_before(
    path: bytes, mode: int, size: int, problem: str | None
) -> None:
    fault = cpio.fault(path, mode, size)
    assert (problem in fault[0]) if fault and problem else fault is problem
