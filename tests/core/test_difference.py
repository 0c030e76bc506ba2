"""What `diff` tells of two enclaves: whether they are the same, what differs, down to the page, and why."""

from __future__ import annotations

import gzip
import io
import json
import os
import py_compile
import shutil
import subprocess
import tarfile
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import tiny_elf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import DATA
from tiny_enclave import TinyEnclave, pages
from tiny_runtime import DAY, build, inputs, key, root_path

import mystikos_tool
from examples import examples
from mystikos_tool import UserError, pipeline
from mystikos_tool.config import Config
from mystikos_tool.explain import causes, contents, difference, stream, text
from mystikos_tool.explain.areas import areas
from mystikos_tool.explain.difference import Difference
from mystikos_tool.formats import cpio
from mystikos_tool.io.content import Bytes
from mystikos_tool.packaging import sections
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root import archive
from mystikos_tool.root.root import ArchiveRoot, DiskRoot
from mystikos_tool.signing import pem

SCHEMA = json.loads(difference.SCHEMA.read_text())


def compared(a: Path, b: Path) -> Difference:
    """Compare two, hold what is told to programs against the schema, and see that it can be printed."""
    found = mystikos_tool.diff(a, b)
    jsonschema.validate(json.loads(found.to_json()), SCHEMA)
    assert text.of(found)
    return found


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    (tmp_path / "made").mkdir()
    return inputs(tmp_path / "made", ProductID=7)


@pytest.fixture
def app(tmp_path: Path, made: Inputs) -> Path:
    return build(made, tmp_path / "app")


def with_config(made: Inputs, data: bytes) -> Inputs:
    from mystikos_tool import config

    return made._replace(config=config.parse(data, "config.json"))


def with_root(made: Inputs, directory: Path, **files: bytes) -> Inputs:
    """The same with a root that has these files more, or others."""
    appdir = directory / "other"
    shutil.copytree(root_path(made).parent / "appdir", appdir)
    for name, data in files.items():
        (appdir / name).write_bytes(data)
    pipeline.pack(appdir, directory / "other.cpio")
    return made._replace(root=ArchiveRoot(directory / "other.cpio"))


# The same enclave


def test_two_builds_of_one_enclave_are_the_same(tmp_path: Path, made: Inputs, app: Path) -> None:
    found = compared(app, build(made, tmp_path / "again"))
    assert found.same
    assert (found.first_operation, found.areas, found.signature, found.root) == (None, [], [], None)
    assert text.of(found).startswith("the same enclave\n")


def test_another_signer_and_date_are_the_same_enclave(tmp_path: Path, made: Inputs, app: Path) -> None:
    other = pem.load(DATA / "keys" / "key-b.pem")
    pipeline.build(made, other, date(2026, 12, 1), tmp_path / "signed")
    found = compared(app, tmp_path / "signed")
    assert found.same
    assert [change.name for change in found.signature] == ["date", "mrsigner"]
    assert text.of(found).startswith("the same enclave: only date, signer differ\n")


def test_a_package_and_its_signed_directory_are_the_same_enclave(
    tmp_path: Path, made: Inputs, app: Path
) -> None:
    pipeline.build_directory(made, root_path(made), key(), DAY, tmp_path / "signed")
    assert compared(app, tmp_path / "signed").same


def test_a_package_and_its_measurement_are_the_same_enclave(tmp_path: Path, made: Inputs, app: Path) -> None:
    (tmp_path / "measured").write_bytes(pipeline.measure(made).to_json())
    assert compared(app, tmp_path / "measured").same
    assert compared(tmp_path / "measured", tmp_path / "measured").same


def test_a_package_and_its_appdir_or_archive_are_the_same_enclave(made: Inputs, app: Path) -> None:
    assert compared(app, root_path(made)).same
    assert compared(root_path(made).parent / "appdir", app).same


def test_two_packages_of_one_disk_are_the_same_enclave(tmp_path: Path, made: Inputs) -> None:
    disk = made._replace(root=DiskRoot())
    assert compared(build(disk, tmp_path / "a"), build(disk, tmp_path / "b")).same


# The first operation, and the pages


def brute_force(a: TinyEnclave, b: TinyEnclave) -> tuple[str, int] | None:
    """Name and offset of the first operation that differs, by writing both streams out."""

    def operations(one: TinyEnclave) -> list[tuple[str, int, object]]:
        found: list[tuple[str, int, object]] = [("ECREATE", 0, one.laid_out().size)]
        for page in pages(one.laid_out()):
            found.append(("EADD", page.offset, page.flags))
            for at in range(0, 4096 if page.measured else 0, 256):
                found.append(("EEXTEND", page.offset + at, page.content[at : at + 256]))
        return found

    one, other = operations(a), operations(b)
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return mine[:2] if mine[0] == theirs[0] else ("EADD", min(mine[1], theirs[1]))
    return (
        None if len(one) == len(other) else ("EADD", max(one, other, key=len)[min(len(one), len(other))][1])
    )


BASE = TinyEnclave(rootfs=bytes(20_000))


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, rootfs=bytes(9_000) + b"1" + bytes(10_999)),
        replace(BASE, rootfs=bytes(9_000) + b"1" + bytes(30_000)),
        replace(BASE, rootfs=bytes(30_000)),
        replace(BASE, rootfs=b""),
        replace(BASE, pubkeys=b"key\0"),
        replace(BASE, config=Config("/bin/app", memory_size=3 * 4096, data=b"{}")),
        replace(BASE, config=Config("/bin/app", memory_size=2 * 4096, data=b"{ }")),
        replace(BASE, config=Config("/bin/app", memory_size=2 * 4096, product_id=3, data=b"{}")),
        replace(BASE, kernel=tiny_elf.build((tiny_elf.Load(0x2000, b"1", flags=tiny_elf.R),))),
        replace(BASE, image=tiny_elf.enclave(tiny_elf.oeinfo(tcs_count=3))),
        replace(BASE, image=tiny_elf.enclave(tiny_elf.oeinfo(heap_pages=0))),
        replace(BASE, image=tiny_elf.enclave(tiny_elf.oeinfo(), rela_dyn=((0x2000, 8, 0, 1),))),
    ],
)
def test_the_first_operation_is_that_of_the_streams_written_out(changed: TinyEnclave) -> None:
    for a, b in ((BASE, changed), (changed, BASE)):
        found = stream.compare(a.laid_out(), b.laid_out())
        assert found.first is not None
        assert (found.first.name, found.first.offset) == brute_force(a, b)


def test_the_same_pages_in_other_runs_are_the_same_stream() -> None:
    laid = BASE.laid_out()
    number, run = next((n, run) for n, run in enumerate(laid.runs) if run.content.size == 20_000)
    first = run._replace(pages=2, content=Bytes(bytes(8192)))
    rest = run._replace(offset=run.offset + 8192, pages=run.pages - 2, content=Bytes(bytes(20_000 - 8192)))
    split = laid._replace(stream=(*laid.stream[:number], first, rest, *laid.stream[number + 1 :]))
    assert stream.compare(laid, split) == stream.compare(split, laid)
    assert stream.compare(laid, split).first is None
    other = laid._replace(stream=(*laid.stream[:number], first, *laid.stream[number + 1 :]))
    found = stream.compare(laid, other).first
    assert found is not None
    assert (found.name, found.offset) == ("EADD", rest.offset)


def test_the_areas_hold_the_whole_stream_in_its_order() -> None:
    laid = BASE.laid_out()
    found = areas(laid)
    assert [run for area in found for run in area.runs] == list(laid.runs)
    assert [area.offset for area in found] == sorted(area.offset for area in found)
    for area in found:
        assert all(area.offset <= run.offset < area.offset + area.size for run in area.runs)


def test_memory_that_is_not_measured_is_compared_without_going_through_it() -> None:
    huge = replace(BASE, config=Config("/bin/app", memory_size=64 << 30, data=b"{}"))
    more = replace(BASE, config=Config("/bin/app", memory_size=(64 << 30) + 4096, data=b"{}"))
    started = time.process_time()  # going through 16 million pages takes more than a minute
    assert stream.compare(huge.laid_out(), huge.laid_out()).first is None
    assert stream.compare(huge.laid_out(), more.laid_out()).first is not None
    assert time.process_time() - started < 20


def test_one_changed_byte_is_told_with_its_file_its_page_and_its_operation(
    tmp_path: Path, made: Inputs, app: Path
) -> None:
    content = bytearray((root_path(made).parent / "appdir" / "bin" / "app").read_bytes())
    content[4500] = 1
    other = with_root(made, tmp_path, **{"bin/app": bytes(content)})
    found = compared(app, build(other, tmp_path / "other-app"))
    assert not found.same
    assert found.root is not None
    (change,) = found.root.files
    assert (change.path, change.changes, change.first_byte) == ("bin/app", ("content",), 4500)
    member = archive.read(root_path(made)).entry("bin/app")
    assert member is not None and change.a is not None
    assert change.a.page == (member.offset + 4500) // 4096 * 4096
    (area,) = found.areas
    assert (area.name, area.different_pages, area.first_page) == ("rootfs", 1, change.a.page)
    assert found.first_operation is not None and area.a is not None
    in_page = (member.offset + 4500) % 4096 // 256 * 256
    assert found.first_operation.name == "EEXTEND"
    assert found.first_operation.offset == area.a.offset + change.a.page + in_page


def test_files_behind_one_that_grew_are_not_told_as_changed(tmp_path: Path, made: Inputs) -> None:
    files = {f"f{number}": bytes([number]) * 5000 for number in range(20)}
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    a = build(with_root(made, tmp_path / "1", **files), tmp_path / "a")
    b = build(with_root(made, tmp_path / "2", **{**files, "f0": b"more" * 4000}), tmp_path / "b")
    found = compared(a, b)
    assert found.root is not None
    assert [change.path for change in found.root.files] == ["f0"]
    changed = {area.name: area for area in found.areas}
    assert changed["rootfs"].different_pages is None
    assert changed["config"].first_page is None  # only moved


# Files of the root


def root_of(directory: Path, entries: list[tuple[bytes, int, bytes]]) -> Path:
    """Write an archive as it is asked for, sorted or not."""
    data = cpio.ROOT
    for path, mode, content in entries:
        data += cpio.header(path, mode, len(content)) + content + cpio.padding(len(content))
    directory.write_bytes(data + cpio.end(len(data)))
    return directory


FILE, DIR, LINK = 0o100644, 0o040755, 0o120777
TREE = [
    (b"bin", DIR, b""),
    (b"bin/app", 0o100755, b"#!/bin/app\n"),
    (b"etc", DIR, b""),
    (b"etc/x", FILE, b"1\n2\n3\n"),
]


def root_difference(tmp_path: Path, other: list[tuple[bytes, int, bytes]], tree: object = None) -> Difference:
    a = root_of(tmp_path / "a.cpio", tree or TREE)  # type: ignore[arg-type]
    return compared(a, root_of(tmp_path / "b.cpio", other))


def test_a_text_is_told_by_its_lines(tmp_path: Path) -> None:
    found = root_difference(tmp_path, [*TREE[:3], (b"etc/x", FILE, b"1\nzwei\n3\n")])
    assert found.root is not None
    assert found.root.files[0].text == ("@@ -1,4 +1,4 @@", " 1", "-2", "+zwei", " 3", " ")


def test_the_lines_of_a_long_text_have_their_own_numbers() -> None:
    lines = [f"{number}" for number in range(10_000)]
    other = [*lines[:5000], "new", *lines[5000:]]
    a, b = (Bytes("\n".join(side).encode()) for side in (lines, other))
    assert contents.text_difference(a, b) == (
        "@@ -4999,4 +4999,5 @@", " 4998", " 4999", "+new", " 5000", " 5001"
    )  # fmt: skip


def test_modes_links_types_and_what_only_one_has_are_told(tmp_path: Path) -> None:
    tree = [*TREE, (b"link", LINK, b"etc/x"), (b"old", FILE, b""), (b"turned", FILE, b"")]
    other = [
        *TREE[:1],
        (b"bin/app", 0o100700, TREE[1][2]),
        *TREE[2:],
        (b"link", LINK, b"etc/y"),
        (b"new", FILE, b"12"),
        (b"turned", DIR, b""),
    ]
    found = root_difference(tmp_path, other, tree)
    assert found.root is not None
    assert {change.path: change.changes for change in found.root.files} == {
        "bin/app": ("mode",),
        "link": ("target",),
        "new": ("only in B",),
        "old": ("only in A",),
        "turned": ("type",),
    }
    out = text.of(found)
    assert "* bin/app: mode 0755 in A, 0700 in B" in out
    assert "* link: target etc/x in A, etc/y in B" in out
    assert "+ new: only in B, file, 2 bytes" in out
    assert causes.MODES.cause in [cause.cause for cause in found.causes]


def test_another_order_of_the_same_files_is_told_with_its_remedy(tmp_path: Path) -> None:
    found = root_difference(tmp_path, [*TREE[2:], *TREE[:2]])
    assert found.root is not None
    assert (found.root.files, found.root.order) == ([], "bin")
    assert [cause.cause for cause in found.causes] == [causes.ORDER.cause]


def test_an_archive_with_its_own_dates_is_told(tmp_path: Path) -> None:
    a = root_of(tmp_path / "a.cpio", TREE)
    b = tmp_path / "b.cpio"
    b.write_bytes(a.read_bytes().replace(b"56734BA4", b"6473BAA4"))
    found = compared(a, b)
    assert found.root is not None
    assert (found.root.files, found.root.fields) == ([], {"mtime": 4})
    assert [cause.cause for cause in found.causes] == [causes.FIELDS.cause]
    b.write_bytes(a.read_bytes()[:-5] + bytes(512 + 5))
    found = compared(a, b)
    assert found.root is not None and not found.same
    assert found.root.elsewhere


def test_two_roots_alone_are_compared_as_roots(tmp_path: Path) -> None:
    found = root_difference(tmp_path, TREE)
    assert found.same
    assert text.of(found).startswith("the same root file system\n")


# Likely causes


def cause_of(tmp_path: Path, name: str, a: bytes, b: bytes) -> str | None:
    tree = [(name.encode(), FILE, a)]
    found = root_difference(tmp_path, [(name.encode(), FILE, b)], tree)
    return found.causes[0].cause if found.causes else None


def compiled(tmp_path: Path, where: str, source_time: int) -> bytes:
    directory = tmp_path / where
    directory.mkdir(exist_ok=True)
    source = directory / "x.py"
    source.write_text("def f():\n    return 1\n")
    os.utime(source, (source_time, source_time))
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    return Path(
        py_compile.compile(str(source), str(directory / "x.pyc"), invalidation_mode=mode)
    ).read_bytes()


def test_the_time_of_a_source_in_a_pyc_is_told(tmp_path: Path) -> None:
    sides = compiled(tmp_path, "a", 1_700_000_000), compiled(tmp_path, "a", 1_700_000_001)
    assert cause_of(tmp_path, "x.pyc", *sides) == causes.PYC_TIME.cause


def test_a_build_path_in_a_pyc_is_told(tmp_path: Path) -> None:
    sides = compiled(tmp_path, "a", 1_700_000_000), compiled(tmp_path, "b", 1_700_000_000)
    assert cause_of(tmp_path, "x.pyc", *sides) == causes.PYC_PATH.cause


def test_caches_of_python_in_one_of_the_two_are_told(tmp_path: Path) -> None:
    more = [*TREE, (b"__pycache__", DIR, b""), (b"__pycache__/x.pyc", FILE, b"1")]
    found = root_difference(tmp_path, more)
    assert found.causes[0].cause == causes.PYC_THERE.cause
    assert found.causes[0].count == 2


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
def test_a_build_path_in_debug_information_is_told_with_the_sections(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")

    def built(place: str) -> bytes:
        options = ["-g", f"-fdebug-prefix-map={tmp_path}={place}", "-c", "x.c", "-o", "x"]
        subprocess.run(["gcc", *options], cwd=tmp_path, check=True)
        return (tmp_path / "x").read_bytes()

    # By the hash of its text a path comes before or behind the other ones.
    sides = [built(f"/home/{name}/src") for name in ("one", "two", "three", "four", "five", "six")]
    for one, other in pairwise(sides):
        found = root_difference(tmp_path, [(b"x", FILE, one)], [(b"x", FILE, other)])
        assert found.root is not None
        names = [section.name for section in found.root.files[0].sections]
        assert names and all(name.startswith((".debug", ".rela.debug")) for name in names)
        assert found.causes[0].cause == causes.DEBUG_PATH.cause


@pytest.mark.parametrize(
    ("a", "b", "cause"),
    [
        (b"built 2026-11-23 10:11:12 here", b"built 2026-11-24 09:00:00 here", causes.TIME),
        (b"\1\2from /home/one/src/x.c\0", b"\1\2from /home/two/src/x.c\0", causes.PATH),
        (gzip.compress(b"x" * 100, mtime=1), gzip.compress(b"x" * 100, mtime=2), causes.GZIP),
        (b"one thing", b"another", None),
    ],
)
def test_times_and_paths_in_a_content_are_told(
    tmp_path: Path, a: bytes, b: bytes, cause: causes.Cause | None
) -> None:
    assert cause_of(tmp_path, "x", a, b) == (cause.cause if cause else None)


def zipped(day: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(zipfile.ZipInfo("x", (2026, 11, day, 0, 0, 0)), b"content")
    return file.getvalue()


def tarred(when: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        info = tarfile.TarInfo("x")
        info.mtime, info.size = when, 7
        made.addfile(info, io.BytesIO(b"content"))
    return file.getvalue()


def static_library(when: int) -> bytes:
    return b"!<arch>\n" + b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"x.o/", when, 0, 0, b"644", 7) + b"content\n"


@pytest.mark.parametrize(
    ("name", "a", "b", "cause"),
    [
        ("x.jar", zipped(1), zipped(2), causes.ZIP),
        ("x.tar", tarred(1), tarred(2), causes.TAR),
        ("x.a", static_library(1), static_library(2), causes.AR),
    ],
)
def test_an_archive_in_the_root_with_its_own_dates_is_told(
    tmp_path: Path, name: str, a: bytes, b: bytes, cause: causes.Cause
) -> None:
    assert cause_of(tmp_path, name, a, b) == cause.cause
    changed = b.replace(b"content", b"another").replace(zipped(1)[14:18], b"1234")
    assert cause_of(tmp_path, name, a, changed) != cause.cause


# Configuration, record, runtime, trusted keys


def test_a_key_of_the_configuration_is_told_with_both_values(tmp_path: Path, made: Inputs, app: Path) -> None:
    members = json.loads(made.config.data)
    members |= {"MemorySize": "12k", "EnvironmentVariables": ["A=1"]}
    other = with_config(made, json.dumps(members).encode())
    found = compared(app, build(other, tmp_path / "other"))
    assert [(change.name, change.a, change.b) for change in found.configuration] == [
        ("MemorySize", '"8k"', '"12k"'),
        ("EnvironmentVariables[0]", None, '"A=1"'),
    ]
    assert {"mman", "mman.pids"} & {area.name for area in found.areas}


def test_a_configuration_that_means_the_same_and_has_other_bytes_is_told(
    tmp_path: Path, made: Inputs, app: Path
) -> None:
    other = with_config(made, made.config.data + b"\n")
    found = compared(app, build(other, tmp_path / "other"))
    assert not found.same
    (change,) = found.configuration
    assert change.name.startswith("bytes")


def test_a_field_of_the_record_is_told(tmp_path: Path, made: Inputs, app: Path) -> None:
    members = json.loads(made.config.data) | {"ProductID": 8}
    found = compared(app, build(with_config(made, json.dumps(members).encode()), tmp_path / "other"))
    assert ("product_id", 7, 8) in [(change.name, change.a, change.b) for change in found.record]


def test_another_kernel_is_told_by_its_sections(tmp_path: Path, made: Inputs, app: Path) -> None:
    load = tiny_elf.Load(0x2000, b"KERNEL" * 1000)
    place = (tiny_elf.Placed(".rodata", 0x2000, 6000),)
    made.runtime.kernel.write_bytes(tiny_elf.build((load,), place, strtab=b"\0kernel\0"))
    found = compared(app, build(made, tmp_path / "other"))
    (component,) = found.components
    assert component.name == "kernel"
    assert ".rodata" in [section.name for section in component.sections]
    assert "kernel" in [area.name for area in found.areas]


def test_trusted_keys_and_hashes_are_told_by_their_digests(tmp_path: Path, made: Inputs, app: Path) -> None:
    found = compared(app, build(made._replace(pubkeys=(), roothashes=()), tmp_path / "other"))
    assert [change.name for change in found.trusted] == ["public key, SHA-256 of the file", "root hash"]
    assert all(change.b is None for change in found.trusted)


# Measurements


def test_measurements_tell_the_regions_whose_size_differs(tmp_path: Path, made: Inputs, app: Path) -> None:
    other = with_root(made, tmp_path, more=bytes(50_000))
    (tmp_path / "measured").write_bytes(pipeline.measure(other).to_json())
    found = compared(app, tmp_path / "measured")
    assert not found.same
    assert "rootfs" in [area.name for area in found.areas]
    assert "enclave image and configuration are the same" in found.notes


def test_a_measurement_that_was_written_anew_with_its_keys_sorted_is_one(
    tmp_path: Path, made: Inputs, app: Path
) -> None:
    document = json.loads(pipeline.measure(made).to_json())
    (tmp_path / "measured").write_text(json.dumps(document, indent=200, sort_keys=True))
    assert compared(app, tmp_path / "measured").same


def test_a_measurement_and_a_root_have_nothing_in_common(tmp_path: Path, made: Inputs) -> None:
    (tmp_path / "measured").write_bytes(pipeline.measure(made).to_json())
    with pytest.raises(UserError, match="is a measurement and holds nothing of the archive"):
        mystikos_tool.diff(tmp_path / "measured", root_path(made))


# Hostile packages


def test_a_package_that_is_not_what_it_says_is_doubted(tmp_path: Path, app: Path) -> None:
    data = bytearray(app.read_bytes())
    data[sections.read(app).sections[sections.PUBKEYS].offset + 30] ^= 1
    (tmp_path / "forged").write_bytes(data)
    found = compared(app, tmp_path / "forged")
    assert not found.same
    assert found.a.mrenclave == found.b.mrenclave
    assert any("verify them" in note for note in found.notes)


def test_names_and_texts_steer_no_terminal(tmp_path: Path) -> None:
    steer = b"\x1b[2J\n\x9b\r\xe2\x80\xae\xff"
    tree = [(b"x" + steer, FILE, b"\x1b[31m1\n"), (b"y", LINK, b"\x1b\n")]
    other = [(b"x" + steer, FILE, b"\x1b[32m1\r\n"), (b"y", LINK, b"\x9b\x07")]
    found = root_difference(tmp_path, other, tree)
    out = text.of(found) + json.dumps(json.loads(found.to_json()), ensure_ascii=False)
    assert not [char for char in out if char != "\n" and (not char.isprintable())]
    assert "\n\x9b" not in out
    assert r"x\x1b[2J\x0a" in out


@settings(deadline=None, max_examples=examples(10))
@given(st.data())
def test_whatever_bits_were_changed_there_is_an_answer_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("bits")
    app = build(inputs(directory), directory / "app")
    content = bytearray(app.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    (directory / "changed").write_bytes(content)
    with suppress(UserError):
        compared(app, directory / "changed")


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=examples(100))
def test_causes_are_looked_for_in_any_bytes(a: bytes, b: bytes) -> None:
    first = contents.first_difference(Bytes(a), Bytes(b))
    for start, name in (
        (b"", "x.pyc"),
        (b"PK\3\4", "x.jar"),
        (b"!<arch>\n", "x.a"),
        (b"\x7fELF\2\1", "x"),
        (b"\x1f\x8b\x08", "x.gz"),
    ):
        sides = Bytes(start + a), Bytes(start + b)
        changed = contents.section_differences(*sides)
        causes.of_file(name, ("content",), first, changed, *sides)
    ustar = bytes(257) + b"ustar"
    causes.of_file("x.tar", ("content",), first, (), Bytes(ustar + a), Bytes(ustar + b))
    assert (first is None) == (a == b)


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=30))
def test_a_diff_of_texts_tells_every_line_that_was_removed_or_added(a: list[str], b: list[str]) -> None:
    one, other = "\n".join(a), "\n".join(b)
    told = contents.text_difference(Bytes(one.encode()), Bytes(other.encode()))
    removed = [line[1:] for line in told if line.startswith("-")]
    added = [line[1:] for line in told if line.startswith("+")]
    one_lines, other_lines = one.split("\n"), other.split("\n")
    assert len(one_lines) - len(removed) == len(other_lines) - len(added)
    assert (not told) == (one == other)


def test_a_text_that_is_hard_to_compare_costs_a_bounded_time() -> None:
    a, b = ("\n".join(f"{(number * step) % 97}" for number in range(50_000)) for step in (31, 57))
    told = contents.text_difference(Bytes(a.encode()), Bytes(b.encode()))
    assert told[0] == "@@ -2,49999 +2,49999 @@"  # the lines in between are told as a block, not compared
    assert len(told) == 63


def test_sections_that_overlap_are_read_no_more_than_the_file_has() -> None:
    load = tiny_elf.Load(0x2000, bytes(100_000))
    places = tuple(tiny_elf.Placed(f".s{number}", 0x2000, 100_000) for number in range(500))
    one = tiny_elf.build((load,), places)
    other = tiny_elf.build((replace(load, data=bytes(99_999) + b"1"),), places)
    assert 0 < len(contents.section_differences(Bytes(one), Bytes(other))) < 5
