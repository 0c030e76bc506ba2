"""The table of what a change makes run again, every row against every stage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from scons_project import (
    ALL,
    AS_NOBODY,
    CONFIG,
    DATA,
    MEASURE,
    PACKAGE,
    ROOTFS,
    SIGN,
    SIGNING_DAY,
    TARGETS,
    Project,
    make_project,
    needs_setpriv_as_root,
    settle,
)

from mystikos_tool.formats import elf

Change = Callable[[Project], object]

KEYS = DATA / "keys"
LONG_AGO = 1_000_000_000 * 10**9
LATER = 4_000_000_000 * 10**9

CODE, NOT_LOADED = ".text", ".comment"  # sections of ELF files

# The projects of these tests have one of everything that a stage reads.
SCRIPT = """\
Import("env")
env = env.Clone(MYST_CONFIG="config.json", MYST_KEY="key.pem", MYST_RUNTIME="rt")
env.MystPackage("hello", "appdir", MYST_PUBKEYS=["a.pub.pem", "b.pub.pem"], MYST_ROOTHASHES=["disk.roothash"])
"""


def make_trusting_project(directory: Path) -> Project:
    """Make a project whose package trusts keys and hashes."""
    project = make_project(directory)
    shutil.copy(KEYS / "key-a.pub.pem", project.path("a.pub.pem"))
    shutil.copy(KEYS / "key-b.pub.pem", project.path("b.pub.pem"))
    shutil.copy(KEYS / "disk1.roothash", project.path("disk.roothash"))
    project.write("SConscript", SCRIPT)
    project.sconstruct('SConscript("SConscript", exports="env")\n')
    return project


@pytest.fixture(scope="session")
def _trusting(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_trusting_project(tmp_path_factory.mktemp("rebuilds") / "built")
    project.build()
    return project


@pytest.fixture
def project(_trusting: Project, tmp_path: Path) -> Project:
    """A copy, at another path, of a project that has been built."""
    return _trusting.copy(tmp_path / "copy")


def stages_run(
    project: Project, *arguments: str, environment: dict[str, str | None] | None = None
) -> set[str]:
    """Build, and return what ran; the targets on disk have to tell the same as the output."""
    before = _targets(project)
    build = project.build(*arguments, environment=environment)
    assert _written(before, _targets(project)) == build.stages, build.text
    return build.stages


Targets = dict[str, tuple[int, int] | None]


def _targets(project: Project) -> Targets:
    return {stage: _state(project.path(name)) for stage, name in TARGETS.items()}


def _state(path: Path) -> tuple[int, int] | None:
    status = path.stat() if path.exists() else None
    return (status.st_ino, status.st_mtime_ns) if status else None


def _written(before: Targets, after: Targets) -> set[str]:
    return {stage for stage in TARGETS if before[stage] != after[stage]}


def flip(name: str, section: str | None = None) -> Change:
    """Change one byte of a file, keeping its size: its last, or the first of an ELF file's section."""

    def change(project: Project) -> None:
        path = project.path(name)
        data = bytearray(path.read_bytes())
        data[elf.Image(bytes(data), name).section(section).offset if section else -1] ^= 1
        path.write_bytes(data)

    return change


def content(name: str, text: str) -> Change:
    return lambda project: project.write(name, text)


def mode(name: str, bits: int) -> Change:
    return lambda project: project.path(name).chmod(bits)


def time(name: str, moment: int) -> Change:
    return lambda project: os.utime(project.path(name), ns=(moment, moment), follow_symlinks=False)


def script(old: str, new: str) -> Change:
    def change(project: Project) -> None:
        path = project.path("SConscript")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def copied(source: str, target: str) -> Change:
    return lambda project: shutil.copy(DATA / source, project.path(target))


def relink(project: Project) -> None:
    project.path("appdir/etc/issue").unlink()
    project.path("appdir/etc/issue").symlink_to("/bin/hello")


def link_becomes_file(project: Project) -> None:
    project.path("appdir/etc/issue").unlink()
    project.write("appdir/etc/issue", "motd")


def remove_store(project: Project) -> None:
    project.path(".sconsign.mystikos").unlink()


def swap_keys(project: Project) -> None:
    first, second = project.path("a.pub.pem"), project.path("b.pub.pem")
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


IN_APPDIR: dict[str, Change] = {
    "a file's content": content("appdir/etc/motd", "good bye\n"),
    "a file's content, of the same length and time": lambda project: (
        flip("appdir/etc/motd")(project),
        time("appdir/etc/motd", LONG_AGO)(project),
    ),
    "a file that becomes executable": mode("appdir/etc/motd", 0o755),
    "a file that becomes set-user-id": mode("appdir/bin/hello", 0o4755),
    "a file added": content("appdir/etc/new", ""),
    "a directory added": lambda project: project.path("appdir/tmp").mkdir(),
    "a file removed": lambda project: project.path("appdir/etc/motd").unlink(),
    "a file renamed": lambda project: project.path("appdir/etc/motd").rename(project.path("appdir/etc/mote")),
    "a link's target": relink,
    "a link that becomes a file": link_becomes_file,
}

MEASURED: dict[str, Change] = {
    "the configuration": content("config.json", CONFIG.replace("1m", "2m")),
    "the configuration's white space": content("config.json", CONFIG + "\n"),
    "another configuration": lambda project: (
        content("other.json", CONFIG.replace("1m", "2m"))(project),
        script("config.json", "other.json")(project),
    ),
    "a trusted public key": copied("keys/key-b.pub.pem", "a.pub.pem"),
    "trusted public keys in another order": script(
        '["a.pub.pem", "b.pub.pem"]', '["b.pub.pem", "a.pub.pem"]'
    ),
    "trusted public keys whose files change places": swap_keys,
    "one trusted public key less": script('"a.pub.pem", "b.pub.pem"', '"a.pub.pem"'),
    "a root hash": copied("keys/disk2.roothash", "disk.roothash"),
    "a root hash more": script('["disk.roothash"]', '["disk.roothash", "disk.roothash"]'),
    "the runtime's kernel": flip("rt/lib/libmystkernel.so", CODE),
    "the runtime's C runtime": flip("rt/lib/libmystcrt.so", CODE),
    "the runtime's enclave image": flip("rt/lib/openenclave/mystenc.so", CODE),
}

NOTHING: dict[str, Change] = {
    "nothing at all": lambda project: None,
    "the time of a file": time("appdir/etc/motd", LATER),
    "the time of a directory": time("appdir/etc", LONG_AGO),
    "the time of a link": time("appdir/etc/issue", LATER),
    "the time of the configuration": time("config.json", LATER),
    "the time of the key": time("key.pem", LATER),
    "the time of the runtime": time("rt/lib/libmystkernel.so", LATER),
    "the time of a target": time("hello.cpio", LATER),
    "permissions that depend on the umask": lambda project: (
        mode("appdir/etc/motd", 0o600)(project),
        mode("appdir/bin/hello", 0o700)(project),
        mode("appdir/etc", 0o700)(project),
    ),
    "a file that is written again": content("appdir/etc/motd", "good day\n"),
    "a file changed and changed back": lambda project: (
        flip("appdir/etc/motd")(project),
        flip("appdir/etc/motd")(project),
    ),
    "the same key under another name": lambda project: (
        project.path("key.pem").rename(project.path("mine.pem")),
        script("key.pem", "mine.pem")(project),
    ),
    "the printed lines": script(
        "env.MystPackage",
        "for stage in 'ROOTFS', 'MEASURE', 'SIGN', 'PACKAGE':\n    env[f'MYST{stage}COMSTR'] = stage\n"
        "env.MystPackage",
    ),
}

OTHERS: dict[str, tuple[Change, set[str]]] = {
    "the key": (copied("keys/key-b.pem", "key.pem"), {SIGN, PACKAGE}),
    "another key": (
        lambda project: (
            shutil.copy(KEYS / "key-b.pem", project.path("other.pem")),
            script("key.pem", "other.pem")(project),
        ),
        {SIGN, PACKAGE},
    ),
    "the loader": (flip("rt/bin/myst", CODE), {PACKAGE}),
    "what is not measured of the runtime's kernel": (
        flip("rt/lib/libmystkernel.so", NOT_LOADED),
        {MEASURE, PACKAGE},
    ),
    "what is not measured of the runtime's C runtime": (
        flip("rt/lib/libmystcrt.so", NOT_LOADED),
        {MEASURE, PACKAGE},
    ),
    "what is not measured of the runtime's enclave image": (
        flip("rt/lib/openenclave/mystenc.so", NOT_LOADED),
        {MEASURE, SIGN, PACKAGE},
    ),
    "the package removed": (lambda project: project.path("hello").unlink(), {PACKAGE}),
    "the root file system removed": (lambda project: project.path("hello.cpio").unlink(), {ROOTFS}),
    "the package cut short": (lambda project: os.truncate(project.path("hello"), 1000), {PACKAGE}),
    "the package emptied": (lambda project: os.truncate(project.path("hello"), 0), {PACKAGE}),
    "the root file system cut short": (
        lambda project: os.truncate(project.path("hello.cpio"), 1000),
        {ROOTFS},
    ),
    "preserved modes that are the canonical ones": (
        script("env.Clone(", 'env.Clone(MYST_ROOTFS_MODES="preserve", '),
        set(),
    ),
    "preserved modes that are others": (
        lambda project: (
            mode("appdir/etc/motd", 0o600)(project),
            script("env.Clone(", 'env.Clone(MYST_ROOTFS_MODES="preserve", ')(project),
        ),
        ALL,
    ),
}

TABLE: dict[str, tuple[Change, set[str]]] = {
    **{name: (change, ALL) for name, change in IN_APPDIR.items()},
    **{name: (change, {MEASURE, SIGN, PACKAGE}) for name, change in MEASURED.items()},
    **OTHERS,
    **{name: (change, set()) for name, change in NOTHING.items()},
}


@dataclass(frozen=True)
class Row:
    """What became of one row's project."""

    stages: set[str]
    written: set[str]
    output: str


@pytest.fixture(scope="module", params=[False, True], ids=["moved", "settled"])
def rows(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Row]:
    """Every row of the table: a project each, built together, moved, changed, and built together again.

    Once more with what is remembered of packages that were found up to date.
    """
    whole = Project(tmp_path_factory.mktemp("rows") / "built")
    folders = {name: f"row{number}" for number, name in enumerate(TABLE)}
    for folder in folders.values():
        make_trusting_project(whole.path(folder))
    scripts = [f"{folder}/SConscript" for folder in folders.values()]
    whole.sconstruct(f'SConscript({scripts!r}, exports="env")\n')
    whole.build()
    whole = whole.copy(tmp_path_factory.mktemp("rows") / "moved")
    if request.param:
        settle(whole, packages=len(folders))
    parts = {name: Project(whole.path(folder)) for name, folder in folders.items()}
    for name, part in parts.items():
        TABLE[name][0](part)
    before = {name: _targets(part) for name, part in parts.items()}
    build = whole.build()
    return {
        name: Row(build.stages_in(folders[name]), _written(before[name], _targets(part)), build.text)
        for name, part in parts.items()
    }


@pytest.mark.parametrize("name", TABLE)
def test_a_change_runs_the_stages_of_its_row_and_no_other(rows: dict[str, Row], name: str) -> None:
    row = rows[name]
    assert row.stages == row.written == TABLE[name][1], row.output


@pytest.mark.parametrize("change", [flip(".sconsign.mystikos"), remove_store])
def test_nothing_runs_when_the_store_of_digests_is_damaged_or_lost(project: Project, change: Change) -> None:
    change(project)
    assert stages_run(project) == set()


def test_a_file_that_moves_from_the_keys_to_the_hashes_is_read_as_a_hash(project: Project) -> None:
    script(
        '["a.pub.pem", "b.pub.pem"], MYST_ROOTHASHES=["disk.roothash"]',
        '["a.pub.pem"], MYST_ROOTHASHES=["b.pub.pem", "disk.roothash"]',
    )(project)
    build = project.fails()
    assert "b.pub.pem: is not a root hash" in build.err


@pytest.mark.parametrize("variable", ["MYST_CONFIG", "MYST_KEY", "MYST_RUNTIME"])
def test_nothing_runs_when_a_variable_names_the_same_file_by_its_node(
    project: Project, variable: str
) -> None:
    node = 'Dir("rt")' if variable == "MYST_RUNTIME" else f'File(env["{variable}"])'
    script("env.MystPackage", f"env.Replace({variable}={node})\nenv.MystPackage")(project)
    assert stages_run(project) == set()


def test_the_day_of_signing_belongs_to_the_signature_alone(project: Project) -> None:
    next_day = str(int(SIGNING_DAY) + 24 * 60 * 60)
    assert stages_run(project, environment={"SOURCE_DATE_EPOCH": next_day}) == {SIGN, PACKAGE}
    assert stages_run(project, environment={"SOURCE_DATE_EPOCH": next_day}) == set()


def test_without_a_fixed_day_nothing_runs_when_a_day_has_passed(project: Project) -> None:
    project.build(environment={"SOURCE_DATE_EPOCH": None})
    for path in project.directory.rglob("*"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    assert stages_run(project, environment={"SOURCE_DATE_EPOCH": None}) == set()


@pytest.mark.parametrize("moment", [LONG_AGO, LATER])
def test_nothing_runs_whatever_the_clock_says(project: Project, moment: int) -> None:
    for path in project.directory.rglob("*"):
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    assert stages_run(project) == set()


def test_another_content_is_seen_in_a_file_that_was_old_and_is_as_old_again(project: Project) -> None:
    """SCons itself believes such a file's time from the second day on."""
    stages = {"config.json": {MEASURE, SIGN, PACKAGE}, "key.pem": {SIGN, PACKAGE}, "rt/bin/myst": {PACKAGE}}
    for name in stages:
        time(name, LONG_AGO)(project)
    assert stages_run(project) == set()
    for name, following in stages.items():
        change = copied("keys/key-b.pem", name) if name == "key.pem" else flip(name, CODE)
        if name == "config.json":
            change = content(name, CONFIG.replace("1m", "2m"))
        change(project)
        time(name, LONG_AGO)(project)
        assert stages_run(project) == following


def test_the_reason_for_a_stage_names_what_changed_since_the_last_build(project: Project) -> None:
    project.path("config.json").rename(project.path("same.json"))
    script("config.json", "same.json")(project)
    assert stages_run(project) == set()
    project.write("same.json", CONFIG.replace("1m", "2m"))
    said = project.build("--debug=explain").out
    assert "rebuilding `hello.measurement.json' because `same.json' changed" in said
    assert "config.json" not in said


def test_nothing_runs_in_a_copy_that_has_neither_times_nor_order_nor_modes_of_the_original(
    project: Project, tmp_path: Path
) -> None:
    other = Project(tmp_path / "elsewhere" / "deeper")
    other.directory.mkdir(parents=True)
    for path in sorted(project.directory.rglob("*"), reverse=True):
        target = other.path(str(path.relative_to(project.directory)))
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_file():
            shutil.copyfile(path, target)
            target.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
    assert stages_run(other) == set()


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("jobs", ["-j1", "-j8"])
def test_nothing_runs_under_another_umask_or_number_of_jobs(project: Project, umask: int, jobs: str) -> None:
    assert project.build(jobs, umask=umask).stages == set()


@needs_setpriv_as_root
def test_nothing_runs_for_another_user(project: Project) -> None:
    project.give_to_nobody()
    assert project.build(under=AS_NOBODY).stages == set()


def test_a_change_is_seen_however_soon_after_a_build(project: Project) -> None:
    for number in range(3):
        project.write("appdir/etc/motd", f"number {number}")
        assert stages_run(project) == ALL
