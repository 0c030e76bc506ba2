"""What `inspect` shows of a package: facts, page layout, files; the page and the picture, in a browser."""

from __future__ import annotations

import builtins
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny_elf
from browser import CHROMIUM, Page, page
from test_difference import DIR, FILE, LINK, root_of
from tiny_enclave import TinyEnclave
from tiny_runtime import DAY, build, inputs, key, root_path

import mystikos_tool
from mystikos_tool import UserError, pipeline, proof
from mystikos_tool.config import Config
from mystikos_tool.explain import page as pages
from mystikos_tool.explain.picture import in_units, picture
from mystikos_tool.explain.report import SCHEMA, Report, report
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root.root import ArchiveRoot, DiskRoot

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = b"<img src=x onerror=alert(1)>\x1b[2J\xe2\x80\xae'\"&"


def made(directory: Path, **keys: object) -> Inputs:
    directory.mkdir(exist_ok=True)
    return inputs(directory, **keys)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose root has directories, a link and a hostile name."""
    directory = tmp_path_factory.mktemp("app")
    given = made(directory, ProductID=7, MemorySize="64m", EnvironmentVariables=["A=</script><b>"])
    entries = [
        (b"bin", DIR, b""),
        (b"bin/app", 0o100755, b"#!/bin/app\n" + bytes(5000)),
        (b"etc", DIR, b""),
        (b"etc/" + HOSTILE, FILE, b"1"),
        (b"etc/deep", DIR, b""),
        (b"etc/deep/er", DIR, b""),
        (b"etc/deep/er/needle.conf", FILE, b"needle"),
        (b"etc/link", LINK, b"deep/er"),
        (b"mnt", DIR, b""),
    ]
    root = ArchiveRoot(root_of(directory / "root.cpio", entries))
    return build(given._replace(root=root), directory / "app")


@pytest.fixture(scope="module")
def shown(app: Path) -> Report:
    return report(app)


# Facts


def test_what_is_told_to_programs_follows_its_schema(shown: Report, app: Path) -> None:
    told = json.loads(shown.to_json())
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert told["mrenclave"] == mystikos_tool.inspect(app).identity.mrenclave.hex()
    assert told["configuration"]["ProductID"] == "7"


def test_files_are_shown_with_their_sizes_and_digests(shown: Report) -> None:
    assert shown.files is not None
    files = {file.path: file for file in shown.files}
    content = b"#!/bin/app\n" + bytes(5000)
    assert files["bin/app"].sha256 == hashlib.sha256(content).hexdigest()
    assert (files["bin/app"].mode, files["bin/app"].size) == ("0755", 5011)
    assert (files["etc/link"].target, files["etc/link"].sha256) == ("deep/er", None)
    assert (files["bin"].type, files["bin"].size) == ("directory", 0)


def test_the_areas_are_those_of_the_layout_and_have_no_gaps(shown: Report, app: Path) -> None:
    laid_out, _ = proof.measure_opened(OpenedPackage(app))
    names = [area.name for area in shown.areas]
    regions = [region.name for region in laid_out.regions]
    assert names == ["image", "image.reloc", *regions, "heap", "threads"]
    for area, following in zip(shown.areas, shown.areas[1:], strict=False):
        assert area.offset + area.size == following.offset
    assert shown.areas[-1].offset + shown.areas[-1].size == laid_out.base + laid_out.loaded_size
    added = sum(pages.pages * area.count for area in shown.areas for pages in area.pages)
    assert added == sum(run.pages for run in laid_out.runs)


def test_each_region_ends_with_its_trailer_and_threads_tell_their_parts(shown: Report) -> None:
    for area in shown.areas:
        if area.name in ("image", "image.reloc", "heap"):
            assert not any(pages.what.startswith("trailer") for pages in area.pages)
        elif area.name == "threads":
            assert [pages.what for pages in area.pages] == [
                "stack", "TCS", "SSA frames", "thread-local storage"
            ]  # fmt: skip
        else:
            assert area.pages[-1].what.startswith("trailer")
    guards = {area.name for area in shown.areas for pages in area.pages if pages.what == "guard page"}
    assert guards == {"mman", "kernel.enter.stack"}


def test_the_text_shows_layout_and_files_without_control_characters(shown: Report) -> None:
    out = shown.to_text()
    assert "etc/link -> deep/er" in out
    assert re.search(r"mman: 67,121,152 bytes at 0x[0-9a-f]+\n", out)
    assert not [char for char in out if char != "\n" and not char.isprintable()]


def test_a_root_on_a_disk_has_no_files_to_show(tmp_path: Path) -> None:
    given = made(tmp_path / "given")
    found = report(build(given._replace(root=DiskRoot()), tmp_path / "app"))
    assert found.files is None
    jsonschema.validate(json.loads(found.to_json()), json.loads(SCHEMA.read_text()))
    assert "the root is a disk" in found.to_text()
    assert "The root is a disk" in pages.of_report(found)


def test_a_signed_directory_is_shown_as_its_package(tmp_path: Path) -> None:
    given = made(tmp_path / "given")
    pipeline.build_directory(given, root_path(given), key(), DAY, tmp_path / "signed")
    a, b = report(tmp_path / "signed"), report(build(given, tmp_path / "app"))
    assert replace(a, path="") == replace(b, path="")


# The picture


def huge(shown: Report) -> Report:
    """The report of a package with 64 GB of memory and 1,024 threads, which takes long to make."""
    from mystikos_tool.enclave.layout import lay_out
    from mystikos_tool.explain import report as reports
    from mystikos_tool.explain.areas import areas

    memory = Config("/bin/app", memory_size=64 << 30, data=b"{}")
    image = tiny_elf.enclave(tiny_elf.oeinfo(tcs_count=1024))
    laid_out = lay_out(TinyEnclave(image=image, config=memory).parts())
    return replace(
        shown,
        size=laid_out.size,
        loaded_size=laid_out.loaded_size,
        areas=tuple(reports._shown_area(area, laid_out) for area in areas(laid_out)),
    )


@pytest.mark.parametrize("large", [False, True])
def test_every_area_can_be_read_and_none_overlaps_another(shown: Report, large: bool) -> None:
    drawn = picture(huge(shown) if large else shown)
    for box, following in zip(drawn.boxes, drawn.boxes[1:], strict=False):
        assert box.height >= 20
        assert box.top + box.height < following.top
    for box in drawn.boxes:
        assert drawn.top <= box.top and box.top + box.height <= drawn.bottom + 1e-6
        assert sum(part.height for part in box.parts) == pytest.approx(box.height)
        assert all(part.height >= 1 for part in box.parts)
    assert drawn.height < 1400  # of A4 at this width


@pytest.mark.parametrize("large", [False, True])
def test_the_column_to_scale_is_to_scale(shown: Report, large: bool) -> None:
    found = huge(shown) if large else shown
    drawn = picture(found)
    height = drawn.bottom - drawn.top
    for box in drawn.boxes:
        assert box.scale_height / height == pytest.approx(box.area.size / found.loaded_size)
    assert sum(box.scale_height for box in drawn.boxes) == pytest.approx(height)


def test_the_marks_of_the_axis_are_where_bars_of_these_sizes_end(shown: Report) -> None:
    drawn = picture(huge(shown))
    marks = {label: x for x, label in drawn.marks}
    assert list(marks) == ["4 KB", "64 KB", "1 MB", "16 MB", "256 MB", "4 GB", "64 GB"]
    (page_sized,) = {box.bar for box in drawn.boxes if box.area.size == 4096}
    (memory,) = (box.bar for box in drawn.boxes if box.area.name == "mman")
    start = marks["4 KB"] - page_sized
    assert start + memory == pytest.approx(marks["64 GB"], abs=1)


def test_sizes_are_told_as_people_say_them() -> None:
    assert [in_units(size) for size in (0, 4096, 5000, 64 << 30, 3 << 39, 1023 << 20)] == [
        "0 bytes", "4 KB", "4.9 KB", "64 GB", "1.5 TB", "1,023 MB"
    ]  # fmt: skip


def test_the_picture_is_a_whole_file_that_needs_nothing_else(shown: Report) -> None:
    svg = pages.picture_of(replace(shown, path=HOSTILE.decode().replace("\x1b", "")))
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert not re.search(r"(?:href|src|url)\s*[=(](?!#hatch)", svg.replace("src=x onerror", ""))
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert len(titles) == len(shown.areas)
    mman = next(title for title in titles if title.startswith("mman:"))
    assert "16,384 pages rwx, not measured" in mman


def test_without_the_template_engine_the_extra_is_named(
    shown: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "jinja2":
            raise ModuleNotFoundError(name, name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=re.escape("pip install 'mystikos-tool[html]'")):
        pages.of_report(shown)


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not shutil.which(CHROMIUM):
        pytest.skip("chromium is not installed")
    with page(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def file(shown: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "app.html"
    target.write_text(pages.of_report(shown))
    return target


def test_the_page_runs_its_own_script_only_and_loads_nothing(browser: Page, file: Path) -> None:
    browser.complaints.clear()
    browser.open(file)
    assert browser.complaints == []
    assert browser.run("document.querySelectorAll('.tree img, .tree script, td b').length") == 0
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    assert browser.run("document.title").endswith("app: Mystikos package")


def test_hovering_over_an_area_tells_of_it_and_lights_its_row(
    browser: Page, file: Path, shown: Report
) -> None:
    browser.open(file)
    assert browser.run("document.getElementById('tip').hidden")
    number = [area.name for area in shown.areas].index("mman")
    browser.hover(f'.area[data-area="{number}"] [data-part="1"] rect')
    told = browser.run("document.getElementById('tip').hidden || document.getElementById('tip').textContent")
    assert told.startswith("mman: the application's memory")
    assert "16,384 pages from " in told and "rwx, not measured" in told and "guard" not in told
    assert browser.run("document.querySelector('tbody.lit th').textContent") == "mman"
    browser.hover("h1")
    assert browser.run("document.getElementById('tip').hidden")


def search(browser: Page, wanted: str) -> list[str]:
    """Type into the search field; return the paths that are to be seen."""
    browser.run(f"search.value = {json.dumps(wanted)}; search.dispatchEvent(new Event('input'));")
    seen = "[...document.querySelectorAll('.tree .file')].filter((one) => one.checkVisibility())"
    return list(browser.run(f"{seen}.map((one) => one.dataset.path)"))


def test_searching_shows_the_files_that_match_in_their_directories(browser: Page, file: Path) -> None:
    browser.open(file)
    assert len(search(browser, "")) == 4
    browser.run("document.querySelectorAll('.tree details').forEach((one) => { one.open = false; })")
    assert search(browser, "NEEDLE") == ["etc/deep/er/needle.conf"]
    assert browser.run("document.getElementById('found').textContent") == "1 found"
    assert search(browser, "no such file") == []
    assert search(browser, "bin/a") == ["bin/app"]


def test_the_page_is_dark_where_that_is_preferred_and_white_on_paper(browser: Page, file: Path) -> None:
    paper = "getComputedStyle(document.querySelector('.layout .paper')).fill"
    body = "getComputedStyle(document.body).backgroundColor"
    browser.open(file)
    assert (browser.run(body), browser.run(paper)) == ("rgb(255, 255, 255)",) * 2
    browser.open(file, dark=True)
    assert (browser.run(body), browser.run(paper)) == ("rgb(18, 23, 30)",) * 2
    browser.open(file, dark=True, media="print")
    assert (browser.run(body), browser.run(paper)) == ("rgb(255, 255, 255)",) * 2
    assert browser.printed().startswith(b"%PDF")


@pytest.mark.parametrize("large", [False, True])
def test_no_text_of_the_picture_runs_into_another_or_out_of_it(
    browser: Page, shown: Report, tmp_path: Path, large: bool
) -> None:
    target = tmp_path / "picture.svg"
    target.write_text(pages.picture_of(huge(shown) if large else shown))
    browser.open(target)
    boxes = browser.run(
        "[...document.querySelectorAll('text')].map((one) => [one.textContent, one.getBoundingClientRect()])"
        ".map(([text, {left, right, top, bottom}]) => [text, left, right, top, bottom])"
    )
    right_edge = browser.run("document.documentElement.getBoundingClientRect().right")
    for number, (text, left, right, top, bottom) in enumerate(boxes):
        assert left >= 0 and right <= right_edge, text
        for other, *place in boxes[number + 1 :]:
            beside = right <= place[0] or place[1] <= left
            above = bottom - 2 <= place[2] or place[3] <= top + 2
            assert beside or above, (text, other)


def test_a_page_fits_a_narrow_window(browser: Page, file: Path) -> None:
    browser.open(file, width=500)
    assert browser.run("document.documentElement.scrollWidth") <= 500


def test_a_difference_is_shown_as_a_page(browser: Page, tmp_path: Path, app: Path) -> None:
    other = bytearray(app.read_bytes())
    other[app.read_bytes().index(b"needle\0\0") + 2] ^= 1
    (tmp_path / "other").write_bytes(other)
    target = tmp_path / "difference.html"
    target.write_text(pages.of_difference(mystikos_tool.diff(app, tmp_path / "other")))
    browser.complaints.clear()
    browser.open(target)
    assert browser.complaints == []
    assert browser.run("document.querySelector('.verdict').textContent") == "Another enclave"
    assert browser.run("document.querySelector('.change code').textContent") == "etc/deep/er/needle.conf"
    lines = browser.run(
        "[...document.querySelectorAll('pre .minus, pre .plus')].map((one) => one.textContent)"
    )
    assert lines == ["-needle", "+neddle"]
