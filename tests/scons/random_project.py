"""Random SCons projects: what a user has written, and checkouts of it that are built."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scons_project import CONFIG, DATA, SITE_TOOLS, Build, Project

from mystikos_tool.packaging import sections
from mystikos_tool.root.archive import index, read

HEAD = """\
import os, random, shutil
random.seed(os.environ.get("ORDER"))  # what --random takes first
def copy_dependency(target, source, env):
    shutil.copyfile(str(target[0].depends[0].rfile()), str(target[0]))
{database}env = Environment(tools=["mystikos"], toolpath=[{site_tools!r}], MYST_RUNTIME={runtime!r})
env.Replace(MYST_CONFIG="config.json", MYST_KEY="key.pem", MYST_ROOTFS_MODES={modes!r})
env.Replace(MYST_CONFIG_SET={members!r}, MYST_ROOTFS_CHMOD={chmod!r})
env.Command("made.json", "config.json", Copy("$TARGET", "$SOURCE"))
"""
# A cache of packages alone: what others make may leave files that no cache knows of. A clean build
# fills it and takes nothing of it.
CACHE = """\
import os, SCons.CacheDir
class Packages(SCons.CacheDir.CacheDir):
    def retrieve(self, node):
        is_clean = os.path.basename(os.getcwd()) == "clean"
        return hasattr(node.attributes, "mystikos") and not is_clean and super().retrieve(node)
    def push(self, node):
        return super().push(node) if hasattr(node.attributes, "mystikos") else None
env.CacheDir("../cache", custom_class=Packages)
"""
OVERLAID = """\
env.MystPackage("five", {five}, MYST_ROOTFS_OVERLAY=True, MYST_CONFIG="made.json", MYST_CONFIG_SET={members})
own = {{"MYST_ROOTFS_MODES": "preserve", "MYST_ROOTFS_CHMOD": {chmod}, "MYST_ROOTFS_EXCLUDE": ["b"]}}
over = env.MystSource("over", **own)
six = env.MystRootfs("six", [layer, "appdir", over, {{"a": "src/common"}}], MYST_ROOTFS_OVERLAY=True)
env.MystPackage("six", six, MYST_CONFIG={config})
"""
SUB = """\
Import("env")
env.MystPackage("four", "app", MYST_CONFIG="#config.json", MYST_KEY="#key.pem")
"""
PACKAGES = ("one", "two", "three", "build/sub/four", "five", "six")
READ_APPDIR = ["one", "two", "three", "five", "six"]


def _unpacks(folder: str) -> str:
    """Return a command that leaves a file in a folder and does not say so."""
    actions = f"[Mkdir('{folder}'), Copy('{folder}/{{n}}', '$SOURCE'), Touch('$TARGET')]"
    return f"s = env.Command('stamp{{n}}', 'src/{{n}}', {actions})\n"


STAMP = _unpacks("appdir/unpacked")

# Rules with actions that read a directory as it lies, with what a builder that is gone has left in it.
READ_BY_ACTIONS = ("directory of a directory", "file that depends on a directory")

# Of what its builder has made there only the store knows.
COPIED_OVER = "directory that is copied over what is there"

# By kind of a rule: what the SConstruct says, and what it leaves behind that nobody can know of.
RULES: dict[str, tuple[str, str]] = {
    "file": ("env.Command('appdir/made/{n}', 'src/{n}', Copy('$TARGET', '$SOURCE'))", ""),
    "deep file": ("env.Command('appdir/deep/{n}/x/y', 'src/{n}', Copy('$TARGET', '$SOURCE'))", ""),
    "installed file": ("env.Install('appdir/installed', 'src/{n}')", ""),
    "installed directory": ("env.Install('appdir/usr', env.Dir('tree/{n}'))", ""),
    "installed directory that is built into": (
        "env.Install('appdir/usr', env.Dir('tree/{n}'))\n"
        "env.Command('appdir/usr/{n}/built', 'src/{n}', Copy('$TARGET', '$SOURCE'))",
        "",
    ),
    "installed directory with a built file": (
        "env.Install('appdir/usr', env.Dir('tree/{n}'))\n"
        "env.Command('tree/{n}/built', 'src/{n}', Copy('$TARGET', '$SOURCE'))",
        "",
    ),
    "directory": (
        "env.Command(env.Dir('appdir/folder/{n}'), 'src/{n}',"
        " [Delete('$TARGET'), Mkdir('$TARGET'), Copy('$TARGET/made', '$SOURCE')])",
        "",
    ),
    COPIED_OVER: (
        "env.Command(env.Dir('appdir/folder/{n}'), [env.Dir('tree/{n}'), 'src/{n}'],"
        " 'mkdir -p $TARGET && cp -r tree/{n}/. $TARGET && cp src/{n} $TARGET/made')",
        "",
    ),
    "directory by its name": (
        "env.Command('appdir/folder/{n}', ['src/{n}', 'src/common'],"
        " [Delete('$TARGET'), Mkdir('$TARGET'), Copy('$TARGET/made', '${{SOURCES[0]}}'),"
        " Copy('$TARGET/common', '${{SOURCES[1]}}')])",
        "",
    ),
    "directory of a directory": (
        "env.Command(env.Dir('appdir/folder/{n}'), env.Command(env.Dir('stage/{n}'), env.Dir('tree/{n}'),"
        " [Delete('$TARGET'), Copy('$TARGET', '$SOURCE')]), [Delete('$TARGET'), Copy('$TARGET', '$SOURCE')])",
        "",
    ),
    "file that depends on a directory": (
        "env.Depends(env.Command('appdir/made/{n}', [],"
        " 'find tree/{n} -type f -not -name .sconsign | sort | xargs cat >$TARGET'),"
        " env.Alias('tree{n}', env.Dir('tree/{n}')))",
        "",
    ),
    "link": ("env.Command('appdir/link{n}', 'src/{n}', 'ln -sfn d $TARGET')", ""),
    "broken link": ("env.Command('appdir/link{n}', 'src/{n}', 'ln -sfn nowhere $TARGET')", ""),
    "side effect": (
        "env.SideEffect('appdir/effect/{n}', env.Command('effect{n}', 'src/{n}',"
        " [Mkdir('appdir/effect'), Copy('appdir/effect/{n}', '$SOURCE'), Touch('$TARGET')]))",
        "",
    ),
    "unpacked": (f"{STAMP}env.Depends(env.Dir('appdir'), s)", "appdir/unpacked/{n}"),
    "unpacked before a package": (f"{STAMP}env.Depends({READ_APPDIR}, s)", "appdir/unpacked/{n}"),
    "unpacked before a stage": (
        f"{STAMP}env.Depends('one.measurement.json', s)\n"
        "env.Requires('two.mystenc.so', s)\nenv.Depends('three', s)\n"
        "env.Requires('five', s)\nenv.Depends('six.cpio', s)",
        "appdir/unpacked/{n}",
    ),
    "unpacked before a directory inside": (
        f"{STAMP}env.Depends(env.Dir('appdir/unpacked'), s)",
        "appdir/unpacked/{n}",
    ),
    "unpacked by an alias": (
        f"{STAMP}env.Depends({READ_APPDIR}, env.Alias('prepare{{n}}', s))",
        "appdir/unpacked/{n}",
    ),
    "unpacked with the whole as a side effect": (
        f"{STAMP}env.SideEffect(env.Dir('appdir'), s)",
        "appdir/unpacked/{n}",
    ),
    "folder as a side effect": (
        f"{_unpacks('appdir/whole/{n}')}env.SideEffect(env.Dir('appdir/whole/{{n}}'), s)",
        "appdir/whole/{n}",
    ),
    "unpacked into what is laid over": (
        f"{_unpacks('over/unpacked')}env.Depends(env.Dir('over'), s)",
        "over/unpacked/{n}",
    ),
    "unpacked into a layer": (
        f"{_unpacks('layerdir/unpacked')}env.Depends(env.Dir('layerdir'), s)",
        "layerdir/unpacked/{n}",
    ),
    "file that is laid over": ("env.Command('over/made/{n}', 'src/{n}', Copy('$TARGET', '$SOURCE'))", ""),
    "side effect that is laid over": (
        "env.SideEffect('over/effect/{n}', env.Command('overeffect{n}', 'src/{n}',"
        " [Mkdir('over/effect'), Copy('over/effect/{n}', '$SOURCE'), Touch('$TARGET')]))",
        "",
    ),
    "file of a file": (
        "env.Command('mid/{n}', 'src/{n}', Copy('$TARGET', '$SOURCE'))\n"
        "env.Command('appdir/made/{n}', 'mid/{n}', Copy('$TARGET', '$SOURCE'))",
        "",
    ),
    "file of what it depends on": (
        "env.Command('appdir/made/{n}', [], copy_dependency)\nenv.Depends('appdir/made/{n}', 'src/{n}')",
        "",
    ),
    "what makes no difference": (
        "env.Depends('one', 'src/{n}')\nenv.Requires('two.cpio', 'src/{n}')\n"
        "env.Depends('three.measurement.json', env.Value('{n}'))\nenv.Depends('five', 'two')",
        "",
    ),
    "variant": ("", ""),
}


class Sources:
    """What a user has written: files by their paths, and what the SConstruct says."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.files: dict[str, tuple[str, int]] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()
        self.rules: dict[int, str] = {}
        self.count = 0
        self.exclude = False
        self.overlay = False
        self.over_first = False
        self.members: dict[str, dict[str, object]] = {"": {}, "five": {}}
        self.chmod: dict[str, dict[str, object]] = {"": {}, "six": {}}
        self.modes = "canonical"
        self.config = CONFIG
        self.rules_first = False
        self.cache = chance.choice([False, True])
        self.database = chance.choice(["", "SConsignFile(None)\n", ""])
        self.duplicate = chance.randrange(2)
        for path in (
            "appdir/a",
            "appdir/d/b",
            "src/common",
            "src/mapped",
            "layerdir/layer",
            "sub/app/s",
            "over/a",
        ):
            self.write(path)
        self.write("appdir/bin/hello", "#!/bin/hello\n", 0o755)
        self.write("layerdir/x.skip")
        self.write("sub/app/bin/hello", "#!/bin/hello\n", 0o755)
        self.write("sub/source")
        for number in range(4):
            self.write(f"src/{number}")
            self.write(f"tree/{number}/t")

    def content(self) -> str:
        """Content of a size that no other has: SCons keeps the times of files in seconds."""
        self.count += 1
        return f"{self.count}\n".ljust(self.count + 4, "x")

    def write(self, path: str, content: str = "", mode: int = 0o644) -> None:
        self.files[path] = (content or self.content(), mode)

    def of(self, *folders: str) -> list[str]:
        """The files that were written below folders."""
        return sorted(path for path in self.files if path.startswith(folders))

    def sconstruct(self, runtime: str) -> str:
        head = HEAD.format(
            database=self.database,
            site_tools=str(SITE_TOOLS),
            runtime=runtime,
            modes=self.modes,
            members=self.members[""],
            chmod=self.chmod[""],
        )
        overlaid = OVERLAID.format(
            five=["over", "appdir"] if self.over_first else ["appdir", "over"],
            members=self.members["five"],
            chmod=self.chmod["six"],
            config=json.loads(self.config),
        )
        exclude = ', MYST_ROOTFS_EXCLUDE=["*.skip", "d"]' if self.exclude else ""
        packages = [
            'layer = env.MystRootfs("layer", "layerdir")',
            'env.MystPackage("one", "appdir")',
            'two = ["appdir", {"etc/mapped": "src/mapped", "share": "layerdir"}]',
            f'env.MystPackage("two", two, MYST_ROOTFS_OVERLAY={self.overlay})',
            f'env.MystPackage("three", ["appdir", layer]{exclude})',
            f'SConscript("sub/SConscript", "env", variant_dir="build/sub", duplicate={self.duplicate})',
            overlaid,
        ]
        rules = [RULES[kind][0].format(n=number) for number, kind in sorted(self.rules.items())]
        parts = [*rules, *packages] if self.rules_first else [*packages, *rules]
        return head + CACHE * self.cache + "\n".join(parts) + "\n"

    def subscript(self) -> str:
        built = "env.Command('app/lib/built', 'source', Copy('$TARGET', '$SOURCE'))\n"
        return SUB + (built if "variant" in self.rules.values() else "")

    def state(self) -> tuple[object, ...]:
        written = (tuple(self.files.items()), tuple(self.links.items()), tuple(self.folders))
        return *written, self.config, self.sconstruct(""), self.subscript()


class Checkout:
    """A directory with the sources, and a repository for some of them where there is one."""

    def __init__(self, directory: Path, runtime: Path, repository: Path | None = None) -> None:
        self.project = Project(directory)
        self.repository = Project(repository) if repository else None
        self._runtime = str(runtime)
        self._there: dict[str, object] = {}
        self._folders: set[str] = set()
        self.in_repository: set[str] = set()
        directory.mkdir()
        shutil.copy(DATA / "keys" / "key-a.pem", directory / "key.pem")
        if repository:
            repository.mkdir()
            shutil.copytree(runtime, repository / "rt")
            self._runtime = "#rt"
            shutil.move(directory / "key.pem", repository / "key.pem")

    def update(self, sources: Sources) -> None:
        """Write what has changed, and remove what is gone with the folders that are empty then."""
        wanted: dict[str, object] = {**sources.files, **{path: (to,) for path, to in sources.links.items()}}
        wanted["config.json"] = (sources.config, 0o644)
        for path in sorted(self._there.keys() - wanted.keys()):
            self.remove(path)
        for path, value in wanted.items():
            if self._there.get(path) != value:
                self._write(path, value)
        self._there = wanted
        self._update_folders(sources.folders)
        self.project.write("sub/SConscript", sources.subscript())
        self.project.write("SConstruct", sources.sconstruct(self._runtime))

    def _update_folders(self, wanted: set[str]) -> None:
        for path in self._folders - wanted:
            _remove_empty(self.project.path(path), self.project.directory)
        for path in wanted:
            self.project.path(path).mkdir(parents=True, exist_ok=True)
        self._folders = set(wanted)

    def _home(self, path: str) -> Project:
        return self.repository if self.repository and path in self.in_repository else self.project

    def _write(self, path: str, value: object) -> None:
        match value:
            case (str(content), int(mode)):
                self._home(path).path(path).unlink(missing_ok=True)
                self._home(path).write(path, content, mode)
            case (str(to),):
                link = self.project.path(path)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(to)

    def remove(self, path: str) -> None:
        home = self._home(path)
        home.path(path).unlink()
        _remove_empty(home.path(path).parent, home.directory)
        self.in_repository.discard(path)
        self._there.pop(path, None)

    def remove_if_there(self, path: str) -> None:
        if path in self._there:
            self.remove(path)

    def remove_unknown(self, path: str, copy_of: str = "") -> None:
        """Remove what nobody wrote and nobody can know of, but for what the directory that it copies has."""
        target = self.project.path(path)
        found = [target, *target.rglob("*")] if _is_folder(target) else [target]
        for one in sorted(found, reverse=True):
            if _is_folder(one):
                _remove_empty(one, self.project.directory)
            elif copy_of and self._is_there(f"{copy_of}/{one.relative_to(target)}"):
                continue
            elif str(one.relative_to(self.project.directory)) not in self._there:
                one.unlink(missing_ok=True)
                _remove_empty(one.parent, self.project.directory)

    def _is_there(self, path: str) -> bool:
        return path in self._there or os.path.lexists(self.project.path(path))

    def touch(self, path: str) -> None:
        self._home(path).path(path).touch()

    def move(self, path: str) -> None:
        """Let a file lie in the repository and no longer in the directory, or the other way round."""
        if self.repository is None:
            return
        value = self._there[path]
        was_there = path in self.in_repository
        self.remove(path)
        if not was_there:
            self.in_repository.add(path)
        self._write(path, value)
        self._there[path] = value

    def build(self, *arguments: str, order: int = 0) -> Build:
        """Build; ``order`` decides what ``--random`` takes first."""
        return self.project.build(*self._where(), *arguments, environment={"ORDER": str(order)})

    def _where(self) -> tuple[str, ...]:
        return ("-Y", str(self.repository.directory)) if self.repository else ()

    @contextmanager
    def session(self) -> Iterator[Callable[[], None]]:
        """Begin an interactive session; yield what builds everything in it."""
        command = self.project.command(*self._where(), "--interactive")
        pipe, environment = subprocess.PIPE, self.project.variables({"ORDER": "0"})
        with subprocess.Popen(
            command, cwd=self.project.directory, env=environment, stdin=pipe, stdout=pipe, encoding="utf-8"
        ) as scons:
            assert scons.stdin
            assert scons.stdout
            commands, output = scons.stdin, scons.stdout

            def build() -> None:
                commands.write("build .\nshell echo built\n")
                commands.flush()
                for line in iter(output.readline, "scons>>> built\n"):
                    assert line
                    assert "***" not in line

            yield build
            commands.close()
        assert scons.returncode == 0

    def results(self, packages: tuple[str, ...]) -> dict[str, tuple[object, bytes]]:
        return {name: (self._root(name), self.project.path(name).read_bytes()) for name in packages}

    def _root(self, name: str) -> dict[bytes, tuple[int, bytes]]:
        """What is in the archive of a package, of which there may be none beside one that was fetched."""
        path = self.project.path(f"{name}.cpio")
        package = self.project.path(name)
        archive = (
            read(path) if path.exists() else index(sections.read(package).content(sections.ROOTFS), name)
        )
        return {member.path: (member.mode, archive.data(member)) for member in archive.members}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder that is empty, and those above it that are empty then."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
