"""A build after random changes makes what a clean build of the same sources makes.

MYST_BUILD_CASES=1000 takes so many builds instead of a few; MYST_BUILD_SEED=n begins with another project.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scons_project import CONFIG, DATA, SITE_TOOLS, Build, Project, make_runtime

from mystikos_tool.root.archive import read

CASES = int(os.environ.get("MYST_BUILD_CASES", "5"))
SEED = int(os.environ.get("MYST_BUILD_SEED", "1"))
BUILDS_OF_A_PROJECT = 25

HEAD = """\
{database}env = Environment(tools=["mystikos"], toolpath=[{site_tools!r}], MYST_RUNTIME={runtime!r})
env.Replace(MYST_CONFIG="config.json", MYST_KEY="key.pem", MYST_ROOTFS_MODES={modes!r})
"""
SUB = """\
Import("env")
env.MystPackage("four", "app", MYST_CONFIG="#config.json", MYST_KEY="#key.pem")
"""
PACKAGES = ("one", "two", "three", "build/sub/four")
STAMP = (
    "env.Command('stamp{n}', 'src/{n}',"
    " [Mkdir('appdir/unpacked'), Copy('appdir/unpacked/{n}', '$SOURCE'), Touch('$TARGET')])"
)

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
    "directory by its name": (
        "env.Command('appdir/folder/{n}', ['src/{n}', 'src/common'],"
        " [Delete('$TARGET'), Mkdir('$TARGET'), Copy('$TARGET/made', '${{SOURCES[0]}}'),"
        " Copy('$TARGET/common', '${{SOURCES[1]}}')])",
        "",
    ),
    "side effect": (
        "env.SideEffect('appdir/effect/{n}', env.Command('effect{n}', 'src/{n}',"
        " [Mkdir('appdir/effect'), Copy('appdir/effect/{n}', '$SOURCE'), Touch('$TARGET')]))",
        "",
    ),
    "unpacked": (f"s = {STAMP}\nenv.Depends(env.Dir('appdir'), s)", "appdir/unpacked/{n}"),
    "unpacked before a package": (
        f"s = {STAMP}\nenv.Depends(['one', 'two', 'three'], s)",
        "appdir/unpacked/{n}",
    ),
    "unpacked before a stage": (
        f"s = {STAMP}\nenv.Depends('one.measurement.json', s)\n"
        "env.Requires('two.mystenc.so', s)\nenv.Depends('three', s)",
        "appdir/unpacked/{n}",
    ),
    "variant": ("", ""),
}


class Sources:
    """What a user has written: files by their paths, and what the SConstruct says."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.files: dict[str, tuple[str, int]] = {}
        self.links: dict[str, str] = {}
        self.rules: dict[int, str] = {}
        self.count = 0
        self.exclude = False
        self.modes = "canonical"
        self.config = CONFIG
        self.rules_first = False
        self.database = chance.choice(["", "SConsignFile(None)\n", ""])
        self.duplicate = chance.randrange(2)
        for path in ("appdir/a", "appdir/d/b", "src/common", "src/mapped", "layerdir/layer", "sub/app/s"):
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
            database=self.database, site_tools=str(SITE_TOOLS), runtime=runtime, modes=self.modes
        )
        exclude = ', MYST_ROOTFS_EXCLUDE=["*.skip", "d"]' if self.exclude else ""
        packages = [
            'layer = env.MystRootfs("layer", "layerdir")',
            'env.MystPackage("one", "appdir")',
            'env.MystPackage("two", ["appdir", {"etc/mapped": "src/mapped", "share": "layerdir"}])',
            f'env.MystPackage("three", ["appdir", layer]{exclude})',
            f'SConscript("sub/SConscript", "env", variant_dir="build/sub", duplicate={self.duplicate})',
        ]
        rules = [RULES[kind][0].format(n=number) for number, kind in sorted(self.rules.items())]
        parts = [*rules, *packages] if self.rules_first else [*packages, *rules]
        return head + "\n".join(parts) + "\n"

    def subscript(self) -> str:
        built = "env.Command('app/lib/built', 'source', Copy('$TARGET', '$SOURCE'))\n"
        return SUB + (built if "variant" in self.rules.values() else "")

    def state(self) -> tuple[object, ...]:
        written = (tuple(self.files.items()), tuple(self.links.items()))
        return *written, self.config, self.sconstruct(""), self.subscript()


class Checkout:
    """A directory with the sources, and a repository for some of them where there is one."""

    def __init__(self, directory: Path, runtime: Path, repository: Path | None = None) -> None:
        self.project = Project(directory)
        self.repository = Project(repository) if repository else None
        self._runtime = str(runtime)
        self._there: dict[str, object] = {}
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
        self.project.write("sub/SConscript", sources.subscript())
        self.project.write("SConstruct", sources.sconstruct(self._runtime))

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

    def remove_unknown(self, path: str) -> None:
        """Remove what nobody wrote and nobody can know of."""
        target = self.project.path(path)
        found = [target, *target.rglob("*")] if target.is_dir() else [target]
        for one in sorted(found, reverse=True):
            if one.is_dir():
                _remove_empty(one, self.project.directory)
            elif str(one.relative_to(self.project.directory)) not in self._there:
                one.unlink(missing_ok=True)
                _remove_empty(one.parent, self.project.directory)

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

    def build(self, *arguments: str) -> Build:
        where = ("-Y", str(self.repository.directory)) if self.repository else ()
        return self.project.build(*where, *arguments)

    def results(self, packages: tuple[str, ...]) -> dict[str, tuple[object, bytes]]:
        return {name: (self._root(f"{name}.cpio"), self.project.path(name).read_bytes()) for name in packages}

    def _root(self, name: str) -> dict[bytes, tuple[int, bytes]]:
        archive = read(self.project.path(name))
        return {member.path: (member.mode, archive.data(member)) for member in archive.members}


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder that is empty, and those above it that are empty then."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


class History:
    """A checkout that is changed and built again and again."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        directory.mkdir(parents=True)
        self.runtime = make_runtime(directory / "rt")
        self.sources = Sources(self.chance)
        repository = directory / "repository" if self.chance.random() < 0.4 else None
        self.checkout = Checkout(directory / "checkout", self.runtime, repository)
        self.say("repository:", bool(repository))
        self._clean: tuple[object, dict[str, tuple[object, bytes]]] = ((), {})

    def step(self) -> None:
        """Change something, build, and compare with a clean build."""
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            change = self.chance.choice(CHANGES)
            self.say(change.__name__, change(self))
        self.checkout.update(self.sources)
        before = self.chance.choice(BEFORE)
        self.say(before.__name__, before(self))
        packages = tuple(name for name in PACKAGES if self.chance.random() < 0.6) or PACKAGES
        targets = self.chance.choice([(), (".",), packages])
        jobs = self.chance.choice([(), ("-j3",), ("-j2", "--random")])
        self.say("build", (*jobs, *targets))
        self.checkout.build(*jobs, *targets)
        built = packages if targets == packages else PACKAGES
        self.compare(built)

    def compare(self, packages: tuple[str, ...]) -> None:
        expected = self.clean()
        for name, (root, package) in self.checkout.results(packages).items():
            assert root == expected[name][0], name
            assert package == expected[name][1], name

    def clean(self) -> dict[str, tuple[object, bytes]]:
        state = self.sources.state()
        if self._clean[0] != state:
            shutil.rmtree(self.directory / "clean", ignore_errors=True)
            clean = Checkout(self.directory / "clean", self.runtime)
            clean.update(self.sources)
            clean.build("-j2")
            self._clean = (state, clean.results(PACKAGES))
        return self._clean[1]

    def say(self, *words: object) -> None:
        """Say what is done; shown where a test fails."""
        sys.stdout.write(" ".join(map(str, words)) + "\n")


def edits(history: History) -> str:
    path = history.chance.choice(history.sources.of("appdir", "src", "tree", "sub", "layerdir"))
    if not path.endswith("bin/hello"):
        history.sources.write(path, mode=history.sources.files[path][1])
    return path


def adds(history: History) -> str:
    folder = history.chance.choice(
        ["appdir", "appdir/d", "appdir/new/er", "appdir/usr/1", "sub/app", "layerdir"]
    )
    path = f"{folder}/own{history.chance.randrange(4)}{folder.count('/')}{folder[0]}"
    history.sources.links.pop(path, None)
    history.sources.write(path, mode=history.chance.choice([0o644, 0o755]))
    return path


def adds_to_a_tree(history: History) -> str:
    path = f"tree/{history.chance.randrange(4)}/{history.chance.choice('uvw')}/{history.chance.randrange(2)}"
    history.sources.write(path)
    return path


def links(history: History) -> str:
    path = f"appdir/d/link{history.chance.randrange(2)}"
    history.sources.links[path] = history.sources.content().strip()
    return path


def removes(history: History) -> str:
    kept = ("/t", "bin/hello", "src/", "sub/source", "sub/app/s", "appdir/a", "layerdir/layer")
    there = [path for path in history.sources.files if not any(part in path for part in kept)]
    if not there:
        return "nothing"
    path = history.chance.choice(there)
    del history.sources.files[path]
    return path


def changes_a_mode(history: History) -> str:
    path = history.chance.choice(history.sources.of("appdir", "sub/app", "layerdir"))
    content, mode = history.sources.files[path]
    if not path.endswith("bin/hello"):
        history.sources.files[path] = (content, mode ^ 0o111)
    return path


def describes(history: History) -> str:
    """Add a rule, or put one in the place of another; what nobody can know of, the user removes."""
    number, kind = history.chance.randrange(4), history.chance.choice(sorted(RULES))
    said = forgets(history, number)
    for path in [f"appdir/made/{number}", f"appdir/unpacked/{number}"]:
        if history.sources.files.pop(path, None):
            history.checkout.remove_if_there(path)  # SCons would take it for what it has made
    history.sources.rules[number] = kind
    return f"{number}: {kind} instead of {said}"


def forgets(history: History, number: int | None = None) -> str:
    if number is None:
        number = history.chance.choice(sorted(history.sources.rules) or [0])
    kind = history.sources.rules.pop(number, "")
    if kind and (leaves := RULES[kind][1]):
        history.checkout.remove_unknown(leaves.format(n=number))
        history.checkout.remove_unknown(f"stamp{number}")
    return f"{number} {kind}"


def takes_over(history: History) -> str:
    """Write a file at the place of one that was built once."""
    made = history.checkout.project.path("appdir/made")
    described = {number for number, kind in history.sources.rules.items() if kind == "file"}
    left = sorted({int(path.name) for path in made.glob("[0-9]")} - described)
    if left:
        history.sources.write(f"appdir/made/{left[0]}")
    return f"{left[:1]}"


def turns_an_option(history: History) -> str:
    sources = history.sources
    option = history.chance.choice(["exclude", "modes", "config", "order"])
    if option == "exclude":
        sources.exclude = not sources.exclude
    elif option == "modes":
        sources.modes = "preserve" if sources.modes == "canonical" else "canonical"
    elif option == "config":
        sources.config = CONFIG.replace("1m", f"{history.chance.randrange(1, 4)}m")
    else:
        sources.rules_first = not sources.rules_first
    return option


CHANGES: list[Callable[[History], object]] = [
    *(edits, edits, adds, adds_to_a_tree, links, removes, removes, changes_a_mode),
    *(describes, describes, describes, forgets, forgets, takes_over, turns_an_option),
]


def does_nothing(history: History) -> str:
    return ""


def cleans(history: History) -> str:
    history.checkout.build("-c", *history.chance.choice([(), ("one",), (".",)]))
    return ""


def only_asks(history: History) -> str:
    history.checkout.build("-n")
    return ""


def builds_something_else(history: History) -> str:
    name = history.chance.choice(["appdir", "two.cpio", "one.measurement.json", "build"])
    history.checkout.build(name)
    return name


def loses_the_store(history: History) -> str:
    """Lose what SCons' own database does not know: what side effects and directories have left."""
    history.checkout.project.path(".sconsign.mystikos").unlink(missing_ok=True)
    for number in range(4):
        kind = history.sources.rules.get(number, "")
        makes = {"effect": "side effect", "folder": "directory", "usr": "installed directory"}
        for folder, word in makes.items():
            if not kind.startswith(word):
                history.checkout.remove_unknown(f"appdir/{folder}/{number}")
    return ""


def loses_a_target(history: History) -> str:
    name = history.chance.choice(
        ["one", "one.cpio", "two.mystenc.so", "three.measurement.json", "layer.cpio"]
    )
    history.checkout.project.path(name).unlink(missing_ok=True)
    return name


def touches(history: History) -> str:
    path = history.chance.choice(history.sources.of("appdir", "src"))
    history.checkout._home(path).path(path).touch()
    return path


def moves_between_repository_and_checkout(history: History) -> str:
    paths = history.sources.of("appdir", "src", "layerdir", "sub")
    path = history.chance.choice(paths)
    history.checkout.move(path)
    return path


BEFORE: list[Callable[[History], object]] = [
    *(does_nothing, does_nothing, does_nothing, cleans, only_asks, builds_something_else),
    *(loses_the_store, loses_a_target, touches),
    *(moves_between_repository_and_checkout, moves_between_repository_and_checkout),
]


@pytest.mark.parametrize("seed", range(SEED, SEED + -(-CASES // BUILDS_OF_A_PROJECT)))
def test_a_build_after_random_changes_makes_what_a_clean_one_makes(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "history", seed)
    for _ in range(min(CASES, BUILDS_OF_A_PROJECT)):
        history.step()
