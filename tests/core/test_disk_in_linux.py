"""A Linux kernel reads our disks through dm-verity and dm-crypt, in an emulator.

The kernel is that in boot and lib/modules of the directory MYST_LINUX, by default of this machine;
``.ci/install-tools long`` installs one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from disks import tool

import mystikos_tool
from mystikos_tool.root.disk import reader

LINUX = os.environ.get("MYST_LINUX", "/")
KEY = bytes(range(64))
BLOCK = 4096

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not list(Path(LINUX).glob("boot/vmlinuz-*")), reason="no kernel is installed"),
]

# Directories and files below kernel/ of which the guest loads what it can, in several rounds.
MODULES = (
    *("drivers/virtio", "drivers/block/virtio_blk.ko", "drivers/dax", "drivers/md", "lib/reed_solomon"),
    *("crypto/xts.ko", "crypto/cryptd.ko", "crypto/crypto_simd.ko", "crypto/ecb.ko", "crypto/af_alg.ko"),
    "crypto/algif_skcipher.ko",
)
INIT = """#!/bin/busybox sh
export PATH=/sbin:/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mkdir -p /run /mnt
for round in 1 2 3 4 5; do for module in /modules/*; do insmod $module 2>/dev/null; done; done
read_all() {{
    mount -t ext2 -o ro $1 /mnt && (cd /mnt && find . -type f | xargs -n 50 sha256sum) > /out
    cat /out; umount /mnt
}}
echo BEGIN plain
veritysetup open --hash-offset={plain_offset} /dev/vda plain /dev/vda {plain_hash} &&
    read_all /dev/mapper/plain
echo BEGIN secret
veritysetup open --hash-offset={secret_offset} /dev/vdb secret /dev/vdb {secret_hash} &&
    cryptsetup open --type luks1 --readonly --master-key-file /key /dev/mapper/secret inside &&
    read_all /dev/mapper/inside
echo BEGIN damaged
veritysetup open --hash-offset={plain_offset} /dev/vdc damaged /dev/vdc {plain_hash} &&
    read_all /dev/mapper/damaged
echo BEGIN end
poweroff -f
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("linux")


@pytest.fixture(scope="module")
def tree(directory: Path) -> Path:
    root = directory / "tree"
    for number in range(200):
        path = root / f"d{number % 7}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 401))
    (root / "large").write_bytes(os.urandom(5 << 20) + bytes(3 << 20) + b"end")
    (root / "empty").write_bytes(b"")
    (root / "link").hardlink_to(root / "large")
    return root


def digests(tree: Path) -> dict[str, str]:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def with_libraries(root: Path, program: str) -> None:
    """Copy a program, with the libraries that it needs, to the same places below a root."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *(word for word in listed.split() if word.startswith("/"))]:
        place = root / path.lstrip("/")
        if "sbin" in path:
            place = root / "sbin" / Path(path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def initramfs(directory: Path, linux: Path, values: dict[str, object]) -> Path:
    root = directory / "initramfs"
    for name in ("bin", "dev", "proc", "sys", "modules"):
        (root / name).mkdir(parents=True)
        (root / name / ".keep").write_bytes(b"")
    shutil.copy(tool("busybox"), root / "bin/busybox")
    for name in ("veritysetup", "cryptsetup"):
        with_libraries(root, tool(name))
    (modules,) = sorted(linux.glob("lib/modules/*/kernel"))[-1:]
    for name in MODULES:
        found = [modules / name] if name.endswith(".ko") else (modules / name).rglob("*.ko")
        for path in filter(Path.exists, found):
            shutil.copy(path, root / "modules" / path.name)
    (root / "key").write_bytes(KEY)
    (root / "init").write_text(INIT.format(**values))
    (root / "init").chmod(0o755)
    mystikos_tool.pack(directory / "initramfs.cpio", root, modes="preserve")
    return directory / "initramfs.cpio"


def described(disk: Path, name: str) -> dict[str, object]:
    with reader.opened(disk) as opened:
        fssig = opened.fssig
    return {f"{name}_offset": fssig.hash_offset, f"{name}_hash": fssig.root_hash.hex()}


@pytest.fixture(scope="module")
def console(directory: Path, tree: Path) -> dict[str, list[str]]:
    """What the guest printed of each disk."""
    (directory / "key").write_bytes(KEY)
    plain, secret, damaged = (directory / name for name in ("plain", "secret", "damaged"))
    mystikos_tool.disk(plain, tree)
    mystikos_tool.disk(secret, tree, encrypt=directory / "key", room=0)
    data = bytearray(plain.read_bytes())
    data[data.index((tree / "d3/file150").read_bytes()[:BLOCK])] ^= 1
    damaged.write_bytes(data)
    linux = Path(str(LINUX))
    values = described(plain, "plain") | described(secret, "secret")
    drives = [f"file={path},format=raw,if=virtio,readonly=on" for path in (plain, secret, damaged)]
    command = [
        tool("qemu-system-x86_64"),
        *("-accel", "tcg", "-m", "512", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
        *("-kernel", str(sorted(linux.glob("boot/vmlinuz-*"))[-1])),
        *(
            "-initrd",
            str(initramfs(directory, linux, values)),
            "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check",
        ),
        *(word for drive in drives for word in ("-drive", drive)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=True)
    assert "BEGIN end" in done.stdout, done.stdout[-2000:]
    parts = done.stdout.split("BEGIN ")[1:]
    return {part.split()[0]: part.splitlines()[1:] for part in parts}


def printed(lines: list[str]) -> dict[str, str]:
    words = [line.split() for line in lines]
    return {pair[1].removeprefix("./"): pair[0] for pair in words if len(pair) == 2 and len(pair[0]) == 64}


@pytest.mark.parametrize("name", ["plain", "secret"])
def test_linux_reads_every_file_through_dm_verity_and_dm_crypt(
    console: dict[str, list[str]], tree: Path, name: str
) -> None:
    assert printed(console[name]) == digests(tree)


def test_linux_refuses_a_damaged_block_and_reads_the_others(
    console: dict[str, list[str]], tree: Path
) -> None:
    expected = digests(tree)
    del expected["d3/file150"]
    assert printed(console["damaged"]) == expected
    assert any("Input/output error" in line or "I/O error" in line for line in console["damaged"])
