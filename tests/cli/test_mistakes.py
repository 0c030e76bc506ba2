"""What bad input gets: a message with file, place and remedy, status 2, and no target touched."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import rsa_keys
from cli_support import DATA, Run, configure
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import mystikos_tool
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf

Damage = Callable[[Path], object]


def config_with(**members: object) -> Damage:
    return lambda project: configure(project, **members)


def config_text(text: str) -> Damage:
    return lambda project: (project / "config.json").write_text(text)


def key_of(data: Callable[[], bytes]) -> Damage:
    return lambda project: (project / "key.pem").write_bytes(data())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def remove(name: str) -> Damage:
    def damage(project: Path) -> None:
        path = project / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return damage


def not_executable(project: Path) -> None:
    (project / "appdir" / "bin" / "hello").chmod(0o644)


def empty_appdir(project: Path) -> None:
    shutil.rmtree(project / "appdir")
    (project / "appdir").mkdir()


def long_name(project: Path) -> None:
    (project / "appdir" / ("a" * 128)).mkdir()
    (project / "appdir" / ("a" * 128) / ("b" * 127)).write_bytes(b"")


def socket_in_appdir(project: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("appdir/socket")


def large_file(project: Path) -> None:
    with (project / "appdir" / "large").open("wb") as file:
        file.truncate(1 << 32)


def other_architecture(project: Path) -> None:
    patch(project / "runtime" / "lib" / "libmystkernel.so", 18, b"\xb7\0")  # e_machine: EM_AARCH64


def no_oeinfo(project: Path) -> None:
    lib = project / "runtime" / "lib"
    shutil.copy(lib / "libmystkernel.so", lib / "openenclave" / "mystenc.so")


def unsupported_relocation(project: Path) -> None:
    image = project / "runtime" / "lib" / "openenclave" / "mystenc.so"
    relocations = elf.Image(image.read_bytes(), "").section(".rela.dyn")
    patch(image, relocations.offset + 8, b"\5")  # R_X86_64_COPY


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def trusted(name: str, data: bytes) -> Damage:
    return lambda project: (project / name).write_bytes(data)


PACKAGE = ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello")

# What is done to the project, the place that the message begins with, and what it says.
MISTAKES: dict[str, tuple[Damage, str, str]] = {
    "configuration missing": (remove("config.json"), "config.json: ", "there is no such configuration file"),
    "not JSON": (
        config_text('{\n "Debug": yes\n}'),
        "config.json:2:11: ",
        'expected a value, found "yes"; write',
    ),
    "ApplicationPath missing": (
        config_with(ApplicationPath=None),
        "config.json:1:1: ",
        'ApplicationPath is missing; add "ApplicationPath": ',
    ),
    "key misspelt": (
        config_with(MemroySize=1),
        "config.json:2:",
        'unknown key "MemroySize"; write "MemorySize"',
    ),
    "key given twice": (
        config_text('{"ApplicationPath": "/bin/hello",\n"Debug": 1,\n"Debug": 0}'),
        "config.json:3:1: Debug: ",
        "is given in line 2 already; remove one of the two",
    ),
    "wrong type": (config_with(ProductID="1"), "config.json:2:", 'ProductID: cannot be "1"; give an integer'),
    "out of range": (
        config_with(ProductID=70000),
        "config.json:2:",
        "cannot be 70000; give an integer from 0",
    ),
    "wrong version": (
        config_with(version="0.2"),
        "config.json:2:12: version: ",
        'cannot be "0.2"; give "0.1"',
    ),
    "ApplicationPath relative": (
        config_with(ApplicationPath="bin/hello"),
        "config.json:2:",
        'ApplicationPath: cannot be "bin/hello"; give the absolute path',
    ),
    "ApplicationPath absent": (
        config_with(ApplicationPath="/bin/helo"),
        "config.json:2:",
        "/bin/helo is not in ",
    ),
    "ApplicationPath a directory": (
        config_with(ApplicationPath="/bin"),
        "config.json:2:",
        "/bin is no file in ",
    ),
    "ApplicationPath not executable": (not_executable, "config.json:2:", "is not executable in "),
    "key missing": (remove("key.pem"), "key.pem: ", "there is no such key file; give an existing file"),
    "key not PEM": (key_of(lambda: b"key"), "key.pem: ", "is not PEM"),
    "key encrypted": (
        key_of(lambda: pem(rsa_keys.made(2048, 3), b"secret")),
        "key.pem: ",
        "the passphrase is needed, and there is no terminal to ask for it; say where its passphrase is",
    ),
    "key public only": (
        lambda project: shutil.copy(DATA / "keys" / "key-a.pub.pem", project / "key.pem"),
        "key.pem: ",
        "holds only a public key; give the private key",
    ),
    "key not alone": (
        key_of(lambda: b"".join((DATA / "keys" / f"key-{name}.pem").read_bytes() for name in "ab")),
        "key.pem: ",
        "holds 2 private keys; leave only the one in it that is to sign",
    ),
    "key not RSA": (
        key_of(lambda: pem(ec.generate_private_key(ec.SECP256R1()))),
        "key.pem: ",
        "is not an RSA key;",
    ),
    "key of 2048 bits": (
        key_of(lambda: pem(rsa_keys.made(2048, 3))),
        "key.pem: ",
        "of 2048 bits, and SGX takes only 3072; make a key with: mystikos-tool keygen FILE",
    ),
    "key with exponent 65537": (
        key_of(lambda: pem(rsa_keys.made(3072, 65537))),
        "key.pem: ",
        "exponent 65537, and SGX takes only 3; make a key with: mystikos-tool keygen FILE",
    ),
    "appdir missing": (remove("appdir"), "appdir: ", "create the application directory first"),
    "appdir empty": (empty_appdir, "appdir: ", "is empty; put the application and its files into it"),
    "name too long": (long_name, "appdir/aaaa", "256 bytes and the kernel reads no more than 255; shorten"),
    "socket": (
        socket_in_appdir,
        "appdir/socket: ",
        "is a socket, which a root file system cannot hold; remove it",
    ),
    "file of 4 GiB": (
        large_file,
        "appdir/large: ",
        "has 4294967296 bytes and the archive holds files below 4 GiB;",
    ),
    "runtime missing": (remove("runtime"), "runtime: ", "there is no such runtime directory; give"),
    "runtime incomplete": (
        remove("runtime/lib/libmystcrt.so"),
        "runtime: ",
        "is no complete runtime: it lacks lib/libmystcrt.so; give",
    ),
    "runtime for another architecture": (
        other_architecture,
        "runtime/lib/libmystkernel.so: ",
        "not 64-bit x86-64; give one built for x86-64",
    ),
    "unsupported relocation": (
        unsupported_relocation,
        "runtime/lib/openenclave/mystenc.so, section .rela.dyn: ",
        "relocation 0 has type 5, which an enclave cannot apply; compile",
    ),
    "no .oeinfo": (no_oeinfo, "runtime/lib/openenclave/mystenc.so: ", "has no section .oeinfo; "),
}


def files_below(directory: Path) -> dict[Path, bytes | None]:
    return {
        path: path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 20 else None
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_no_target_is_touched(run: Run, project: Path, mistake: str) -> None:
    damage, place, message = MISTAKES[mistake]
    damage(project)
    for earlier in (None, b"earlier"):
        if earlier:
            (project / "hello").write_bytes(earlier)
        before = files_below(project)
        result = run(*PACKAGE)
        errors = [line for line in result.err.splitlines() if "warning: " not in line]
        assert result.status == 2
        assert result.out == ""
        assert len(errors) == 1
        assert errors[0].startswith(f"mystikos-tool: error: {place}")
        assert message in errors[0]
        assert re.search(r"; .", errors[0])
        assert files_below(project) == before


def test_all_mistakes_of_a_configuration_are_told_at_once(run: Run, project: Path) -> None:
    configure(project, Debug="yes", ProductID=-1)
    lines = run(*PACKAGE).err.splitlines()
    assert [line.split(": ")[3] for line in lines] == ["Debug", "ProductID"]


LONG = "a" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("package-sgx", LONG, *PACKAGE[2:]),
        ("package-sgx", "appdir", LONG, "config.json"),
        ("package-sgx", "appdir", "key.pem", LONG),
        *(
            (*PACKAGE[:4], option, LONG)
            for option in ("--outfile", "--pubkey", "--roothash", "--runtime", "--overlay")
        ),
        *(("package-sgx", *PACKAGE[2:4], option, LONG) for option in ("--rootfs", "--image")),
        ("sign-sgx", LONG, *PACKAGE[2:4]),
        ("mkcpio", LONG, "new"),
        ("mkcpio", "appdir", LONG),
        ("mkext2", LONG, "new"),
        ("mkext2", "appdir", LONG),
        ("excpio", LONG, "new"),
        ("keygen", LONG),
        ("run", LONG, "/bin/hello"),
        ("diff", "appdir", LONG),
        ("rebuild", LONG, "--from", LONG),
        ("appdir", "from-image", LONG, "-o", "new"),
        ("image", "lock", "--lock", LONG, "a/b:c"),
        *(
            (verb, LONG)
            for verb in ("verify", "inspect", "check", "dump-sgx", "sbom", "digest", "fssig", "check-quote")
        ),
        *((verb, "key.pem", "-o", LONG) for verb in ("policy", "sbom", "inspect", "check")),
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_that_no_file_can_have_is_told(run: Run, project: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert re.fullmatch(r"mystikos-tool: error: [^\n]*; [^\n]*\n", result.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("appdir", "from-image", "/proc/self/mem", "-o", "new"),
        ("appdir", "closure", "bin/=/proc/self/mem", "-o", "new"),
    ],
)
def test_what_the_system_fails_to_read_is_told(run: Run, project: Path, arguments: tuple[str, ...]) -> None:
    """At address 0 of a process there is nothing."""
    result = run(*arguments)
    assert result.status == 2
    assert re.fullmatch(r"mystikos-tool: error: .*: input/output error; [^;]*\n", result.err)
    assert not (project / "new").exists()


def test_a_loader_that_cannot_be_one_is_not_read(run: Run, project: Path) -> None:
    run(*PACKAGE)
    with (project / "large").open("wb") as file:
        file.truncate((1 << 28) + 1)
    assert run("verify", "hello", "--loader=large").err == (
        "mystikos-tool: error: large: has more than 268,435,456 bytes, as no loader; give the loader\n"
    )


def test_no_file_that_is_read_is_written_over(run: Run, project: Path) -> None:
    run(*PACKAGE)
    (project / "other").write_bytes((project / "hello").read_bytes())
    run("mkcpio", "appdir", "archive")
    run("mkext2", "appdir", "disk")
    before = files_below(project)
    for *arguments, target in (
        ("sgxs", "hello", "hello"),
        *((verb, "hello", "-o", "hello") for verb in ("policy", "inspect", "sbom", "check")),
        ("inspect", "disk", "-o", "../project/disk"),
        ("diff", "hello", "other", "-o", "other"),
        ("check", "appdir", "--config", "config.json", "-o", "config.json"),
        ("mkcpio", "appdir", "--overlay", "archive", "archive"),
        ("mkext2", "appdir", "--force", "--overlay", "archive", "archive"),
        (*PACKAGE[:4], "--overlay", "archive", "-o", "archive"),
        ("package-sgx", *PACKAGE[2:4], "--image", "archive", "-o", "archive"),
        *(
            ("provenance", "hello", "appdir", "config.json", "--runtime=runtime", *more)
            for more in (("-o", "config.json"), ("-o", "hello"), ("--key=file:key.pem", "-o", "key.pem"))
        ),
    ):
        assert run(*arguments, target).err == (
            f"mystikos-tool: error: {target}: is one of the inputs; choose another place for the output\n"
        )
    assert "appdir/new: lies in appdir, which is packed; write it somewhere else" in (
        run("provenance", "hello", "appdir", "config.json", "--runtime=runtime", "-o", "appdir/new").err
    )
    signed = run(
        "sign-sgx", "archive", "key.pem", "config.json", "--runtime=runtime", "--set=Debug=false", "-d", "."
    )
    assert "config.json: is one of the inputs" in signed.err
    assert files_below(project) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_in_the_appdir_is_told(run: Run, project: Path) -> None:
    (project / "appdir" / "motd").chmod(0)
    result = run(*PACKAGE)
    assert result.status == 2
    assert result.err.startswith("mystikos-tool: error: appdir/motd: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*PACKAGE, "--rootfs=archive"), "--rootfs: cannot go with the appdir appdir; give one of the two"),
        (
            (*PACKAGE, "--rootfs", "missing"),
            "--rootfs: cannot go with the appdir appdir; give one of the two",
        ),
        ((PACKAGE[0], *PACKAGE[2:], "--rootfs=missing"), "missing: "),
        ((PACKAGE[0], *PACKAGE[2:], "--rootfs=key.pem"), "key.pem: is a PEM file, no CPIO archive"),
        ((*PACKAGE, "--pubkey=key.pem"), "key.pem: is a private key, which must not go into a package; give"),
        ((*PACKAGE, "--pubkey=config.json"), "config.json: is not one public key in PEM; give"),
        ((*PACKAGE, "--pubkey=missing"), "missing: there is no such public key file; give"),
        (
            (*PACKAGE, "--roothash=key.pem"),
            "key.pem: is not a root hash, a line of 64 hexadecimal digits; give",
        ),
        ((*PACKAGE[:-1], "-o=key.pem"), "key.pem: is one of the inputs; choose another place for the output"),
        (
            (*PACKAGE[:-1], "-o=appdir/hello"),
            "appdir/hello: lies in appdir, which is packed; write it somewhere else",
        ),
        ((*PACKAGE[:-1], "-o=runtime"), "runtime: is a directory; give the name of a file to write"),
        (
            (*PACKAGE[:-1], "-o=missing/hello"),
            "missing/hello: cannot be written: no such file or directory; make the",
        ),
        ((*PACKAGE[:-1], "-o=key.pem/hello"), "key.pem/hello: cannot be written: not a directory; choose"),
        (
            (*PACKAGE[:2], "pkcs11:object=a", *PACKAGE[3:]),
            "pkcs11:…: names no module by an absolute path; add ?module-path=",
        ),
        (("sign-sgx", "key.pem", *PACKAGE[2:-1]), "key.pem: is a PEM file, no CPIO archive"),
        (("sign-sgx", "missing", *PACKAGE[2:-1]), "missing: "),
        (("mkcpio", "missing", "archive"), "missing: "),
        (
            ("mkcpio", "appdir", "appdir/archive"),
            "appdir/archive: lies in appdir, which is packed; write it somewhere",
        ),
        (
            ("mkcpio", "appdir", "missing/archive"),
            "missing/archive: cannot be written: no such file or directory;",
        ),
        (("excpio", "missing", "out"), "missing: "),
        (("excpio", "key.pem", "out"), "key.pem: is a PEM file, no CPIO archive"),
        (("verify", "missing"), "missing: "),
        (("verify", "appdir"), "appdir: "),
        (("verify", "key.pem"), "key.pem: is a PEM file, no package; give a file made by package-sgx"),
        (("dump-sgx", "config.json"), "config.json: is a configuration, no package; give a file made by"),
        (
            ("policy", "appdir"),
            "appdir: is a directory, and no signed one: it lacks lib/openenclave/mystenc.so;",
        ),
        (
            ("inspect", "appdir"),
            "appdir: is a directory, and no signed one: it lacks lib/openenclave/mystenc",
        ),
        (
            ("check", "config.json"),
            "config.json: is a configuration, no package, archive or measurement; give one of these, a",
        ),
        (
            ("check", "appdir", "--config=key.pem"),
            'key.pem: is a PEM file, no configuration; give JSON, as { "ApplicationPath": "/bin/app" }',
        ),
        (("check-quote", "config.json"), "config.json: is a configuration, no quote; give an ECDSA quote"),
        ((*PACKAGE, "--runtime=key.pem"), "key.pem: is no directory; give the directory of an installed"),
        (("verify", "runtime/bin/myst"), "runtime/bin/myst: is no package: it has no section .mystenc; "),
        (("dump-sgx", "runtime/bin/myst"), "runtime/bin/myst: is no package: it has no section .mystenc; "),
        (("keygen", "key.pem"), "key.pem: is there already, and no key is overwritten; choose another name"),
        (
            ("keygen", "missing/key.pem"),
            "missing/key.pem: cannot be written: no such file or directory; choose",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_argument_is_told_and_nothing_is_written(
    run: Run, project: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = files_below(project)
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"mystikos-tool: error: {message}")
    assert len(result.err.splitlines()) == 1
    assert files_below(project) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("package-sgx", "", *PACKAGE[2:]),
        (*PACKAGE[:2], "", *PACKAGE[3:]),
        ("mkcpio", "", "archive"),
        ("excpio", "archive", ""),
        ("verify", ""),
    ],
)
def test_an_empty_argument_is_not_taken_for_the_current_directory(
    run: Run, project: Path, arguments: tuple[str, ...]
) -> None:
    before = files_below(project)
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.endswith("error: an argument is empty; name what belongs there, or leave it out\n")
    assert files_below(project) == before


def test_an_ext2_root_that_nothing_makes_trusted_is_refused_without_debug(run: Run, project: Path) -> None:
    configure(project, Debug=0)
    result = run(*(argument for argument in PACKAGE if argument != "appdir"))
    assert result.status == 2
    assert "give a public key or a root hash" in result.err


@pytest.mark.parametrize("date", ["yesterday", "1e9", "99999999999999999999", "-1"])
def test_a_signing_date_that_is_none_is_told(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
    result = run(*PACKAGE)
    assert result.status == 2
    assert result.err.startswith(f"mystikos-tool: error: SOURCE_DATE_EPOCH: '{date}' ")
    assert not (project / "hello").exists()


# Packages


@pytest.fixture
def hello(run: Run, project: Path) -> Path:
    assert run(*PACKAGE).status == 0
    return project / "hello"


@pytest.mark.parametrize("verb", ["verify", "dump-sgx"])
@pytest.mark.parametrize("kept", [0, 3, 63, 64, 1000, 16000, -4096, -64, -1])
def test_a_truncated_package_is_told(run: Run, hello: Path, verb: str, kept: int) -> None:
    hello.write_bytes(hello.read_bytes()[:kept])
    result = run(verb, hello)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"mystikos-tool: error: {hello}")


@pytest.mark.parametrize("verb", ["verify", "dump-sgx"])
def test_a_package_with_a_section_twice_is_told(run: Run, hello: Path, verb: str) -> None:
    pieces = elf.with_sections(elf.Image(hello.read_bytes(), "hello"), [(".mystconfiX", 3)])
    data = b"".join(b"new" if isinstance(piece, int) else piece for piece in pieces)
    hello.write_bytes(data.replace(b".mystconfiX", b".mystconfig"))
    result = run(verb, hello)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"mystikos-tool: error: {hello}: has the section .mystconfig 2 times; ")


HOSTILE = "a\u2028b\u202ec\u200b\x85.so"


def test_names_in_a_hostile_archive_begin_no_line_and_turn_no_direction(run: Run, project: Path) -> None:
    """Whatever is told of it: its own errors, what of it cannot work, and what is in a package of it."""
    app = project / "appdir"
    (app / HOSTILE).write_text("#!/bin/hello a b\n")
    (app / HOSTILE).chmod(0o4755)
    (app / f"{HOSTILE}\nmystikos-tool: verified").symlink_to(f"{HOSTILE}/loop")
    assert run("mkcpio", "appdir", "hostile.cpio").status == 0
    configure(project, HostEnvironmentVariables=[HOSTILE])
    common = ("--rootfs=hostile.cpio", "key.pem", "config.json", "--runtime=runtime", "-o=made")
    made = run("package-sgx", *common)
    assert made.status == 0, made.err
    told = [made, run("check", "hostile.cpio"), run("check", "appdir")]
    told += [run(verb, "made") for verb in ("dump", "inspect", "verify", "check")]
    data = bytearray((project / "hostile.cpio").read_bytes())
    data[data.index(HOSTILE.encode()) - 110 + 18] = ord("6")  # a device
    (project / "hostile.cpio").write_bytes(data)
    told += [run(verb, "hostile.cpio", *more) for verb, more in (("check", ()), ("excpio", ["new"]))]
    for result in told:
        for line in (result.out + result.err).split("\n"):
            assert line.replace("\t", "").isprintable(), ascii(line)
            assert not line.startswith("mystikos-tool: verified")
    shown = r"a\u2028b\u202ec\u200b\x85.so"
    assert all(shown in result.out + result.err for result in told[1:5]), told
    assert told[-1].err.startswith(f"mystikos-tool: error: hostile.cpio, {shown}: has the type")


TILDES = [
    ("package-sgx", "~/app", "key.pem", "config.json", "-o=made"),
    ("package-sgx", "appdir", "~/app", "config.json", "--runtime=runtime", "-o=made"),
    ("package-sgx", "appdir", "key.pem", "~/app", "--runtime=runtime", "-o=made"),
    ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=~/app", "-o=made"),
    ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=~/app"),
    ("verify", "~/app"),
    ("mkcpio", "~/app", "archive"),
    ("run", "--runtime=embedded", "~/app", "/bin/hello"),
]


@pytest.mark.parametrize("arguments", TILDES, ids=" ".join)
def test_of_a_home_directory_that_no_shell_put_in_it_is_told_what_to_write(
    run: Run, project: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    result = run(*arguments)
    assert result.status == 2
    assert result.err.startswith("mystikos-tool: error: ~/app: ")
    assert result.err.endswith("; ~ stands for a home directory in shells only: write /home/me/app\n")
    (project / "~").mkdir()
    assert "shells" not in run(*arguments).err


SIGNED = ("appdir", "key.pem", "config.json")
BEFORE_COMPILING = [
    (("package-sgx", "missing", *SIGNED[1:], "-o=made"), "missing: no such file or directory; create"),
    (("package-sgx", "appdir", "missing", "config.json", "-o=made"), "missing: there is no such key file"),
    (("package-sgx", *SIGNED[:2], "missing", "-o=made"), "missing: there is no such configuration file"),
    (("package-sgx", *SIGNED, "-o=key.pem"), "key.pem: is one of the inputs; choose"),
    (
        ("package-sgx", *SIGNED, "-o=no/made"),
        "no/made: cannot be written: no such file or directory; make",
    ),
    (
        ("package-sgx", *SIGNED, f"-o={LONG}"),
        f"{LONG}: cannot be written: file name too long; choose",
    ),
    (("package-sgx", *SIGNED, "-o=key.pem/made"), "key.pem/made: cannot be written: not a directory; choose"),
    (("package-sgx", *SIGNED, "-o=made", "--pubkey=missing"), "missing: there is no such public key file"),
    (("package-sgx", *SIGNED[1:], "-o=made", "--rootfs=key.pem"), "key.pem: is a PEM file, no CPIO archive"),
    (("sign-sgx", "missing", *SIGNED[1:], "-d=made"), "missing: no such file or directory"),
    (("sign-sgx", "config.json", *SIGNED[1:], "-d=made"), "config.json: is a configuration, no CPIO archive"),
    (("provenance", "missing", "appdir", "config.json"), "missing: no such file or directory"),
    (("provenance", "config.json", "appdir", "config.json"), "config.json: is a configuration, no package"),
    (
        ("package-sgx", *SIGNED, "-o=made", "--set=ApplicationPath=/bin/helo"),
        "--set: ApplicationPath: /bin/helo is not in appdir; did you mean /bin/hello?",
    ),
    (
        ("package-sgx", *SIGNED[1:], "-o=made", "--rootfs=root.cpio", "--set=ApplicationPath=/bin/helo"),
        "--set: ApplicationPath: /bin/helo is not in root.cpio; did you mean /bin/hello?",
    ),
    (
        ("sign-sgx", "root.cpio", *SIGNED[1:], "-d=made", "--set=ApplicationPath=/bin/helo"),
        "--set: ApplicationPath: /bin/helo is not in root.cpio; did you mean /bin/hello?",
    ),
    (
        ("package-sgx", *SIGNED, "-o=made", "--overlay=with_key"),
        "appdir: holds the key that signs, at /key.pem",
    ),
    (
        ("run", "--runtime=embedded", "appdir", "/bin/helo"),
        "mystikos-tool run: ApplicationPath: /bin/helo is not in appdir",
    ),
    (("run", "--runtime=embedded", "missing", "/bin/hello"), "missing: no such file or directory"),
    (("run", "--runtime=embedded", "key.pem", "/bin/hello"), "key.pem: is a PEM file, no CPIO archive"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    BEFORE_COMPILING,
    ids=[" ".join(arguments).replace(LONG, "LONG") for arguments, _ in BEFORE_COMPILING],
)
def test_what_cannot_be_packaged_is_told_before_a_runtime_is_compiled(
    run: Run, project: Path, cache: Path, arguments: tuple[str, ...], message: str
) -> None:
    configure(project, MemorySize="8m")
    run("mkcpio", "appdir", "root.cpio")
    (project / "with_key").mkdir()
    shutil.copy(project / "key.pem", project / "with_key")
    cache.write_text("no directory, so that compiling fails")
    assert f"{cache}/mystikos-tool: cannot be written" in run("package-sgx", *SIGNED, "-o=made").err
    result = run(*arguments)
    assert result.status == 2
    assert result.err.startswith(f"mystikos-tool: error: {message}")


def test_the_library_tells_of_what_is_missing_before_a_runtime_is_compiled(
    project: Path, cache: Path
) -> None:
    cache.write_text("no directory, so that compiling fails")
    for source, key in (("missing", "key.pem"), ("appdir", "missing")):
        with pytest.raises(UserError, match=r"^missing: "):
            mystikos_tool.package("made", source, config="config.json", key=key)
    with pytest.raises(UserError, match=r"^missing: "):
        mystikos_tool.measure("missing", config="config.json")
    wrong = {"version": "0.1", "ApplicationPath": "/bin/helo", "MemorySize": "8m"}
    with pytest.raises(UserError, match="ApplicationPath: /bin/helo is not in appdir"):
        mystikos_tool.package("made", "appdir", config=wrong, key="key.pem")
    with pytest.raises(UserError, match="ApplicationPath: /bin/helo is not in appdir"):
        mystikos_tool.measure("appdir", config=wrong)
