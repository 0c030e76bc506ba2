from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, MakeOnce, compile_sanitized, needs_compiler
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from examples import examples
from fuzz import differential
from fuzz.differential import Read, fields_of, kernel_reader, without_empty_variables
from mystikos_tool import config as python_reader
from mystikos_tool.errors import UserError
from mystikos_tool.runtime.build import SOURCE_DIRECTORY

pytestmark = needs_compiler

CONFIGS = sorted((HERE.parent / "data" / "configs").glob("*.json"))

DOCUMENTS = int(os.environ.get("MYST_CONFIG_CASES", "1500"))


@pytest.fixture(scope="session")
def read(make_once: MakeOnce) -> Iterator[Read]:
    sources = (differential.READER, *(SOURCE_DIRECTORY / source for source in differential.SOURCES))
    place = make_once("read_config", lambda place: compile_sanitized(place / "reader", *sources))
    with kernel_reader(place / "reader") as read:
        yield read


def from_python(document: bytes) -> dict[str, Any]:
    """What the packager's reader makes of it, in the form of the kernel's."""
    return fields_of(python_reader.parse(document, "c.json"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_reads_the_recorded_configurations_as_the_packager_does(read: Read, path: Path) -> None:
    document = path.read_bytes()
    assert read(document) == from_python(document)


EVERYTHING = b"""// comment
{ // comment
    "version" : "0.1" , // comment
    "Debug": 1, "ProductID": 65534, "SecurityVersion": 0, "CreateZeroBaseEnclave": true,
    "EnclaveStartAddress": 8589934592, "MemorySize": "1G", "MainStackSize": "2000K", "ThreadStackSize": 4097,
    "MaxAffinityCPUs": 2, "NoBrk": -3, "ExecStack": false,
    "ApplicationPath": "/bin\\/\\u00e4\\ud83d\\ude00\\t\\"\\\\",
    "HostApplicationParameters": 0, "ApplicationParameters": ["a // b", "", ],
    "EnvironmentVariables": "A=1", "HostEnvironmentVariables": [
        // comment
        "HOME"
        // comment
    ],
    "CurrentWorkingDirectory": "/tmp", "Hostname": "a-1.B_c", "ForkMode": "pseudo",
    "Mount": [{"Target": "/a", "Type": "ramfs", "Flags": ["ro"], "PublicKey": null}, {
        "Target": "/b", "Type": "ext2",
        "RootHash": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"}],
    "UnhandledSyscallEnosys": true, "HostUDS": true, "SyslogLevel": "debug",
    "Secret": [{"ID": "x", "SrsAddress": "https://s", "LocalPath": "/s", "ClientLib": "l", "Verbose": true},],
} // comment"""


def test_it_reads_every_key_as_the_packager_does(read: Read) -> None:
    assert read(EVERYTHING) == from_python(EVERYTHING)


sizes = st.one_of(
    st.integers(0, 1 << 46), st.builds("{}{}".format, st.integers(0, 65536), st.sampled_from(["", *"kKmMgG"]))
)
flags = st.one_of(st.booleans(), st.integers(-(1 << 63) + 1, (1 << 63) - 1))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
paths = texts.map(lambda text: f"/{text}")


def one_or_many(item: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(item, st.lists(item, max_size=20))


configurations = st.fixed_dictionaries(
    {"ApplicationPath": texts.map(lambda text: f"/bin/x{text.replace('/', '')}")},
    optional={
        "version": st.just("0.1"),
        "Debug": flags,
        "ProductID": st.integers(0, 65534),
        "CreateZeroBaseEnclave": st.booleans(),
        "EnclaveStartAddress": st.integers(1, 1 << 50).map(lambda pages: pages * 4096),
        "MemorySize": sizes,
        "MainStackSize": sizes,
        "ThreadStackSize": sizes,
        "MaxAffinityCPUs": st.integers(1, (1 << 63) - 1),
        "NoBrk": flags,
        "ApplicationParameters": one_or_many(texts),
        "EnvironmentVariables": one_or_many(texts.map(lambda text: f"A={text}")),
        "HostEnvironmentVariables": one_or_many(st.sampled_from(["HOME", "PATH", "ä"])),
        "CurrentWorkingDirectory": paths,
        "ForkMode": st.sampled_from(["none", "pseudo", "pseudo_wait_for_exit_exec"]),
        "Mount": st.lists(
            st.fixed_dictionaries({"Target": paths, "Type": st.sampled_from(["ramfs", "hostfs"])}),
            unique_by=lambda mount: posixpath.normpath("/" + mount["Target"].lstrip("/")),
            max_size=5,
        ),
        "UnhandledSyscallEnosys": flags,
    },
)
quick = settings(
    max_examples=examples(75), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(configurations, st.booleans(), st.sampled_from([None, 1]))
def test_it_reads_whatever_the_packager_accepts_to_the_same_values(
    read: Read, configuration: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    document = json.dumps(configuration, ensure_ascii=ascii_only, indent=indent).encode()
    assert without_empty_variables(read(document)) == from_python(document)


@pytest.mark.parametrize(
    "document",
    [
        b'{"$schema": "s.json", "ApplicationPath": "/app"}',
        b'{"ApplicationPath": "/app" // after the value\n}',
        b'// one\n// "Debug": true,\n{"ApplicationPath": "/app",}',
        b'{"ApplicationPath": "/app", "ApplicationParameters": "\\u00fc\\u20ac\\ud83d\\ude00\\u0001\x7f"}',
        b'{"ApplicationPath": "/app", "Hostname": "a_b"}',
        b'{"ApplicationPath": "/app", "Hostname": "", "CurrentWorkingDirectory": ""}',
        b'{"ApplicationPath": "/app", "EnvironmentVariables": ["A", "=", "B=1"]}',
        b'{"ApplicationPath": "/app", "HostEnvironmentVariables": ["=", ""]}',
        b'{"ApplicationPath": "/app", "Mount": [{"Target": "/x", "Type": "ramfs", "Flags": "ro"}]}',
    ],
)
def test_it_reads_from_the_package_what_the_packager_read_from_the_file(read: Read, document: bytes) -> None:
    config = python_reader.parse(document, "c.json")
    assert read(config.data) == fields_of(config)


places = st.integers(0, len(EVERYTHING))
replacements = st.one_of(st.binary(max_size=4), st.sampled_from([b"[", b"{", b'"', b"\\u"]))


@quick
@given(st.lists(st.tuples(places, st.integers(0, 8), replacements), min_size=1, max_size=4))
@example([(3, 7, b"in a comment, which the packager accepts")])
def test_it_survives_any_damage_and_accepts_what_the_packager_accepts(
    read: Read, damages: list[tuple[int, int, bytes]]
) -> None:
    document = bytearray(EVERYTHING)
    for start, size, replacement in damages:
        document[start : start + size] = replacement
    assert differential.difference(read, bytes(document)) is None


def test_the_readers_agree_about_changed_configurations_in_acceptance_and_every_value(read: Read) -> None:
    for document in islice(differential.Documents(seed=1), DOCUMENTS):
        assert differential.difference(read, document) is None, document


@quick
@given(st.binary(max_size=40))
@example(b"")
@example(b"{")
@example(b'{"')
@example(b'{"\\')
@example(b'{"\\u12')
@example(b'{"a": -')
@example(b"/")
def test_it_survives_any_bytes(read: Read, document: bytes) -> None:
    assert list(read(document)) == ["error"]


def mount(target: str, **more: object) -> str:
    return json.dumps({"Target": f"/{target}", "Type": "hostfs", **more})


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ('"ProductId": 1', 'unknown key "ProductId"'),
        ('"Pr\u009b\x7fä": 1', 'unknown key "Pr???ä"'),
        ('"ProductID": 65535', "ProductID: must lie between 0 and 65534"),
        ('"ProductID": 99999999999999999999', "ProductID: must lie between 0 and 65534"),
        ('"ProductID": 999999999999999999999', "ProductID: a number of more than 20 characters"),
        ('"Debug": 9223372036854775808', "Debug: expected true or false"),
        ('"ProductID": -1', "ProductID: must lie between 0 and 65534"),
        ('"MaxAffinityCPUs": 0', "MaxAffinityCPUs: must lie between 1 and 9223372036854775807"),
        ('"Debug": "yes"', "Debug: expected true or false"),
        ('"Debug": 1.5', "Debug: expected a whole number"),
        ('"Debug": 1, "Debug": 0', "Debug: given twice"),
        ('"CreateZeroBaseEnclave": 1', "CreateZeroBaseEnclave: expected true or false"),
        ('"MemorySize": 1, "UserMemSize": 1', "UserMemSize: MemorySize is given as well"),
        ('"MemorySize": "64x"', 'MemorySize: expected a size such as 67108864 or "64m"'),
        ('"MemorySize": "99999999999g"', 'MemorySize: expected a size such as 67108864 or "64m"'),
        ('"EnclaveStartAddress": 4097', "EnclaveStartAddress: must be a multiple of 4096"),
        ('"version": "0.2"', 'version: expected "0.1"'),
        (f'"CurrentWorkingDirectory": "/{"a" * 4095}"', "CurrentWorkingDirectory: the path is too long"),
        ('"ForkMode": "real"', 'ForkMode: unknown value "real"'),
        ('"Mount": [{"Type": "ramfs"}]', "Mount: each needs a Target and a Type"),
        ('"ApplicationParameters": ["a" "b"]', "ApplicationParameters: expected , or ]"),
        ('"ApplicationParameters": ["\\u0000"]', "ApplicationParameters: a string has a NUL in it"),
        ('"Secret": [[', "Secret: expected an object"),
        (f'"Secret": [{{"ID": {"[" * 99}', "ID: expected a string"),
        ('"Secret": [{"a": "b"}]', 'Secret: unknown key "a"'),
        ('"Secret": [{"ID": "b"}]', "Secret: each needs ID, SrsAddress, LocalPath and ClientLib"),
        (
            '"EnvironmentVariables": ["MYST_TARGET=sgx"]',
            "EnvironmentVariables: MYST_TARGET is set by the runtime",
        ),
        (
            '"HostEnvironmentVariables": ["MYST_TARGET"]',
            "HostEnvironmentVariables: MYST_TARGET is set by the runtime",
        ),
        ('"Hostname": "a\tb"', "Hostname: a string has a control character in it"),
        ('"MemorySize": 70368744177665', "MemorySize: must lie between 0 and 70368744177664"),
        (f'"Mount": [{mount("x", Flags=["no"])}]', "Flags: expected ro or rw"),
        (f'"Mount": [{mount("x", Flags=["ro", "rw"])}]', "Mount: /x: ro and rw exclude each other"),
        (f'"Mount": [{mount("x", RootHash="a")}]', "RootHash: expected 64 hexadecimal digits"),
        (f'"Mount": [{mount("x", PublicKey="a")}]', "Mount: /x: PublicKey and RootHash are for ext2 disks"),
        (f'"Mount": [{mount("x")}, {mount("./y/../x/")}]', "Mount: /./y/../x/ is the target of two"),
        (f'"Mount": [{", ".join(map(mount, map(str, range(33))))}]', "Mount: more than 32"),
        (f'"Mount": [{mount("").replace("/", "")}]', "Target: must begin with /"),
        ('"Debug": 1} x', "something follows the closing }"),
    ],
)
def test_what_it_refuses_it_names_and_the_packager_refuses_too(
    read: Read, members: str, problem: str
) -> None:
    document = f'{{"ApplicationPath": "/bin/app", {members}}}'.encode()
    assert read(document) == {"error": f"configuration: line 1: {problem}"}
    with pytest.raises(UserError):
        from_python(document)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{}", "line 1: ApplicationPath: missing"),
        (f'{{"ApplicationPath": "/{"ä" * 2048}"}}', "line 1: ApplicationPath: the path is too long"),
        ('{"ApplicationPath": "bin/app"}', "line 1: ApplicationPath: must begin with /"),
        ('{"ApplicationPath": "/bin/"}', "line 1: ApplicationPath: must end with the name of a file"),
        ('{"ApplicationPath": "/bin/.."}', "line 1: ApplicationPath: must end with the name of a file"),
        ('// one\n{\n"Debug": no}', "line 3: Debug: expected true or false"),
        ("[]", "line 1: expected {"),
    ],
)
def test_it_says_in_which_line(read: Read, document: str, problem: str) -> None:
    assert read(document.encode()) == {"error": f"configuration: {problem}"}
    with pytest.raises(UserError):
        from_python(document.encode())
