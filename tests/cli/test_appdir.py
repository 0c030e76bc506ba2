"""The verb ``appdir``: what it makes of programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_elf
from cli_support import Run

import mystikos_tool
from mystikos_tool.errors import UserError
from mystikos_tool.root import archive

GLIBC = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small machine in ``machine``, and a program from elsewhere; the working directory is theirs."""
    files = {
        "machine/lib64/ld-linux-x86-64.so.2": tiny_elf.program(),
        "machine/usr/lib64/libone.so": tiny_elf.program(),
        "machine/bin/app": tiny_elf.program(interpreter=GLIBC, needed=["libone.so"]),
        "machine/etc/ssl/certs/ca.pem": b"ca",
        "own": tiny_elf.program(interpreter=GLIBC, needed=["libone.so"]),
        "share/text": b"text",
        "share/__pycache__/x.pyc": b"",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o4755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_program_becomes_a_directory_that_is_packed_as_the_archive_is(machine: Path, run: Run) -> None:
    asked = ["appdir", "closure", "/bin/app", "usr/bin/=own", "--sysroot=machine", "--extra=certificates"]
    result = run(*asked, "-o", "appdir")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("created appdir: 5 files, ")
    expected = {"bin/app", "usr/bin/own", "usr/lib64/libone.so", GLIBC.strip("/"), "etc/ssl/certs/ca.pem"}
    assert files(machine / "appdir") == expected
    assert (machine / "appdir/usr/bin/own").stat().st_mode & 0o7777 == 0o755
    assert run(*asked, "-o", "root.cpio").status == 0
    members = {member.path.decode() for member in archive.read(machine / "root.cpio").members}
    assert expected <= members


def test_the_library_makes_the_same(machine: Path, run: Run) -> None:
    assert run("appdir", "closure", "/bin/app", "own=own", "--sysroot=machine", "-o", "a.cpio").status == 0
    mystikos_tool.closure("b.cpio", ["/bin/app"], files={"own": "own"}, sysroot="machine")
    assert (machine / "a.cpio").read_bytes() == (machine / "b.cpio").read_bytes()


def test_a_closure_is_not_written_over_or_into_what_it_is_made_of(machine: Path, run: Run) -> None:
    (machine / "own").rename(machine / "own.cpio")
    (machine / "machine/bin/app").rename(machine / "machine/bin/app.cpio")
    before = files(machine)
    asked = ("appdir", "closure", "--sysroot=machine", "own=own.cpio", "/bin/app.cpio", "share=share", "-o")
    for target in ("own.cpio", "machine/bin/app.cpio"):
        assert f"{target}: is one of the inputs; choose another place" in run(*asked, target).err
    for target in ("share/new.cpio", "share/new"):
        assert f"{target}: lies in share, which is packed; write it somewhere else" in run(*asked, target).err
    with pytest.raises(UserError, match=r"own\.cpio: is one of the inputs"):
        mystikos_tool.closure("own.cpio", [], files={"own": "own.cpio"}, sysroot="machine")
    assert files(machine) == before
    assert tiny_elf.program(interpreter=GLIBC, needed=["libone.so"]) == (machine / "own.cpio").read_bytes()


def test_leftovers_in_what_is_taken_are_told(machine: Path, run: Run) -> None:
    result = run("appdir", "closure", "usr/share=share", "--sysroot=machine", "-o", "appdir")
    assert "holds what is hardly meant for it: /usr/share/__pycache__" in result.err
    result = run(
        *("appdir", "closure", "/bin/app", "usr/share=share", "--sysroot=machine"),
        *("--exclude=__pycache__", "-o", "clean"),
    )
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/bin/none"], "/bin/none: is not in machine; correct the path, or install it there"),
        (
            ["own"],
            "own: is neither an absolute path nor PLACE=FILE; to put it into the root write usr/bin/=own",
        ),
        (["usr/bin/=none"], "none: no such file or directory"),
        (["/bin/app", "--extra=glibc"], "glibc: is no extra of a closure; give one of nss"),
        (["/bin/app", "--exclude=app"], "/bin/app: is not in machine"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(
    machine: Path, run: Run, arguments: list[str], message: str
) -> None:
    result = run("appdir", "closure", *arguments, "--sysroot=machine", "-o", "appdir")
    assert result.status == 2
    assert message in result.err
    assert not (machine / "appdir").exists()


def test_nothing_is_mixed_with_what_is_there(machine: Path, run: Run) -> None:
    (machine / "empty").mkdir()
    assert run("appdir", "closure", "/bin/app", "--sysroot=machine", "-o", "empty").status == 0
    before = files(machine / "empty")
    result = run("appdir", "closure", "/bin/app", "--sysroot=machine", "-o", "empty")
    assert result.status == 2
    assert "empty: is not empty; give a directory that is empty or does not exist" in result.err
    assert files(machine / "empty") == before
