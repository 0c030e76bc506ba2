"""SCons' cache gives packages back; the key is in nothing but its own file."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from scons_project import (
    ALL,
    CONFIG,
    DATA,
    EVERY_ROOT_IS_LARGE,
    MEASURE,
    PACKAGE_HELLO,
    ROOTFS,
    SIGN,
    TARGETS,
    Project,
)

CACHED = "CacheDir('../cache')\n"


def secrets(key: Path) -> Iterator[bytes]:
    """Everything by which a private key could be told: its PEM lines, its DER, its numbers."""
    pem = key.read_bytes()
    private = rsa_keys.read(pem)
    for line in pem.splitlines():
        if not line.startswith(b"-----") and len(line) == 64:
            yield line
    for form in serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL:
        yield private.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    numbers = private.private_numbers()
    for number in (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp):
        size = (number.bit_length() + 7) // 8
        for data in (number.to_bytes(size, "big"), number.to_bytes(size, "little")):
            yield data
            yield data.hex().encode()
            yield data.hex().upper().encode()
            yield base64.b64encode(data)
        yield str(number).encode()
        yield hex(number)[2:].encode()


def holding_a_secret(key: Path, *places: Path) -> list[str]:
    """The files that hold a part of the key, other than the key itself."""
    known = list(secrets(key))
    return [
        str(path)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and not path.samefile(key)
        if any(secret in path.read_bytes() for secret in known)
    ]


@pytest.mark.parametrize("made", [False, True], ids=["a given key", "a made key"])
def test_nothing_but_the_key_s_own_file_holds_a_part_of_it(project: Project, made: bool) -> None:
    key = project.path("private.pem" if made else "key.pem")
    given = "env.MystKey('private.pem')" if made else "'key.pem'"
    project.sconstruct(CACHED + f'env.MystPackage("hello", "appdir", MYST_KEY={given})\n')
    said = [project.build("--debug=explain", "--cache-debug=-", "--tree=all").text]
    shutil.copy(project.path("config.json"), project.path("other.json"))
    project.write("config.json", "{")
    said.append(project.fails("--debug=stacktrace").text)
    cache = project.path("../cache")
    assert any(path.is_file() for path in cache.rglob("??/*"))
    assert holding_a_secret(key, project.directory, cache) == []
    for text in said:
        assert not any(secret in text.encode() for secret in secrets(key))


def test_the_search_for_a_key_finds_one(project: Project) -> None:
    key = project.path("key.pem")
    shutil.copy(key, project.path("copy"))
    project.write("first", b"x" + next(secrets(key)))
    assert {Path(name).name for name in holding_a_secret(key, project.directory)} == {"copy", "first"}


def cached(project: Project) -> list[Path]:
    """What is in the cache, but for what SCons keeps there for itself."""
    return [path for path in project.path("../cache").glob("??/*") if not path.is_dir()]


def test_the_cache_gives_a_package_back_and_nothing_that_leads_to_a_signature(
    project: Project, tmp_path: Path
) -> None:
    project.sconstruct(CACHED + PACKAGE_HELLO)
    elsewhere = project.copy(tmp_path / "elsewhere")
    assert project.build().stages == ALL
    (package,) = cached(project)
    assert package.read_bytes() == project.path("hello").read_bytes()
    build = elsewhere.build()
    assert build.out == "Retrieved `hello' from cache\n"
    assert build.err == ""
    ours, theirs = project.path("hello"), elsewhere.path("hello")
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.stat().st_mode == theirs.stat().st_mode
    assert elsewhere.build().out == "scons: `.' is up to date.\n"


def a_mode(project: Project) -> None:
    project.path("source").chmod(0o755)


def a_link(project: Project) -> None:
    project.path("link").unlink()
    project.path("link").symlink_to(project.path("../other").resolve())


@pytest.mark.parametrize("change", [a_mode, a_link])
def test_the_cache_gives_no_copy_of_what_has_another_mode_or_is_another_link(
    project: Project, tmp_path: Path, change: Callable[[Project], None]
) -> None:
    for name in ("source", "../one", "../other"):
        project.write(name, "the same", 0o644)
    project.path("link").symlink_to(project.path("../one").resolve())
    copy = "env.Command('appdir/{0}', '{0}', 'cp -P $SOURCE $TARGET')\n"
    project.sconstruct(CACHED + PACKAGE_HELLO + copy.format("source") + copy.format("link"))
    elsewhere = project.copy(tmp_path / "elsewhere")
    project.build("hello")
    change(elsewhere)
    elsewhere.build("hello", "hello.cpio")
    change(project)
    project.build("--cache-disable", "hello", "hello.cpio")
    assert elsewhere.path("hello.cpio").read_bytes() == project.path("hello.cpio").read_bytes()
    again = project.copy(tmp_path / "again")
    again.build("-c")
    assert "Retrieved `appdir/source' from cache" in again.build("hello").out


def test_the_cache_gives_back_what_is_missing_after_a_clean(project: Project) -> None:
    project.sconstruct(CACHED + PACKAGE_HELLO)
    project.build()
    package = project.path("hello").read_bytes()
    project.build("-c")
    assert project.build("hello").stages == set()
    assert project.path("hello").read_bytes() == package


def first_byte_of_the_loader(package: Path) -> None:
    data = bytearray(package.read_bytes())
    data[0x200] ^= 1
    package.write_bytes(data)


def a_byte_of_the_root(package: Path) -> None:
    data = bytearray(package.read_bytes())
    data[data.index(b"good day")] ^= 1
    package.write_bytes(data)


def bytes_behind_it(package: Path) -> None:
    with package.open("ab") as file:
        file.write(bytes(64))


def a_link_to_the_same(package: Path) -> None:
    package.rename(package.with_suffix(".moved"))
    package.symlink_to(package.with_suffix(".moved"))


def nothing_in_it(package: Path) -> None:
    package.write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [first_byte_of_the_loader, a_byte_of_the_root, bytes_behind_it, a_link_to_the_same, nothing_in_it],
)
@pytest.mark.parametrize("large", [False, True], ids=["small root", "large root"])
def test_a_package_in_the_cache_that_is_another_is_a_miss_with_a_warning(
    project: Project, change: Callable[[Path], None], large: bool
) -> None:
    project.sconstruct((EVERY_ROOT_IS_LARGE if large else "") + CACHED + PACKAGE_HELLO)
    project.build()
    made = project.path("hello").read_bytes()
    project.build("-c")
    change(cached(project)[0])
    build = project.build()
    assert build.stages == ALL
    assert build.err == (
        "mystikos: warning: hello: what the cache gave is not what this build makes; it is made here\n"
    )
    assert project.path("hello").read_bytes() == made
    assert not project.path("hello").is_symlink()


def test_permissions_of_a_package_are_not_those_that_the_cache_has(project: Project) -> None:
    project.sconstruct(CACHED + PACKAGE_HELLO)
    project.build()
    project.build("-c")
    cached(project)[0].chmod(0o4777)
    project.build()
    assert project.path("hello").stat().st_mode & 0o7777 == 0o755


def test_nothing_is_signed_that_a_cache_could_have_put_in(project: Project) -> None:
    """What the key signs is made here, whatever the cache has under the names of earlier stages."""
    project.sconstruct(CACHED + PACKAGE_HELLO)
    project.build()
    project.build("-c")
    for name in (ROOTFS, MEASURE, SIGN):
        assert f"Retrieved `{TARGETS[name]}'" not in project.build("--cache-force").out


def forged(measurement: Path) -> None:
    """Let a measurement of the same size and time say that another enclave is to be signed."""
    status = measurement.stat()
    document = json.loads(measurement.read_text())
    text = measurement.read_text().replace(document["mrenclave"], "ab" * 32)
    measurement.write_text(text)
    os.utime(measurement, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert measurement.stat().st_size == status.st_size


def test_a_measurement_that_no_build_made_is_made_again_before_a_key_signs_it(project: Project) -> None:
    project.build()
    made = project.path("hello").read_bytes()
    forged(project.path(TARGETS[MEASURE]))
    build = project.build()
    assert MEASURE in build.stages
    assert b"ab" * 32 not in project.path(TARGETS[MEASURE]).read_bytes()
    assert project.path("hello").read_bytes() == made


def test_an_archive_that_no_build_made_is_made_again_before_it_is_measured(project: Project) -> None:
    project.build()
    archive = project.path(TARGETS[ROOTFS])
    packed, times = archive.read_bytes(), archive.stat()
    archive.write_bytes(packed.replace(b"good day", b"bad dayy"))
    os.utime(archive, ns=(times.st_atime_ns, times.st_mtime_ns))
    project.write("config.json", project.path("config.json").read_text() + "\n")
    build = project.build()
    assert MEASURE in build.stages
    assert "hello.cpio: is not what its sources make; it is packed again (MystPackage at" in build.err
    assert archive.read_bytes() == packed
    assert b"bad dayy" not in project.path("hello").read_bytes()


@pytest.mark.parametrize("name", ["appdir/etc/motd", "config.json", "rt/lib/libmystcrt.so", "rt/bin/myst"])
def test_the_cache_gives_back_nothing_that_was_made_of_something_else(
    project: Project, tmp_path: Path, name: str
) -> None:
    project.sconstruct(CACHED + PACKAGE_HELLO)
    project.build()
    project.build("-c")
    # The last byte of an ELF file lies in its section headers, which nothing measures.
    project.write(name, project.path(name).read_bytes()[:-1] + b"\t")
    fresh = project.copy(tmp_path / "fresh")
    fresh.sconstruct(PACKAGE_HELLO)
    assert project.build().stages
    fresh.build()
    assert project.path("hello").read_bytes() == fresh.path("hello").read_bytes()


def test_a_made_key_is_never_in_the_cache(project: Project) -> None:
    project.sconstruct(CACHED + "env.MystKey('private.pem')\n")
    project.build()
    made = project.path("private.pem").read_bytes()
    project.path("private.pem").unlink()
    assert "made a development key" in project.build().out
    assert project.path("private.pem").read_bytes() != made


def test_a_store_of_digests_holds_no_more_than_digests_and_stamps(built: Project) -> None:
    store = built.path(".sconsign.mystikos").read_bytes()
    for content in (b"good day", b"#!/bin/hello", b"ApplicationPath", b"PRIVATE KEY"):
        assert not re.search(content, store)


def test_the_signing_key_in_the_appdir_is_an_error(project: Project) -> None:
    shutil.copy(project.path("key.pem"), project.path("appdir/etc/k.pem"))
    failed = project.fails()
    assert "hello.cpio: holds the key that signs, at /etc/k.pem" in failed.text
    assert not project.path("hello").exists()


@pytest.mark.parametrize("given", ["MYST_CONFIG='config.json'", "MYST_CONFIG_SET={'Hostname': 'x'}"])
def test_the_signing_key_in_the_configuration_is_an_error(project: Project, given: str) -> None:
    environment = [f"KEY={project.path('key.pem').read_text()}"]
    project.write("config.json", json.dumps({**json.loads(CONFIG), "EnvironmentVariables": environment}))
    project.sconstruct(f"env.MystPackage('hello', 'appdir', {given})\n")
    problem = "[hello.mystenc.so] config.json: holds the key that signs: everybody who has the package"
    assert problem in project.fails("hello").err


def test_a_key_that_comes_into_a_large_root_or_stays_there_is_told(project: Project) -> None:
    for number in range(300):
        project.write(f"appdir/etc/{number}", str(number))
    old = time.time() - 60
    for path in project.path("appdir/etc").iterdir():
        os.utime(path, (old, old))
    assert project.build().err == ""
    shutil.copy(DATA / "keys" / "key-b.pem", project.path("appdir/etc/b.pem"))
    assert "holds private keys" in project.build().err
    project.write("appdir/etc/1", "changed")
    assert "/etc/b.pem" in project.build().err
    shutil.copy(project.path("key.pem"), project.path("appdir/etc/2"))
    assert "holds the key that signs, at /etc/2" in project.fails().text


def test_other_private_keys_in_a_root_are_one_warning_an_error_or_silent(project: Project) -> None:
    for name in ("a", "b"):
        shutil.copy(DATA / "keys" / "key-b.pem", project.path(f"appdir/etc/{name}.pem"))
    told = "hello.cpio: holds private keys, which everybody gets who has the package: /etc/a.pem, /etc/b.pem"
    assert project.build().err == f"mystikos: warning: {told} (MystPackage at SConstruct:3)\n"
    assert project.build().err == ""
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_ROOTFS_SECRETS="error")\n')
    assert told in project.fails().text
    project.build("-c")
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_ROOTFS_SECRETS="allow")\n')
    assert project.build().err == ""
