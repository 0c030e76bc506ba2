"""What `check` finds in a root that cannot work in an enclave."""

from __future__ import annotations

import json
import re
import stat
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny_elf
from hypothesis import given
from hypothesis import strategies as st
from test_difference import root_of
from tiny_runtime import build, inputs

import mystikos_tool
from mystikos_tool import Check, Finding, UserError
from mystikos_tool.explain import check as checks
from mystikos_tool.formats import program
from mystikos_tool.io.content import Bytes
from mystikos_tool.root import functions
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.runtime.build import SOURCE_DIRECTORY

MUSL = "/lib/ld-musl-x86_64.so.1"
FILE, PROGRAM, LINK, DIR = 0o100644, 0o100755, 0o120777, 0o040755

Entry = tuple[int, bytes]


def app(**given: Any) -> Entry:
    return PROGRAM, tiny_elf.program(interpreter=MUSL, needed=["libc.so"], **given)


def library(**given: Any) -> Entry:
    return FILE, tiny_elf.program(needed=["libc.so"], **given)


GOOD: Mapping[str, Entry] = {"bin/app": app(), MUSL.lstrip("/"): (PROGRAM, library()[1])}


def checked(directory: Path, entries: Mapping[str, Entry], **keys: object) -> Check:
    """Check a root of files by path, with a configuration that starts /bin/app unless it says otherwise."""
    every = {**GOOD, **entries}
    paths = {*every, *(str(above) for path in every for above in Path(path).parents if str(above) != ".")}
    rows = [(path.encode(), *every.get(path, (DIR, b""))) for path in sorted(paths)]
    archive = root_of(directory / "root.cpio", rows)
    config = {"version": "0.1", "ApplicationPath": "/bin/app", **keys}
    return mystikos_tool.check(archive, config=config)


def found(check: Check, kind: str) -> Finding:
    """The one finding of a kind."""
    (finding,) = [finding for finding in check.findings if finding.kind == kind]
    return finding


def test_a_root_that_has_all_that_its_program_needs_has_no_finding(tmp_path: Path) -> None:
    assert checked(tmp_path, {}).findings == ()


# How programs start


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (tiny_elf.program(), "/bin/app is statically linked"),
        (tiny_elf.program(pie=True), "/bin/app is statically linked"),
        (tiny_elf.program(interpreter=MUSL, kind=2), "/bin/app is not position-independent"),
        (tiny_elf.program(interpreter=MUSL, needed=["libx.so"]), "the library libx.so"),
    ],
)
def test_a_program_to_start_that_mystikos_never_starts_is_an_error(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    check = checked(tmp_path, {"bin/app": (PROGRAM, content)})
    (finding,) = check.findings
    assert (finding.severity, finding.kind) == ("error", "start")
    assert problem in finding.problem
    assert check.fails()


def test_a_program_that_lacks_its_interpreter_is_told(tmp_path: Path) -> None:
    other = PROGRAM, tiny_elf.program(interpreter="/lib/ld-musl-other.so.1")
    finding = found(checked(tmp_path, {"bin/app": other}), "start")
    assert finding.severity == "warning"
    assert "its interpreter /lib/ld-musl-other.so.1 is not in the root" in finding.problem


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("static", tiny_elf.program(kind=2)),
        ("static", tiny_elf.program(pie=True)),
        ("no-pie", tiny_elf.program(interpreter=MUSL, kind=2)),
        ("c-library", tiny_elf.program(interpreter="/lib64/ld-linux-x86-64.so.2")),
    ],
)
def test_another_program_that_cannot_be_started_is_a_warning(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    check = checked(tmp_path, {"usr/bin/tool": (PROGRAM, content)})
    finding = found(check, kind)
    assert (finding.severity, finding.where) == ("warning", "/usr/bin/tool")
    assert not check.fails()
    assert check.fails("warning")


def test_a_script_with_line_ends_of_windows_is_a_warning(tmp_path: Path) -> None:
    check = checked(tmp_path, {"usr/bin/tool": (PROGRAM, b"#!/bin/app -e\r\n")})
    assert "its first line ends with a carriage return" in found(check, "script").problem
    assert check.fails("warning")


def test_a_library_is_no_static_program(tmp_path: Path) -> None:
    assert checked(tmp_path, {"lib/libx.so": library()}).findings == ()


def test_all_that_keeps_a_package_from_starting_is_told_at_once(tmp_path: Path) -> None:
    entries = {"bin/app": (PROGRAM, tiny_elf.program()), "proc/own": (FILE, b""), "m": (FILE, b"")}
    check = checked(tmp_path, entries, Mount=[{"Target": "/m", "Type": "hostfs"}])
    problems = [finding.problem for finding in check.findings if finding.severity == "error"]
    assert len(problems) == 3
    assert "/proc/own lies in /proc" in " ".join(problems)


def test_a_mount_with_flags_is_an_error(tmp_path: Path) -> None:
    mount = {"Target": "/mnt", "Type": "hostfs", "Flags": ["ro"]}
    finding = found(checked(tmp_path, {"mnt": (DIR, b"")}, Mount=[mount]), "mount")
    assert finding.severity == "error"
    assert finding.where.endswith("Mount[0]")


# What programs and libraries use


@pytest.mark.parametrize(
    ("function", "kind", "severity"),
    [
        ("timer_create", "stops", "warning"),
        ("pselect", "stops", "warning"),
        ("shmget", "stops", "warning"),
        ("clock_nanosleep", "stops", "note"),
        ("inotify_add_watch", "nothing", "warning"),
        ("flock", "nothing", "note"),
        ("mkfifo", "fails", "warning"),
        ("fork", "fails", "warning"),
        ("daemon", "fails", "warning"),
        ("getifaddrs", "fails", "warning"),
        ("sem_open", "differs", "note"),
        ("getpwuid", "users", "note"),
    ],
)
def test_a_function_that_is_another_in_the_enclave_is_told_with_who_uses_it(
    tmp_path: Path, function: str, kind: str, severity: str
) -> None:
    check = checked(tmp_path, {"lib/libx.so": library(imports=["malloc", function])})
    (finding,) = check.findings
    assert (finding.where, finding.kind, finding.severity) == ("/lib/libx.so", kind, severity)
    assert finding.problem.startswith(f"uses {function}")


def test_who_has_a_function_of_its_own_does_not_use_the_c_library_s(tmp_path: Path) -> None:
    assert checked(tmp_path, {"lib/libx.so": library(exports=["timer_create"])}).findings == ()


def test_the_c_library_is_not_held_against_itself(tmp_path: Path) -> None:
    assert checked(tmp_path, {"lib/libc.so.6": library(imports=["timer_create"])}).findings == ()


def test_what_the_configuration_asks_for_decides_what_becomes_of_a_function(tmp_path: Path) -> None:
    user = {"lib/libx.so": library(imports=["fork", "timer_create"])}
    check = checked(tmp_path, user, ForkMode="pseudo", UnhandledSyscallEnosys=True)
    assert "shares the memory of its parent" in found(check, "differs").problem
    assert "ENOSYS" in found(check, "fails").problem


def test_users_are_found_where_there_is_a_file_of_them(tmp_path: Path) -> None:
    entries = {"lib/libx.so": library(imports=["getpwuid"]), "etc/passwd": (FILE, b"root:x:0:0::/:\n")}
    assert checked(tmp_path, entries).findings == ()


def test_each_call_that_is_said_to_stop_a_program_is_none_that_the_kernel_handles() -> None:
    table = (SOURCE_DIRECTORY / "crt" / "calls.c").read_text()
    unhandled = set(re.findall(r"\bU\(\d+, (\w+)\)", table))
    for_glibc_only = {"pselect6"}
    assert set(functions.UNHANDLED.values()) - unhandled - for_glibc_only == set()


# Files


@pytest.mark.parametrize(
    ("path", "entry", "kind", "severity"),
    [
        ("bin/su", (PROGRAM | stat.S_ISUID, b""), "set-id", "warning"),
        ("bin/wall", (PROGRAM | stat.S_ISGID, b""), "set-id", "warning"),
        ("etc/hosts", (FILE, b""), "replaced", "note"),
        ("etc/resolv.conf", (FILE, b""), "replaced", "note"),
        ("etc/resolv.conf", (LINK, b"../run/resolv.conf"), "start", "error"),
        ("proc/cpuinfo", (FILE, b""), "start", "error"),
        ("tmp", (FILE, b""), "crash", "warning"),
        ("self", (LINK, b"self"), "crash", "warning"),
        ("bin/script", (PROGRAM, b"#!/bin/app -a -b\n"), "script", "note"),
        ("x" * 254, (FILE, b""), "path", "warning"),
        ("x" * 255, (FILE, b""), "path", "error"),
        ("appenv.json", (FILE, b"no"), "start", "error"),
    ],
)
def test_a_file_that_is_another_thing_in_the_enclave_is_told(
    tmp_path: Path, path: str, entry: Entry, kind: str, severity: str
) -> None:
    assert severity in {one.severity for one in checked(tmp_path, {path: entry}).findings if one.kind == kind}


# Memory


@pytest.mark.parametrize(
    ("size", "problem"),
    [("1m", "do not suffice for Mystikos to boot"), ("16m", "the program, its libraries and its main stack")],
)
def test_memory_that_cannot_suffice_is_an_error(tmp_path: Path, size: str, problem: str) -> None:
    program = PROGRAM, tiny_elf.program(interpreter=MUSL, needed=["libx.so"], memory=8 << 20)
    big = {"bin/app": program, "lib/libx.so": library(memory=8 << 20)}
    finding = found(checked(tmp_path, big, MemorySize=size), "memory")
    assert finding.severity == "error"
    assert problem in finding.problem
    assert found_kinds(checked(tmp_path, big, MemorySize="32m")) == set()


def found_kinds(check: Check) -> set[str]:
    return {finding.kind for finding in check.findings}


# What can be checked, and what is printed


def test_a_directory_an_archive_and_a_package_are_checked_alike(tmp_path: Path) -> None:
    made = inputs(tmp_path)
    package = build(made, tmp_path / "package")
    config = tmp_path / "config.json"
    given = (tmp_path / "appdir", tmp_path / "root.cpio", package)
    one, two, three = (mystikos_tool.check(path, config=config) for path in given)
    assert found_kinds(one) == found_kinds(two) == found_kinds(three) == {"memory"}
    own = mystikos_tool.check(package)
    assert own.configuration
    assert found_kinds(own) == {"memory"}


def test_without_a_configuration_the_files_alone_are_looked_at(tmp_path: Path) -> None:
    archive = root_of(tmp_path / "root.cpio", [(b"tool", PROGRAM, tiny_elf.program(kind=2))])
    check = mystikos_tool.check(archive)
    assert not check.configuration
    assert found_kinds(check) == {"static"}


def test_a_disk_and_a_package_with_its_root_there_are_checked_as_a_directory_is(tmp_path: Path) -> None:
    made = inputs(tmp_path)
    package = build(made._replace(root=DiskRoot()), tmp_path / "package")
    (tmp_path / "appdir" / "tool").write_bytes(tiny_elf.program(kind=2))
    (tmp_path / "appdir" / "tool").chmod(0o755)
    disk, config = tmp_path / "disk", tmp_path / "config.json"
    mystikos_tool.disk(disk, tmp_path / "appdir")
    found = [
        mystikos_tool.check(tmp_path / "appdir", config=config),
        mystikos_tool.check(disk, config=config),
        mystikos_tool.check(package, disk=disk),
    ]
    assert [found_kinds(check) for check in found] == [{"memory", "static"}] * 3


def test_a_package_with_its_root_on_a_disk_asks_for_it(tmp_path: Path) -> None:
    package = build(inputs(tmp_path)._replace(root=DiskRoot()), tmp_path / "package")
    with pytest.raises(UserError, match="holds no root that could be looked into"):
        mystikos_tool.check(package)


def test_a_disk_for_what_has_its_root_on_none_is_refused(tmp_path: Path) -> None:
    package, disk = build(inputs(tmp_path), tmp_path / "package"), tmp_path / "disk"
    mystikos_tool.disk(disk, tmp_path / "appdir")
    with pytest.raises(UserError, match="has its root on no disk"):
        mystikos_tool.check(package, disk=disk)
    with pytest.raises(UserError, match="is a disk itself"):
        mystikos_tool.check(disk, disk=disk)


def test_json_is_as_its_schema_says_and_the_severest_come_first(tmp_path: Path) -> None:
    entries = {
        "bin/app": (PROGRAM, tiny_elf.program()),
        "lib/libx.so": library(imports=["flock", "fork", "timer_create", "sem_open", "getpwnam"]),
        "etc/hosts": (FILE, b""),
        "bin/su": (PROGRAM | stat.S_ISUID, b""),
    }
    check = checked(tmp_path, entries, MemorySize="1m")
    document = json.loads(check.to_json())
    jsonschema.validate(document, json.loads(checks.SCHEMA.read_text()))
    severities = [finding["severity"] for finding in document["findings"]]
    assert severities == sorted(severities, key=functions.SEVERITIES.index)
    assert document["counts"] == {name: severities.count(name) for name in functions.SEVERITIES}


def test_what_is_the_same_of_several_files_is_one_line_of_the_table(tmp_path: Path) -> None:
    users = {f"lib/lib{letter}.so": library(imports=["fork"]) for letter in "abdef"}
    lines = checked(tmp_path, users).to_text().splitlines()
    assert lines[0].startswith("warning  /lib/liba.so, /lib/libb.so, /lib/libd.so and 2 more: uses fork: ")
    assert lines[1].endswith("root.cpio: 0 errors, 5 warnings, 0 notes")


def test_a_hostile_name_does_not_reach_the_terminal(tmp_path: Path) -> None:
    text = checked(tmp_path, {"bin/\x1b[2J": (PROGRAM | stat.S_ISUID, b"")}).to_text()
    assert "\x1b" not in text
    assert "/bin/\\x1b[2J" in text


def test_more_findings_than_anybody_reads_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_FINDINGS", 3)
    users = {f"lib/lib{letter}.so": library(imports=["fork"]) for letter in "abxyz"}
    check = checked(tmp_path, users)
    assert (len(check.findings), check.left_out) == (3, 2)
    assert "and 2 more that are not shown" in check.to_text()


# Hostile input

DAMAGED = tiny_elf.program(interpreter=MUSL, needed=["libc.so"], imports=["fork", "timer_create"])


@given(st.integers(0, len(DAMAGED) - 1), st.binary(max_size=8))
def test_damage_to_a_program_is_read_and_never_a_crash(place: int, damage: bytes) -> None:
    damaged = DAMAGED[:place] + damage + DAMAGED[place + len(damage) :]
    with Bytes(damaged).at_any_offset() as read_at:
        assert isinstance(program.imports(read_at), frozenset | None)


def with_claims(data: bytes, claims: Mapping[int, int]) -> bytes:
    """The same program with other values of entries of its PT_DYNAMIC, which is at its end."""
    changed = bytearray(data)
    for at in range(len(data) - 16, 0, -16):
        (tag,) = struct.unpack_from("<Q", data, at)
        if tag in claims:
            struct.pack_into("<Q", changed, at + 8, claims[tag])
        if set(claims) <= {struct.unpack_from("<Q", data, each)[0] for each in range(at, len(data) - 15, 16)}:
            return bytes(changed)
    raise AssertionError("the program lacks an entry")


def test_tables_that_claim_to_be_endless_cost_no_more_than_the_file(tmp_path: Path) -> None:
    names = ["x" * 20] * 5000
    endless = dict.fromkeys((10, 2), 1 << 63)  # DT_STRSZ, DT_PLTRELSZ
    content = with_claims(app(imports=names)[1], endless).replace(b"x\0", b"xx")
    started = time.monotonic()
    checked(tmp_path, {f"bin/{number}": (PROGRAM, content) for number in range(20)})
    assert time.monotonic() - started < 5


def test_a_library_with_more_symbols_than_are_looked_at_is_told(tmp_path: Path) -> None:
    content = bytearray(library(imports=["fork"])[1])
    at = content.index(struct.pack("<QQ", 0, 1 << 32 | 7))
    struct.pack_into("<Q", content, at + 8, 0xFFFFFFFF << 32 | 7)
    check = checked(tmp_path, {"lib/libx.so": (FILE, bytes(content))})
    assert found_kinds(check) == {"unknown"}
