"""A runtime as small as can be, and packages made with it."""

from __future__ import annotations

import json
from datetime import date
from functools import lru_cache
from pathlib import Path

import tiny_elf
from reference_cases import DATA

from mystikos_tool import config, pipeline
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing import pem

DAY = date(2026, 11, 23)


@lru_cache
def key() -> pem.PemSigner:
    return pem.load(DATA / "keys" / "key-a.pem")


def runtime(directory: Path) -> Runtime:
    """Write the files of a runtime with one thread; recorded ``program`` is its loader."""
    files = Runtime.at(directory)
    for path in (files.loader, files.enclave):
        path.parent.mkdir(parents=True)
    files.loader.write_bytes((DATA / "program").read_bytes())
    files.enclave.write_bytes(tiny_elf.enclave(tiny_elf.oeinfo(), rela_dyn=((0x2000, 8, 0, 1),)))
    files.kernel.write_bytes(tiny_elf.build((tiny_elf.Load(0x2000, b"kernel" * 1000),), strtab=b"\0kernel\0"))
    files.crt.write_bytes(tiny_elf.build((tiny_elf.Load(0x2000, b"crt" * 1000),)))
    return Runtime.installed(directory)


def archive(directory: Path) -> Path:
    """Pack an appdir with a program, a link to it and a place for a mount."""
    appdir = directory / "appdir"
    (appdir / "bin").mkdir(parents=True)
    (appdir / "bin" / "app").write_bytes(b"#!/bin/app\n" + bytes(5000))
    (appdir / "bin" / "app").chmod(0o755)
    (appdir / "mnt").mkdir()
    target = directory / "root.cpio"
    pipeline.pack(appdir, target)
    return target


def inputs(directory: Path, **keys: object) -> pipeline.Inputs:
    """Write everything below ``directory``; ``keys`` are those of the configuration."""
    members = {"version": "0.1", "MemorySize": "8k", "ApplicationPath": "/bin/app", **keys}
    (directory / "config.json").write_text(json.dumps(members))
    return pipeline.Inputs(
        runtime(directory / "runtime"),
        config.load(directory / "config.json"),
        ArchiveRoot(archive(directory)),
        (DATA / "keys" / "key-b.pub.pem",),
        (DATA / "keys" / "disk1.roothash",),
    )


def root_path(given: pipeline.Inputs) -> Path:
    """Return the path of the archive."""
    assert isinstance(given.root, ArchiveRoot)
    return given.root.path


def build(given: pipeline.Inputs, target: Path) -> Path:
    """Build a package through all the stages."""
    pipeline.build(given, key(), DAY, target)
    return target
