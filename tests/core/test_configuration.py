from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import mystikos_tool
from examples import examples
from mystikos_tool.config import (
    Changes,
    Config,
    ConfigError,
    Mount,
    Secret,
    load,
    memory_size_of,
    of,
    parse,
    schema,
    setting,
)
from mystikos_tool.errors import UserError

DATA = Path(__file__).parent.parent / "data"
KEYS = schema.table()["properties"].keys() - {"$schema"}
PATH = {"version": "0.1", "ApplicationPath": "/bin/app"}
OF_ITS_FILE = ("name", "data", "warnings", "places")  # fields of a Config


def config(**members: Any) -> Config:
    return parse(json.dumps({**PATH, **members}).encode(), "c.json")


def told(text: str | bytes, name: str = "c.json") -> str:
    with pytest.raises(UserError) as error:
        parse(text.encode() if isinstance(text, str) else text, name)
    return str(error.value)


def told_of(**members: Any) -> str:
    return told(json.dumps({**PATH, **members}))


# What is accepted


def test_a_configuration_of_only_the_path_has_the_defaults() -> None:
    assert parse(b'{"version": "0.1", "ApplicationPath": "/bin/app"}', "c.json") == Config("/bin/app")
    default = Config("/bin/app")
    assert (default.debug, default.product_id, default.security_version) == (False, 0, 0)
    assert (default.memory_size, default.main_stack_size) == (64 << 20, 1568 << 10)
    assert (default.fork_mode, default.current_working_directory) == ("none", "/")
    assert (default.create_zero_base_enclave, default.enclave_start_address) == (None, None)


def test_every_key_reaches_its_field() -> None:
    everything = {
        "version": "0.1",
        "Debug": True,
        "ProductID": 7,
        "SecurityVersion": 65534,
        "CreateZeroBaseEnclave": True,
        "EnclaveStartAddress": 1 << 33,
        "MemorySize": "40m",
        "MainStackSize": "8M",
        "ThreadStackSize": 5000,
        "MaxAffinityCPUs": 4,
        "NoBrk": 1,
        "ExecStack": True,
        "ApplicationPath": "//bin/app",
        "HostApplicationParameters": -1,
        "ApplicationParameters": ["", "a b", "ü"],
        "EnvironmentVariables": ["A=1", "B=", "C=x=y"],
        "HostEnvironmentVariables": ["HOME"],
        "CurrentWorkingDirectory": "/tmp/",
        "Hostname": "a-1.example",
        "ForkMode": "pseudo_wait_for_exit_exec",
        "Mount": [
            {"Target": "/a", "Type": "hostfs", "Flags": ["ro"], "PublicKey": None, "RootHash": None},
            {"Target": "/b", "Type": "ext2", "RootHash": "ab" * 32},
        ],
        "UnhandledSyscallEnosys": True,
        "HostUDS": True,
        "SyslogLevel": "warn",
        "Secret": [
            {
                "ID": "key",
                "SrsAddress": "https://release.example",
                "SrsApiVersion": "7.3",
                "LocalPath": "/key",
                "ClientLib": "lib.so",
                "Verbose": 1,
            }
        ],
    }
    assert everything.keys() == KEYS - {"UserMemSize"}
    configuration = parse(json.dumps(everything).encode(), "c.json")
    fields = {*Config._fields} - {"version", *OF_ITS_FILE}
    assert [name for name in fields if getattr(configuration, name) == getattr(Config("/app"), name)] == []
    assert [name for name in fields if Config("/app")._replace(**{name: "other"}) == Config("/app")] == []
    assert configuration == Config(
        application_path="//bin/app",
        debug=True,
        product_id=7,
        security_version=65534,
        create_zero_base_enclave=True,
        enclave_start_address=1 << 33,
        memory_size=40 << 20,
        main_stack_size=8 << 20,
        thread_stack_size=8192,
        max_affinity_cpus=4,
        no_brk=True,
        exec_stack=True,
        host_application_parameters=True,
        application_parameters=("", "a b", "ü"),
        environment_variables=("A=1", "B=", "C=x=y"),
        host_environment_variables=("HOME",),
        current_working_directory="/tmp/",
        hostname="a-1.example",
        fork_mode="pseudo_wait_for_exit_exec",
        mounts=(Mount("/a", "hostfs", ("ro",)), Mount("/b", "ext2", root_hash="ab" * 32)),
        unhandled_syscall_enosys=True,
        host_uds=True,
        syslog_level="warn",
        secrets=(Secret("key", "https://release.example", "/key", "lib.so", "7.3", True),),
    )


def test_configurations_are_equal_that_say_the_same_whatever_their_files_look_like() -> None:
    one, other = config(), parse(b'{"ApplicationPath": "/bin/app"}', "other.json")
    assert [name for name in OF_ITS_FILE if getattr(one, name) == getattr(other, name)] == []
    assert one == other
    assert (one != other) is False  # which a tuple would not ask == for
    assert hash(one) == hash(other)
    assert one != config(Debug=True)
    assert one != tuple(one)


def test_a_configuration_is_shown_without_the_text_of_its_file() -> None:
    shown = repr(parse(b'{"ApplicationPath": "/bin/app", "Debug": true}', "c.json"))
    assert shown.startswith("Config(application_path='/bin/app', version='0.1', debug=True, product_id=0, ")
    assert "name='c.json'" in shown
    assert "data=" not in shown
    assert "places=" not in shown


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (4096, 4096),
        (10000001, 10002432),
        ("1", 4096),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("20m", 20 << 20),
        ("1G", 1 << 30),
        ("010", 4096),
        (0, 64 << 20),
        ("0m", 64 << 20),
        ("65536g", 1 << 46),
    ],
)
@pytest.mark.parametrize("key", ["MemorySize", "UserMemSize"])
def test_sizes_are_bytes_rounded_up_to_a_page(key: str, written: Any, size: int) -> None:
    assert config(**{key: written}).memory_size == size


@pytest.mark.parametrize(
    ("written", "meant"), [(True, True), (False, False), (0, False), (1, True), (-2, True)]
)
def test_a_flag_may_be_an_integer(written: Any, meant: bool) -> None:
    assert config(Debug=written).debug is meant


def test_an_integer_for_host_uds_is_not_inverted_and_the_installed_fault_is_told() -> None:
    configuration = config(HostUDS=1)
    assert configuration.host_uds is True
    assert [warning for warning in configuration.warnings if "HostUDS" in warning] == [
        "c.json:1:62: HostUDS: an installed Mystikos takes 1 for the opposite; write true"
    ]


def test_comments_stand_between_tokens_and_not_in_strings() -> None:
    text = """// first
    { // open
      "version": "0.1", // after a comma
      // "Debug": true
      "ApplicationPath" // after a key
      : // after a colon
      "/bin//app" // after a value
    } // last"""
    assert parse(text.encode(), "c.json") == Config("/bin//app")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_ends_a_comment_and_counts_as_one_line(end: str) -> None:
    text = end.join(['{"version": "0.1",', "// comment", '"Debug": 2.5, "ApplicationPath": "/bin/app"}'])
    assert told(text) == "c.json:3:10: Debug: cannot be 2.5; give true or false"


def test_the_application_is_named_by_the_last_component() -> None:
    assert Config("/usr/bin/python3").application_name == "python3"


def test_the_place_of_a_key_is_known_for_later_messages() -> None:
    configuration = parse(
        b'{"version": "0.1",\n  "Mount": [{"Target": "/a", "Type": "ramfs"}],\n  "ApplicationPath": "/app"}',
        "c.json",
    )
    assert configuration.where("ApplicationPath") == "c.json:3:22: ApplicationPath"
    assert configuration.where("Mount[0].Target") == "c.json:2:24: Mount[0].Target"
    assert configuration.where("Hostname") == "c.json: Hostname"


# What goes into the package


@pytest.mark.parametrize("path", sorted((DATA / "configs").iterdir()), ids=lambda path: path.name)
def test_the_recorded_configurations_are_accepted_without_warning_and_unchanged(path: Path) -> None:
    configuration = load(path)
    assert configuration.warnings == ()
    assert configuration.data == path.read_bytes()


@pytest.mark.parametrize("key", ["ApplicationParameters", "EnvironmentVariables", "HostEnvironmentVariables"])
def test_a_bare_string_becomes_a_list_in_a_canonical_form(key: str) -> None:
    value = "A=1" if key == "EnvironmentVariables" else "ü"
    text = f'// comment\n{{"ApplicationPath": "/app", "Debug": 1, "{key}": "{value}", "version": "0.1",}}'
    configuration = parse(text.encode(), "c.json")
    assert configuration == parse(text.replace(f'"{value}"', f'["{value}"]').encode(), "c.json")
    assert configuration.data.decode() == (
        '{\n    "ApplicationPath": "/app",\n    "Debug": 1,\n'
        f'    "{key}": [\n        "{value}"\n    ],\n    "version": "0.1"\n}}\n'
    )
    assert any(key in warning and f'write ["{value}"]' in warning for warning in configuration.warnings)


def test_the_canonical_form_is_read_as_the_same_without_a_warning() -> None:
    first = config(Mount=[{"Target": "/a", "Type": "hostfs", "Flags": "ro"}], ApplicationParameters="x")
    second = parse(first.data, "c.json")
    assert second == first
    assert second.data == first.data
    assert not any("canonical" in warning for warning in second.warnings)


def test_where_an_editor_finds_the_schema_is_left_out_of_the_canonical_form() -> None:
    text = '{"$schema": "s.json", // for the editor\n"version": "0.1", "ApplicationPath": "/app" // x\n}'
    configuration = parse(text.encode(), "c.json")
    assert configuration == Config("/app")
    assert configuration.data == b'{\n    "version": "0.1",\n    "ApplicationPath": "/app"\n}\n'
    assert configuration.warnings == ()  # an installed Mystikos does not see the comments


# What is accepted with a warning


def warned(text: str) -> tuple[str, ...]:
    configuration = parse(text.encode(), "c.json")
    assert configuration.data == text.encode()
    return configuration.warnings


def test_an_absent_version_is_taken_as_the_one_there_is_with_a_warning() -> None:
    assert warned('{"ApplicationPath": "/app"}') == (
        'c.json:1:1: there is no version, "0.1" is taken; add "version": "0.1"',
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"version": "0.1", "ApplicationPath": "/app", }', "1:45"),
        ('{"version": "0.1", "ApplicationPath": "/app",\n// a,\n}', "1:45"),
        ('{"version": "0.1", "ApplicationParameters": ["a",], "ApplicationPath": "/app"}', "1:49"),
    ],
)
def test_a_comma_after_the_last_member_is_accepted_with_a_warning(text: str, place: str) -> None:
    assert warned(text) == (f"c.json:{place}: a comma after the last member; remove it",)


def test_an_empty_environment_variable_is_dropped_with_a_warning() -> None:
    configuration = config(EnvironmentVariables=["", "A=1"])
    assert configuration.environment_variables == ("A=1",)
    assert len(configuration.warnings) == 1


CANONICAL = ", so a canonical form of this file, without comments, goes into the package"


def canonical(text: str) -> tuple[str, ...]:
    """The warnings of a text that an installed Mystikos cannot read."""
    configuration = parse(text.encode(), "c.json")
    again = parse(configuration.data, "c.json")
    assert again == configuration
    assert (again.data, again.warnings) == (configuration.data, ())
    assert b"//" not in configuration.data
    return configuration.warnings


@pytest.mark.parametrize(
    "text",
    [
        '// one\n// two\n{"version": "0.1", "ApplicationPath": "/app"}',
        '{"version": "0.1", "ApplicationPath": "/app" // after the value\n}',
        '{"version": "0.1", "ApplicationPath" // one\n // two\n : "/app"}',
        '{"version": "0.1", "ApplicationPath": // one\n // two\n "/app"}',
        '{"version": "0.1", "ApplicationPath": "/app", "ApplicationParameters": ["a" // one\n // two\n ]}',
        '{"version": "0.1", "ApplicationPath": "/app", "ApplicationParameters": [ // 1\n // 2\n // 3\n "a"]}',
    ],
)
def test_where_an_installed_mystikos_reads_no_comment_a_canonical_form_goes_into_the_package(
    text: str,
) -> None:
    (warning,) = canonical(text)
    assert f"an installed Mystikos cannot read a comment here{CANONICAL}; move it" in warning


@pytest.mark.parametrize("comment", ['// "Debug": true,', "// ${HOME}"])
def test_a_comment_that_an_installed_mystikos_takes_for_content_does_not_go_into_the_package(
    comment: str,
) -> None:
    text = f'{{"version": "0.1",\n// first\n{comment}\n"ApplicationPath": "/app"}}'
    (warning,) = canonical(text)
    assert warning.startswith("c.json:3:")
    assert f"an installed Mystikos takes a part of this comment for content{CANONICAL};" in warning
    assert parse(text.encode(), "c.json").debug is False


def test_ordinary_comments_give_no_warning() -> None:
    assert (
        warned(
            '// about\n{\n  // the "version"\n  "version": "0.1",\n  // two,\n  // one after the other\n'
            '  "ApplicationPath": // here\n "/app",\n'
            '  "ApplicationParameters": [ // 1\n // 2\n "a" // after\n, "b"]\n}'
        )
        == ()
    )


def test_an_escape_that_an_installed_mystikos_misreads_is_accepted_with_a_warning() -> None:
    text = '{"version": "0.1", "ApplicationPath": "/app", "ApplicationParameters": ["\\u0041\\u00fc"]}'
    (warning,) = warned(text)
    assert "misreads the escape \\u00fc;" in warning
    assert parse(text.encode(), "c.json").application_parameters == ("Aü",)


@pytest.mark.parametrize(("escape", "character"), [("\\u20ac", "€"), ("\\ud83d\\ude00", "😀")])
def test_an_escape_that_an_installed_mystikos_cannot_read_goes_into_the_package_as_the_character(
    escape: str, character: str
) -> None:
    text = f'{{"version": "0.1", "ApplicationPath": "/app", "ApplicationParameters": ["{escape}"]}}'
    units = [f"\\u{unit}" for unit in escape.split("\\u")[1:]]
    warnings = canonical(text)
    assert [warning.split(": ", 1)[1] for warning in warnings] == [
        f"an installed Mystikos cannot read the escape {unit}{CANONICAL}; write the character itself"
        for unit in units
    ]
    assert character in parse(text.encode(), "c.json").data.decode()


def test_a_host_name_with_an_underscore_is_accepted_with_a_warning() -> None:
    assert warned('{"version": "0.1", "ApplicationPath": "/app", "Hostname": "a_b"}') == (
        "c.json:1:59: Hostname: _ does not belong into a host name, and some programs refuse one with it;"
        " write - for it",
    )


@pytest.mark.parametrize(
    ("key", "value", "warning"),
    [
        ("Hostname", "", 'Hostname: "" is no host name to many programs; write one of a-z A-Z 0-9 - .'),
        ("Hostname", "a b", 'Hostname: "a b" is no host name to many programs;'),
        ("Hostname", "a" * 65, "Hostname: is cut to 64 bytes; give a shorter name"),
        ("Hostname", "\u00e4" * 33, "Hostname: is cut to 64 bytes;"),
        ("CurrentWorkingDirectory", "tmp", "CurrentWorkingDirectory: is not absolute,"),
        ("CurrentWorkingDirectory", "", "CurrentWorkingDirectory: is not absolute,"),
        ("EnvironmentVariables", ["A"], 'EnvironmentVariables[0]: "A" sets no variable; write "NAME=VALUE"'),
        ("EnvironmentVariables", ["=A"], 'EnvironmentVariables[0]: "=A" sets no variable;'),
        ("HostEnvironmentVariables", ["A="], 'HostEnvironmentVariables[0]: "A=" is the name of no variable;'),
        ("HostEnvironmentVariables", [""], 'HostEnvironmentVariables[0]: "" is the name of no variable;'),
    ],
)
def test_what_mystikos_starts_with_although_it_means_nothing_is_accepted_with_a_warning(
    key: str, value: Any, warning: str
) -> None:
    warnings = warned(json.dumps({"version": "0.1", **PATH, key: value}, ensure_ascii=False))
    assert any(warning in found for found in warnings), warnings


# What is not JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'c.json:1:1: the file is empty; write an object, as in { "ApplicationPath": "/bin/app" }'),
        (" // x\n", "c.json:2:1: the file has only comments;"),
        ("[]", "c.json:1:1: expected an object, found a list;"),
        ("{", "c.json:1:2: expected a key in double quotes, the file ends;"),
        ('{"a"', "c.json:1:5: expected a colon after the key, the file ends;"),
        ('{\n  "a": 1\n  "b": 2}', 'c.json:3:3: expected a comma or }, found "\\"";'),
        ('{"a": [1 2]}', 'c.json:1:10: expected a comma or ], found "2";'),
        ('{"a": [1, , 2]}', 'c.json:1:11: expected a value, found ",";'),
        ("{, }", 'c.json:1:2: expected a key in double quotes, found ",";'),
        ('{"a": True}', 'c.json:1:7: expected a value, found "True";'),
        ("{'a': 1}", 'c.json:1:2: expected a key in double quotes, found "\'";'),
        ('{"a": 1} x', 'c.json:1:10: found "x" after the end of the object;'),
        ('{"a": "x\n"}', 'c.json:1:7: the string does not end on its line; close it with a "'),
        ('{"a": "x', 'c.json:1:7: the string does not end on its line; close it with a "'),
        ('{"a": "\t"}', "c.json:1:8: control character U+0009 in a string; write \\t for it"),
        ('{"a": "\\x41"}', "c.json:1:8: \\x is no escape sequence; write \\\\ for a backslash"),
        ('{"a": "\\u00g1"}', "c.json:1:8: \\u is no escape sequence;"),
        ('{"a": "b\\u0000"}', "c.json:1:7: a string with a NUL in it (\\u0000);"),
        ('{"a": "\\ud800"}', "c.json:1:7: a string with half of a surrogate pair in it;"),
        ('{"a": 007}', "c.json:1:7: this is not a JSON number;"),
        ('{"a": 0x10}', "c.json:1:7: this is not a JSON number;"),
        ('{"a": +1}', 'c.json:1:7: expected a value, found "+";'),
        ('{"a": 1.}', "c.json:1:7: this is not a JSON number;"),
        ('{"a": ' + "9" * 5000 + "}", "c.json:1:7: a number of 5000 characters;"),
        ('{"a": ' + "[" * 5000, "nested deeper than 32 levels;"),
        ('{"a": /* no */ 1}', 'c.json:1:7: expected a value, found "/";'),
        ('{\0"a": 1}', 'found "\\u0000";'),
    ],
)
def test_what_is_not_json_is_told_with_line_and_column(text: str, message: str) -> None:
    assert message in told(text)


def test_bytes_that_are_not_utf8_are_told_with_their_place() -> None:
    message = told(b'{\n "Hostname": "\xfc"}')
    assert message == "c.json:2:15: the byte 0xfc is not UTF-8; save the file as UTF-8"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_told(encoding: str) -> None:
    assert "byte order mark; save it as UTF-8 without one" in told("{}".encode(encoding))


# Wrong keys


def test_an_unknown_key_is_told_with_the_nearest_real_one() -> None:
    assert told('{"version": "0.1",\n "ApplicationPath": "/app",\n "MemroySize": 1}') == (
        'c.json:3:2: unknown key "MemroySize"; write "MemorySize"'
    )


@pytest.mark.parametrize(
    ("key", "real"),
    [("debug", "Debug"), ("Version", "version"), ("MEMORYSIZE", "MemorySize"), ("Hostnam", "Hostname")],
)
def test_a_key_in_the_wrong_case_is_unknown(key: str, real: str) -> None:
    assert f'unknown key "{key}"; write "{real}"' in told_of(**{key: 1})


@pytest.mark.parametrize("key", ["KernelMemSize", "StackMemSize"])
def test_a_key_of_an_older_mystikos_is_told_to_be_one(key: str) -> None:
    assert told(f'{{"version": "0.1",\n "{key}": "4m", "ApplicationPath": "/app"}}') == (
        f'c.json:2:2: "{key}" is no longer used; remove it'
    )


def test_a_key_like_no_other_is_to_be_removed() -> None:
    assert told_of(Zzz=1).endswith('unknown key "Zzz"; remove it')


def test_a_key_given_twice_is_told_with_both_lines() -> None:
    assert told('{"version": "0.1",\n "Debug": 1, "ApplicationPath": "/app",\n "Debug": 0}') == (
        "c.json:3:2: Debug: is given in line 2 already; remove one of the two"
    )


def test_the_old_and_the_new_name_of_the_memory_size_exclude_each_other() -> None:
    assert told('{"version": "0.1",\n "MemorySize": 1, "ApplicationPath": "/app",\n "UserMemSize": 0}') == (
        "c.json:3:17: UserMemSize: is the old name of MemorySize, given in line 2; remove it"
    )


def test_a_missing_application_path_is_told() -> None:
    assert told('{"version": "0.1"}') == (
        'c.json:1:1: ApplicationPath is missing; add "ApplicationPath": "/path/of/the/program"'
    )


@pytest.mark.parametrize("key", ["AplicationPath", "applicationpath", "ApplicationPaht"])
def test_a_required_key_that_is_misspelt_is_told_once(key: str) -> None:
    assert told(f'{{"version": "0.1",\n "{key}": "/app"}}') == (
        f'c.json:2:2: unknown key "{key}"; write "ApplicationPath"'
    )
    mounts = '[{"Target": "/mnt", "type": "hostfs"}]'
    assert told(f'{{"version": "0.1", "ApplicationPath": "/app",\n "Mount": {mounts}}}') == (
        'c.json:2:31: Mount[0]: unknown key "type"; write "Type"'
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    message = told('{"version": "0.2",\n "Debg": 1,\n "ProductID": 70000,\n "ApplicationPath": "app"}')
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "2", "3", "4"]


def test_keys_that_exclude_each_other_are_told_beside_other_mistakes() -> None:
    mounts = [{"Target": "/a", "Type": "ramfs"}, {"Target": "b"}, {"Target": "/a", "Type": "hostfs"}]
    message = told_of(MemorySize=-1, UserMemSize=1, Mount=mounts)
    assert [line.split(": ")[1] for line in message.splitlines()] == [
        "MemorySize",
        "UserMemSize",
        "Mount[1]",
        "Mount[1].Target",
        "Mount[2].Target",
    ]


def test_no_more_than_a_hundred_mistakes_are_told() -> None:
    assert len(told_of(**{f"Key{number}": 1 for number in range(1000)}).splitlines()) == 100


# Wrong values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("$schema", 1, "$schema: cannot be 1; give a string"),
        ("version", "0.2", 'version: cannot be "0.2"; give "0.1"'),
        ("version", 0.1, 'version: cannot be 0.1; give "0.1"'),
        ("Debug", "yes", 'Debug: cannot be "yes"; give true or false'),
        ("Debug", None, "Debug: cannot be null; give true or false"),
        ("Debug", 1.0, "Debug: cannot be 1.0; give true or false"),
        ("ProductID", 65535, "ProductID: cannot be 65535; give an integer from 0 to 65534"),
        ("ProductID", 70000, "ProductID: cannot be 70000; give an integer from 0 to 65534"),
        ("ProductID", -1, "ProductID: cannot be -1; give an integer from 0 to 65534"),
        ("ProductID", True, "ProductID: cannot be true; give an integer from 0 to 65534"),
        ("ProductID", "1", 'ProductID: cannot be "1"; give an integer from 0 to 65534'),
        ("SecurityVersion", 65535, "SecurityVersion: cannot be 65535;"),
        ("CreateZeroBaseEnclave", 1, "CreateZeroBaseEnclave: cannot be 1; give true or false"),
        ("EnclaveStartAddress", 0, "EnclaveStartAddress: cannot be 0; give a multiple of 4096 above 0"),
        ("EnclaveStartAddress", 4097, "EnclaveStartAddress: cannot be 4097; give a multiple of 4096 above 0"),
        ("EnclaveStartAddress", 1 << 64, "EnclaveStartAddress: cannot be 18446744073709551616;"),
        ("MemorySize", -1, "MemorySize: cannot be -1; give a number of bytes or a string such as"),
        ("MemorySize", "", 'MemorySize: cannot be "";'),
        ("MemorySize", "m", 'MemorySize: cannot be "m";'),
        ("MemorySize", " 1m", 'MemorySize: cannot be " 1m";'),
        ("MemorySize", "1mb", 'MemorySize: cannot be "1mb";'),
        ("MemorySize", "1.5g", 'MemorySize: cannot be "1.5g";'),
        ("MemorySize", "-1", 'MemorySize: cannot be "-1";'),
        ("MemorySize", "0x10", 'MemorySize: cannot be "0x10";'),
        ("MemorySize", "1t", 'MemorySize: cannot be "1t";'),
        ("MemorySize", "٣m", 'MemorySize: cannot be "٣m";'),
        ("MemorySize", "65537g", 'MemorySize: cannot be "65537g";'),
        ("MemorySize", True, "MemorySize: cannot be true;"),
        ("UserMemSize", [], "UserMemSize: cannot be a list;"),
        ("MainStackSize", "big", 'MainStackSize: cannot be "big";'),
        ("MainStackSize", "1m\n", 'MainStackSize: cannot be "1m\\n";'),
        ("ThreadStackSize", {}, "ThreadStackSize: cannot be an object;"),
        ("MaxAffinityCPUs", 0, "MaxAffinityCPUs: cannot be 0; give an integer of 1 or more"),
        (
            "ApplicationPath",
            "bin/app",
            'ApplicationPath: cannot be "bin/app"; give the absolute path of a file',
        ),
        ("ApplicationPath", "/", 'ApplicationPath: cannot be "/";'),
        ("ApplicationPath", "/bin/", 'ApplicationPath: cannot be "/bin/";'),
        ("ApplicationPath", "/bin/..", 'ApplicationPath: cannot be "/bin/..";'),
        ("ApplicationPath", "", 'ApplicationPath: cannot be "";'),
        ("ApplicationPath", "/" + "ä" * 2048, "in the root file system, at most 4095 bytes"),
        ("CurrentWorkingDirectory", "/" + "a" * 4095, "give a path of at most 4095 bytes"),
        ("Mount", [{"Target": "/" + "a" * 4095, "Type": "ramfs"}], "of at most 4095 bytes"),
        ("Mount", [{"Target": "/a", "Type": "ramfs", "Flags": ["ro", "rw"]}], "ro and rw exclude each other"),
        ("ApplicationPath", 1, "ApplicationPath: cannot be 1;"),
        ("ApplicationParameters", ["a", 1], "ApplicationParameters[1]: cannot be 1; give a string"),
        ("ApplicationParameters", [["a"]], "ApplicationParameters[0]: cannot be a list;"),
        (
            "ApplicationParameters",
            1,
            "ApplicationParameters: cannot be 1; give a list, each element a string",
        ),
        ("EnvironmentVariables", ["MYST_TARGET=sgx"], "where NAME is not MYST_TARGET"),
        ("Hostname", 1, "Hostname: cannot be 1; give a string"),
        ("HostEnvironmentVariables", ["MYST_TARGET"], "HostEnvironmentVariables[0]: cannot be"),
        (
            "ForkMode",
            "real",
            'ForkMode: cannot be "real"; give "none", "pseudo" or "pseudo_wait_for_exit_exec"',
        ),
        ("SyslogLevel", "warning", 'SyslogLevel: cannot be "warning"; give "emerg", "alert",'),
        ("HostUDS", "1", 'HostUDS: cannot be "1";'),
        (
            "Mount",
            {},
            "Mount: cannot be an object; give a list of at most 32 objects with the keys Target, Type",
        ),
        ("Mount", ["/a"], 'Mount[0]: cannot be "/a"; give an object with the keys Target, Type'),
        ("Mount", [{"Type": "ramfs"}], 'Mount[0]: Target is missing; add "Target": "/mnt/data"'),
        ("Mount", [{"Target": "/a"}], 'Mount[0]: Type is missing; add "Type": "hostfs"'),
        (
            "Mount",
            [{"Target": "a", "Type": "ramfs"}],
            'Mount[0].Target: cannot be "a"; give an absolute path',
        ),
        ("Mount", [{"Target": "/a", "Type": "ext4"}], 'Mount[0].Type: cannot be "ext4"; give "ext2",'),
        (
            "Mount",
            [{"Target": "/a", "Type": "ramfs", "Flags": ["x"]}],
            'Mount[0].Flags[0]: cannot be "x"; give "ro"',
        ),
        ("Mount", [{"Target": "/a", "Type": "ramfs", "Source": "/b"}], 'Mount[0]: unknown key "Source"'),
        (
            "Mount",
            [{"Target": "/a", "Type": "ext2", "Roothash": "0"}],
            'unknown key "Roothash"; write "RootHash"',
        ),
        ("Mount", [{"Target": "/a", "Type": "ext2", "RootHash": "0"}], "give 64 hexadecimal digits"),
        (
            "Mount",
            [{"Target": "/a", "Type": "ramfs", "PublicKey": "k"}],
            "Mount[0].PublicKey: means nothing for ramfs",
        ),
        ("Secret", [{"ID": "a"}], "Secret[0]: LocalPath is missing;"),
        ("Mount", [{"$schema": "x"}], 'Mount[0]: unknown key "$schema"; remove it'),
        ("Secret", [{"Name": "a"}], 'Secret[0]: unknown key "Name"'),
    ],
)
def test_a_value_outside_the_accepted_is_told_with_its_accepted_form(
    key: str, value: Any, message: str
) -> None:
    members = {**PATH, key: value}
    place = json.dumps(members).index(f'"{key}"')
    text = json.dumps(members)
    text = f"{text[:place]}\n{text[place:]}"
    lines = told(text).splitlines()
    assert any(line.startswith("c.json:2:") and message in line for line in lines), lines


@pytest.mark.parametrize("again", ["/mnt//a/", "//mnt/a"])
def test_two_mounts_on_one_target_are_told_with_both_lines(again: str) -> None:
    text = (
        '{"version": "0.1", "ApplicationPath": "/app", "Mount": [\n'
        f' {{"Target": "/mnt/a", "Type": "hostfs"}},\n {{"Target": "{again}", "Type": "ramfs"}}]}}'
    )
    assert told(text) == (
        "c.json:3:13: Mount[1].Target: is the target of Mount[0] in line 2 too; give another one"
    )


def test_a_long_value_is_shortened_in_the_message() -> None:
    message = told_of(ApplicationPath="a" * 10000)
    assert len(message) < 300
    assert "..." in message


# Files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.json", "there is no such configuration file"),
        (".", "is a directory, not a configuration file"),
    ],
)
def test_what_is_no_file_is_told(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)


def test_messages_name_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.json").write_bytes(b"{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load(Path("c.json"))
    assert str(error.value).startswith("c.json:1:1: ")


# The schema


def modules_after(code: str) -> set[str]:
    root = Path(mystikos_tool.__file__).parent.parent
    preamble = "import sys; sys.path.insert(0, sys.argv[1]); from mystikos_tool import config\n"
    command = [sys.executable, "-c", f"{preamble}{code}\nprint(*sys.modules)", str(root)]
    return set(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split())


DATA_OF_PATH = json.dumps(PATH).encode()


def test_the_schema_is_one_of_the_draft_that_it_names() -> None:
    assert schema.table()["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(dict(schema.table()))


def parts(part: Any) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    yield part
    for inner in [*part.get("properties", {}).values(), *part.get("$defs", {}).values()]:
        yield from parts(inner)


@pytest.mark.parametrize(
    "part", [part for part in parts(schema.table()) if "$ref" not in part], ids=lambda part: part["x-form"]
)
def test_everything_that_the_schema_can_refuse_has_words_for_what_it_accepts(part: dict[str, Any]) -> None:
    form = part["x-form"]
    if "enum" in part:
        assert re.findall(r'"(\w+)"', form) == part["enum"]
    if part.get("type") == "integer" and "multipleOf" not in part:
        high = "or more" if part["maximum"] == 2**63 - 1 else str(part["maximum"])
        assert re.findall(r"or more|[0-9]+", form) == [str(part["minimum"]), high]
    if "properties" in part and "$defs" not in part:
        assert form.split("with the keys ")[1].split(", ") == list(part["properties"])
    for key in part.get("required", ()):
        assert Draft202012Validator(part["properties"][key] | {"$defs": schema.table()["$defs"]}).is_valid(
            part["properties"][key]["examples"][0]
        )


@pytest.mark.parametrize(
    ("key", "default"),
    [(key, part["default"]) for key, part in schema.table()["properties"].items() if "default" in part],
)
def test_an_absent_key_means_the_default_of_the_schema(key: str, default: Any) -> None:
    assert config(**{key: default}) == config()


def test_only_a_configuration_that_is_not_known_is_held_against_the_schema() -> None:
    wrong = json.dumps({**PATH, "ForkMode": "a b"}).encode()
    known: set[str] = set()
    assert parse(DATA_OF_PATH, "c.json", known) == parse(DATA_OF_PATH, "c.json")
    assert known == {schema.digest(DATA_OF_PATH)}
    with pytest.raises(UserError):
        parse(wrong, "c.json", known)
    assert known == {schema.digest(DATA_OF_PATH)}
    assert parse(wrong, "c.json", {schema.digest(wrong)}).fork_mode == "a b"


def test_keys_that_exclude_each_other_are_told_of_a_known_configuration() -> None:
    wrong = json.dumps({**PATH, "MemorySize": 1, "UserMemSize": 1}).encode()
    known: set[str] = set()
    for _ in range(2):
        with pytest.raises(UserError, match="UserMemSize: is the old name"):
            parse(wrong, "c.json", known)


def test_jsonschema_is_loaded_only_for_a_configuration_that_is_not_known() -> None:
    assert "jsonschema" in modules_after(f"config.parse({DATA_OF_PATH!r}, 'c.json')")
    known = f"config.parse({DATA_OF_PATH!r}, 'c.json', {{config.schema.digest({DATA_OF_PATH!r})}})"
    memory = f"config.memory_size_of({DATA_OF_PATH!r}, 'c.json')"
    assert {"jsonschema", "difflib"} & modules_after(f"{known}; {memory}") == set()


# Limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" " * (1 << 20) + "{", "c.json: is larger than 1,048,576 bytes; write a smaller one"),
        ("[" + "0," * (1 << 16), "c.json:1:131072: more than 65,536 values; remove values"),
    ],
)
def test_what_is_too_large_is_told_before_it_is_read(text: str, message: str) -> None:
    assert told(text) == message


LARGE = {
    "members": lambda count: {f"a{number}": number for number in range(count)},
    "elements": lambda count: {**PATH, "EnvironmentVariables": ["A=1"] * count},
    "wrong elements": lambda count: {**PATH, "EnvironmentVariables": ["A"] * count},
    "mounts": lambda count: {**PATH, "Mount": [{"Target": f"/{n}", "Type": "ramfs"} for n in range(count)]},
}


@pytest.mark.parametrize("read", [parse, memory_size_of], ids=["parse", "memory_size_of"])
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_the_work_of_reading_grows_with_the_size(
    make: Callable[[int], dict[str, Any]], read: Callable[[bytes, str], object]
) -> None:
    def calls(count: int) -> int:
        data = json.dumps(make(count), indent=1).encode()
        seen = [0]

        def count_calls(*_: object) -> None:
            seen[0] += 1

        sys.setprofile(count_calls)
        try:
            read(data, "c.json")
        except UserError:
            pass
        finally:
            sys.setprofile(None)
        return seen[0]

    calls(100)  # loads what is loaded once
    assert calls(800) < 2.2 * calls(400)


# Properties

FLAGS = st.booleans() | st.integers(-2, 2)
SIZES = st.integers(0, 1 << 40) | st.from_regex(r"[0-9]{1,4}[kKmMgG]?", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
PATHS = st.from_regex(r"(/[a-z]{1,4}){1,3}", fullmatch=True)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "version": st.just("0.1"),
    "Debug": FLAGS,
    "ProductID": st.integers(0, 65534),
    "SecurityVersion": st.integers(0, 65534),
    "CreateZeroBaseEnclave": st.booleans(),
    "EnclaveStartAddress": st.integers(1, 1 << 40).map(lambda pages: pages * 4096),
    "MemorySize": SIZES,
    "MainStackSize": SIZES,
    "ThreadStackSize": SIZES,
    "MaxAffinityCPUs": st.integers(1, 1 << 40),
    "NoBrk": FLAGS,
    "HostApplicationParameters": FLAGS,
    "ApplicationParameters": TEXTS | st.lists(TEXTS, max_size=4),
    "EnvironmentVariables": st.lists(st.tuples(NAMES, TEXTS).map("=".join), max_size=4),
    "HostEnvironmentVariables": NAMES | st.lists(NAMES, max_size=4),
    "CurrentWorkingDirectory": PATHS,
    "Hostname": TEXTS,
    "Mount": st.lists(
        st.fixed_dictionaries(
            {"Target": PATHS, "Type": st.sampled_from(["ext2", "hostfs", "ramfs"])},
            optional={"Flags": st.sampled_from([[], ["ro"], ["rw"], ["ro", "ro"]]), "PublicKey": st.none()},
        ),
        max_size=2,
        unique_by=lambda mount: mount["Target"],
    ),
}
FIELDS = {
    "version": "version",
    "Debug": "debug",
    "ProductID": "product_id",
    "SecurityVersion": "security_version",
    "CreateZeroBaseEnclave": "create_zero_base_enclave",
    "EnclaveStartAddress": "enclave_start_address",
    "MemorySize": "memory_size",
    "MainStackSize": "main_stack_size",
    "ThreadStackSize": "thread_stack_size",
    "MaxAffinityCPUs": "max_affinity_cpus",
    "NoBrk": "no_brk",
    "ApplicationPath": "application_path",
    "HostApplicationParameters": "host_application_parameters",
    "ApplicationParameters": "application_parameters",
    "EnvironmentVariables": "environment_variables",
    "HostEnvironmentVariables": "host_environment_variables",
    "CurrentWorkingDirectory": "current_working_directory",
    "Hostname": "hostname",
    "Mount": "mounts",
}
TABLES = st.fixed_dictionaries({"ApplicationPath": PATHS}, optional=MEMBERS)


def fields_of(table: dict[str, Any]) -> dict[str, Any]:
    """The table's values by field name, by the rules of docs/configuration.md in their plainest form."""

    def size(value: int | str, default: int) -> int:
        text = str(value).lower()
        unit = {"k": 1024, "m": 1024**2, "g": 1024**3}.get(text[-1], 1)
        bytes_ = int(text.rstrip("kmg")) * unit
        return (bytes_ + 4095) // 4096 * 4096 or default

    def words(value: str | list[str]) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(value)

    convert: dict[str, Any] = {
        "MemorySize": lambda value: size(value, 64 << 20),
        "MainStackSize": lambda value: size(value, 1568 << 10),
        "ThreadStackSize": lambda value: size(value, 0),
        "Mount": lambda value: tuple(Mount(m["Target"], m["Type"], tuple(m.get("Flags", ()))) for m in value),
        **dict.fromkeys(("Debug", "NoBrk", "HostApplicationParameters"), bool),
        **dict.fromkeys(("ApplicationParameters", "EnvironmentVariables", "HostEnvironmentVariables"), words),
    }
    return {FIELDS[name]: convert.get(name, lambda same: same)(value) for name, value in table.items()}


@given(TABLES)
def test_any_valid_table_is_read_as_it_was_written(table: dict[str, Any]) -> None:
    configuration = parse(json.dumps(table, ensure_ascii=False).encode(), "c.json")
    assert configuration == Config(**fields_of(table))
    assert parse(configuration.data, "c.json") == configuration


@given(TABLES)
def test_any_validator_accepts_with_the_schema_what_the_tool_accepts(table: dict[str, Any]) -> None:
    assert Draft202012Validator(schema.table()).is_valid(table)


@pytest.mark.parametrize("key", ["ApplicationPath", "CurrentWorkingDirectory"])
def test_any_validator_refuses_a_path_of_more_characters_than_bytes_are_accepted(key: str) -> None:
    accepts = Draft202012Validator(schema.table()).is_valid
    assert accepts({**PATH, key: "/" + "a" * 4094})
    assert not accepts({**PATH, key: "/" + "a" * 4095})


TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
GAPS = st.sampled_from([" ", "\n", "\t", "\r\n", '// "a": }\n', "//\n", "///,]\r"])
FILLING = st.lists(GAPS, max_size=3).map("".join)


@given(TABLES, st.data())
def test_white_space_comments_and_a_last_comma_change_nothing(
    table: dict[str, Any], data: st.DataObject
) -> None:
    plain = json.dumps(table)
    tokens = TOKENS.findall(plain)
    if data.draw(st.booleans()):
        tokens.insert(-1, ",")
    text = "".join(data.draw(FILLING) + token for token in tokens) + data.draw(FILLING)
    assert parse(text.encode(), "c.json") == parse(plain.encode(), "c.json")


WHOLE = json.dumps(
    {
        **PATH,
        "MemorySize": "40m",
        "ProductID": 12,
        "ApplicationParameters": ["a", "\u00e9\n"],
        "Mount": [{"Target": "/a", "Type": "ext2", "Flags": ["ro"], "RootHash": None}],
        "Secret": [{"ID": "a", "SrsAddress": "b", "LocalPath": "/c", "ClientLib": "d", "Verbose": True}],
    },
    indent=1,
).encode()


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=examples(150))
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=2))
def test_damage_is_accepted_or_told_and_never_a_crash(place: int, damage: bytes) -> None:
    damaged = WHOLE[:place] + damage + WHOLE[place + 1 :]
    try:
        configuration = parse(damaged, "c.json")
    except UserError as error:
        assert re.match(r"c\.json:[0-9]+:[0-9]+: ", str(error))
    else:
        assert parse(configuration.data, "c.json") == configuration


@given(st.binary(max_size=40) | st.text('{}[]",:/\\0123456789.eE+-truefalsn \n', max_size=40).map(str.encode))
def test_any_bytes_are_accepted_or_told_and_never_a_crash(data: bytes) -> None:
    with pytest.raises(UserError):
        parse(data, "c.json")


# Members that are given beside a file


def changed(text: str, **values: object) -> Config:
    return parse(text.encode(), "config.json", changes=Changes(values, "--set"))


def test_a_member_that_is_given_takes_the_place_of_the_file_s() -> None:
    found = changed(
        '{// comment\n"version": "0.1", "NoBrk": true, "ApplicationPath": "/bin/a", "Debug": true,}',
        SecurityVersion=3,
        ApplicationPath="/bin/b",
        Debug=None,
        Hostname="h",
    )
    expected = {"version": "0.1", "NoBrk": True, "ApplicationPath": "/bin/b", "Hostname": "h"}
    assert found.data == (json.dumps({**expected, "SecurityVersion": 3}, indent=4) + "\n").encode()
    assert found == parse(found.data, "config.json")
    assert found.warnings == ()


def test_what_is_given_is_checked_with_the_rest_and_each_mistake_has_its_place() -> None:
    text = '{"version": "0.1", "ApplicationPath": "/bin/a",\n"UserMemSize": "1m", "NoBrk": "x"}'
    with pytest.raises(ConfigError) as caught:
        changed(text, MemorySize="2m", ForkMode="", SecurtyVersion=1)
    assert str(caught.value).splitlines() == [
        '--set: unknown key "SecurtyVersion"; write "SecurityVersion"',
        '--set: ForkMode: cannot be ""; give "none", "pseudo" or "pseudo_wait_for_exit_exec"',
        "config.json:2:16: UserMemSize: is the old name of MemorySize, given in --set; remove it",
        'config.json:2:31: NoBrk: cannot be "x"; give true or false',
    ]


def test_a_configuration_of_no_file_has_the_same_bytes_in_every_order() -> None:
    values = {"version": "0.1", "ApplicationPath": "/bin/a", "Mount": [{"Type": "ramfs", "Target": "/m"}]}
    turned = {key: values[key] for key in reversed(values)}
    assert of(values, "MYST_CONFIG").data == of(turned, "MYST_CONFIG").data
    assert of(values, "MYST_CONFIG").where("Hostname") == "MYST_CONFIG: Hostname"
    assert of(values, "MYST_CONFIG").where("Mount[0].Type") == "MYST_CONFIG: Mount[0].Type"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({1}, "cannot be written as JSON"),
        (float("nan"), "cannot be written as JSON"),
        ("a\0", "a string with a NUL in it"),
        ("\ud800", "a string with half of a surrogate pair"),
        ([[]] * (1 << 17), "more than 65,536 values"),
    ],
)
def test_a_value_that_no_json_has_is_told_with_its_key(value: object, told: str) -> None:
    with pytest.raises(UserError, match=f"^MYST_CONFIG: Hostname: {told}"):
        of({"ApplicationPath": "/bin/a", "Hostname": value}, "MYST_CONFIG")


def test_a_key_that_there_is_not_cannot_be_taken_away() -> None:
    with pytest.raises(UserError, match="--set: Debgu: is no key that could be taken away"):
        changed('{"ApplicationPath": "/bin/a"}', Debgu=None)


def test_a_configuration_that_was_valid_is_known_by_what_became_of_it() -> None:
    known: set[str] = set()
    text = b'{"version": "0.1", "ApplicationPath": "/bin/a"}'
    parse(text, "config.json", known, Changes({"NoBrk": True}, "--set"))
    assert len(known) == 1
    parse(text, "config.json", known, Changes({"NoBrk": True}, "--set"))
    assert len(known) == 1
    with pytest.raises(ConfigError):
        parse(text, "config.json", known, Changes({"NoBrk": "x"}, "--set"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SecurityVersion=3", ("SecurityVersion", 3)),
        ("Debug=null", ("Debug", None)),
        ("Hostname=a=b", ("Hostname", "a=b")),
        ('EnvironmentVariables=["A=1"]', ("EnvironmentVariables", ["A=1"])),
        ("Hostname=", ("Hostname", "")),
    ],
)
def test_a_setting_is_a_key_and_a_value_of_json_or_else_text(text: str, expected: object) -> None:
    assert setting(text) == expected
