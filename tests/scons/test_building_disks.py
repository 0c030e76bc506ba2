"""Disks that MystDisk makes, and packages whose root is on one."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scons_project import DATA, MEASURE, Project

from mystikos_tool.formats import elf, fssig
from mystikos_tool.packaging import sections
from mystikos_tool.root.disk import reader
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.signing.disk_key import load_public_numbers

KEYS = DATA / "disks" / "p2-names-signed"
DISK = 'disk = env.MystDisk("app.disk", "appdir", {})\n'
DISK_LINE = "made a disk of "
PRODUCTION = '{"version": "0.1", "MemorySize": "1m", "ApplicationPath": "/bin/hello"}\n'


@pytest.fixture
def disks(project: Project) -> Project:
    """A project with a key for disks, whose package is no debug one."""
    shutil.copy(KEYS / "rsa2048.pem", project.path("disk.pem"))
    project.write("config.json", PRODUCTION)
    project.write("master.key", bytes(range(64)))
    shutil.copy("/bin/true", project.path("appdir/bin/hello"))  # a program with what it needs
    for library in needed(project.path("appdir/bin/hello")):
        target = project.path(f"appdir{library}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    return project


def needed(program: Path) -> list[str]:
    words = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    return [word for word in words if word.startswith("/")]


def makes_disk(project: Project, options: str = "", more: str = "") -> Project:
    project.sconstruct(DISK.format(options) + more)
    return project


def files(path: Path, key: bytes | None = None) -> set[str]:
    with reader.opened(path) as disk:
        disk.check()
        return {os.fsdecode(member.path) for member in disk.filesystem(key).members}


def root_hash(path: Path) -> bytes:
    with reader.opened(path) as disk:
        return disk.fssig.root_hash


def section(package: Path, name: str) -> bytes:
    return elf.Image(package.read_bytes(), str(package)).section_bytes(name)


def test_a_disk_is_made_of_what_an_archive_is_made_of(disks: Project) -> None:
    disks.write("conf/app.conf", "x")
    disks.write("appdir/lib/a.pyc", "x")
    disks.sconstruct(
        'env.MystDisk("app", ["appdir", {"etc/app.conf": "conf/app.conf"}], MYST_ROOTFS_EXCLUDE="*.pyc")\n'
    )
    assert DISK_LINE in disks.build().out
    found = files(disks.path("app.disk"))
    assert {"bin/hello", "etc/app.conf", "proc", "usr/local/etc"} <= found
    assert "lib/a.pyc" not in found


def test_the_command_line_makes_the_same_disk(disks: Project) -> None:
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"').build()
    pair = f"{KEYS / 'rsa2048.pub'}:disk.pem"
    command = [sys.executable, "-m", "mystikos_tool", "mkext2", "appdir", "other.disk", "--sign", pair]
    subprocess.run(command, cwd=disks.directory, check=True, capture_output=True)
    assert disks.path("other.disk").read_bytes() == disks.path("app.disk").read_bytes()


def test_a_signed_disk_has_the_signature_of_its_key_and_the_public_half_beside_it(disks: Project) -> None:
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"').build()
    numbers = load_public_numbers(disks.path("app.disk.pub"))
    with reader.opened(disks.path("app.disk")) as disk:
        assert fssig.verify(disk.fssig, numbers.n, numbers.e)


def test_keys_of_a_disk_that_others_may_read_are_one_warning_each(disks: Project) -> None:
    for key in ("disk.pem", "master.key"):
        disks.path(key).chmod(0o640)
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem", MYST_DISK_ENCRYPT="master.key"')
    said = disks.build().err
    for key in ("disk.pem", "master.key"):
        assert said.count(f"{key}: others may read or change this key (mode 0640); chmod go= {key}") == 1
    assert disks.build().err == ""


def test_size_room_owners_time_data_and_encryption_are_heeded(disks: Project) -> None:
    disks.sconstruct(
        """
env.MystDisk("sized", "appdir", MYST_DISK_SIZE="32m")
env.MystDisk("roomy", "appdir", MYST_DISK_ROOM=40 << 20, MYST_DISK_OWNERS="preserve")
env.MystDisk("data", "appdir", MYST_DISK_DATA=True, MYST_DISK_TIME=1000000000)
env.MystDisk("secret", "appdir", MYST_DISK_ENCRYPT="master.key")
"""
    )
    disks.build()
    with reader.opened(disks.path("sized.disk")) as disk:
        assert disk.fssig.hash_offset == 32 << 20
    assert disks.path("roomy.disk").stat().st_size > 40 << 20
    with reader.opened(disks.path("roomy.disk")) as disk:
        hello = disk.filesystem().find("/bin/hello")
        assert hello
        assert (hello.uid, hello.gid) == (os.getuid(), os.getgid())
    assert "proc" not in files(disks.path("data.disk"))
    with reader.opened(disks.path("data.disk")) as disk:
        assert {member.time for member in disk.filesystem().members} == {1_000_000_000}
    assert "bin/hello" in files(disks.path("secret.disk"), bytes(range(64)))


def test_nothing_is_made_again_where_nothing_changed(disks: Project) -> None:
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"').build()
    before = disks.snapshot()
    assert disks.build().out == "scons: `.' is up to date.\n"
    os.utime(disks.path("appdir/etc/motd"))
    assert DISK_LINE not in disks.build().out
    assert disks.snapshot()["app.disk"] == before["app.disk"]


def test_one_changed_file_rewrites_its_blocks_and_not_the_disk(disks: Project) -> None:
    disks.write("appdir/data", os.urandom(4 << 20))
    while DirectorySource(disks.path("appdir")).is_racy():
        pass
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"').build()
    inode, before = disks.path("app.disk").stat().st_ino, disks.path("app.disk").read_bytes()
    disks.write("appdir/etc/motd", "another day\n")
    disks.build()
    after = disks.path("app.disk").read_bytes()
    assert disks.path("app.disk").stat().st_ino == inode
    blocks = range(0, len(before), 4096)
    changed = [at for at in blocks if before[at : at + 4096] != after[at : at + 4096]]
    assert len(changed) < 12
    disks.path("app.disk").unlink()
    disks.build()
    assert disks.path("app.disk").read_bytes() == after


def test_another_key_signs_anew_and_nothing_else(disks: Project) -> None:
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"').build()
    before = disks.path("app.disk").read_bytes()
    makes_disk(disks, 'MYST_DISK_KEY="key.pem"').build()
    after = disks.path("app.disk").read_bytes()
    assert before[:-4096] == after[:-4096]
    assert before[-4096:] != after[-4096:]


@pytest.mark.parametrize("relinked", [True, False], ids=["linked", "separated"])
def test_a_link_between_files_is_on_the_disk_as_it_is_in_the_source(disks: Project, relinked: bool) -> None:
    first, second = disks.write("appdir/a", "same"), disks.write("appdir/b", "same")
    if not relinked:
        second.unlink()
        second.hardlink_to(first)
    makes_disk(disks).build()
    second.unlink()
    second.hardlink_to(first) if relinked else second.write_text("same")
    disks.build()
    with reader.opened(disks.path("app.disk")) as disk:
        found = disk.filesystem().find("/a")
        assert found
        assert found.links == (2 if relinked else 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_an_owner_that_is_preserved_is_tracked(disks: Project) -> None:
    makes_disk(disks, 'MYST_DISK_OWNERS="preserve"').build()
    os.chown(disks.path("appdir/etc/motd"), 1234, 1)
    disks.build()
    with reader.opened(disks.path("app.disk")) as disk:
        found = disk.filesystem().find("/etc/motd")
        assert found
        assert found.uid == 1234


def test_a_disk_does_not_go_through_a_cache(disks: Project) -> None:
    makes_disk(disks, "", 'env.CacheDir("cache")\n').build()
    assert [path for path in disks.path("cache").rglob("*") if path.stat().st_size > 1 << 20] == []


def trusting(
    disks: Project, *, by: str, options: str = 'MYST_DISK_KEY="disk.pem"', source: str = "disk"
) -> Project:
    return makes_disk(disks, options, f'env.MystPackage("hello", {source}, {by})\n')


def test_the_root_hash_of_a_disk_of_the_same_build_is_measured(disks: Project) -> None:
    trusting(disks, by="MYST_ROOTHASHES=disk", options="").build()
    package = disks.path("hello")
    assert section(package, sections.ROOTHASHES) == root_hash(disks.path("app.disk"))
    disks.write("appdir/etc/motd", "another day\n")
    disks.build("-j2")
    assert section(package, sections.ROOTHASHES) == root_hash(disks.path("app.disk"))
    assert disks.build().stages == set()


def test_the_key_of_a_disk_of_the_same_build_is_measured_and_another_content_changes_no_package(
    disks: Project,
) -> None:
    trusting(disks, by="MYST_PUBKEYS=disk").build()
    package = disks.path("hello").read_bytes()
    assert (
        section(disks.path("hello"), sections.PUBKEYS).rstrip(b"\0")
        == disks.path("app.disk.pub").read_bytes()
    )
    disks.write("appdir/etc/motd", "another day\n")
    assert disks.build().stages == {MEASURE}  # the disk is looked into
    assert disks.path("hello").read_bytes() == package


def test_a_disk_that_nothing_makes_trusted_is_refused(disks: Project) -> None:
    trusting(disks, by="")
    assert "mounted unchecked in an enclave without Debug" in disks.fails().err
    disks.write("other.pub", (DATA / "disks" / "p3-sparse-signed-e3" / "rsa3072e3.pub").read_bytes())
    trusting(disks, by='MYST_PUBKEYS="other.pub"')
    assert "is signed by none of the trusted keys" in disks.fails().err
    trusting(disks, by='MYST_PUBKEYS="other.pub", MYST_CONFIG_SET={"Debug": True}')
    assert "an enclave with Debug mounts it unverified" in disks.build().err


def test_the_root_hash_is_written_for_others(disks: Project) -> None:
    makes_disk(disks, "", "env.MystIdentity(disk)\n").build()
    assert disks.path("app.disk.roothash").read_text() == root_hash(disks.path("app.disk")).hex() + "\n"


LOADER = """
#include <stdio.h>
#include <stdlib.h>
int main(void) { return puts(getenv("MYST_ROOTFS_PATH")) < 0; }
"""


def test_a_package_is_started_and_tested_with_the_disk_that_is_its_root(disks: Project) -> None:
    command = ["gcc", "-x", "c", "-", "-o", disks.path("rt/bin/myst")]
    subprocess.run(command, input=LOADER, text=True, check=True)
    more = """
hello = env.MystPackage("hello", disk, MYST_PUBKEYS=disk)
env.MystTest("test", hello, stdout={path!r} + "\\n")
env.MystRun("run", hello)
"""
    makes_disk(disks, 'MYST_DISK_KEY="disk.pem"', more.format(path=str(disks.path("app.disk"))))
    assert "check: 1 passed (0 of them unchanged)" in disks.build("check").out
    assert "check: 1 passed (1 of them unchanged)" in disks.build("check").out
    disks.write("appdir/etc/motd", "another day\n")
    assert "check: 1 passed (0 of them unchanged)" in disks.build("check").out
    disks.path("app.disk").unlink()
    assert f"{disks.path('app.disk')}\n" in disks.build("run").out


def test_an_unsigned_disk_has_no_key_to_be_trusted(disks: Project) -> None:
    trusting(disks, by="MYST_PUBKEYS=disk", options="")
    assert "app.disk is not signed; give its MystDisk a MYST_DISK_KEY" in disks.fails().err


def test_program_and_mounts_are_looked_up_in_the_disk(disks: Project) -> None:
    trusting(disks, by='MYST_ROOTHASHES=disk, MYST_CONFIG_SET={"ApplicationPath": "/bin/helo"}')
    assert "/bin/helo is not in app.disk; did you mean /bin/hello?" in disks.fails().err
    mount = '{"Mount": [{"Target": "/etc/motd", "Type": "ext2"}]}'
    trusting(disks, by=f"MYST_ROOTHASHES=disk, MYST_CONFIG_SET={mount}")
    assert "/etc/motd is no directory in app.disk" in disks.fails().err


def test_a_disk_that_is_no_node_of_the_build_is_named_with_myst_root(disks: Project) -> None:
    makes_disk(disks).build()
    shutil.copy(disks.path("app.disk"), disks.path("given.disk"))
    by = 'MYST_ROOT="disk", MYST_ROOTHASHES="given.disk"'
    disks.sconstruct(f'env.MystPackage("hello", "given.disk", {by})\n')
    disks.build()
    assert section(disks.path("hello"), sections.ROOTHASHES) == root_hash(disks.path("given.disk"))
    disks.sconstruct('env.MystPackage("hello", "given.disk")\n')
    assert 'is an ext2 disk; give MYST_ROOT="disk" if it is the root' in disks.fails().err


def test_an_encrypted_disk_is_no_root(disks: Project) -> None:
    trusting(disks, by="MYST_ROOTHASHES=disk", options='MYST_DISK_ENCRYPT="master.key"')
    assert "is encrypted, and nothing gives the kernel the key of its root" in disks.fails().err


def test_a_disk_that_another_hand_changed_is_made_again_before_it_is_trusted(disks: Project) -> None:
    trusting(disks, by="MYST_ROOTHASHES=disk", options="").build()
    right = disks.path("app.disk").read_bytes()
    other = bytearray(right)
    other[-4096 + 24] ^= 1  # the root hash
    disks.path("app.disk").write_bytes(other)
    disks.path("hello.measurement.json").unlink()
    disks.build()
    assert disks.path("app.disk").read_bytes() == right
    assert section(disks.path("hello"), sections.ROOTHASHES) == root_hash(disks.path("app.disk"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ('MYST_DISK_SIZE="1000001"', "is no multiple of 4096"),
        ("MYST_DISK_SIZE=4096", "is too small"),
        ('MYST_DISK_SIZE="16m", MYST_DISK_ROOM="1m"', "MYST_DISK_ROOM has no effect with MYST_DISK_SIZE"),
        ('MYST_DISK_ROOM="much"', "MYST_DISK_ROOM cannot be 'much'; give a number of bytes"),
        ('MYST_DISK_OWNERS="me"', "MYST_DISK_OWNERS cannot be 'me'"),
        ('MYST_DISK_TIME="now"', "MYST_DISK_TIME cannot be 'now'"),
        ('MYST_DISK_KEY="missing.pem"', "missing.pem: is named by MYST_DISK_KEY and is not there"),
        ('MYST_DISK_ENCRYPT="key.pem"', "a master key has 64"),
        ('MYSTROOTFSCOMSTR=""', "MYSTROOTFSCOMSTR has no effect: this MystDisk does not pack a root"),
        ('MYST_CONFIG="config.json"', "MYST_CONFIG has no effect: this MystDisk does not measure"),
    ],
)
def test_a_mistake_is_told_and_no_disk_made(disks: Project, options: str, problem: str) -> None:
    assert problem in makes_disk(disks, options).fails().err
    assert not disks.path("app.disk").exists()


def test_private_keys_on_a_disk_are_told_and_that_which_signs_is_an_error(disks: Project) -> None:
    told = "app.disk: holds private keys, which everybody gets who has the package: /etc/"
    makes_disk(disks, "MYST_DISK_KEY='disk.pem'").build()
    disks.write("appdir/etc/b.pem.gz", gzip.compress((DATA / "keys" / "key-b.pem").read_bytes()))
    assert f"{told}b.pem.gz" in disks.build().err
    disks.write("appdir/etc/other", "x")  # and what was found before is still there
    assert f"{told}b.pem.gz" in disks.build().err
    makes_disk(disks, "MYST_DISK_KEY='disk.pem', MYST_ROOTFS_SECRETS='allow'").build()
    disks.write("appdir/etc/other", "y")
    assert "private keys" not in disks.build().err
    makes_disk(disks, "MYST_DISK_KEY='disk.pem', MYST_ROOTFS_SECRETS='error'")
    assert f"{told}b.pem.gz; take them out" in disks.fails().err
    disks.path("appdir/etc/b.pem.gz").unlink()
    assert "private keys" not in disks.build().err
    shutil.copy(disks.path("disk.pem"), disks.path("appdir/etc/d.pem"))
    makes_disk(disks, "MYST_DISK_KEY='disk.pem', MYST_ROOTFS_SECRETS='allow'")
    assert "app.disk: holds the key that signs, at /etc/d.pem" in disks.fails().err
    makes_disk(disks, "MYST_DISK_ENCRYPT='master.key', MYST_ROOTFS_SECRETS='error'").build()


def test_the_key_that_signs_an_enclave_is_refused_on_its_root_disk(disks: Project) -> None:
    shutil.copy(disks.path("key.pem"), disks.path("appdir/etc/k.pem"))
    makes_disk(disks, more='env.MystPackage("app", disk, MYST_ROOT="disk", MYST_ROOTHASHES=disk)\n')
    assert "app.disk: holds the key that signs, at /etc/k.pem" in disks.fails().err


def test_a_disk_that_was_damaged_is_made_again(disks: Project) -> None:
    makes_disk(disks, more='env.MystPackage("app", disk, MYST_ROOT="disk", MYST_ROOTHASHES=disk)\n').build()
    path = disks.path("app.disk")
    made = path.read_bytes()
    with path.open("r+b") as disk:
        disk.seek(5000)
        disk.write(b"damaged")
    os.utime(path, (1, 1))
    assert DISK_LINE in disks.build().out
    assert path.read_bytes() == made
    assert "up to date" in disks.build(".").out


WAYS = {
    "timestamp-match": ("env.Decider('timestamp-match')\nDecider('timestamp-match')\n", []),
    "MD5-timestamp": ("env.Decider('MD5-timestamp')\nDecider('MD5-timestamp')\n", []),
    "options": ("SetOption('implicit_cache', 1)\nSetOption('max_drift', 1)\n", ["-k", "--random", "-j2"]),
    "a variant directory": ("VariantDir('v', 'sub', duplicate=0)\n", []),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_root_on_a_disk_follows_its_files_in_every_way_of_building(disks: Project, way: str) -> None:
    head, options = WAYS[way]
    place = "v" if "variant" in way else "sub"
    disks.path("appdir").rename(disks.write("sub/more", "x").with_name("appdir"))
    disks.write("source", "one")
    disks.sconstruct(
        f"""{head}
env.Command("{place}/appdir/lib/built", "source", Copy("$TARGET", "$SOURCE"))
disk = env.MystDisk("app", "{place}/appdir")
env.MystPackage("app", disk, MYST_ROOT="disk", MYST_ROOTHASHES=disk)
"""
    )

    def holds(**expected: str) -> None:
        assert disks.build(*options).status == 0
        made = [disks.path(name).read_bytes() for name in ("app.disk", "app")]
        with reader.opened(disks.path("app.disk")) as disk:
            files = disk.filesystem()
            for name, content in expected.items():
                [member] = [one for one in files.members if one.path.endswith(b"/" + name.encode())]
                assert b"".join(files.content(member)) == content.encode()
            assert section(disks.path("app"), ".mystroothashes") == disk.fssig.root_hash
        assert not disks.build(*options).stages
        assert made == [disks.path(name).read_bytes() for name in ("app.disk", "app")]

    holds(built="one")
    os.utime(disks.write("source", "three"), (1, 1))  # SCons compares whole seconds of the user's files
    disks.write("sub/appdir/etc/motd", "good dax\n")
    holds(built="three", motd="good dax\n")
    status = disks.path("sub/appdir/etc/motd").stat()
    disks.write("sub/appdir/etc/motd", "GOOD dax\n")
    os.utime(disks.path("sub/appdir/etc/motd"), ns=(status.st_atime_ns, status.st_mtime_ns))
    disks.write("sub/appdir/etc/new", "new")
    holds(motd="GOOD dax\n", new="new")
