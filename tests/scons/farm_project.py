"""A small project whose tests run on a farm, and a package for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from remote_servers import CASD_PLATFORM
from scons_project import DATA, SCONSTRUCT_WITH_OPTIONS, Project
from static_programs import STATIC_COMPILER

PROGRAM = """#!/bin/sh
echo "arguments: $*"
cat
echo "to stderr" >&2
exit "${STATUS:-0}"
"""
HELLO = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    const char *greeting = getenv("GREETING");
    const char *first = count > 1 ? arguments[1] : "";
    printf("hello");
    for (int i = 1; i < count; i++)
        printf(" [%s]", arguments[i]);
    printf(" %s ", greeting ? greeting : "");
    for (int byte; (byte = getchar()) != EOF;)
        putchar(byte);
    fflush(stdout);
    if (strcmp(first, "sleep") == 0)
        sleep(20);
    return strcmp(first, "status") == 0 ? 3 : 0;
}
"""
CONFIG = """\
{
    "version": "0.1",
    "ApplicationPath": "/bin/hello",
    "HostApplicationParameters": true,
    "HostEnvironmentVariables": ["GREETING"]
}
"""

needs_zig = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")


class Checkout(Project):
    """A project whose tests run on a farm."""

    def run(self, *arguments: str, **named):  # type: ignore[no-untyped-def]
        given = any(word.startswith("MYST_REMOTE_EXECUTOR=") for word in arguments)
        url = [] if given else [f"MYST_REMOTE_EXECUTOR={self.environment['URL']}"]
        return super().run(*url, *arguments, **named)

    def expect(self, *tests: str) -> None:
        self.sconstruct("".join(f"env.MystTest({test})\n" for test in tests), SCONSTRUCT_WITH_OPTIONS)


def checkout(directory: Path, url: str) -> Checkout:
    made = Checkout(directory, {"URL": url if "?" in url else f"{url}?patience=2"})
    made.write("program", PROGRAM, 0o755)
    return made


def make_package(directory: Path) -> Path:
    """A package of the embedded runtime."""
    project = Project(directory)
    project.write("hello.c", HELLO)
    project.write("config.json", CONFIG)
    project.write("key.pem", (DATA / "keys" / "key-a.pem").read_bytes(), 0o600)
    compiler = shlex.join(STATIC_COMPILER)
    project.sconstruct(
        f"env['ENV']['HOME'] = {str(Path.home())!r}\n"
        f"env.Command('appdir/bin/hello', 'hello.c', {compiler + ' $SOURCE -o $TARGET'!r})\n"
        "env.MystPackage('hello', 'appdir', MYST_CONFIG='config.json', MYST_KEY='key.pem')\n",
        SCONSTRUCT_WITH_OPTIONS,
    )
    project.build("-j2")
    return project.path("hello")


def with_package(
    directory: Path, url: str, package: Path, *tests: str, platform: Mapping[str, str] = CASD_PLATFORM
) -> Checkout:
    """A project that has a package and tests it."""
    made = checkout(directory, url)
    made.write("hello", package.read_bytes(), 0o755)
    made.sconstruct(
        f"env['MYST_TEST_PLATFORM'] = {platform}\n"
        + "".join(f"env.MystTest({test}, timeout=30)\n" for test in tests),
        SCONSTRUCT_WITH_OPTIONS,
    )
    return made
