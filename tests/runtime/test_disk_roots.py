"""A root on a disk: what is trusted starts, and nothing else."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from making_disks import BLOCK, DISK_PUBLIC_KEY, change, make_disk, make_disk_of, root_hash_file
from packaging import DATA, make_package
from starting import ORDINARY_USER, PROBE, SECONDS, Caller, read_line, refusal

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2, fssig, luks
from mystikos_tool.formats.ext2_reader import Filesystem
from mystikos_tool.runtime import Runtime

OTHER_PUBLIC_KEY = DATA / "keys" / "key-b.pub.pem"
SETTINGS = {"ApplicationPath": PROBE, "HostApplicationParameters": True}
CONTENT = bytes(range(256)) * 200
UNTRUSTED = "neither is it signed by a key nor has it a root hash that the package trusts"

MakeDiskPackage = Callable[..., Path]


@pytest.fixture(scope="module")
def work(public_directory: Path) -> Path:
    directory = public_directory / "disks"
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def original(work: Path, probe: Path) -> Path:
    """A signed disk with the probe on it."""
    files = {
        "bin/probe": probe,
        "data/file": b"of the disk\n",
        "data/other": b"another\n",
        "data/large": CONTENT,
    }
    return make_disk(work / "original", files)


@pytest.fixture
def disk(original: Path, work: Path) -> Iterator[Path]:
    """A copy of the disk, to be changed."""
    copy = work / "app.disk"
    shutil.copyfile(original, copy)
    yield copy
    copy.unlink()


@pytest.fixture(scope="module")
def package(work: Path, runtime: Runtime) -> MakeDiskPackage:
    """Packages whose root is a disk, by what they trust and what the configuration says."""
    made: dict[str, Path] = {}
    numbers = count()

    def package(
        pubkeys: tuple[Path, ...] = (DISK_PUBLIC_KEY,), roothashes: tuple[Path, ...] = (), **settings: Any
    ) -> Path:
        key = repr((pubkeys, roothashes, settings))
        if key not in made:
            directory = work / f"package-{next(numbers)}"
            trust: dict[str, Any] = {"pubkeys": pubkeys, "roothashes": roothashes}
            made[key] = make_package(directory, runtime, None, {**SETTINGS, **settings}, **trust)
        return made[key]

    return package


def option(disk: Path) -> str:
    return f"--myst-rootfs={disk}"


@dataclass(frozen=True)
class Machine:
    """One that serves disks to the sandbox by FUSE or has them unpacked, and a caller there."""

    caller: Caller
    served: bool

    def run(self, package: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return Caller(None).run(self.command(package), *arguments, **options)

    def output(self, package: Path, *arguments: str, **options: Any) -> str:
        done = self.run(package, *arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextlib.contextmanager
    def start(self, package: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        command, pipe = [*self.command(package), *arguments], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, package: Path) -> list[str | Path]:
        become = [] if self.caller.user is None else [*BECOME, f"--reuid={self.caller.user}"]
        script = SERVING if self.served else UNPACKING
        return [
            "unshare",
            *([] if os.geteuid() == 0 else ["-r"]),
            "-m",
            "sh",
            "-c",
            script,
            "sh",
            *become,
            package,
        ]


FUSE = Path("/dev/fuse")
BECOME = ["setpriv", f"--regid={ORDINARY_USER}", "--clear-groups"]
# The device as it is on most machines, and none.
SERVING_BY = 'mount -t tmpfs none /mnt && mknod /mnt/fuse {} && mount --bind /mnt/fuse /dev/fuse && exec "$@"'
SERVING = SERVING_BY.format("-m 666 c 10 229")
UNPACKING = '{ [ ! -e /dev/fuse ] || mount --bind /dev/null /dev/fuse; } && exec "$@"'


@pytest.fixture(params=["served", "unpacked"])
def machine(request: pytest.FixtureRequest, caller: Caller) -> Machine:
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("needs unshare(1) and setpriv(1)")
    if request.param == "served" and (os.geteuid() or not FUSE.exists()):
        pytest.skip("needs root and /dev/fuse")
    return Machine(caller, request.param == "served")


def filesystem(disk: Path) -> Filesystem:
    data = disk.read_bytes()
    return Filesystem(lambda offset, size: data[offset : offset + size], len(data), str(disk))


def block_of(disk: Path, path: str) -> int:
    """The number of the first block of a file."""
    read = filesystem(disk)
    member = read.entry(path)
    assert member
    return next(iter(read.blocks_of(member)))


def free_block(disk: Path) -> int:
    """The number of the last block of the file system, which no file has."""
    return filesystem(disk).blocks - 1


# What starts


def test_a_root_on_a_disk_is_the_root_that_was_signed(
    package: MakeDiskPackage, machine: Machine, original: Path
) -> None:
    made = package()
    assert machine.output(made, option(original), "show", "/data/file") == "of the disk\n"
    assert machine.output(made, option(original), "status", PROBE, "/data") == (
        f"100755 0 {PROBE}\n40755 0 /data\n"
    )
    assert machine.output(made, option(original), "fill", "/data/new", "5") == "written\n"
    assert machine.output(made, option(original), "fill", "/data/file", "5") == "written\n"
    assert machine.output(made, option(original), "show", "/data/file") == "of the disk\n"


def test_the_environment_names_the_disk_where_no_option_does(
    package: MakeDiskPackage, anyone: Caller, original: Path
) -> None:
    environment = {"MYST_ROOTFS_PATH": "original/disk"}
    options: dict[str, Any] = {"env": environment, "cwd": original.parent.parent}
    assert anyone.output(package(), "show", "/data/file", **options) == "of the disk\n"
    environment["MYST_ROOTFS_PATH"] = "/missing"
    assert anyone.output(package(), option(original), "show", "/data/file", **options) == "of the disk\n"
    assert refusal(anyone.run(package(), "leave", "0", **options)) == (
        "environment: MYST_ROOTFS_PATH: cannot open the disk /missing: No such file or directory"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a set-id copy")
def test_a_set_id_copy_opens_no_disk_for_its_caller(
    package: MakeDiskPackage, anyone: Caller, original: Path, work: Path
) -> None:
    shutil.copy(package(), work / "package")
    (work / "package").chmod(0o4755)
    done = anyone.run(work / "package", "leave", "0", env={"MYST_ROOTFS_PATH": str(original)})
    assert "the root file system is on an ext2 disk: name it" in refusal(done)
    (work / "package").unlink()


def test_a_disk_is_found_through_a_link(
    package: MakeDiskPackage, anyone: Caller, original: Path, work: Path
) -> None:
    link = work / "link"
    link.symlink_to(original)
    assert anyone.output(package(), option(link), "show", "/data/file") == "of the disk\n"


def test_a_trusted_root_hash_is_enough(
    package: MakeDiskPackage, anyone: Caller, work: Path, probe: Path
) -> None:
    unsigned = make_disk(work / "unsigned", {"bin/probe": probe}, keys=None)
    trusted = (DATA / "keys" / "disk1.roothash", root_hash_file(unsigned, work / "roothash"))
    assert anyone.run(package((), trusted), option(unsigned), "leave", "7").returncode == 7
    assert UNTRUSTED in refusal(anyone.run(package(), option(unsigned), "leave", "7"))


def test_one_of_the_trusted_keys_is_enough(package: MakeDiskPackage, anyone: Caller, original: Path) -> None:
    made = package((OTHER_PUBLIC_KEY, DISK_PUBLIC_KEY))
    assert anyone.run(made, option(original), "leave", "7").returncode == 7


def test_what_is_added_to_the_root_is_limited_by_memory_size(
    package: MakeDiskPackage, machine: Machine, original: Path
) -> None:
    made = package(MemorySize="16m")
    assert machine.output(made, option(original), "fill", "/new", str(15 << 20)) == "written\n"
    assert "No space left on device" in machine.output(made, option(original), "fill", "/new", str(17 << 20))


def test_what_is_added_to_the_root_counts_with_the_memory_of_processes(
    package: MakeDiskPackage, machine: Machine, original: Path
) -> None:
    made = package(MemorySize="64m")
    words = ("share", str(40 << 20), "/data/new", str(30 << 20))
    assert machine.output(made, option(original), *words).splitlines() == [
        "No space left on device",
        "written",
        "ENOMEM",
        "allocated",
    ]


def test_a_disk_is_served_where_the_machine_lets_it_and_unpacked_elsewhere(
    package: MakeDiskPackage, machine: Machine, original: Path
) -> None:
    mounts = machine.output(package(), option(original), "show", "/proc/.linux/self/mountinfo").splitlines()
    [root] = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[4] == "/"]
    assert root == ("overlay" if machine.served else "tmpfs")


@pytest.mark.skipif(os.geteuid() != 0 or not FUSE.exists(), reason="needs root and /dev/fuse")
@pytest.mark.parametrize("node", ["-m 600 c 10 229", "-m 666 c 10 250", "-m 666 c 1 5", "-m 666 p"])
def test_a_disk_is_unpacked_where_fuse_is_not_what_it_should_be(
    package: MakeDiskPackage, disk: Path, node: str
) -> None:
    become = [*BECOME, f"--reuid={ORDINARY_USER}"]
    command = ["unshare", "-m", "sh", "-c", SERVING_BY.format(node), "sh", *become, package(), option(disk)]
    nobody = Caller(None)
    assert nobody.output([*command, "show"], "/data/file") == "of the disk\n"
    change(disk, free_block(disk) * BLOCK, b"changed")
    told = refusal(nobody.run([*command, "leave"], "0"))
    assert told == f"disk {disk}: block {free_block(disk)} is not what its hash says"


@pytest.fixture(scope="module")
def odd(original: Path, work: Path) -> Path:
    """A disk with links, special modes and a large hole."""
    tree = work / "odd"
    shutil.copytree(original.parent / "tree", tree)
    os.link(tree / "data" / "file", tree / "data" / "again")
    (tree / "data" / "alias").symlink_to("/data/again")
    (tree / "data" / "long").symlink_to("/" + "./" * 1000 + "data/file")
    with (tree / "hole").open("wb") as file:
        file.truncate(5 << 30)
    (tree / "data" / "file").chmod(0o4755)
    (tree / "data").chmod(0o555)
    return make_disk_of(tree, tree.with_suffix(".disk"))


def test_modes_links_and_holes_come_with_the_disk(
    package: MakeDiskPackage, machine: Machine, odd: Path
) -> None:
    for name in ("file", "again", "alias", "long"):
        assert machine.output(package(), option(odd), "show", f"/data/{name}") == "of the disk\n"
    status = machine.output(package(), option(odd), "status", "/data", "/data/again", "/data/alias", "/hole")
    assert status == "40555 0 /data\n104755 0 /data/again\n120777 0 /data/alias\n100644 0 /hole\n"


def test_an_unverified_disk_that_is_not_in_order_fails_the_file_or_the_start(
    package: MakeDiskPackage, machine: Machine, disk: Path
) -> None:
    made = package((OTHER_PUBLIC_KEY,), Debug=True)
    read = filesystem(disk)
    member = read.entry("data/file")
    assert member
    table = ext2.GROUP.get_int(read.block(1)[: ext2.GROUP.size], "inode_table")
    inode = table * BLOCK + (member.inode - 1) * ext2.INODE.size
    for at, data, problem in [
        (40, b"\xff\xff\xff\xff", "names a block that the disk does not have"),
        (32, b"\0\0\x08\0", "has extents or inline data, which Mystikos cannot read"),
    ]:
        before = disk.read_bytes()[inode + at : inode + at + 4]
        change(disk, inode + at, data)
        done = machine.run(made, option(disk), "show", "/data/file")
        change(disk, inode + at, before)
        if machine.served:
            assert (done.returncode, done.stdout) in [(1, ""), (1, "I/O error\n")]
        else:
            assert done.returncode == 125
            assert done.stderr.endswith(f"disk {disk}: /data/file: {problem}\n")


def test_a_changed_block_fails_the_file_that_it_is_of_or_the_start(
    package: MakeDiskPackage, machine: Machine, disk: Path
) -> None:
    made = package()
    number = block_of(disk, "data/file")
    change(disk, number * BLOCK, b"changed")
    done = machine.run(made, option(disk), "show", "/data/file")
    if machine.served:
        assert (done.returncode, done.stdout) == (1, "")  # read(2) fails
        assert machine.output(made, option(disk), "show", "/data/other") == "another\n"
    else:
        problem = f"block {number} is not what its hash says"
        assert refusal(done) == f"disk {disk}: /data/file: {problem}"
        shutil.copyfile(disk.parent / "original" / "disk", disk)
        change(disk, free_block(disk) * BLOCK, b"changed")
        told = refusal(machine.run(made, option(disk), "leave", "0"))
        assert told == f"disk {disk}: block {free_block(disk)} is not what its hash says"


def test_without_isolation_the_disk_is_unpacked_to_a_directory(
    package: MakeDiskPackage, anyone: Caller, original: Path
) -> None:
    done = anyone.run(package(), "--myst-no-isolation", option(original), "leave", "7")
    assert done.returncode == 7


# What does not


def test_a_package_whose_root_is_on_a_disk_asks_for_it(package: MakeDiskPackage, anyone: Caller) -> None:
    assert refusal(anyone.run(package(), "leave", "0", env={"MYST_ROOTFS_PATH": ""})) == (
        "the root file system is on an ext2 disk: name it with --myst-rootfs=FILE, or with MYST_ROOTFS_PATH"
        " in the environment"
    )


def test_a_disk_is_refused_by_a_package_with_its_root_in_it(
    work: Path, runtime: Runtime, anyone: Caller, original: Path, probe: Path
) -> None:
    made = make_package(work / "archive", runtime, original.parent / "tree", SETTINGS)
    assert "the root file system is in the package" in refusal(anyone.run(made, option(original)))
    environment = {"MYST_ROOTFS_PATH": str(original)}
    assert anyone.run(made, "leave", "7", env=environment).returncode == 7


def test_a_package_that_trusts_nothing_is_not_made(package: MakeDiskPackage) -> None:
    with pytest.raises(UserError, match="mounted unchecked"):
        package(())


def test_a_disk_that_the_package_does_not_trust_is_refused(
    package: MakeDiskPackage, anyone: Caller, original: Path
) -> None:
    for made in (package((OTHER_PUBLIC_KEY,)), package((), (DATA / "keys" / "disk1.roothash",))):
        assert refusal(anyone.run(made, option(original))) == f"disk {original}: {UNTRUSTED}"


def test_a_debug_enclave_takes_such_a_disk_unverified_after_a_warning(
    package: MakeDiskPackage, caller: Caller, disk: Path
) -> None:
    made = package((OTHER_PUBLIC_KEY,), Debug=True)
    change(disk, block_of(disk, "data/file") * BLOCK, b"changed")
    done = caller.run(made, option(disk), "show", "/data/file")
    assert (done.returncode, done.stdout) == (0, "changeddisk\n")
    assert done.stderr == (
        f"package: mystikos: warning: disk {disk}: {UNTRUSTED}; it is mounted unverified,"
        " since Debug is set\n"
    )
    os.truncate(disk, disk.stat().st_size - BLOCK)
    done = caller.run(made, option(disk), "show", "/data/file")
    assert done.stdout == "changeddisk\n"
    assert "has no FSSIG in its last 4096 bytes" in done.stderr


Damage = Callable[[Path, int], object]
SUPERBLOCK = 4096  # bytes before the tree


def at(offset: int, data: bytes) -> Damage:
    """Damage at an offset from the hash tree's superblock."""
    return lambda disk, hash_offset: change(disk, hash_offset + offset, data)


def in_fssig(offset: int, data: bytes) -> Damage:
    return lambda disk, _: change(disk, disk.stat().st_size - BLOCK + offset, data)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (in_fssig(0, b"x"), "has no FSSIG in its last 4096 bytes; make it with 'mystikos-tool mkext2'"),
        (lambda disk, _: os.truncate(disk, 100), "has no FSSIG"),
        (lambda disk, _: os.truncate(disk, 0), "has no FSSIG"),
        (in_fssig(8, b"\2"), "its FSSIG has the version 2"),
        (in_fssig(16, b"\1"), "as offset of the hash tree"),
        (in_fssig(16, bytes(8)), "its FSSIG names 0 as offset of the hash tree"),
        (in_fssig(16, b"\0" * 7 + b"\x7f"), "as offset of the hash tree"),
        (in_fssig(1112, b"\1\4"), "its FSSIG has a signature of 1025 bytes"),
        (in_fssig(1112, b"\0\0"), UNTRUSTED),
        (in_fssig(24, b"changed"), UNTRUSTED),
        (in_fssig(56, b"changed"), UNTRUSTED),
        (in_fssig(100, b"changed"), UNTRUSTED),
        (at(0, b"x"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(8, b"\2"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(12, b"\0"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(32, b"sha1\0\0"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(64, b"\0\2"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(68, b"\0\2"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(80, b"\x21"), "its dm-verity superblock is not one that Mystikos takes"),
        (at(72, b"\1\1\1"), "its dm-verity superblock names another number of blocks than its FSSIG"),
        (at(88, b"salt"), "its hash tree does not lead to its root hash"),
        (at(SUPERBLOCK, b"top"), "its hash tree does not lead to its root hash"),
        (at(SUPERBLOCK + BLOCK - 1, b"\1"), "its hash tree does not lead to its root hash"),
        (at(SUPERBLOCK + 2 * BLOCK, b"leaf"), "its hash tree does not lead to its root hash"),
        (
            lambda disk, _: change(disk, 1024, b"superblock"),
            "block 0 cannot be read, or is not what its hash",
        ),
    ],
)
def test_a_damaged_disk_is_refused_for_what_is_wrong_with_it(
    package: MakeDiskPackage, anyone: Caller, disk: Path, damage: Damage, problem: str
) -> None:
    made = package()
    parsed = fssig.parse(disk.read_bytes()[-BLOCK:], disk.stat().st_size, "disk")
    damage(disk, parsed.hash_offset)
    told = refusal(anyone.run(made, option(disk), "leave", "0"))
    assert told.startswith(f"disk {disk}: ")
    assert problem in told


def test_a_trusted_disk_with_a_wrong_tree_is_refused_by_a_debug_enclave_too(
    package: MakeDiskPackage, anyone: Caller, disk: Path
) -> None:
    parsed = fssig.parse(disk.read_bytes()[-BLOCK:], disk.stat().st_size, "disk")
    change(disk, parsed.hash_offset + SUPERBLOCK, b"top")
    told = refusal(anyone.run(package(Debug=True), option(disk), "leave", "0"))
    assert told == f"disk {disk}: its hash tree does not lead to its root hash"


def test_a_disk_with_something_behind_its_tree_is_refused(
    package: MakeDiskPackage, anyone: Caller, disk: Path
) -> None:
    data = disk.read_bytes()
    disk.write_bytes(data[:-BLOCK] + bytes(BLOCK) + data[-BLOCK:])
    told = refusal(anyone.run(package(), option(disk), "leave", "0"))
    assert told == f"disk {disk}: its hash tree has another size than its data demands"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "--myst-rootfs takes the name of a file"),
        ("/missing", "--myst-rootfs: cannot open the disk /missing: No such file or directory"),
        ("/usr", "--myst-rootfs: /usr is no regular file"),
        ("/dev/null", "--myst-rootfs: /dev/null is no regular file"),
    ],
)
def test_what_is_no_file_is_no_disk(
    package: MakeDiskPackage, anyone: Caller, path: str, problem: str
) -> None:
    assert refusal(anyone.run(package(), f"--myst-rootfs={path}", "leave", "0")) == f"options: {problem}"


@pytest.mark.parametrize("kind", ["FIFO", "socket", "link to itself", "unreadable"])
def test_what_cannot_be_read_is_no_disk(
    package: MakeDiskPackage, anyone: Caller, work: Path, kind: str
) -> None:
    path, problem = work / "place", "is no regular file"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            listening.bind(str(path))
            problem = "cannot open the disk {}: No such device or address"
        elif kind == "link to itself":
            path.symlink_to(path)
            problem = "cannot open the disk {}: Symbolic link loop"
        else:
            path.touch(0)
            is_root = anyone.user is None and os.geteuid() == 0
            problem = "has no FSSIG" if is_root else "cannot open the disk {}: Permission denied"
        told = refusal(anyone.run(package(), option(path), "leave", "0"))
    path.unlink()
    assert problem.format(path) in told


def test_an_encrypted_disk_is_refused_by_name(
    package: MakeDiskPackage, anyone: Caller, work: Path, probe: Path
) -> None:
    encryption = luks.Encryption(bytes(range(64)))
    made = make_disk(work / "encrypted", {"bin/probe": probe}, encryption=encryption)
    assert refusal(anyone.run(package(), option(made), "leave", "0")) == (
        f"disk {made}: is encrypted (LUKS), and the embedded runtime reads no encrypted disks"
    )


def test_a_key_that_signs_no_disk_is_refused_by_name(
    package: MakeDiskPackage, anyone: Caller, original: Path, work: Path
) -> None:
    key = rsa.RSAPublicNumbers(3, (1 << 9000) + 1).public_key()
    too_long = work / "long.pem"
    too_long.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert refusal(anyone.run(package((OTHER_PUBLIC_KEY, too_long)), option(original))) == (
        "package: its public key 2 is no RSA key of up to 8192 bits in PEM"
    )


# Mounts


@pytest.fixture(scope="module")
def data_disk(work: Path) -> Path:
    files = {"file": b"of the disk\n", "below/large": CONTENT, "below/more/hidden": b"x"}
    return make_disk(work / "data", files, boots=False)


@pytest.fixture(scope="module")
def mounting(work: Path, runtime: Runtime, original: Path) -> Path:
    """A package with its root in it that mounts disks at /mnt/data and within it."""
    mounts = [{"Target": target, "Type": "ext2"} for target in ("/mnt/data", "/mnt/data/below/more")]
    settings = {**SETTINGS, "MemorySize": "16m", "Mount": mounts}
    trusted = [DISK_PUBLIC_KEY]
    return make_package(work / "mounting", runtime, original.parent / "tree", settings, pubkeys=trusted)


def mount_options(*disks: Path) -> list[str]:
    targets = ("/mnt/data", "/mnt/data/below/more")
    return [f"--myst-mount={disk}={target}" for disk, target in zip(disks, targets, strict=True)]


def test_disks_are_mounted_at_their_targets_and_within_each_other(
    mounting: Path, machine: Machine, data_disk: Path, original: Path
) -> None:
    options = mount_options(data_disk, original)
    assert machine.output(mounting, *options, "show", "/mnt/data/file") == "of the disk\n"
    more = "/mnt/data/below/more/data"
    assert machine.output(mounting, *options, "show", f"{more}/other") == "another\n"
    assert machine.output(mounting, *options, "fill", f"{more}/other", str(15 << 20)) == "written\n"
    assert "No space left" in machine.output(mounting, *options, "fill", "/mnt/data/new", str(17 << 20))
    assert machine.output(mounting, *options, "show", f"{more}/other") == "another\n"


def test_a_disk_that_is_mounted_is_trusted_as_the_roots_is(
    mounting: Path, anyone: Caller, data_disk: Path, disk: Path, work: Path
) -> None:
    unsigned = make_disk(work / "unsigned-data", {"file": b"x"}, keys=None, boots=False)
    told = refusal(anyone.run(mounting, *mount_options(data_disk, unsigned), "leave", "0"))
    assert told == f"disk {unsigned}: {UNTRUSTED}"
    told = refusal(anyone.run(mounting, *mount_options(data_disk, Path("/missing")), "leave", "0"))
    assert told == "options: --myst-mount: cannot open the disk /missing: No such file or directory"
    encrypted = make_disk(
        work / "encrypted-data", {"file": b"x"}, boots=False, encryption=luks.Encryption(bytes(range(64)))
    )
    told = refusal(anyone.run(mounting, *mount_options(encrypted, data_disk), "leave", "0"))
    assert told.endswith("is encrypted (LUKS), and the embedded runtime reads no encrypted disks")


# How it ends


def processes_with(disk: Path) -> list[int]:
    """The processes that have the disk open."""
    found = []
    for directory in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(entry.samefile(disk) for entry in directory.iterdir() if entry.exists()):
                found.append(int(directory.parent.name))
    return found


def wait_for_the_end(pidfd: int) -> None:
    ended, _, _ = select.select([pidfd], [], [], SECONDS)
    assert ended
    os.close(pidfd)


def test_one_process_serves_the_disk_and_ends_with_the_package(
    package: MakeDiskPackage, machine: Machine, disk: Path
) -> None:
    with machine.start(package(), option(disk), "signals") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        serving = processes_with(disk)
        assert len(serving) == machine.served
        for pid in serving:
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nCapEff:\t0000000000000000\n" in status
            assert "\nSeccomp:\t2\n" in status
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert processes_with(disk) == []


def test_a_package_that_is_killed_leaves_nothing(
    package: MakeDiskPackage, machine: Machine, disk: Path
) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    with machine.start(package(), option(disk), "signals") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        serving = [os.pidfd_open(pid) for pid in processes_with(disk)]
        process.kill()
    for pidfd in serving:
        wait_for_the_end(pidfd)
    assert processes_with(disk) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


# What is done to the disk meanwhile


def fnv(data: bytes) -> str:
    """Size and FNV-1a, as the probe tells them."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{len(data)} {value:016x}"


IN_DATA = {"file": b"of the disk\n", "other": b"another\n", "large": CONTENT}


def replace(disk: Path) -> None:
    other = disk.with_name("other disk")
    other.write_bytes(os.urandom(disk.stat().st_size))
    other.replace(disk)


def extend(disk: Path) -> None:
    with disk.open("ab") as file:
        file.write(os.urandom(1 << 20))


def overwrite(begin: float, end: float, data: bytes) -> Callable[[Path], object]:
    """Write over a part of a disk, in place."""

    def over(disk: Path) -> None:
        size = disk.stat().st_size
        count = int(size * (end - begin))
        change(disk, int(size * begin), (data * (count // len(data) + 1))[:count])

    return over


def cut(share: float) -> Callable[[Path], object]:
    return lambda disk: os.truncate(disk, int(disk.stat().st_size * share))


HARMLESS = {
    "replaced": replace,
    "removed": lambda disk: disk.rename(disk.with_name("elsewhere")),
    "unreadable": lambda disk: disk.chmod(0),
    "longer": extend,
}
HARMFUL = {
    "overwritten": overwrite(0, 1, b"wrong data"),
    "zeros": overwrite(0, 1, bytes(1)),
    "its tree overwritten": overwrite(0.98, 1, b"\xff"),
    "its start overwritten": overwrite(0, 0.01, b"\xff"),
    "cut to nothing": cut(0),
    "cut": cut(0.001),
}


@pytest.mark.parametrize("what", [*HARMLESS, *HARMFUL])
def test_what_is_done_to_a_running_disk_makes_no_content_wrong(
    package: MakeDiskPackage, machine: Machine, disk: Path, what: str
) -> None:
    with machine.start(package(), option(disk), "show-each") as process:
        assert process.stdin
        assert process.stdout

        def read(name: str) -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"/data/{name}\n")
            process.stdin.flush()
            return read_line(process.stdout)

        assert read("other") == fnv(IN_DATA["other"])
        (HARMLESS | HARMFUL)[what](disk)
        found = {name: read(name) for name in IN_DATA}
        right = {name: fnv(data) for name, data in IN_DATA.items()}
        if what in HARMLESS or not machine.served:
            assert found == right
        for name, told in found.items():
            assert told in (right[name], "I/O error")
        assert read("missing") in ("No such file or directory", "I/O error")
        if what in ("overwritten", "cut to nothing") and machine.served:
            assert found["large"] == "I/O error"
        process.stdin.close()
        assert process.wait(SECONDS) == 0
    disk.with_name("elsewhere").unlink(missing_ok=True)
    disk.touch()
