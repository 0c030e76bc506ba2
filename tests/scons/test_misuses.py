"""Calls that cannot be meant: each is one line with its place and its remedy, never a Python stack."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from scons_project import DATA, Project, make_project

# By what is told, or a part of it; "@" is the number of the call.
WHEN_READ = {
    "too many positional arguments; it takes target, source and variables": [
        "MystPackage('t@', 'appdir', None)",
        "MystRootfs('t@', 'appdir', 'x')",
    ],
    "multiple values for argument 'target'": ["MystPackage('t@', source='appdir', target='x')"],
    "too many positional arguments; it takes no arguments": ["MystRuntime('x')"],
    "missing a required argument: 'package'; it takes alias, package, args": ["MystRun('a')"],
    "missing a required argument: 'alias'": ["MystRun()"],
    "missing a required argument: 'name'": ["MystTest()"],
    "too many positional arguments; it takes name, package, args": ["MystTest('t@', 'program', 'x')"],
    "name its target": ["MystPackage(source='appdir')", "MystKey('')", "MystKey(['a', 'b'])"],
    " stands for nothing; set what it names, or name it otherwise": [
        "MystPackage('$NOTHING', 'appdir')",
        "MystPackage('${nothing.x}', 'appdir')",
        "MystPackage('t@', '$NOTHING')",
        "MystPackage('t@', {'$NOTHING': 'appdir'})",
        "MystPackage('t@', 'appdir', MYST_CONFIG='$NOTHING')",
        "MystPackage('t@', 'appdir', MYST_PUBKEYS=['$NOTHING'])",
        "MystPackage('t@', 'appdir', MYST_RUNTIME='$NOTHING')",
        "MystRun('$NOTHING', 'program')",
    ],
    "ZeroDivisionError": [
        "MystPackage('${1/0}', 'appdir')",
        "MystPackage('t@', '${1/0}')",
        "MystPackage('t@', {'${1/0}': 'appdir'})",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_EXCLUDE='${1/0}')",
        "MystPackage('t@', 'appdir', SOURCE_DATE_EPOCH='${1/0}')",
    ],
    " lies below program, which is a file; correct the name": [
        "MystPackage('t@', 'program/below')",
        "MystPackage('program/below', 'appdir')",
        "MystKey('program/t@.pem')",
        "MystPackage('t@', 'appdir', MYST_CONFIG='program/x')",
        "MystRun('t@', 'program/x')",
    ],
    " is a directory; give a file": [
        "MystPackage('t@', 'appdir', MYST_CONFIG='appdir')",
        "MystPackage('t@', 'appdir', MYST_ROOTHASHES='appdir')",
        "MystSign('t@', 'appdir')",
        "MystTest('t@', 'appdir')",
    ],
    " is a directory; name it otherwise": [
        "MystPackage('appdir', 'appdir')",
        "MystKey('appdir')",
        "MystTest('t@/', 'program')",
        "MystTest('..', 'program')",
    ],
    " is a file; give a directory": [
        "MystPackage('t@', 'appdir', MYST_RUNTIME='program')",
        "MystPackage('t@', 'appdir', MYST_RUNTIME='embedded', MYST_RUNTIME_DIR='program')",
    ],
    "bytes, and a file's name has at most 255; shorten it": [
        "MystPackage('t' * 300, 'appdir')",
        "MystKey('t' * 256)",
        "MystPackage('t' * 254, 'appdir')",
    ],
    "needs a source; give the application directory": [
        "MystPackage('t@', {'a': []})",
        "MystPackage('t@', {})",
        "MystPackage('t@', [{}])",
        "MystMeasure('t@', [])",
    ],
    "give files, directories and mappings": [
        "MystPackage('t@', env.MystRun('a@', 'program'))",
        "MystRootfs('t@', 0)",
        "MystRootfs('t@', '\\ud800')",
    ],
    "what a mapping leads to cannot be": [
        "MystPackage('t@', {'a': {}})",
        "MystPackage('t@', {'a': {'b': 'program'}})",
        "MystPackage('t@', {'a': 3})",
    ],
    "as a root file system": [
        "MystPackage('t@', env.MystTest('x@', 'program'))",
        "MystPackage('t@', env.MystKey('k@.pem'))",
        "MystMeasure('t@', env.MystMeasure('u@', 'appdir'))",
    ],
    "MystSign signs what MystMeasure made": [
        "MystSign('t@', 'config.json')",
        "MystSign('t@', env.MystPackage('q@', 'appdir'))",
    ],
    "takes one source, not ": [
        "MystSign('t@')",
        "MystSign('t@', [])",
        "MystTest('t@', ['program', 'config.json'])",
        "MystRun('t@', [])",
    ],
    "is not set; give it as in": [
        "MystPackage('t@', 'appdir', MYST_CONFIG='')",
        "MystPackage('t@', 'appdir', MYST_KEY=[])",
        "MystSign('t@', env.MystMeasure('s@', 'appdir'), MYST_KEY=None)",
    ],
    "give a file name or a file node": [
        "MystPackage('t@', 'appdir', MYST_KEY=['key.pem', 'key.pem'])",
        "MystPackage('t@', 'appdir', MYST_KEY=[[]])",
        "MystDisk('t@', 'appdir', MYST_DISK_KEY=[()])",
    ],
    "give a file name, a file node or a dictionary": ["MystPackage('t@', 'appdir', MYST_CONFIG=[()])"],
    "MYST_REMOTE_CACHE cannot be": [
        f"Clone(MYST_REMOTE_CACHE={value}).MystPackage('t@', 'appdir')"
        for value in ("True", "8980", "b'grpc://cache'", "['grpc://cache']", "Dir('.')")
    ],
    "give a list of file names or file nodes": [
        "MystPackage('t@', 'appdir', MYST_PUBKEYS=['key.pem', None])",
        "MystPackage('t@', 'appdir', MYST_PUBKEYS={'a': 'b'})",
        "MystPackage('t@', 'appdir', MYST_ROOTHASHES=['\\ud800'])",
    ],
    "which is not needed here": ["MystRootfs('t@', env.MystImage('docker-archive:image.tar'))"],
    "give a directory's name or node": [
        "MystPackage('t@', 'appdir', MYST_RUNTIME='')",
        "MystPackage('t@', 'appdir', MYST_RUNTIME=None)",
        "MystPackage('t@', 'appdir', MYST_RUNTIME=5)",
        "MystPackage('t@', 'appdir', MYST_RUNTIME_DIR=None)",
    ],
    "give a compiler and its options, as in a shell": [
        "MystPackage('t@', 'appdir', MYST_RUNTIME_CC=['gcc'])",
        "MystPackage('t@', 'appdir', MYST_RUNTIME_CC='gcc \\'unbalanced')",
        "MystPackage('t@', 'appdir', MYST_RUNTIME_CC=' ')",
    ],
    "give a list of patterns": [
        "MystPackage('t@', 'appdir', MYST_ROOTFS_EXCLUDE=None)",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_EXCLUDE=3)",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_EXCLUDE=[None])",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_EXCLUDE='\\ud800')",
    ],
    # What SCons has cannot always be compared with a string, or be asked whether it is true.
    "MystPackage: the target cannot be": [
        "MystPackage(env, 'appdir')",
        "MystPackage(env.Builder(), 'appdir')",
    ],
    "MYST_RUNTIME cannot be": ["MystPackage('t@', 'appdir', MYST_RUNTIME=env.Builder())"],
    "MYST_DISK_SIZE cannot be": ["MystDisk('t@', 'appdir', MYST_DISK_SIZE=env)"],
    "MYST_POLICY_FORMAT cannot be": ["MystPolicy('t@', 'program', MYST_POLICY_FORMAT=[])"],
    "SOURCE_DATE_EPOCH cannot be": ["MystPackage('t@', 'appdir', SOURCE_DATE_EPOCH='\\ud800')"],
    "has no effect: MYST_RUNTIME names an installed Mystikos; leave one of the two out": [
        "MystPackage('t@', 'appdir', MYST_RUNTIME_CC='gcc')",
        "MystMeasure('t@', 'appdir', MYST_RUNTIME='rt', MYST_RUNTIME_DIR='compiled')",
    ],
    "MystClosure needs a program": ["MystPackage('t@', env.MystClosure({}))"],
    'give "canonical" or "preserve"': [
        "MystPackage('t@', 'appdir', MYST_ROOTFS_MODES=0o644)",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_MODES=['canonical'])",
    ],
    'give "warn" or "error" or "allow"': [
        "MystPackage('t@', 'appdir', MYST_ROOTFS_SECRETS=True)",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_LEFTOVERS=env)",
        "MystPackage('t@', 'appdir', MYST_ROOTFS_SECRETS=[])",
    ],
    'give "archive" or "disk"': [
        "MystPackage('t@', 'appdir', MYST_ROOT=None)",
        "MystPackage('t@', 'appdir', MYST_ROOT={})",
    ],
    "give a number of seconds since 1970": ["MystPackage('t@', 'appdir', SOURCE_DATE_EPOCH=1.5)"],
    "COMSTR cannot be": [
        "MystPackage('t@', 'appdir', MYSTPACKAGECOMSTR=3)",
        "MystPackage('t@', 'appdir', MYSTPACKAGECOMSTR=len)",
    ],
    "ENV cannot be": ["MystPackage('t@', 'appdir', ENV=None)", "MystRun('t@', 'program', ENV=3)"],
    "does not take": [
        "MystPackage('t@', 'appdir', chdir=1)",
        "MystPackage('t@', 'appdir', action='x')",
        "MystRuntime(target='x')",
        "MystTest('t@', 'program', config='x')",
    ],
    "the alias cannot be": ["MystRun(['a'], 'program')", "MystRun('\\ud800', 'program')"],
    "an argument cannot be": [
        "MystTest('t@', 'program', args=['\\ud800'])",
        "MystRun('t@', 'program', ['a', None])",
    ],
    "give the number that the program ends with": [
        "MystTest('t@', 'program', status=256)",
        "MystTest('t@', 'program', status=-65)",
    ],
    "give a number of seconds greater than 0": [
        "MystTest('t@', 'program', timeout=10**400)",
        "MystTest('t@', 'program', timeout=1e300)",
    ],
    "this one is none": ["MystTest('t@', 'program', stdout_pattern='(?P<x>')"],
    "stdin cannot be": ["MystTest('t@', 'program', stdin='\\ud800')"],
    "environment cannot be": [
        "MystTest('t@', 'program', environment={'A': '\\ud800'})",
        "MystTest('t@', 'program', environment={'': 'x'})",
    ],
}

# A call, the target that it fails for, and a part of what is told.
WHEN_BUILT = [
    ("MystPackage('t@', {'../x': 'program'})", "t@.cpio", "cannot be placed at /..; give a place without"),
    (
        "MystPackage('t@', {'a': ['program', 'config.json']})",
        "t@.cpio",
        "clashes with program at /a in the root",
    ),
    ("MystPackage('t@', 'empty')", "t@.cpio", "empty: is empty; put the application"),
    ("MystPackage('t@', 'dangling')", "t@.cpio", "dangling: is a symbolic link to nowhere, which is"),
    ("MystPackage('t@', 'fifo')", "t@.cpio", "fifo: is no directory; give the application directory"),
    ("MystPackage('t@', '/dev/null')", "t@.cpio", "/dev/null: is no directory; give the"),
    ("MystPackage('t@', '/nonexistent')", "t@.cpio", "/nonexistent: no such file or directory; create"),
    (
        "MystPackage('t@', 'appdir', MYST_CONFIG='/dev/zero')",
        "t@.measurement.json",
        "is no regular file; give",
    ),
    ("MystPackage('t@', 'appdir', MYST_KEY='/dev/zero')", "t@.mystenc.so", "is no regular file; give a file"),
    (
        "MystPackage('t@', 'appdir', MYST_CONFIG=File('pipe'))",
        "t@.measurement.json",
        "pipe: is named by MYST_CONFIG",
    ),
    (
        "MystPackage('t@', 'appdir', MYST_CONFIG='binary')",
        "t@.measurement.json",
        "binary:1:1: expected a value",
    ),
    (
        "MystPackage('t@', 'appdir', MYST_CONFIG=env.MystRootfs('r', 'appdir'), MYST_CONFIG_SET={'a': 1})",
        "t@.measurement.json",
        "r.cpio: is a CPIO archive, no",
    ),
    ("MystPackage('t@', 'appdir', MYST_KEY='binary')", "t@.mystenc.so", "binary: is not PEM"),
    ("MystPackage('t@', 'appdir', MYST_KEY='public.pem')", "t@.mystenc.so", "holds only a public key; give"),
    (
        "MystPackage('t@', 'appdir', MYST_PUBKEYS='none.pem')",
        "t@.measurement.json",
        "none.pem: is named by MYST_PUBKEYS",
    ),
    (
        "MystPackage('t@', 'appdir', MYST_PUBKEYS='binary')",
        "t@.measurement.json",
        "is not one public key in PEM; give",
    ),
    (
        "MystPackage('t@', 'appdir', MYST_ROOTHASHES='public.pem')",
        "t@.measurement.json",
        "is not a root hash",
    ),
    ("MystPackage('t@', 'appdir', MYST_RUNTIME='empty')", "t@.measurement.json", "is no complete runtime"),
    (
        "MystPackage('t@', 'appdir', MYST_RUNTIME='embedded', MYST_RUNTIME_DIR='r@', MYST_RUNTIME_CC='nocc')",
        "r@/bin/myst",
        "the compiler nocc can't be started",
    ),
    (
        "MystPackage('t@', 'appdir', SOURCE_DATE_EPOCH='soon')",
        "t@.mystenc.so",
        "'soon' is not a time in seconds",
    ),
    ("MystPackage('t@', 'appdir', SOURCE_DATE_EPOCH=10**30)", "t@.mystenc.so", "is not a time in seconds"),
    (
        "MystPackage('t@', 'appdir', ENV={'SOURCE_DATE_EPOCH': 'x'})",
        "t@.mystenc.so",
        "is not a time in seconds",
    ),
    (
        "MystPackage('/proc/t@', 'appdir')",
        "/proc/t@.cpio",
        "cannot be written: no such file or directory; choose",
    ),
    ("MystPackage('t@', 'binary')", "t@.measurement.json", "is no CPIO archive of the newc form; to put"),
    ("MystMeasure('t@', 'empty')", "t@.cpio", "empty: is empty"),
    ("MystRootfs('t@', ['appdir', {'bin/hello/x': 'program'}])", "t@.cpio", "clashes with appdir/bin/hello"),
    (
        "MystRootfs('t@', {'x' * 300: 'program'})",
        "t@.cpio",
        "has 300 bytes and the kernel reads no more than",
    ),
    (
        "MystKey('/proc/t@.pem')",
        "/proc/t@.pem",
        "cannot be written: no such file or directory; choose another",
    ),
    ("MystKey('config2.json')", "config2.json", "config2.json: is not PEM"),
    ("MystRun('t@', 'config.json')", "t@", "config.json: cannot be started: permission denied; chmod +x"),
    ("MystRun('t@', 'program', ENV={3: 4})", "t@", "ENV: 3 is no name of a variable; correct it"),
]


@pytest.fixture(scope="module")
def misused(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("misuses") / "project")
    project.write("program", "#!/bin/sh\n", 0o755)
    project.write("binary", b"\x00\x01")
    project.write("config2.json", "{}")
    project.path("empty").mkdir()
    project.path("dangling").symlink_to("nowhere")
    for name in ("fifo", "pipe"):
        os.mkfifo(project.path(name))
    shutil.copy(DATA / "keys" / "key-a.pub.pem", project.path("public.pem"))
    return project


def test_a_misuse_that_the_call_shows_is_told_by_it(misused: Project) -> None:
    calls = [
        call.replace("@", str(number))
        for number, call in enumerate(call for calls in WHEN_READ.values() for call in calls)
    ]
    misused.sconstruct(
        f"""
import json, pathlib
import SCons.Errors
told = []
for call in {calls!r}:
    try:
        exec("env." + call, globals())
        told.append("taken")
    except SCons.Errors.UserError as error:
        told.append(str(error))
    except Exception as error:
        told.append(repr(error))
pathlib.Path("told").write_text(json.dumps(told))
Exit(0)
"""
    )
    misused.build()
    told = iter(json.loads(misused.path("told").read_text()))
    expected = [(call, message) for message, calls in WHEN_READ.items() for call in calls]
    wrong = [
        (call, text) for call, message in expected if message not in (text := next(told)) or "\n" in text
    ]
    assert wrong == []


@pytest.fixture(scope="module")
def built_wrong(misused: Project) -> list[str]:
    calls = "".join(f"env.{call}\n".replace("@", str(n)) for n, (call, _, _) in enumerate(WHEN_BUILT))
    misused.sconstruct(calls)
    targets = [target.replace("@", str(n)) for n, (_, target, _) in enumerate(WHEN_BUILT)]
    build = misused.run("-k", *targets)
    assert build.status == 2
    assert "Traceback" not in build.text
    return build.err.splitlines()


@pytest.mark.parametrize("number", range(len(WHEN_BUILT)))
def test_a_misuse_that_the_build_shows_is_told_with_the_line_of_the_call(
    built_wrong: list[str], number: int
) -> None:
    call, target, message = WHEN_BUILT[number]
    start = f"scons: *** [{target.replace('@', str(number))}] "
    (line,) = [line for line in built_wrong if line.startswith(start)]
    assert message in line
    assert line.endswith(f" ({call.partition('(')[0]} at SConstruct:{number + 3})")


@pytest.mark.parametrize("jobs", ["-j1", "-j2"])
def test_what_is_made_of_a_file_that_failed_before_is_not_waited_for(misused: Project, jobs: str) -> None:
    misused.sconstruct(
        "env.Command('made.json', 'program', 'false')\n"
        "env.MystPackage('t', 'appdir', MYST_CONFIG='made.json')\n"
        "env.MystPackage('u', 'program', MYST_CONFIG='made.json')\n"
    )
    build = misused.fails(jobs, "-k", "made.json", "t", "u")
    assert build.err == "scons: *** [made.json] Error 1\n"


def test_a_test_that_cannot_be_started_says_why(misused: Project) -> None:
    misused.sconstruct(
        "env.MystTest('one', 'config.json')\n"
        "env.MystTest('two', 'program', ENV={3: 4})\n"
        "env.MystTest('three', 'program', args=['x' * 3000000])\n"
    )
    err = misused.fails("check").err
    assert "one: config.json: cannot be started: permission denied; chmod +x config.json\n" in err
    assert "two: ENV: 3 is no name of a variable; correct it\n" in err
    assert "three: program: cannot be started: argument list too long" in err


def test_a_list_in_the_environment_is_joined_as_scons_joins_it(misused: Project) -> None:
    misused.write("show", "#!/bin/sh\necho $SHOWN\n", 0o755)
    misused.sconstruct("env.MystRun('show', 'show', ENV={'SHOWN': ['/a', '/b'], 'PATH': '/bin'})\n")
    assert "/a:/b\n" in misused.build("show").out


def test_there_are_enough_misuses() -> None:
    assert sum(map(len, WHEN_READ.values())) + len(WHEN_BUILT) >= 100
