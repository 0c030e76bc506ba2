"""The verbs mkext2 and fssig."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import DATA, Run

from mystikos_tool.root.disk import reader as disk_reader

KEYS = DATA / "disks" / "p2-names-signed"
PAIR = f"{KEYS / 'rsa2048.pub'}:{KEYS / 'rsa2048.pem'}"
OTHER = DATA / "disks" / "p3-sparse-signed-e3"


@pytest.fixture
def keyfile(project: Path) -> Path:
    path = project / "master.key"
    path.write_bytes(bytes(range(64)))
    return path


def files(path: Path, key: bytes | None = None) -> set[str]:
    with disk_reader.opened(path) as disk:
        disk.check()
        return {os.fsdecode(member.path) for member in disk.filesystem(key).members}


def test_a_disk_of_a_directory_is_made_and_its_root_hash_told(project: Path, run: Run) -> None:
    result = run("mkext2", "appdir", "app.disk")
    assert (result.status, result.err) == (0, "")
    assert {"bin/hello", "motd", "proc", "usr/local/etc"} <= files(project / "app.disk")
    told = result.out.rsplit("root hash ", 1)[1]
    assert run("fssig", "app.disk", "--roothash").out == told
    assert stat.S_IMODE((project / "app.disk").stat().st_mode) == 0o644


def test_the_root_hash_makes_a_package_that_trusts_the_disk(project: Path, run: Run) -> None:
    run("mkext2", "appdir", "app.disk")
    (project / "roothash").write_text(run("fssig", "--roothash", "app.disk").out)
    options = ["--runtime", "runtime", "--roothash", "roothash", "--outfile", "package"]
    assert run("package-sgx", "key.pem", "config.json", *options).status == 0
    assert run("sign-sgx", "app.disk", "key.pem", "config.json", *options[:4]).status == 0


def test_a_disk_that_is_at_hand_has_to_hold_the_program_and_to_be_trusted(project: Path, run: Run) -> None:
    run("mkext2", "appdir", "app.disk", "--sign", PAIR)
    options = ["--runtime", "runtime", "--outfile", "package", "--rootfs", "app.disk", "--set=Debug=false"]
    package = ["package-sgx", "key.pem", "config.json", *options]
    assert "mounted unchecked" in run(*package).err
    assert "is signed by none of the trusted keys" in run(*package, "--pubkey", OTHER / "rsa3072e3.pub").err
    assert run(*package, "--pubkey", KEYS / "rsa2048.pub").status == 0
    run("mkext2", "appdir", "other.disk", "--exclude=hello")
    options = ["--rootfs", "other.disk", "--roothash", "other.disk"]
    assert "/bin/hello is not in other.disk" in run(*package, *options).err
    assert "does not hold the public key" in run(*package, "--pubkey", "app.disk").err


def test_a_signed_disk_shows_its_signer(project: Path, run: Run) -> None:
    assert run("mkext2", "--sign", PAIR, "appdir", "app.disk").status == 0
    shown = run("fssig", "app.disk")
    assert "595480fb51bcd6c442d8b339e08d80172cfb3e333d95c58b4aa5fc62580c272b" in shown.out
    run("mkext2", "appdir", "unsigned.disk")
    assert "signer          none" in run("fssig", "unsigned.disk").out


def test_an_encrypted_disk_is_made_without_root_and_device_mapper(
    project: Path, run: Run, keyfile: Path
) -> None:
    assert run("mkext2", "--encrypt", keyfile, "appdir", "app.disk").status == 0
    assert "bin/hello" in files(project / "app.disk", keyfile.read_bytes())


def test_a_passphrase_comes_from_the_command_line_or_a_file(project: Path, run: Run, keyfile: Path) -> None:
    (project / "phrase").write_text("fourteen bytes or more\n")
    run("mkext2", "-e", keyfile, "--passphrase", "fourteen bytes or more", "appdir", "a.disk")
    run("mkext2", "-e", keyfile, "--passphrase-file", "phrase", "appdir", "b.disk")
    assert (project / "a.disk").read_bytes() == (project / "b.disk").read_bytes()


def test_size_room_exclude_time_and_data_are_heeded(project: Path, run: Run) -> None:
    run("mkext2", "--size", "16m", "appdir", "sized.disk")
    run("mkext2", "--room", "32m", "appdir", "roomy.disk")
    options = [
        "--data",
        "--exclude",
        "motd",
        "--time",
        "1000000000",
        "--modes",
        "preserve",
        "--owners",
        "preserve",
    ]
    assert run("mkext2", *options, "appdir", "data.disk").status == 0
    with disk_reader.opened(project / "sized.disk") as disk:
        assert disk.fssig.hash_offset == 16 << 20
    assert (project / "roomy.disk").stat().st_size > 32 << 20
    assert files(project / "data.disk") == {"bin", "bin/hello"}
    with disk_reader.opened(project / "data.disk") as disk:
        hello = disk.filesystem().find("/bin/hello")
    assert hello
    assert (hello.time, hello.uid) == (1_000_000_000, os.getuid())


def test_a_file_that_is_there_is_replaced_with_force_only(project: Path, run: Run) -> None:
    (project / "app.disk").write_bytes(b"precious")
    refused = run("mkext2", "appdir", "app.disk")
    assert refused.status == 2
    assert "give --force" in refused.err
    assert (project / "app.disk").read_bytes() == b"precious"
    assert run("mkext2", "--force", "appdir", "app.disk").status == 0


def test_what_a_disk_here_cannot_hold_is_named(project: Path, run: Run) -> None:
    os.mkfifo(project / "appdir" / "pipe")
    result = run("mkext2", "appdir", "app.disk")
    assert result.status == 0
    assert "pipe: is left out" in result.err


def test_a_disk_that_was_tampered_with_shows_no_root_hash(project: Path, run: Run) -> None:
    run("mkext2", "appdir", "app.disk")
    with (project / "app.disk").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    result = run("fssig", "app.disk", "--roothash")
    assert (result.status, result.out) == (2, "")
    assert "not what its hash says" in result.err


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda project: (project / name).write_bytes(data)


def nothing(project: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "options", "problem"),
    [
        (nothing, ["--size", "8m1"], "is no number of bytes"),
        (nothing, ["--size", "1000001"], "kernel refuses"),
        (nothing, ["--size", "4096"], "too small"),
        (nothing, ["--size", "99999999g"], "is more than ext2 can have; give at most 17,592,186,040,320"),
        (nothing, ["--sign", "key.pem"], "is no pair PUB:KEY"),
        (nothing, ["--sign", f"{OTHER / 'rsa3072e3.pub'}:{KEYS / 'rsa2048.pem'}"], "is not the public half"),
        (nothing, ["--sign", f"{KEYS / 'rsa2048.pub'}:missing.pem"], "there is no such key file"),
        (nothing, ["--sign", f"{KEYS / 'rsa2048.pem'}:{KEYS / 'rsa2048.pem'}"], "is a private key"),
        (write("bad.pem", b"?"), ["--sign", f"{KEYS / 'rsa2048.pub'}:bad.pem"], "is not PEM"),
        (nothing, ["--encrypt", "missing"], "there is no such key file"),
        (write("short", bytes(63)), ["--encrypt", "short"], "has 63 bytes"),
        (write("equal", bytes(64)), ["--encrypt", "equal"], "two equal halves"),
        (nothing, ["--passphrase", "fourteen bytes or more"], "with --encrypt only"),
        (nothing, ["--passphrase", "a", "--passphrase-file", "b"], "cannot go with --passphrase-file"),
        (write("k", bytes(range(64))), ["--encrypt", "k", "--passphrase", "thirteen char"], "fewer than 14"),
        (nothing, ["--time", "-1"], "31 bits"),
    ],
)
def test_a_mistake_is_told_and_no_disk_made(
    project: Path, run: Run, prepare: Callable[[Path], object], options: list[str], problem: str
) -> None:
    prepare(project)
    result = run("mkext2", *options, "appdir", "app.disk")
    assert result.status == 2
    assert problem in result.err
    assert not (project / "app.disk").exists()


def test_a_disk_is_not_written_into_the_directory_that_it_is_made_of(project: Path, run: Run) -> None:
    result = run("mkext2", "appdir", "appdir/app.disk")
    assert result.status == 2
    assert "lies in appdir" in result.err


def test_a_target_that_is_a_link_to_itself_is_told(project: Path, run: Run) -> None:
    (project / "loop").symlink_to("loop")
    result = run("mkext2", "appdir", "loop")
    assert result.status == 2
    assert "loop: cannot be written: too many levels of symbolic links" in result.err


def test_a_file_that_is_no_disk_is_told(project: Path, run: Run) -> None:
    assert "no FSSIG" in run("fssig", "config.json").err
    assert "no such file" in run("fssig", "missing").err
    assert "no regular file" in run("fssig", "appdir").err


def test_private_keys_that_go_onto_a_disk_are_told_or_refused(project: Path, run: Run, keyfile: Path) -> None:
    (project / "appdir" / "k.pem").write_bytes((KEYS / "rsa2048.pem").read_bytes())
    told = "appdir: holds private keys, which everybody gets who has the package: /k.pem"
    assert f"warning: {told}" in run("mkext2", "appdir", "a.disk").err
    assert run("mkext2", "appdir", "b.disk", "--secrets=allow").err == ""
    assert run("mkext2", "appdir", "c.disk", "--encrypt", keyfile, "--secrets=error").status == 0
    assert told in run("mkext2", "appdir", "d.disk", "--secrets=error").err
    assert not (project / "d.disk").exists()
    assert "holds the key that signs, at /k.pem" in run("mkext2", "appdir", "d.disk", "--sign", PAIR).err
    assert not (project / "d.disk").exists()
    (project / "appdir" / "k.pem").write_bytes((project / "key.pem").read_bytes())
    assert run("mkext2", "appdir", "e.disk", "--sign", PAIR).status == 0
    signed = ["package-sgx", "key.pem", "config.json", "--runtime", "runtime", "--roothash", "a.disk"]
    failed = run(*signed, "--outfile", "package", "--rootfs", "e.disk", "--roothash", "e.disk")
    assert "e.disk: holds the key that signs, at /k.pem" in failed.err


def test_keys_of_a_disk_that_others_may_read_are_warned_of(project: Path, run: Run, keyfile: Path) -> None:
    keys = (project / "disk.pem", keyfile)
    keys[0].write_bytes((KEYS / "rsa2048.pem").read_bytes())
    arguments = ["mkext2", "appdir", "a.disk", "--force", "--encrypt", keyfile.name]
    arguments += ["--sign", f"{KEYS / 'rsa2048.pub'}:disk.pem"]
    for key in keys:
        key.chmod(0o600)
    assert run(*arguments).err == ""
    for key in keys:
        key.chmod(0o640)
    told = "mystikos-tool: warning: {0}: others may read or change this key (mode 0640); chmod go= {0}"
    assert run(*arguments).err.splitlines() == [told.format(key.name) for key in keys]
