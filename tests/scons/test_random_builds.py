"""A build after random changes makes what a clean build of the same sources makes.

MYST_BUILD_CASES=1000 takes so many builds instead of a few; MYST_BUILD_SEED=n begins with another project.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from random_project import COPIED_OVER, PACKAGES, READ_BY_ACTIONS, RULES, Checkout, Sources
from scons_project import CONFIG, make_runtime

CASES = int(os.environ.get("MYST_BUILD_CASES", "3"))
SEED = int(os.environ.get("MYST_BUILD_SEED", "1"))
BUILDS_OF_A_PROJECT = 25


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
        self.has_changed_a_mode = False
        self._clean: tuple[object, dict[str, tuple[object, bytes]]] = ((), {})

    def step(self) -> None:
        """Change something, build, and compare with a clean build."""
        self.has_changed_a_mode = False
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            change = self.chance.choice(CHANGES)
            self.say(change.__name__, change(self))
        self.checkout.update(self.sources)
        before = self.chance.choice(BEFORE)
        self.say(before.__name__, before(self))
        packages = tuple(name for name in PACKAGES if self.chance.random() < 0.6) or PACKAGES
        targets = self.chance.choice([(), (".",), packages])
        jobs = self.chance.choice([(), ("-j3",), ("-j2", "--random")])
        if self.sources.cache and self.chance.random() < 0.6:
            self.clean()  # so that what is to be built is in the cache
            jobs += self.chance.choice([(), (), ("--cache-disable",), ("--cache-force",)])
        order = self.chance.randrange(1 << 30)
        self.say("build", (*jobs, *targets), "order:", order)
        self.say(self.checkout.build(*jobs, *targets, order=order).out)
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
    path = history.chance.choice(history.sources.of("appdir", "src", "tree", "sub", "layerdir", "over"))
    if not path.endswith("bin/hello"):
        history.sources.write(path, mode=history.sources.files[path][1])
    return path


def adds(history: History) -> str:
    folder = history.chance.choice(
        ["appdir", "appdir/d", "appdir/new/er", "appdir/usr/1", "sub/app", "layerdir", "over"]
    )
    path = f"{folder}/own{history.chance.randrange(4)}{folder.count('/')}{folder[0]}"
    history.sources.links.pop(path, None)
    history.sources.write(path, mode=history.chance.choice([0o644, 0o755]))
    return path


def adds_to_a_tree(history: History) -> str:
    path = f"tree/{history.chance.randrange(4)}/{history.chance.choice('uvw')}/{history.chance.randrange(2)}"
    history.sources.write(path)
    return path


def lays_over(history: History) -> str:
    """Write a file that hides another one, of the user's own or of a builder's."""
    there = [path.removeprefix("appdir/") for path in history.sources.of("appdir/")]
    built = ["installed/1", "effect/2", "folder/3/made", "usr/0/t", "deep/1/x/y", "unpacked/2", "d/link0"]
    path = f"over/{history.chance.choice(there + built)}"
    made = any(path in RULES[kind][0].format(n=n) for n, kind in history.sources.rules.items())
    if not (made or path.endswith("bin/hello")):  # SCons would take it for what it has made
        history.sources.write(path, mode=history.chance.choice([0o644, 0o600, 0o755]))
    return path


def adds_what_is_hardly_meant(history: History) -> str:
    folder = history.chance.choice(["appdir", "appdir/d", "over", "sub/app"])
    path = f"{folder}/{history.chance.choice(['.git/config', 'notes~', '.DS_Store', '.notes.swp'])}"
    history.sources.write(path)
    return path


def adds_or_removes_a_folder(history: History) -> str:
    path = f"{history.chance.choice(['appdir', 'over', 'layerdir'])}/empty/{history.chance.randrange(2)}"
    history.sources.folders ^= {path}
    return path


def links(history: History) -> str:
    path = f"appdir/d/link{history.chance.randrange(2)}"
    history.sources.links[path] = history.sources.content().strip()
    return path


def removes(history: History) -> str:
    kept = ("/t", "bin/hello", "src/", "sub/source", "sub/app/s", "appdir/a", "layerdir/layer", "over/a")
    there = [path for path in history.sources.files if not any(part in path for part in kept)]
    if not there:
        return "nothing"
    path = history.chance.choice(there)
    del history.sources.files[path]
    return path


def changes_a_mode(history: History) -> str:
    folders = ("appdir", "sub/app", "layerdir", "over", "src", "tree")
    path = history.chance.choice(history.sources.of(*folders))
    content, mode = history.sources.files[path]
    if not path.endswith("bin/hello"):
        history.sources.files[path] = (content, mode ^ 0o111)
        history.has_changed_a_mode = True
    return path


def describes(history: History) -> str:
    """Add a rule, or put one in the place of another; what nobody can know of, the user removes."""
    number, kind = history.chance.randrange(4), history.chance.choice(sorted(RULES))
    said = forgets(history, number)
    written = ("appdir/made", "appdir/unpacked", "over/made", "over/unpacked", "over/effect")
    for path in (f"{folder}/{number}" for folder in written):
        if history.sources.files.pop(path, None):
            history.checkout.remove_if_there(path)  # SCons would take it for what it has made
    if kind in READ_BY_ACTIONS:
        history.checkout.remove_unknown(f"tree/{number}/built")
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
    described = {n for n, kind in history.sources.rules.items() if "'appdir/made/{n}'" in RULES[kind][0]}
    left = sorted({int(path.name) for path in made.glob("[0-9]")} - described)
    if left:
        history.sources.write(f"appdir/made/{left[0]}")
    return f"{left[:1]}"


def turns_an_option(history: History) -> str:
    sources = history.sources
    option = history.chance.choice(
        ["exclude", "overlay", "over_first", "rules_first", "modes", "config", "cache"]
    )
    if option == "modes":
        sources.modes = "preserve" if sources.modes == "canonical" else "canonical"
    elif option == "config":
        sources.config = CONFIG.replace("1m", f"{history.chance.randrange(1, 4)}m")
    else:
        setattr(sources, option, not getattr(sources, option))
    return option


def overrides_the_configuration(history: History) -> str:
    """Give members for all packages, or for one, as MYST_CONFIG_SET."""
    number, package = history.chance.randrange(3), history.chance.choice(["", "five"])
    given: dict[str, object] = history.chance.choice(
        [
            {},
            {"SecurityVersion": number},
            {"ProductID": number, "Debug": None},
            {"MemorySize": f"{number + 1}m"},
        ]
    )
    history.sources.members[package] = given
    return f"{package} {json.dumps(given)}"


def asks_for_modes(history: History) -> str:
    """Give modes for paths and patterns, for all roots or for one source."""
    package = history.chance.choice(["", "six"])
    asked = {"d": 0o700, "/a": "0600", "own*": 0o640, "made/*": 0o600, "etc/mapped": 0o444, "[0-9]": "755"}
    count = history.chance.randrange(4)
    history.sources.chmod[package] = dict(history.chance.sample(sorted(asked.items(), key=str), count))
    return f"{package} {history.sources.chmod[package]}"


CHANGES: list[Callable[[History], object]] = [
    *(edits, edits, adds, adds_to_a_tree, links, removes, removes, changes_a_mode),
    *(lays_over, lays_over, adds_what_is_hardly_meant, adds_or_removes_a_folder),
    *(describes, describes, describes, describes, forgets, forgets, takes_over),
    *(turns_an_option, turns_an_option, overrides_the_configuration, asks_for_modes),
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
    name = history.chance.choice(
        ["appdir", "two.cpio", "one.measurement.json", "build", "six.cpio", "five", "over"]
    )
    history.checkout.build(name)
    return name


def loses_the_store(history: History) -> str:
    """Lose what SCons' own database does not know: modes, what side effects and directories have left."""
    if history.has_changed_a_mode:
        history.checkout.build()
    history.checkout.project.path(".sconsign.mystikos").unlink(missing_ok=True)
    for number in range(4):
        kind = history.sources.rules.get(number, "")
        for path in ("appdir/effect/{n}", "appdir/folder/{n}", "appdir/link{n}", "over/effect/{n}"):
            if f"'{path}'" not in RULES.get(kind, ("",))[0] or kind == COPIED_OVER:
                history.checkout.remove_unknown(path.format(n=number))
        source = f"tree/{number}" if kind.startswith("installed directory") else ""
        history.checkout.remove_unknown(f"appdir/usr/{number}", copy_of=source)
    return ""


def loses_a_target(history: History) -> str:
    name = history.chance.choice(
        ["one", "one.cpio", "two.mystenc.so", "three.measurement.json", "layer.cpio", "six.cpio", "made.json"]
    )
    history.checkout.project.path(name).unlink(missing_ok=True)
    return name


def damages_a_target(history: History) -> str:
    name = history.chance.choice(["one.cpio", "five.mystenc.so", "six.measurement.json", "two"])
    path = history.checkout.project.path(name)
    if path.exists():
        path.write_bytes(path.read_bytes() + b"junk")
    return name


def leaves_strays(history: History) -> str:
    """Leave what belongs to nothing: in a variant directory, a FIFO, what a killed build has begun."""
    number = history.chance.randrange(3)
    history.checkout.project.write(f"build/sub/app/stray{number}", f"{number}")
    history.checkout.project.write(f"build/sub/app/lib/stray{number}", f"{number}")
    history.checkout.project.write(f".{history.chance.choice(PACKAGES[:3])}.mystikos-part", "begun")
    fifo = history.checkout.project.path("appdir/fifo")
    if not fifo.exists():
        os.mkfifo(fifo)
    return f"{number}"


def touches(history: History) -> str:
    path = history.chance.choice(history.sources.of("appdir", "src"))
    history.checkout.touch(path)
    return path


def moves_between_repository_and_checkout(history: History) -> str:
    paths = history.sources.of("appdir", "src", "layerdir", "sub", "over")
    path = history.chance.choice(paths)
    history.checkout.move(path)
    return path


def builds_until_nothing_is_to_be_done(history: History) -> str:
    """Build, until what is found up to date is remembered for the changes that follow."""
    for _ in range(3):
        history.checkout.build()
    return ""


def builds_in_a_session(history: History) -> str:
    """Build, change files and build again in an interactive session, and compare with a clean build."""
    files = [edits, adds, adds_to_a_tree, removes, changes_a_mode, links]
    said = []
    with history.checkout.session() as build:
        build()
        for change in history.chance.choices(files, k=2):
            said.append(f"{change.__name__} {change(history)}")
            history.checkout.update(history.sources)
            build()
            history.compare(PACKAGES)
    return ", ".join(said)


BEFORE: list[Callable[[History], object]] = [
    *(builds_until_nothing_is_to_be_done, builds_until_nothing_is_to_be_done),
    *(does_nothing, does_nothing, does_nothing, cleans, only_asks, builds_something_else),
    *(builds_in_a_session, builds_in_a_session),
    *(loses_the_store, loses_a_target, damages_a_target, leaves_strays, touches),
    *(moves_between_repository_and_checkout, moves_between_repository_and_checkout),
]


@pytest.mark.parametrize("seed", range(SEED, SEED + -(-CASES // BUILDS_OF_A_PROJECT)))
def test_a_build_after_random_changes_makes_what_a_clean_one_makes(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "history", seed)
    for _ in range(min(CASES, BUILDS_OF_A_PROJECT)):
        history.step()
