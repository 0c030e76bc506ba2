"""What bad input gets from scons: a message with place and remedy, and no target touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from scons_project import (
    CONFIG,
    DATA,
    MEASURE,
    PACKAGE,
    PACKAGE_HELLO,
    ROOTFS,
    SIGN,
    TARGETS,
    WITHOUT_OVERRIDE,
    Build,
    Project,
    make_project,
    section_offset,
)

from mystikos_tool.scons.variables import VARIABLES

Break = Callable[[Project], object]

MACHINE_OFFSET, AARCH64 = 18, 183
R_X86_64_COPY, R_X86_64_RELATIVE = 5, 8
ENCLAVE, KERNEL, CRT, LOADER = (
    "rt/lib/openenclave/mystenc.so",
    "rt/lib/libmystkernel.so",
    "rt/lib/libmystcrt.so",
    "rt/bin/myst",
)


def content(name: str, data: str | bytes) -> Break:
    return lambda part: part.write(name, data)


def copied(source: str, target: str) -> Break:
    return lambda part: shutil.copy(DATA / source, part.path(target))


def removed(name: str) -> Break:
    return lambda part: part.path(name).unlink()


def mode(name: str, bits: int) -> Break:
    return lambda part: part.path(name).chmod(bits)


def replaced(name: str, old: bytes, new: bytes) -> Break:
    def change(part: Project) -> None:
        data = part.path(name).read_bytes()
        assert old in data
        part.path(name).write_bytes(data.replace(old, new))

    return change


def other_machine(name: str) -> Break:
    def change(part: Project) -> None:
        data = bytearray(part.path(name).read_bytes())
        struct.pack_into("<H", data, MACHINE_OFFSET, AARCH64)
        part.path(name).write_bytes(data)

    return change


def unsupported_relocation(part: Project) -> None:
    """Change the type of the enclave image's first relocation to R_X86_64_COPY."""
    data = bytearray(part.path(ENCLAVE).read_bytes())
    info = section_offset(part.path(ENCLAVE), ".rela.dyn") + 8
    assert data[info] == R_X86_64_RELATIVE
    data[info] = R_X86_64_COPY
    part.path(ENCLAVE).write_bytes(data)


def key(bits: int, exponent: int) -> Break:
    return lambda part: part.write(
        "key.pem", _pem(rsa_keys.made(bits, exponent), serialization.NoEncryption())
    )


def encrypt_key(part: Project) -> None:
    private = rsa_keys.read(part.path("key.pem").read_bytes())
    part.write("key.pem", _pem(private, serialization.BestAvailableEncryption(b"secret")))


def _pem(private: rsa.RSAPrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def no_appdir(part: Project) -> None:
    shutil.rmtree(part.path("appdir"))


def lost_link(name: str) -> Break:
    def change(part: Project) -> None:
        path = part.path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to("nowhere")

    return change


def empty_appdir(part: Project) -> None:
    no_appdir(part)
    part.path("appdir").mkdir()


def long_name(part: Project) -> None:
    part.write(f"appdir/{'a' * 150}/{'b' * 105}", "")


def add_socket(part: Project) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(part.path("appdir"))  # the whole path may be too long for a socket's name
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)


def huge_file(part: Project) -> None:
    with part.path("appdir/huge").open("wb") as file:
        file.truncate(1 << 32)


@dataclass(frozen=True)
class Mistake:
    """Something broken in a project, the stage that finds it, and what the message has in it."""

    make: Break
    stage: str
    message: tuple[str, ...]


# In the messages, what comes before the first ":" is the place: a path within the project.
MISTAKES = {
    "the configuration is no JSON": Mistake(
        content("config.json", '{"version": "0.1",\n  "Debug" true}'),
        MEASURE,
        ("config.json:2:11: expected a colon", "; write members as"),
    ),
    "the configuration is empty": Mistake(
        content("config.json", ""), MEASURE, ("config.json:1:1: the file is empty; write an object",)
    ),
    "ApplicationPath is missing": Mistake(
        content("config.json", '{"version": "0.1"}'),
        MEASURE,
        ("config.json:1:1: ApplicationPath is missing; add",),
    ),
    "ApplicationPath is not in the root": Mistake(
        content("config.json", CONFIG.replace("/bin/hello", "/usr/bin/hello")),
        MEASURE,
        ("config.json:1:74: ApplicationPath: /usr/bin/hello is not in ", "; did you mean /bin/hello?"),
    ),
    "ApplicationPath is not executable": Mistake(
        mode("appdir/bin/hello", 0o644),
        MEASURE,
        ("config.json:1:74: ApplicationPath: /bin/hello is not executable in ", "; chmod +x it"),
    ),
    "a key of the configuration is misspelt": Mistake(
        content("config.json", CONFIG.replace("MemorySize", "MemorySise")),
        MEASURE,
        ('config.json:1:35: unknown key "MemorySise"; write "MemorySize"',),
    ),
    "the configuration may not be read": Mistake(
        mode("config.json", 0), MEASURE, ("config.json: may not be read as configuration", "chmod u+r")
    ),
    "the configuration is missing": Mistake(
        removed("config.json"),
        MEASURE,
        ("config.json: is named by MYST_CONFIG and is not there; create it, or correct MYST_CONFIG",),
    ),
    "the configuration has another name": Mistake(
        lambda part: part.path("config.json").rename(part.path("confg.json")),
        MEASURE,
        ("config.json: is named by MYST_CONFIG and is not there; did you mean ", "/confg.json?"),
    ),
    "the key is missing": Mistake(
        removed("key.pem"),
        SIGN,
        ("key.pem: is named by MYST_KEY and is not there; create it, or correct MYST_KEY",),
    ),
    "the key has 2048 bits": Mistake(
        key(2048, 3), SIGN, ("key.pem: is an RSA key of 2048 bits", "; make a key with")
    ),
    "the key has exponent 65537": Mistake(
        key(3072, 65537), SIGN, ("key.pem: is an RSA key with exponent 65537", "; make a key with")
    ),
    "the key is encrypted": Mistake(
        encrypt_key,
        SIGN,
        ("key.pem: the passphrase is needed, and there is no terminal to ask for it", "?passphrase=SOURCE"),
    ),
    "the key is a public one": Mistake(
        copied("keys/key-a.pub.pem", "key.pem"),
        SIGN,
        ("key.pem: holds only a public key; give the private key",),
    ),
    "the key may not be read": Mistake(
        mode("key.pem", 0), SIGN, ("key.pem: may not be read as key file", "chmod u+r")
    ),
    "the application directory is missing": Mistake(
        no_appdir, ROOTFS, ("appdir: no such file or directory; create the application directory first",)
    ),
    "the application directory is empty": Mistake(
        empty_appdir, ROOTFS, ("appdir: is empty; put the application and its files into it",)
    ),
    "a file may not be read": Mistake(
        mode("appdir/etc/motd", 0), ROOTFS, ("appdir/etc/motd: ", "; make it readable for the build")
    ),
    "a directory may not be read": Mistake(
        mode("appdir/etc", 0), ROOTFS, ("appdir/etc: ", "; make it readable for the build")
    ),
    "a directory may not be searched": Mistake(
        mode("appdir/etc", 0o600),
        ROOTFS,
        ("appdir/etc: may not be searched; allow it, as in: chmod u+x ", "/appdir/etc"),
    ),
    "the configuration is a link that leads nowhere": Mistake(
        lost_link("config.json"),
        MEASURE,
        ("config.json: is named by MYST_CONFIG and is a symbolic link to nowhere, which is not there; make",),
    ),
    "the application directory is a link that leads nowhere": Mistake(
        lost_link("appdir"), ROOTFS, ("appdir: is a symbolic link to nowhere, which is not there; make that",)
    ),
    "a path is too long": Mistake(long_name, ROOTFS, ("has 256 bytes", "; shorten the names")),
    "a socket": Mistake(add_socket, ROOTFS, ("appdir/socket: is a socket", "; remove it")),
    "a file of 4 GiB": Mistake(huge_file, ROOTFS, ("appdir/huge: has 4294967296 bytes", "; split it")),
    "the enclave image is for another machine": Mistake(
        other_machine(ENCLAVE), MEASURE, (f"{ENCLAVE}: is an ELF file for EM_AARCH64", "; give one built for")
    ),
    "the kernel is for another machine": Mistake(
        other_machine(KERNEL), MEASURE, (f"{KERNEL}: is an ELF file for EM_AARCH64", "; give one built for")
    ),
    "the C runtime is for another machine": Mistake(
        other_machine(CRT), MEASURE, (f"{CRT}: is an ELF file for EM_AARCH64", "; give one built for")
    ),
    "the loader is for another machine": Mistake(
        other_machine(LOADER), PACKAGE, (f"{LOADER}: is an ELF file for EM_AARCH64", "; give one built for")
    ),
    "the loader is a script": Mistake(
        content(LOADER, "#!/bin/sh\n"), PACKAGE, (f"{LOADER}: is not an ELF file; give",)
    ),
    "the enclave image has no .oeinfo": Mistake(
        replaced(ENCLAVE, b".oeinfo\0", b".nothing"[:7] + b"\0"),
        MEASURE,
        (f"{ENCLAVE}: has no section .oeinfo; take the file from a Mystikos runtime",),
    ),
    "an unsupported relocation": Mistake(
        unsupported_relocation, MEASURE, (ENCLAVE, "has type 5, which an enclave cannot apply; compile")
    ),
}

SCONSTRUCT = """\
for name in ARGUMENTS["parts"].split(","):
    env.MystPackage(
        f"{name}/hello", f"{name}/appdir",
        MYST_CONFIG=f"{name}/config.json", MYST_KEY=f"{name}/key.pem", MYST_RUNTIME=f"{name}/rt")
"""


def part_of(project: Project, name: str) -> Project:
    return Project(project.path(name.replace(" ", "_")))


@dataclass(frozen=True)
class Told:
    """What scons said of all mistakes in one run, and the targets before and after it."""

    build: Build
    before: dict[str, dict[str, bytes]]
    after: dict[str, dict[str, bytes]]

    def message(self, name: str) -> str:
        start = f"scons: *** [{name.replace(' ', '_')}/"
        return "".join(line for line in self.build.err.splitlines() if line.startswith(start))


def _targets(project: Project) -> dict[str, dict[str, bytes]]:
    """The files of every part that are no input: targets, and what must not be there."""
    return {
        name: {
            path.name: path.read_bytes()
            for path in part_of(project, name).directory.iterdir()
            if path.is_file() and path.name not in ("config.json", "confg.json", "key.pem")
        }
        for name in MISTAKES
    }


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Told]:
    """Every mistake made after a good build, and in a project that has never been built."""
    project = Project(tmp_path_factory.mktemp("mistakes"))
    for name in MISTAKES:
        part = make_project(part_of(project, name).directory)
        part.path("SConstruct").unlink()
    project.sconstruct(SCONSTRUCT)
    parts = "parts=" + ",".join(name.replace(" ", "_") for name in MISTAKES)
    project.build(parts)
    for name, mistake in MISTAKES.items():
        mistake.make(part_of(project, name))
    before = _targets(project)
    told = Told(project.run("-k", parts, under=WITHOUT_OVERRIDE), before, _targets(project))
    for path in project.directory.glob("*/hello*"):
        path.unlink()
    project.path(".sconsign.dblite").unlink()
    project.path(".sconsign.mystikos").unlink()
    before = _targets(project)
    return told, Told(project.run("-k", parts, under=WITHOUT_OVERRIDE), before, _targets(project))


@pytest.mark.parametrize("first", [False, True], ids=["built before", "never built"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_place_and_remedy(projects: tuple[Told, Told], name: str, first: bool) -> None:
    told = projects[first]
    message = told.message(name)
    assert message, told.build.err
    assert f"/{TARGETS[MISTAKES[name].stage]}] " in message
    for part in MISTAKES[name].message:
        assert part in message


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_leaves_the_earlier_targets_as_they_were(projects: tuple[Told, Told], name: str) -> None:
    told = projects[False]
    failed = list(TARGETS).index(MISTAKES[name].stage)
    for target in list(TARGETS.values())[failed:]:
        assert told.after[name][target] == told.before[name][target]
    assert told.after[name].keys() == set(TARGETS.values())


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_leaves_no_target_of_its_stage_or_a_later_one(
    projects: tuple[Told, Told], name: str
) -> None:
    done = list(TARGETS)[: list(TARGETS).index(MISTAKES[name].stage)]
    assert projects[True].after[name].keys() == {TARGETS[stage] for stage in done}


def test_mistakes_end_scons_with_status_2_and_no_traceback(projects: tuple[Told, Told]) -> None:
    for told in projects:
        assert told.build.status == 2
        assert "Traceback" not in told.build.text
        assert not told.build.stages & {PACKAGE}


@dataclass(frozen=True)
class Slip:
    """A mistake in the SConstruct, which ends scons before anything is built."""

    call: str
    message: str


SLIPS = {
    "a misspelt variable of the environment": Slip(
        'env.Replace(MYST_CONIFG="config.json")\nenv.MystPackage("hello", "appdir")',
        "there is no construction variable MYST_CONIFG; did you mean MYST_CONFIG?",
    ),
    "a misspelt variable of the call": Slip(
        'env.MystPackage("hello", "appdir", MYST_KEYS="key.pem")',
        "there is no construction variable MYST_KEYS; did you mean MYST_KEY?",
    ),
    "a value that is none": Slip(
        'env.MystPackage("hello", "appdir", MYST_ROOTFS_MODES="foo")',
        'MYST_ROOTFS_MODES cannot be \'foo\'; give "canonical" or "preserve"',
    ),
    "modes by path in the wrong variable": Slip(
        'env.MystPackage("hello", "appdir", MYST_ROOTFS_MODES={"etc": "0600"})',
        'give "canonical" or "preserve", or modes by path as MYST_ROOTFS_CHMOD',
    ),
    "a value of the wrong type": Slip(
        'env.MystPackage("hello", "appdir", MYST_PUBKEYS=3)',
        "MYST_PUBKEYS cannot be 3; give a list of file names or file nodes",
    ),
    "no target": Slip("env.MystPackage()", "MystPackage makes one file: name its target"),
    "two targets": Slip(
        'env.MystPackage(["hello", "other"], "appdir")', "MystPackage makes one file: name its target"
    ),
    "no source": Slip(
        'env.MystPackage("out")',
        'MystPackage needs a source; give the application directory, or MYST_ROOT="disk" for a root on a',
    ),
    "a source that is None": Slip('env.MystPackage("out", None)', "MystPackage needs a source; give"),
    "a measurement of nothing": Slip('env.MystMeasure("out", None)', "MystMeasure needs a source; give"),
    "a source under a misspelt name": Slip(
        'env.MystPackage(target="out", sources="app")',
        "MystPackage does not take sources; did you mean source?",
    ),
    "a variable in small letters": Slip(
        'env.MystPackage("out", "appdir", config="config.json")',
        "MystPackage does not take config; did you mean MYST_CONFIG?",
    ),
    "a keyword that nothing knows": Slip(
        'env.MystPackage("out", "appdir", colour="red")',
        "MystPackage does not take colour; it takes target, source, variables",
    ),
    "a source of a key's keyword": Slip(
        'env.MystKey("new.pem", bits=3072)', "MystKey does not take bits; it takes target, variables"
    ),
    "a root that is neither": Slip(
        'env.MystPackage("out", "appdir", MYST_ROOT="ext2")',
        'MYST_ROOT cannot be \'ext2\'; give "archive" or "disk"',
    ),
    "a source beside a disk": Slip(
        'env.MystPackage("out", "appdir", MYST_ROOT="disk")',
        'MystPackage takes a disk or no source with MYST_ROOT="disk"; make a disk with MystDisk',
    ),
    "an expectation of a test that there is not": Slip(
        'env.MystTest("test", "appdir", stdour="red")', "MystTest does not take stdour; did you mean stdout?"
    ),
    "an empty source": Slip(
        'env.MystPackage("hello", Glob("*.nothing"))',
        "MystPackage needs a source; give the application directory",
    ),
    "no key": Slip(
        'env.MystPackage("hello", "appdir", MYST_KEY=None)',
        'MYST_KEY is not set; give it as in MystPackage(..., MYST_KEY="FILE")',
    ),
    "no configuration": Slip(
        'env.MystPackage("hello", "appdir", MYST_CONFIG=None)',
        'MYST_CONFIG is not set; give it as in MystPackage(..., MYST_CONFIG="FILE")',
    ),
    "a directory as configuration": Slip(
        'env.MystPackage("hello", "appdir", MYST_CONFIG="rt")',
        "MYST_CONFIG: rt is a directory; give a file",
    ),
    "a target that is the application directory": Slip(
        'env.MystPackage("appdir", "appdir")',
        "MystPackage: the target appdir is a directory; name it otherwise",
    ),
    "a source that a look-up did not find": Slip(
        'env.MystPackage("hello", ["appdir", {"share": "appdir/etc"}, {}.get("library")])',
        "a source of the root is None; give directories, files and mappings",
    ),
    "nothing but a source that a look-up did not find": Slip(
        'env.MystPackage("hello", [None])',
        "a source of the root is None; give directories, files and mappings",
    ),
    "a mapping to nothing": Slip(
        'env.MystRootfs("hello", {"share": None})',
        "a source of the root is None; give directories, files and mappings",
    ),
    "a signature of what is not measured": Slip(
        'env.MystSign("hello", "hello.cpio")',
        "MystSign signs what MystMeasure made; hello.cpio is something else",
    ),
    "a source of a key": Slip('env.MystKey("new.pem", "key.pem")', "MystKey takes no source"),
    "arguments in one string": Slip(
        'env.MystRun("run", env.MystPackage("hello", "appdir"), "red blue")',
        'MystRun takes a list of arguments, as in ["red", "blue"], not \'red blue\'',
    ),
}


@pytest.fixture(scope="module")
def slips(_built: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each slip's call raises, all of them in one SConstruct."""
    project = _built.copy(tmp_path_factory.mktemp("slips") / "project")
    project.sconstruct(
        f"""
import SCons.Errors
for name, call in {[(name, slip.call) for name, slip in SLIPS.items()]!r}:
    try:
        exec(call, dict(globals(), env=env.Clone()))
    except SCons.Errors.UserError as error:
        print(f"{{name}}: {{error}}")
Exit(0)
"""
    )
    lines = project.build().out.splitlines()
    return {name: text for name, _, text in (line.partition(": ") for line in lines)}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_the_sconstruct_is_told_with_its_remedy(slips: dict[str, str], name: str) -> None:
    assert SLIPS[name].message in slips[name]


def test_a_slip_is_shown_at_its_line_and_nothing_is_built(built: Project) -> None:
    built.sconstruct('env.MystPackage("hello", "appdir", MYST_CONIFG="config.json")\n')
    before = built.snapshot()
    build = built.fails()
    assert "\nscons: *** there is no construction variable MYST_CONIFG;" in build.err
    assert f'File "{built.path("SConstruct")}", line 3, in <module>' in build.err
    assert "mystikos_tool" not in build.err
    assert built.snapshot() == before


@pytest.mark.parametrize("call", ['"out"', '"out", None', 'target="out", sources="appdir"'])
def test_a_forgotten_source_is_shown_at_its_line_and_is_no_disk(built: Project, call: str) -> None:
    built.sconstruct(f"\nenv.MystPackage({call})\n")
    before = built.snapshot()
    assert f'File "{built.path("SConstruct")}", line 4, in <module>' in built.fails().err
    assert built.snapshot() == before


def test_a_signing_day_that_is_none_is_told(built: Project) -> None:
    build = built.fails(environment={"SOURCE_DATE_EPOCH": "yesterday"})
    assert (
        "SOURCE_DATE_EPOCH: 'yesterday' is not a time in seconds since 1970, of the years to 9999"
        in build.err
    )


def test_an_output_that_may_not_be_written_is_told(built: Project) -> None:
    built.path("out").mkdir(mode=0o555)
    built.sconstruct('env.MystPackage("out/hello", "appdir")\n')
    build = built.fails(under=WITHOUT_OVERRIDE)
    assert "out/hello.cpio: cannot be written: permission denied; choose another place" in build.err


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            'Package("hello", "appdir", MYST_CONFIG="closed/config.json")',
            "closed/config.json: is named by MYST_CONFIG and may not be looked at: permission denied;",
        ),
        (
            'Package("hello", "appdir", MYST_PUBKEYS="closed/key")',
            "closed/key: is named by MYST_PUBKEYS and may not be looked at: permission denied;",
        ),
        ('Package("hello", "closed/in")', "closed/in: permission denied; see that it can be read"),
        ('Package("hello", {"etc": "closed/in"})', "closed/in: permission denied; make it readable"),
        ('Key("closed/key.pem")', "closed/key.pem: cannot be written: permission denied; choose another"),
    ],
)
def test_what_lies_in_a_directory_that_may_not_be_searched_is_told(
    built: Project, call: str, told: str
) -> None:
    built.path("closed").mkdir(mode=0)
    built.sconstruct(f"env.Myst{call}\n")
    assert told in built.fails(under=WITHOUT_OVERRIDE).err


def test_a_private_key_is_not_packaged_as_a_trusted_one(built: Project) -> None:
    built.sconstruct('env.MystPackage("hello", "appdir", MYST_PUBKEYS="key.pem")\n')
    build = built.fails()
    assert "key.pem: is a private key, which must not go into a package; give its public half" in build.err


def test_all_mistakes_of_a_configuration_are_told_at_once(built: Project) -> None:
    built.write("config.json", '{"version": "0.1", "Debug": "yes",\n "ApplicationPath": "bin/hello"}')
    build = built.fails()
    assert "config.json:1:29: Debug" in build.err
    assert "config.json:2:21: ApplicationPath" in build.err


# A call whose source is further on than the stage that a variable matters for.
WITHOUT_EFFECT = {
    "a configuration of what is measured": ('MystPackage("out", measurement', "MYST_CONFIG", "measure"),
    "a runtime of what is measured": ('MystPackage("out", measurement', "MYST_RUNTIME", "take a runtime"),
    "a disk of what is measured": ('MystPackage("out", measurement', "MYST_ROOT", "measure"),
    "keys of what is measured": ('MystPackage("out", measurement', "MYST_PUBKEYS", "measure"),
    "a key of what is signed": ('MystPackage("out", image', "MYST_KEY", "sign"),
    "a date of what is signed": ('MystPackage("out", image', "SOURCE_DATE_EPOCH", "sign"),
    "patterns of what is packed": ('MystPackage("out", rootfs', "MYST_ROOTFS_EXCLUDE", "pack a root"),
    "modes of an archive": ('MystMeasure("out", "some.cpio"', "MYST_ROOTFS_MODES", "pack a root"),
    "patterns of a disk": ('MystMeasure("out", MYST_ROOT="disk"', "MYST_ROOTFS_EXCLUDE", "pack a root"),
    "a key of a measurement": ('MystMeasure("out", rootfs', "MYST_KEY", "sign"),
    "a configuration of a signature": ('MystSign("out", measurement', "MYST_CONFIG", "measure"),
    "a configuration of a root": ('MystRootfs("out", "appdir"', "MYST_CONFIG", "measure"),
    "a key of a start": ('MystRun("out", image', "MYST_KEY", "sign"),
    "a line of a test": ('MystTest("out", image', "MYSTRUNCOMSTR", "start a package"),
    "a configuration of a runtime": ("MystRuntime(", "MYST_CONFIG", "measure"),
    "a key of a key": ('MystKey("new.pem"', "MYST_KEY", "sign"),
}
VALUES = {"MYST_ROOT": "disk", "MYST_ROOTFS_MODES": "preserve"}


def test_an_override_that_cannot_matter_is_told(built: Project) -> None:
    calls = [
        f'{call}{", " if call[-1] != "(" else ""}{name}="{VALUES.get(name, "1")}")'
        for call, name, _ in WITHOUT_EFFECT.values()
    ]
    built.sconstruct(
        f"""
import SCons.Errors
rootfs = env.MystRootfs("one", "appdir")
measurement = env.MystMeasure("one", rootfs)
image = env.MystSign("one", measurement)
for call in {calls!r}:
    try:
        exec("env." + call, globals())
        print("accepted")
    except SCons.Errors.UserError as error:
        print(error)
Exit(0)
"""
    )
    told = dict(zip(WITHOUT_EFFECT, built.build().out.splitlines(), strict=True))
    assert told == {
        case: f"{name} has no effect: this {call.partition('(')[0]} does not {done};"
        " give it to the call that does, or leave it out"
        for case, (call, name, done) in WITHOUT_EFFECT.items()
    }


def test_every_variable_but_that_of_the_whole_environment_matters_for_a_stage() -> None:
    assert [variable.name for variable in VARIABLES if not variable.stage] == ["MYST_REMOTE_CACHE"]


RUNTIMES = {
    "rtt": "rtt: there is no such runtime directory; give the directory of an installed Mystikos",
    "half": "half: is no complete runtime: it lacks lib/libmystcrt.so; give",
}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("'out', 'appdir', MYST_CONFIG='rt'", "MYST_CONFIG: rt is a directory; give a file"),
        ("'out', 'appdir', MYST_RUNTIME='#key.pem'", "MYST_RUNTIME: #key.pem is a file; give a directory"),
        ("'appdir', 'appdir'", "the target appdir is a directory; name it otherwise"),
        ("'out', {'x': 'key.pem/y'}", "key.pem/y lies below key.pem, which is a file; correct the name"),
        *(
            (f"'{name}', 'appdir'", f"{name}: is what it is made of, too")
            for name in ("config.json", "key.pem")
        ),
        ("'rt/bin/myst', 'appdir'", "rt/bin/myst: is what it is made of, too; name the target otherwise"),
    ],
)
def test_a_name_of_something_else_that_is_there_is_told(built: Project, call: str, told: str) -> None:
    built.sconstruct(f"env.MystPackage({call})\n")
    error = built.fails().err
    assert told in error
    assert f'File "{built.path("SConstruct")}", line 3, in <module>' in error


@pytest.mark.parametrize("suffix", ["", ".cpio", ".measurement.json", ".mystenc.so"])
def test_a_directory_in_the_place_of_a_target_below_another_one_is_told_at_the_call(
    built: Project, suffix: str
) -> None:
    built.path(f"out/hello{suffix}").mkdir(parents=True)
    built.sconstruct("env.MystPackage('out/hello', 'appdir')\n")
    error = built.fails().err
    assert f": the target out/hello{suffix} is a directory; name it otherwise" in error
    assert f'File "{built.path("SConstruct")}", line 3, in <module>' in error


def test_a_directory_that_a_script_makes_in_the_place_of_a_target_is_told(built: Project) -> None:
    made = "import os\nos.makedirs('out/hello.cpio')\n"
    built.sconstruct(
        f"env.MystPackage('out/first', 'appdir')\n{made}env.MystPackage('out/hello', 'appdir')\n"
    )
    told = "out/hello.cpio: is a directory; give the name of a file to write (MystPackage at SConstruct:6)"
    assert told in built.fails("out/hello").err


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_cannot_be_used_is_told_by_what_is_made_of_it_alone(
    built: Project, runtime: str
) -> None:
    shutil.copytree(built.path("rt"), built.path("half"))
    built.path("half/lib/libmystcrt.so").unlink()
    built.sconstruct(
        f'env.MystPackage("out", "appdir", MYST_RUNTIME={runtime!r})\n'
        "env.Command('copy', 'config.json', Copy('$TARGET', '$SOURCE'))\n"
    )
    for arguments in (("copy",), ("-h",), ("-c",)):
        built.build(*arguments)
    assert RUNTIMES[runtime] in built.fails("out").err


CALLS = {  # {} is what is put in, N the number of the case
    "a target": [
        "MystRootfs({}, 'appdir')",
        "MystMeasure({}, 'appdir')",
        "MystPackage({}, 'appdir')",
        "MystSign({}, M)",
        "MystKey({})",
    ],
    "a name": ["MystRun({}, 'prog')", "MystTest({}, 'prog')"],
    "a source": [
        "MystRootfs('oN', {})",
        "MystMeasure('oN', {})",
        "MystPackage('oN', {})",
        "MystRootfs('oN', {{'a': {}}})",
    ],
    "a path": ["MystRootfs('oN', {{{}: 'appdir'}})"],
    "a program": ["MystRun('rN', {})", "MystTest('tN', {})"],
    "arguments": ["MystRun('rN', 'prog', {})", "MystTest('tN', 'prog', args={})"],
    "a file": [f"MystPackage('oN', 'appdir', {name}={{}})" for name in ("MYST_CONFIG", "MYST_KEY")],
    "files": [f"MystPackage('oN', 'appdir', {name}={{}})" for name in ("MYST_PUBKEYS", "MYST_ROOTHASHES")],
    "a directory": [f"MystPackage('oN', 'appdir', {name}={{}})" for name in ("MYST_RUNTIME",)],
    "a number": ["MystTest('tN', 'prog', status={})"],
    "a choice": ["MystTest('tN', 'prog', strict={})"],
    "seconds": ["MystTest('tN', 'prog', timeout={})"],
    "variables": ["MystTest('tN', 'prog', environment={})"],
    "text": [f"MystTest('tN', 'prog', {name}={{}})" for name in ("stdin", "stdout", "stderr")],
    "a pattern": [f"MystTest('tN', 'prog', {name}={{}})" for name in ("stdout_pattern", "stderr_pattern")],
    "members": ["MystPackage('oN', 'appdir', MYST_CONFIG_SET={})"],
    "modes": ["MystRootfs('oN', 'appdir', MYST_ROOTFS_CHMOD={})"],
    "a flag": ["MystRootfs('oN', 'appdir', MYST_ROOTFS_OVERLAY={})"],
}
NEVER = ["3.5j", "object()", "len", "{'x'}", "(n for n in 'ab')"]
NO_NAME = [*NEVER, "3", "True", "'a\\0b'", "env.Value('v')", "env.Alias('alias')[0]", "[3]"]
NO_TEXT = [*NEVER, "3", "True", "b'x'", "['a']", "{'a': 1}", "env.Value('v')", "pathlib.Path('x')"]
NAMES = ["'xN'", "b'xN'", "pathlib.Path('xN')"]
ONE = [*NAMES, "['xN']", "('xN',)", "[['xN']]", "File('xN')"]
REFUSED = {
    "a target": [*NO_NAME, "None", "''", "{'a': 'b'}", "'new/'", "'/'", "'..'", "Dir('new')", "['a', 'b']"],
    "a name": [*NO_NAME, "None", "''", "{'a': 'b'}"],
    "a source": [*NO_NAME, "env.Alias('alias')"],
    "a path": ["3", "None", "object()", "('a', 'b')", "'a\\0b'", "len"],
    "a program": [*NO_NAME, "None", "{'a': 'b'}", "'appdir'", "pathlib.Path('appdir')", "['a', 'b']"],
    "arguments": [*NEVER, "None", "3", "'red'", "b'x'", "{'a': 'b'}", "[None]", "[['a']]", "['a\\0b']"],
    "a file": [*NO_NAME, "{'a': {1}}", "Dir('appdir')", "['a', 'b']"],
    "files": [*NO_NAME, "{'a': 1}", "Dir('appdir')", "[None]"],
    "a directory": [*NO_NAME, "'config.json'", "File('config.json')", "['rt']"],
    "a number": [*NEVER, "None", "'0'", "1.5", "True", "b'0'", "['a']", "env.Value('v')"],
    "a choice": [*NEVER, "None", "'yes'", "1"],
    "seconds": [*NEVER, "None", "'5'", "0", "-1", "True", "float('nan')", "float('inf')", "b'x'"],
    "variables": [*NEVER, "3", "['a']", "'a'", "{1: 'b'}", "{'a': None}", "{'a=b': 'c'}", "{'a': 'b\\0'}"],
    "text": NO_TEXT,
    "a pattern": [*NO_TEXT, "'('", "'*'"],
    "members": [*NEVER, "3", "'a'", "{1: 2}", "{'a': {1}}", "[{'a': 1}]", "{'Hostname': '$NONE'}"],
    "modes": [*NEVER, "3", "'a'", "{1: 2}", "{'a': 'rwx'}", "{'a': True}", "{'': 0o600}"],
    "a flag": [*NEVER, "'maybe'", "[]", "{}"],
}
TAKEN = {
    "a target": ONE,
    "a name": NAMES,
    "a source": [*ONE, "Dir('xN')", "[pathlib.Path('xN'), 'yN']"],
    "a path": NAMES,
    "a program": ["'prog'", "b'prog'", "pathlib.Path('prog')", "('prog',)", "File('prog')"],
    "arguments": ["[]", "('a', 'b')", "[3, b'x', pathlib.Path('x'), env.Value('v'), File('prog')]"],
    "a file": ["'a'", "b'a'", "pathlib.Path('a')", "('a',)", "['a']", "File('a')"],
    "files": ["'a'", "b'a'", "pathlib.Path('a')", "('a', 'b')", "[]", "[File('a')]"],
    "a directory": ["'rt'", "b'rt'", "pathlib.Path('rt')", "Dir('rt')"],
    "a number": ["0", "-9", "255"],
    "a choice": ["True", "False"],
    "seconds": ["1", "0.5"],
    "variables": ["None", "{}", "{'a': 'b', 'c': 3}"],
    "text": ["''", "'$x'", "'\\udcff'"],
    "a pattern": ["None", "'^a|b$'"],
    "members": ["{}", "{'a': 1}", "{'a': None, 'b': [1, ('c',)]}", "'a=1,b=c'", "['a=1']"],
    "modes": ["{}", "{'a': 0o600}", "{pathlib.Path('a'): '0600'}", "'a=0600,b=755'"],
    "a flag": ["True", "False", "'no'", "1"],
}


def calls_with(values: dict[str, list[str]]) -> list[str]:
    """Every call with every value that it can be given in one place."""
    calls = [call.format(value) for kind in CALLS for call in CALLS[kind] for value in values[kind]]
    return ["env." + call.replace("N'", f"{number}'") for number, call in enumerate(calls)]


def outcomes(project: Project, calls: list[str]) -> dict[str, str]:
    """What each call does, all of them in one SConstruct: "taken", a message, or a Python error."""
    project.write("prog", "#!/bin/sh\n", 0o755)
    project.sconstruct(
        f"""
import json, pathlib, SCons.Errors
M, told = env.MystMeasure("m", "appdir"), {{}}
for call in {calls!r}:
    try:
        eval(call, dict(globals(), env=env.Clone()))
        told[call] = "taken"
    except SCons.Errors.UserError as error:
        told[call] = "told: " + str(error)
    except Exception as error:
        told[call] = repr(error)
pathlib.Path("told").write_text(json.dumps(told))
Exit(0)
"""
    )
    project.build()
    told = json.loads(project.path("told").read_text())
    assert isinstance(told, dict)
    return told


def test_what_a_call_cannot_take_is_told_in_one_line(built: Project) -> None:
    calls = calls_with(REFUSED)
    assert len(calls) > 180
    told = outcomes(built, calls)
    assert [
        (call, text) for call, text in told.items() if not text.startswith("told: ") or "\n" in text
    ] == []


def test_names_are_taken_as_strings_bytes_paths_nodes_lists_and_tuples(built: Project) -> None:
    told = outcomes(built, calls_with(TAKEN))
    assert [(call, text) for call, text in told.items() if text != "taken"] == []


def test_a_file_that_no_archive_holds_is_told_without_reading_it(built: Project) -> None:
    with built.path("appdir/huge").open("wb") as file:
        file.truncate(1 << 40)
    started = time.monotonic()
    assert "appdir/huge: has 1099511627776 bytes" in built.fails().err
    assert time.monotonic() - started < 20  # reading it takes some minutes


def test_a_file_of_the_top_that_an_sconscript_below_names_as_its_own_is_pointed_to(built: Project) -> None:
    built.write("sub/SConscript", 'Import("env")\nenv.MystPackage("sub", "#appdir")\n')
    built.sconstruct('SConscript("sub/SConscript", exports="env")\n')
    assert 'sub/config.json: is named by MYST_CONFIG and is not there; did you mean "#config.json"?' in (
        built.fails().err
    )


def test_too_many_open_files_are_told_with_what_to_do(built: Project) -> None:
    built.sconstruct(f"env['MYST_KEY'] = 'exec:public-key={DATA}/keys/key-b.pub.pem true'\n" + PACKAGE_HELLO)
    build = built.fails(under=("sh", "-c", 'ulimit -n 6; exec "$@"', "sh"))
    assert "this process has as many open as it may; allow more, as by: ulimit -n 1024 (" in build.err
