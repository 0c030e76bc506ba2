"""Mount: the configuration declares it, the host's command line gives the source."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging import write_appdir
from starting import Caller, MakePackage, refusal

from mystikos_tool import pipeline
from mystikos_tool.errors import UserError


@pytest.fixture
def shared(public_directory: Path, caller: Caller) -> Iterator[Path]:
    """A directory of the host that belongs to the caller."""
    directory = public_directory / "shared"
    directory.mkdir()
    (directory / "file").write_text("of the host\n")
    (directory / "below").mkdir()
    if caller.user is not None:
        for path in (directory, directory / "file", directory / "below"):
            os.chown(path, caller.user, caller.user)
    yield directory
    shutil.rmtree(directory)


def declare(kind: str, *flags: str, target: str = "/mnt/data", **more: Any) -> dict[str, Any]:
    mount = {"Target": target, "Type": kind, **more}
    return {"Mount": [{**mount, "Flags": list(flags)} if flags else mount]}


FILES = {"mnt/data/hidden": b"of the root\n"}


@pytest.mark.parametrize("flags", [[], ["rw"]])
def test_a_directory_of_the_host_is_mounted_at_the_target(
    package: MakePackage, caller: Caller, shared: Path, flags: list[str]
) -> None:
    made = package(FILES, **declare("hostfs", *flags))
    option = f"--myst-mount={shared}=/mnt/data"
    assert caller.output(made, option, "show", "/mnt/data/file") == "of the host\n"
    assert caller.output(made, option, "status", "/mnt/data/hidden").startswith("No such file")
    assert caller.output(made, option, "fill", "/mnt/data/below/new", "5") == "written\n"
    assert (shared / "below" / "new").stat().st_size == 5


def test_a_target_that_is_not_in_the_root_is_made_and_nothing_there_has_rights_of_its_own(
    package: MakePackage, caller: Caller, shared: Path
) -> None:
    made = package(**declare("hostfs", target="/made/for/it"))
    option = f"--myst-mount={shared}=/made/for/it"
    assert caller.output(made, option, "show", "/made/for/it/file") == "of the host\n"
    assert caller.output(made, option, "status", "/made", "/made/for").splitlines() == [
        "40777 0 /made",
        "40777 0 /made/for",
    ]
    mounts = caller.output(made, option, "show", "/proc/.linux/self/mountinfo").splitlines()
    [flags] = [line.split()[5].split(",") for line in mounts if line.split()[4] == "/made/for/it"]
    assert {"nosuid", "nodev"} <= set(flags)


def test_a_read_only_mount_cannot_be_written_to(package: MakePackage, caller: Caller, shared: Path) -> None:
    made = package(FILES, **declare("hostfs", "ro"))
    option = f"--myst-mount={shared}=/mnt/data"
    assert caller.output(made, option, "show", "/mnt/data/file") == "of the host\n"
    assert caller.output(made, option, "fill", "/mnt/data/below/new", "5") == "Read-only file system\n"
    assert caller.output(made, option, "fill", "/mnt/data/file", "5") == "Read-only file system\n"
    assert (shared / "file").read_text() == "of the host\n"


def test_a_source_is_found_from_the_callers_directory_and_may_have_an_equals_sign(
    package: MakePackage, caller: Caller, shared: Path
) -> None:
    made = package(FILES, **declare("hostfs"))
    (shared / "below" / "a=b").mkdir()
    (shared / "below" / "a=b" / "file").write_text("deep\n")
    option = "--myst-mount=below/a=b=/mnt//data/"
    assert caller.output(made, option, "show", "/mnt/data/file", cwd=shared) == "deep\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("archive")
    target = directory / "archive.cpio"
    pipeline.pack(write_appdir(directory / "tree", {"file": b"of the archive\n", "below/x": b"x"}), target)
    return target.read_bytes()


def test_an_archive_of_the_root_is_unpacked_at_the_target(
    package: MakePackage, caller: Caller, archive: bytes
) -> None:
    made = package({**FILES, "archives/data.cpio": archive}, **declare("ramfs"))
    option = "--myst-mount=/archives/data.cpio=/mnt/data"
    assert caller.output(made, option, "show", "/mnt/data/file") == "of the archive\n"
    assert caller.output(made, option, "fill", "/mnt/data/below/new", "5") == "written\n"


def test_a_read_only_archive_cannot_be_written_to(
    package: MakePackage, anyone: Caller, archive: bytes
) -> None:
    made = package({**FILES, "archives/data.cpio": archive}, **declare("ramfs", "ro"))
    option = "--myst-mount=/archives/data.cpio=/mnt/data"
    assert anyone.output(made, option, "show", "/mnt/data/file") == "of the archive\n"
    assert anyone.output(made, option, "fill", "/mnt/data/below/new", "5") == "Read-only file system\n"


def test_what_is_written_to_an_archive_counts_with_all_other_memory(
    package: MakePackage, anyone: Caller, archive: bytes
) -> None:
    made = package({**FILES, "archives/data.cpio": archive}, **declare("ramfs"), MemorySize="64m")
    words = ("share", str(40 << 20), "/mnt/data/new", str(30 << 20))
    assert anyone.output(made, "--myst-mount=/archives/data.cpio=/mnt/data", *words).splitlines() == [
        "No space left on device",
        "written",
        "ENOMEM",
        "allocated",
    ]


def test_an_archive_of_the_host_is_not_taken_for_one_of_the_root(
    package: MakePackage, anyone: Caller, archive: bytes, public_directory: Path
) -> None:
    (public_directory / "data.cpio").write_bytes(archive)
    made = package(FILES, **declare("ramfs"))
    done = anyone.run(made, f"--myst-mount={public_directory}/data.cpio=/mnt/data", "leave", "0")
    assert "cannot open the archive" in refusal(done)


@pytest.mark.parametrize("content", [b"not an archive", b"070701" + b"0" * 200])
def test_of_what_is_no_archive_nothing_is_unpacked(
    package: MakePackage, anyone: Caller, content: bytes
) -> None:
    made = package({**FILES, "data.cpio": content}, **declare("ramfs"))
    done = anyone.run(made, "--myst-mount=/data.cpio=/mnt/data", "fill", "/mnt/data/new", "5")
    assert "/data.cpio" in done.stderr
    assert "nothing is unpacked at /mnt/data" in done.stderr
    assert done.stdout == "written\n"


def test_an_empty_file_is_no_archive(package: MakePackage, anyone: Caller) -> None:
    made = package({**FILES, "data.cpio": b""}, **declare("ramfs"))
    done = anyone.run(made, "--myst-mount=/data.cpio=/mnt/data", "leave", "0")
    assert refusal(done).startswith("options: --myst-mount: /data.cpio")


def test_a_declared_mount_without_a_source_is_refused(package: MakePackage, anyone: Caller) -> None:
    made = package(FILES, **declare("hostfs"))
    assert refusal(anyone.run(made, "leave", "0")) == (
        "configuration: Mount: no source is given for /mnt/data: "
        "start the package with --myst-mount=SOURCE=/mnt/data"
    )


def test_a_mount_that_is_not_declared_is_refused(package: MakePackage, anyone: Caller) -> None:
    problem = "options: --myst-mount: the configuration declares no mount at /etc"
    assert refusal(anyone.run(package(), "--myst-mount=/etc=/etc", "leave", "0")) == problem
    made = package(FILES, **declare("hostfs"))
    options = ["--myst-mount=/etc=/mnt/data", "--myst-mount=/etc=/etc"]
    assert refusal(anyone.run(made, *options, "leave", "0")) == problem


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--myst-mount=/etc", "takes SOURCE=TARGET"),
        ("--myst-mount==/mnt/data", "takes SOURCE=TARGET"),
        ("--myst-mount=/etc=mnt", "takes SOURCE=TARGET"),
        ("--myst-mount=/missing=/mnt/data", "cannot open the directory /missing: No such file or directory"),
        ("--myst-mount=/etc/passwd=/mnt/data", "cannot open the directory /etc/passwd: Not a directory"),
    ],
)
def test_a_source_that_cannot_be_mounted_is_refused(
    package: MakePackage, anyone: Caller, option: str, problem: str
) -> None:
    made = package(FILES, **declare("hostfs"))
    assert problem in refusal(anyone.run(made, option, "leave", "0"))


def test_a_source_that_is_given_twice_is_refused(package: MakePackage, anyone: Caller) -> None:
    made = package(FILES, **declare("hostfs"))
    options = ["--myst-mount=/etc=/mnt/data", "--myst-mount=/usr=/mnt/./data"]
    assert refusal(anyone.run(made, *options, "leave", "0")).endswith("is given twice")


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        (declare("ext2", "ro"), "/mnt/data: with PublicKey, RootHash or Flags of an ext2 disk"),
        (declare("ext2", PublicKey="key"), "/mnt/data: with PublicKey, RootHash or Flags of an ext2 disk"),
        (declare("ext2", RootHash="ab" * 32), "/mnt/data: with PublicKey, RootHash or Flags of an ext2"),
        (declare("hostfs", "ro", "rw"), "/mnt/data: ro and rw exclude each other"),
        (declare("hostfs", target="/"), "/ is not a directory that can be mounted on"),
        (declare("hostfs", target="/mnt/../mnt"), "/mnt/../mnt is not a directory that can be mounted on"),
    ],
)
def test_a_mount_that_cannot_be_honoured_is_refused_when_it_is_packaged_and_at_the_start(
    package: MakePackage, anyone: Caller, mount: dict[str, Any], problem: str
) -> None:
    target = mount["Mount"][0]["Target"]
    with pytest.raises(UserError):
        package(FILES, **mount)
    made = package(FILES, checked=False, **mount)
    done = anyone.run(made, f"--myst-mount=/etc={target}", "leave", "0")
    assert re.match(rf"configuration: (line \d+: )?Mount: {re.escape(problem)}", refusal(done))


def test_mounts_lie_one_within_the_other_but_never_through_a_link_of_the_hosts(
    package: MakePackage, caller: Caller, shared: Path
) -> None:
    outer, inner = (declare("hostfs", target=target)["Mount"][0] for target in ("/mnt/data", "/mnt/data/in"))
    made = package({"mnt/data/in/x": b""}, Mount=[outer, inner])
    options = [f"--myst-mount={shared}=/mnt/data", f"--myst-mount={shared}/below=/mnt/data/in"]
    done = caller.run(made, *options, "leave", "0")
    assert refusal(done) == "configuration: Mount: there is no /mnt/data/in in the directory of the host"
    assert not (shared / "in").exists()
    (shared / "in").symlink_to("/usr")
    done = caller.run(made, *options, "leave", "0")
    assert "must be a directory, and no symbolic link on the way" in refusal(done)
    (shared / "in").unlink()
    (shared / "in").mkdir()
    (shared / "below" / "deep").write_text("deep\n")
    assert caller.output(made, *options, "show", "/mnt/data/in/deep") == "deep\n"
