"""Write the seeds of the corpus anew: small inputs that reach as much as can be.

PYTHONPATH=.:tests/core python fuzz/make_corpus.py

What a fuzzer has found lies beside them in files that begin with ``found-``, and stays.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import tiny_elf
from tiny_elf import Load, Placed, Tls

from mystikos_tool import config, pipeline
from mystikos_tool.formats import ext2, fssig, verity
from mystikos_tool.formats.elf import R_X86_64_RELATIVE, R_X86_64_TPOFF64
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing.enclave_key import signer

CORPUS = Path(__file__).parent / "corpus"
DATA = Path(__file__).parent.parent / "tests" / "data"
DIRECTORY, FILE, LINK = 0o40755, 0o100644, 0o120777
DAY = date(2026, 1, 2)
EVERY_KEY = r"""{ // a comment
 "version": "0.1", "Debug": 1, "ProductID": 65534, "SecurityVersion": 2,
 "CreateZeroBaseEnclave": true, "EnclaveStartAddress": 4294967296,
 "MemorySize": "0064m", "MainStackSize": "1M", "ThreadStackSize": 1, "MaxAffinityCPUs": 3,
 "NoBrk": false, "ExecStack": 0, "ApplicationPath": "/bin/a\u00e9\ud83d\ude00\n",
 "HostApplicationParameters": true, "ApplicationParameters": ["a", "", "\"\\\/\b\f\r\t"],
 "EnvironmentVariables": "A=B", "HostEnvironmentVariables": ["PATH"],
 "CurrentWorkingDirectory": "/tmp", "Hostname": "h-1.x", "ForkMode": "pseudo_wait_for_exit_exec",
 "Mount": [{"Target": "/m", "Type": "hostfs", "Flags": ["ro"], "PublicKey": null, "RootHash": "/r"}],
 "UnhandledSyscallEnosys": true, "HostUDS": false, "SyslogLevel": "debug",
 "Secret": [{"ID": "i", "SrsAddress": "s", "SrsApiVersion": "v", "LocalPath": "/l", "ClientLib": "c",
             "Verbose": 1}],
}
"""


def write(target: str, seeds: Mapping[str, bytes]) -> None:
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if not path.name.startswith("found-"):
            path.unlink()
    for name, data in seeds.items():
        (directory / name).write_bytes(data)


def configurations() -> dict[str, bytes]:
    seeds = {path.stem: path.read_bytes() for path in sorted((DATA / "configs").glob("*.json"))}
    return {**seeds, "every-key": EVERY_KEY.encode()}


def entry(name: str, mode: int, data: bytes = b"", links: int = 1) -> bytes:
    encoded = name.encode()
    fields = (0, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded + b"\0"
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def archive(*entries: tuple[str, int, bytes]) -> bytes:
    members: Iterable[tuple[str, int, bytes]] = ((".", DIRECTORY, b""), *entries)
    return b"".join(entry(*member) for member in members) + entry("TRAILER!!!", 0)


def archives() -> dict[str, bytes]:
    return {
        "empty": archive(),
        "tree": archive(
            ("a", DIRECTORY, b""),
            ("a/b", DIRECTORY | 0o6000, b""),
            ("a/b/file", FILE | 0o6000, b"content"),
            ("a/link", LINK, b"../a"),
            ("ab", DIRECTORY, b""),
            ("ab/c", FILE, b""),
        ),
        "again": archive(
            ("a", DIRECTORY, b""), ("a", 0o41777, b""), ("./a//b", FILE, b"1"), ("a/b", FILE, b"2")
        ),
        "through-a-link": archive(("l", LINK, b"/tmp"), ("l/file", FILE, b"x"), ("l", FILE, b"y")),
        "out": archive(("d", DIRECTORY, b""), ("d/../../e", FILE, b"x")),
        "absolute": archive(("/e", FILE, b"x")),
        "device": archive(("d", 0o20666, b"")),
        "hard-links": entry("f", FILE, b"", 2) + entry("TRAILER!!!", 0),
    }


def image(**more: object) -> bytes:
    """A kernel or C runtime: three relocations of which two are of thread-local data."""
    rows = ((0x1000, R_X86_64_RELATIVE, 0, 1), (0x1008, R_X86_64_TPOFF64, 1, 0))
    return tiny_elf.build(
        (Load(0x1000, bytes(64), 0x1800),),
        symbols=(("x", 0x1010),),
        rela_dyn=rows,
        strtab=b"\0kernel\0",
        page=8,
        **more,  # type: ignore[arg-type]
    )


def enclave(**record: int) -> bytes:
    """An enclave image with thread-local data and every symbol."""
    return tiny_elf.enclave(
        tiny_elf.oeinfo(**record),
        (Load(0x4000, b"t" * 24, 0x40),),
        (
            Placed(".tdata", 0x4000, 24, 8),
            Placed(".tbss", 0x4018, 16, 16, nobits=True),
            Placed(".text", 0x2000, 8),
        ),
        tls=Tls(0x4000, 24, 48, 32),
        rela_dyn=((0x2000, R_X86_64_RELATIVE, 0, 1), (0x2008, R_X86_64_TPOFF64, 1, 0)),
        rela_plt=((0x2010, R_X86_64_RELATIVE, 0, 1),),
        page=8,
    )


def package(directory: Path, name: str, settings: Mapping[str, object]) -> bytes:
    work = directory / name
    runtime = Runtime.at(work / "runtime")
    for path in (runtime.loader, runtime.enclave, runtime.kernel, runtime.crt):
        path.parent.mkdir(parents=True, exist_ok=True)
    runtime.loader.write_bytes(tiny_elf.build(symtab_size=0))
    runtime.enclave.write_bytes(enclave())
    runtime.kernel.write_bytes(image())
    runtime.crt.write_bytes(image())
    app = work / "appdir" / "a"
    app.parent.mkdir()
    app.write_bytes(b"x")
    app.chmod(0o755)
    members = {"version": "0.1", "MemorySize": "8k", "ApplicationPath": "/a", **settings}
    (work / "config.json").write_text(json.dumps(members))
    settled = config.load(work / "config.json")
    inputs = pipeline.Inputs(runtime, settled, DiskRoot(), roothashes=(DATA / "keys" / "disk1.roothash",))
    key = signer(DATA / "keys" / "key-a.pem")
    pipeline.build(inputs, key, DAY, work / "package", tree=DirectorySource(app.parent).tree())
    return (work / "package").read_bytes()


def packages() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        zero_base = {"CreateZeroBaseEnclave": True, "EnclaveStartAddress": 0x100000000}
        return {
            "debug": package(directory, "debug", {"Debug": True}),
            "zero-base": package(directory, "zero-base", zero_base),
        }


def records(packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """The records of the packages, with each choice of what is made right."""
    seeds: dict[str, bytes] = {}
    for name, data in packages.items():
        at = data.index(struct.pack("<II", OEINFO.size, 2))
        record = data[at : at + OEINFO.size]
        seeds |= {f"{name}-{flags}": bytes([flags]) + record for flags in (0, 3)}
    return seeds


def file_system(**changed: tuple[int, bytes]) -> bytes:
    """A file system of 13 blocks: a file with an indirect block, a directory, links of both kinds."""
    blocks = [b""] * 13
    blocks[1] = ext2.SUPERBLOCK.pack(
        {
            "inodes_count": 16,
            "blocks_count": 13,
            "first_data_block": 1,
            "blocks_per_group": 8192,
            "inodes_per_group": 16,
            "magic": ext2.MAGIC,
            "revision": 1,
            "inode_size": 128,
            "incompat": ext2.INCOMPAT_FILETYPE,
        }
    )
    blocks[2] = ext2.GROUP.pack({"block_bitmap": 3, "inode_bitmap": 4, "inode_table": 5})
    inodes = {
        2: (DIRECTORY, 1024, (7,)),
        11: (FILE, 13 * 1024, (8, *[0] * 11, 9)),
        12: (DIRECTORY, 1024, (10,)),
        13: (LINK, 1000, (11,)),
    }
    table = bytearray(16 * 128)
    for number, (mode, size, pointers) in inodes.items():
        packed = struct.pack(f"<{len(pointers)}I", *pointers)
        fields: dict[str, int | bytes] = {
            "mode": mode,
            "size": size,
            "links": 1,
            "sectors": 2,
            "blocks": packed,
        }
        table[(number - 1) * 128 : number * 128] = ext2.INODE.pack(fields)
    fast: dict[str, int | bytes] = {"mode": LINK, "size": 1, "links": 1, "blocks": b"f"}
    table[13 * 128 : 14 * 128] = ext2.INODE.pack(fast)
    blocks[5], blocks[6] = bytes(table[:1024]), bytes(table[1024:])
    blocks[7] = names((2, 2, b"."), (2, 2, b".."), (11, 1, b"f"), (12, 2, b"d"), (13, 7, b"l"), (14, 7, b"s"))
    blocks[8], blocks[12] = b"x" * 1024, b"y" * 1024
    blocks[9] = struct.pack("<I", 12)
    blocks[10] = names((12, 2, b"."), (2, 2, b".."), (11, 1, b"again"))
    blocks[11] = b"t" * 1000
    data = bytearray(b"".join(block.ljust(1024, b"\0") for block in blocks))
    for at, replacement in changed.values():
        data[at : at + len(replacement)] = replacement
    return bytes(data)


def names(*entries: tuple[int, int, bytes]) -> bytes:
    """A directory's block of 1024 bytes."""
    block = b""
    for number, (inode, kind, name) in enumerate(entries):
        size = 1024 - len(block) if number == len(entries) - 1 else 8 + -(-len(name) // 4) * 4
        block += (struct.pack("<IHBB", inode, size, len(name), kind) + name).ljust(size, b"\0")
    return block


def file_systems() -> dict[str, bytes]:
    inode = 5 * 1024
    return {
        "tree": file_system(),
        "loop": file_system(
            own=(9 * 1024, struct.pack("<256I", *[9] * 256)), slot=(inode + 10 * 128 + 96, b"\x09")
        ),
        "far": file_system(size=(inode + 10 * 128 + 108, b"\1"), slot=(inode + 10 * 128 + 96, b"\x09")),
        "up": file_system(entry=(10 * 1024 + 24, struct.pack("<IHBB", 2, 1000, 5, 2))),
        "extents": file_system(flags=(inode + 10 * 128 + 32, b"\0\0\x08\0")),
    }


def disks() -> dict[str, bytes]:
    """A disk of one block with a key that signed it, and what is wrong with such a disk."""
    salt, data = bytes(range(32)), b"data".ljust(verity.BLOCK, b"\1")
    tree = hashlib.sha256(salt + data).digest().ljust(verity.BLOCK, b"\0")
    root_hash = hashlib.sha256(salt + tree).digest()
    key = signer(DATA / "keys" / "key-a.pem")
    text = (DATA / "keys" / "key-a.pub.pem").read_bytes()
    keys = text + bytes(-len(text) % 16)
    good = data + verity.superblock(1, salt, bytes(16)) + tree + fssig.build(verity.BLOCK, root_hash, key)
    head = bytes([len(keys) // 16]) + keys
    return {
        "signed": head + good,
        "changed": head + b"x" + good[1:],
        "padded": head + good[: 3 * verity.BLOCK - 1] + b"\1" + good[3 * verity.BLOCK :],
        "no-key": b"\0" + good,
        "cut": head + good[verity.BLOCK :],
    }


def options() -> dict[str, bytes]:
    lines = {
        "none": [],
        "run": ["--myst-no-isolation", "--myst-quiet", "--myst-mount=a=b=/m", "--", "--myst-info"],
        "look": ["--myst-info", "--myst-signer=" + "0aF" * 21 + "0"],
        "debug": ["--myst-strace", "--myst-shell", "--myst-linux", "--myst-root=/tmp/x", "argument"],
        "twice": ["--myst-signer=" + "0" * 64, "--myst-signer=" + "1" * 64],
        "exclusive": ["--myst-help", "--myst-version"],
        "verified": ["--myst-verify", "--myst-root=/x"],
        "roots": ["--myst-root=/x", "--myst-root=/y"],
        "bad": ["--myst-mount=x"],
        "unknown": ["--myst-unknown"],
    }
    return {name: b"".join(word.encode() + b"\0" for word in words) for name, words in lines.items()}


def programs() -> dict[str, bytes]:
    """Scripts, texts and ELF files of the kinds that are told apart."""
    ident = b"\x7fELF\2\1\1" + bytes(9)
    table = {"library": (3, ()), "pie": (3, (DYNAMIC,)), "dynamic": (3, (INTERPRETER,)), "static": (2, ())}
    seeds = {
        "script": b"#!/bin/sh -e\n",
        "words": b"#! a\tb  c\r\n",
        "line": b"#!" + b"a " * 200,
        "text": b"text",
        "empty": b"",
        "cut": ident,
    }
    for name, (kind, segments) in table.items():
        header = ident + struct.pack(
            "<HHIQQQIHHHHHH", kind, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
        )
        at = len(header) + 56 * len(segments)
        headers, contents = b"", b""
        for type_, content in segments:
            headers += struct.pack(
                "<IIQQQQQQ", type_, 4, at + len(contents), 0, 0, len(content), len(content), 1
            )
            contents += content
        seeds[name] = header + headers + contents
    return seeds


INTERPRETER = (3, b"/lib/ld-musl-x86_64.so.1\0")
DYNAMIC = (2, struct.pack("<QQQQ", 0x6FFFFFFB, 0x08000000, 0, 0))


def filtered() -> dict[str, bytes]:
    """One call of each kind that the filter decides by its arguments."""
    calls = {
        "clone": (56, 0x11, 0),
        "open": (2, 0x1000000, 0x40),
        "ioctl": (16, 0, 0x5412),
        "kill": (62, 0, 0),
        "stat": (4, 0xFFFFFFFFFFFFFFFF, 0),
        "mremap": (25, 0x100000, 0x3000, 0x2000),
        "personality": (135, 0x0400000),
        "execve": (59, 0x1000000),
        "unhandled": (250, 0),
        "unknown": (4095, 0),
    }
    return {
        f"{name}-{settings}": bytes([settings]) + struct.pack("<I6Q", *call, *[0] * (7 - len(call)))
        for name, call in calls.items()
        for settings in (0, 7, 32)
    }


def variables() -> dict[str, bytes]:
    """Files of variables: right ones, and of each kind that is refused."""
    documents: dict[str, object] = {
        "one": {"Env": ["A=1"]},
        "joined": {"Env": ["PATH=/app", "LD_LIBRARY_PATH=/lib", "LD_LIBRARY_PATH=/other", "SECOND=x"]},
        "none": {"Env": []},
        "number": {"Env": [1]},
        "no-value": {"Env": ["A"]},
        "no-list": {"Env": "A=1"},
        "other": {"X": []},
        "no-object": ["A=1"],
    }
    written = {name: json.dumps(document).encode() for name, document in documents.items()}
    return {
        **written,
        "twice": b'{"Env": ["A=1"], "Env": ["B=1"]}',
        "behind": b'{"Env": ["A=1"]} x',
        "no": b"no",
    }


def mounts() -> dict[str, bytes]:
    """A configuration with two mounts, and what is given of them."""
    declared = [{"Target": "/m", "Type": "hostfs", "Flags": ["ro"]}, {"Target": "/n/o", "Type": "ramfs"}]
    text = json.dumps({"ApplicationPath": "/a", "Mount": declared}).encode()
    given = {
        "both": (b"/srv=/m", b"root.cpio=/n/o"),
        "one": (b"/srv=/m",),
        "another": (b"/srv=/m", b"x=/n/o", b"y=/z"),
        "twice": (b"/srv=/m", b"x=/n/o", b"y=/m/"),
        "other-words": (b"a=b=/m/", b"x=/.//n/o"),
    }
    return {name: b"\0".join((text, *words)) for name, words in given.items()}


def stacks() -> dict[str, bytes]:
    """An initial stack with arguments, environment and auxiliary vector, and a program's headers."""
    address = 0x10000
    header = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK
    name = b"/bin/app\0"
    start = len(header) + len(name) + 7 & ~7
    auxv = ((3, address), (5, 1), (31, address + len(header)), (0, 0))
    words = [2, 1, 2, 0, 3, 0, *(word for entry in auxv for word in entry)]
    memory = (header + name).ljust(start, b"\0") + struct.pack(f"<{len(words)}Q", *words)
    stops = {
        "stops": bytes([1] * 8),
        "signals": bytes([1, 0, 9, 1, 1, 1, 1, 1]),
        "ends": bytes([1, 255, *[1] * 6]),
    }
    return {
        f"{name}-{settings}": struct.pack("<HHB", start, start, settings) + reports + memory
        for name, reports in stops.items()
        for settings in (0, 1, 2 | 4, 3 | 128)
    }


def enclaves() -> dict[str, bytes]:
    """The trailers of sixteen regions, right, and wrong in one way each."""
    relocation = struct.pack("<QQq", 64, R_X86_64_RELATIVE, 128)
    regions = 16

    def trailers(pages: int, wrong: int = 0) -> bytes:
        at, found = 1, b""
        for number in range(regions):
            at += pages
            found += struct.pack("<BBQQ", at, wrong if number == 3 else 0, pages * 4096, pages * 4096 - pages)
            at += 1
        return bytes([1, at]) + found

    return {
        "empty-regions": trailers(0) + relocation,
        "regions": trailers(1) + 2 * relocation,
        "bad-relocation": trailers(1) + struct.pack("<QQq", 64, R_X86_64_TPOFF64, 0),
        **{f"wrong-{wrong}": trailers(2, wrong) for wrong in (1, 2, 4, 8)},
    }


def main() -> None:
    made = packages()
    write("config", configurations())
    write("archive", archives())
    write("unpack", archives())
    write("image", {"enclave": enclave(), "kernel": image(), "one-load": tiny_elf.build()})
    write("package", made)
    write("einit", records(made))
    write("disk", disks())
    write("ext2", file_systems())
    write("options", options())
    write("program", programs())
    write("filter", filtered())
    write("appenv", variables())
    write("mounts", mounts())
    write("stacks", stacks())
    write("enclave", enclaves())


if __name__ == "__main__":
    main()
