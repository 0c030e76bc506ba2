"""Small SCons projects, built by SCons in a process of its own."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from preloaded_scons import PreloadedScons

from mystikos_tool.cache.store import Store
from mystikos_tool.formats import elf
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.runtime import ENCLAVE

CHECKOUT = Path(__file__).resolve().parents[2]
SITE_TOOLS = CHECKOUT / "site_scons" / "site_tools"
DATA = CHECKOUT / "tests" / "data"

ROOTFS, MEASURE, SIGN, PACKAGE = "rootfs", "measure", "sign", "package"
ALL = {ROOTFS, MEASURE, SIGN, PACKAGE}
TARGETS = {
    ROOTFS: "hello.cpio",
    MEASURE: "hello.measurement.json",
    SIGN: "hello.mystenc.so",
    PACKAGE: "hello",
}
_VERBS = {"packed": ROOTFS, "measured": MEASURE, "signed": SIGN, "packaged": PACKAGE}
_STAGE_LINE = re.compile(rf"^({'|'.join(_VERBS)}) .*→ (\S+)$", re.MULTILINE)

# A run with these variables begins with nothing loaded.
A_NEW_PYTHON = {"PYTHONHASHSEED": "0"}

SIGNING_DAY = "1767312000"  # 2026-01-02

CONFIG = '{"version": "0.1", "Debug": true, "MemorySize": "1m", "ApplicationPath": "/bin/hello"}\n'

# SCons' default tools, which a directory as a target loads, take half of a run, and no test needs them.
SCONSTRUCT = """\
DefaultEnvironment(tools=[]); env = Environment(tools=["mystikos"], toolpath=[{site_tools!r}])
env.Replace(MYST_RUNTIME="rt", MYST_CONFIG="config.json", MYST_KEY="key.pem")
"""
# The same without values, so that the command line gives them.
SCONSTRUCT_WITH_OPTIONS = f"""\
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
import mystikos_tool.scons
variables = Variables(None, ARGUMENTS)
mystikos_tool.scons.options(variables)
DefaultEnvironment(tools=[])
env = Environment(tools=["mystikos"], toolpath=[{{site_tools!r}}], variables=variables)
"""
# Put before, it makes the tool treat every root as it treats large ones.
EVERY_ROOT_IS_LARGE = "from mystikos_tool.scons import partial\npartial.LARGE_ROOT = 0\n"
PACKAGE_HELLO = 'env.MystPackage("hello", "appdir")\n'

NOBODY = 65534
# The capability lets the other user reach the interpreter and the checkout, wherever they lie.
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
# Takes from root what lets it read and write every file.
WITHOUT_OVERRIDE = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    if os.geteuid() == 0
    else ()
)
needs_setpriv_as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to become another user"
)


def section_offset(image: Path, name: str) -> int:
    """Where a section of the recorded enclave image begins in its file."""
    return elf.Image(image.read_bytes(), str(image)).section(name).offset


@dataclass(frozen=True)
class Build:
    """What one run of scons said."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def stages(self) -> set[str]:
        """The stages that ran."""
        return {_VERBS[verb] for verb, _ in _STAGE_LINE.findall(self.out)}

    def stages_in(self, folder: str) -> set[str]:
        """The stages that ran for targets in a folder."""
        found = _STAGE_LINE.findall(self.out)
        return {_VERBS[verb] for verb, target in found if target.startswith(f"{folder}/")}

    @property
    def made(self) -> list[str]:
        """The targets that stages made, in order."""
        return [target for _, target in _STAGE_LINE.findall(self.out)]


@dataclass(frozen=True)
class Project:
    """A directory with an SConstruct."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.directory / name

    def write(self, name: str, content: str | bytes, mode: int | None = None) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            path.chmod(mode)
        return path

    def sconstruct(self, body: str, head: str = SCONSTRUCT) -> None:
        self.write("SConstruct", head.format(site_tools=str(SITE_TOOLS)) + body)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "SCons", "-Q", *arguments]

    def variables(self, environment: Mapping[str, str | None] | None = None) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "SCONSFLAGS"}
        given = {"SOURCE_DATE_EPOCH": SIGNING_DAY, "PYTHONIOENCODING": "utf-8", **self.environment}
        merged = {**inherited, **given, **(environment or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def run(
        self,
        *arguments: str,
        folder: str = ".",
        environment: Mapping[str, str | None] | None = None,
        umask: int = -1,
        under: Sequence[str] = (),
        stdin: str = "",
    ) -> Build:
        """Run scons, whatever becomes of it."""
        variables = self.variables(environment)
        preloaded = None if under else _preloaded()
        if preloaded and preloaded.can_run(variables):
            done = preloaded.run(["-Q", *arguments], self.path(folder), variables, umask, stdin)
        else:
            done = subprocess.run(
                [*under, *self.command(*arguments)],
                cwd=self.path(folder),
                env=variables,
                umask=umask,
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
        return Build(done.returncode, done.stdout, done.stderr)

    def build(
        self,
        *arguments: str,
        folder: str = ".",
        environment: Mapping[str, str | None] | None = None,
        umask: int = -1,
        under: Sequence[str] = (),
    ) -> Build:
        """Run scons, which has to succeed."""
        build = self.run(*arguments, folder=folder, environment=environment, umask=umask, under=under)
        assert build.status == 0, build.text
        assert "Traceback" not in build.text, build.text
        return build

    def fails(
        self,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
        under: Sequence[str] = (),
    ) -> Build:
        """Run scons, which has to fail without a traceback."""
        build = self.run(*arguments, environment=environment, under=under)
        assert build.status == 2, build.text
        assert "Traceback" not in build.text, build.text
        return build

    def copy(self, directory: Path) -> Project:
        """Copy everything, times included, as moving a checkout does."""
        shutil.copytree(self.directory, directory, symlinks=True)
        return Project(directory, self.environment)

    def give_to_nobody(self) -> None:
        """Make another user the owner of everything."""
        for path in [self.directory, *self.directory.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def snapshot(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Everything below the directory: mode, inode, modification time and content."""
        return {
            str(path.relative_to(self.directory)): _state(path) for path in sorted(self.directory.rglob("*"))
        }

    def names(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}


def _state(path: Path) -> tuple[int, int, int, bytes]:
    status = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return status.st_mode, status.st_ino, status.st_mtime_ns, content


@functools.lru_cache(1)
def _preloaded() -> PreloadedScons | None:
    """The process that runs scons for this one; MYST_SCONS=fresh asks for a new Python each time."""
    if os.environ.get("MYST_SCONS") == "fresh":
        return None
    directory = tempfile.mkdtemp(prefix="scons-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return PreloadedScons.start(Project(CHECKOUT).variables(), directory)


def settle(project: Project, *, packages: int = 1) -> None:
    """Build until what is found up to date is remembered: not before the files have their final times."""
    for _ in range(10):
        project.build()
        tables = Store(project.path(".sconsign.mystikos"))
        if sum(len(rows) for _, rows in tables.table("settled").values()) == packages:
            return
    raise AssertionError("is never found to be as it was")


def make_runtime(directory: Path) -> Path:
    """Make an installed runtime of the recorded images; what it packages is never started.

    Its enclaves have one thread, not 1024, and so there is little to measure.
    """
    shutil.copytree(DATA / "rt-a" / "lib", directory / "lib")
    (directory / "bin").mkdir()
    shutil.copy(DATA / "program", directory / "bin" / "myst")
    image = directory / ENCLAVE
    data = bytearray(image.read_bytes())
    start = section_offset(image, ".oeinfo")
    record = slice(start, start + OEINFO.size)
    data[record] = OEINFO.patch(bytes(data[record]), {"tcs_count": 1})
    image.write_bytes(data)
    return directory


def make_project(directory: Path) -> Project:
    """Make a project whose SConstruct packages ``appdir`` as ``hello``."""
    project = Project(directory)
    project.write("appdir/bin/hello", "#!/bin/hello\n", 0o755)
    project.write("appdir/etc/motd", "good day\n", 0o644)
    project.path("appdir/etc/issue").symlink_to("motd")
    project.write("config.json", CONFIG)
    shutil.copy(DATA / "keys" / "key-a.pem", project.path("key.pem"))
    project.path("key.pem").chmod(0o600)
    make_runtime(project.path("rt"))
    project.sconstruct(PACKAGE_HELLO)
    return project
