"""How a directory becomes a root, and a file a configuration, by options of the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cli_support import Run, configure

from mystikos_tool import inspect
from mystikos_tool.root import archive

COMMON = ["key.pem", "config.json", "--runtime=runtime"]


@pytest.fixture
def layered(project: Path) -> Path:
    (project / "over" / "etc").mkdir(parents=True)
    (project / "over" / "etc" / "key").write_text("secret")
    (project / "over" / "motd").write_text("over")
    return project


def root(path: Path) -> dict[str, tuple[int, bytes]]:
    found = archive.read(path)
    return {
        member.path.decode(): (stat.S_IMODE(member.mode), found.data(member))
        for member in found.members
        if stat.S_ISREG(member.mode)
    }


def test_a_directory_or_an_archive_is_laid_over_an_appdir(layered: Path, run: Run) -> None:
    assert run("mkcpio", "over", "over.cpio").status == 0
    for over in ("over", "over.cpio"):
        result = run("mkcpio", "appdir", f"{over}.packed", "--overlay", over, "--modes=canonical")
        assert result.status == 0, result.err
        found = root(layered / f"{over}.packed")
        assert found["motd"] == (0o644, b"over")
        assert found["etc/key"] == (0o644, b"secret")
        assert "bin/hello" in found
    assert (layered / "over.packed").read_bytes() == (layered / "over.cpio.packed").read_bytes()
    (layered / "over" / "bin").write_text("no directory")
    result = run("mkcpio", "appdir", "packed", "--overlay=over")
    assert result.status == 2
    assert "over/bin: cannot be joined with appdir/bin, for only one of them is a directory" in result.err


def test_files_get_modes_by_path_and_a_pattern_that_matches_none_is_told(layered: Path, run: Run) -> None:
    options = ["--overlay=over", "--chmod=etc/key=0600", "--chmod", "hello=0700", "--chmod=etc/kye=0600"]
    result = run("package-sgx", "appdir", *COMMON, "-o=p", *options)
    assert result.status == 0, result.err
    assert result.err == "mystikos-tool: warning: etc/kye: has a mode, and no file in the root matches\n"
    assert run("mkcpio", "appdir", "packed", *options).status == 0
    found = root(layered / "packed")
    assert found["etc/key"][0] == 0o600
    assert found["bin/hello"][0] == 0o700


def test_what_is_excluded_stays_out_and_leftovers_are_told(layered: Path, run: Run) -> None:
    (layered / "appdir" / ".git").mkdir()
    result = run("mkcpio", "appdir", "packed")
    assert 'appdir: holds what is hardly meant for it: /.git; exclude ".git"' in result.err
    result = run("mkcpio", "appdir", "packed", "--exclude=.git", "--exclude", "motd")
    assert result.err == ""
    assert set(root(layered / "packed")) == {"bin/hello"}
    options = ("--exclude=*.pyc", "--exclude=.git", "--exclude=motd", "--overlay=over")
    for made in (
        ("mkcpio", "appdir", "packed"),
        ("mkext2", "appdir", "disk"),
        ("package-sgx", "appdir", *COMMON),
    ):
        assert run(*made, *options).err == (
            "mystikos-tool: warning: *.pyc: is excluded, and nothing in the root matches\n"
        )
    assert "hardly meant for it: /.git" in run("mkext2", "appdir", "app.disk").err


def test_a_disk_is_packed_with_the_same_options(layered: Path, run: Run) -> None:
    result = run("mkext2", "appdir", "one.disk", "--overlay=over", "--chmod=etc/key=0600")
    assert result.status == 0, result.err
    (layered / "appdir" / "etc").mkdir()
    (layered / "appdir" / "etc" / "key").write_text("secret")
    (layered / "appdir" / "etc" / "key").chmod(0o600)
    (layered / "appdir" / "motd").write_text("over")
    assert run("mkext2", "appdir", "two.disk", "--chmod=etc/key=0600").status == 0
    hashes = [run("fssig", disk, "--roothash").out for disk in ("one.disk", "two.disk")]
    assert hashes[0] == hashes[1] != ""


@pytest.mark.parametrize(
    "option", ["--overlay=over", "--exclude=x", "--modes=preserve", "--chmod=x=0600", "--strip"]
)
def test_an_option_for_packing_needs_something_to_pack(layered: Path, run: Run, option: str) -> None:
    assert run("mkcpio", "appdir", "packed").status == 0
    result = run("package-sgx", "--rootfs=packed", *COMMON, "-o=p", option)
    assert result.status == 2
    assert f"{option.split('=')[0]}: is for an appdir, and none is packed" in result.err


@pytest.mark.parametrize("text", ["etc/key", "etc/key=rwx", "=0600"])
def test_what_is_no_mode_is_told(layered: Path, run: Run, text: str) -> None:
    result = run("mkcpio", "appdir", "packed", f"--chmod={text}")
    assert result.status == 2
    assert "argument --chmod: " in result.err


def test_a_program_that_holds_the_path_of_the_working_directory_is_told(project: Path, run: Run) -> None:
    program = project / "appdir" / "program"
    program.write_bytes(b"\x7fELF" + bytes(100) + f"{project}/program.c\0".encode())
    result = run("package-sgx", "appdir", *COMMON, "-o=p")
    assert f"the path of this checkout, {project}, is in the code or data of /program, so that" in result.err
    program.write_bytes(b"\x7fELF" + bytes(100) + f"{project}x/program.c\0".encode())
    assert run("package-sgx", "appdir", *COMMON, "-o=p").err == ""


# The configuration


def packaged(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(inspect(path).config)
    return found


def test_keys_of_the_configuration_are_set_by_options(project: Path, run: Run) -> None:
    options = ["--set=SecurityVersion=3", "--set", "MemorySize=64=m", "--set=Debug=null"]
    result = run("package-sgx", "appdir", *COMMON, "-o=p", *options)
    assert result.status == 2
    assert "--set: MemorySize: cannot be" in result.err
    options[2] = "MemorySize=65m"
    result = run("package-sgx", "appdir", *COMMON, "-o=p", *options)
    assert result.status == 0, result.err
    expected = {"SecurityVersion": 3, "MemorySize": "65m"}
    assert packaged(project / "p").items() >= expected.items()
    assert "Debug" not in packaged(project / "p")
    configure(project, SecurityVersion=3, MemorySize="65m", Debug=None)
    assert run("package-sgx", "appdir", *COMMON, "-o=q").status == 0
    assert packaged(project / "p") == packaged(project / "q")
    result = run("sign-sgx", "--set=SecurityVersion", "appdir", *COMMON)
    assert "SecurityVersion: is no key with a value; write it as in" in result.err


# What a package is known by


def test_an_identity_is_printed_alone(project: Path, run: Run) -> None:
    assert run("package-sgx", "appdir", *COMMON, "-o=p").status == 0
    identity = inspect(project / "p").identity
    assert run("dump-sgx", "p", "--mrenclave").out == identity.mrenclave.hex() + "\n"
    assert run("dump-sgx", "p", "--mrsigner").out == identity.mrsigner.hex() + "\n"
    assert "not allowed with argument" in run("dump-sgx", "p", "--mrsigner", "--json").err


@pytest.mark.parametrize("option", ["--exclude=x", "--modes=preserve"])
def test_comparing_what_is_packed_already_takes_no_option_for_packing(
    layered: Path, run: Run, option: str
) -> None:
    for name in ("one", "other"):
        assert run("mkcpio", "appdir", name).status == 0
    assert run("diff", "one", "other").status == 0
    result = run("diff", "one", "other", option)
    assert result.status == 2
    assert f"{option.split('=')[0]}: is for an appdir, and none is packed" in result.err
    assert run("diff", "one", "appdir", option).status in (0, 1)
