"""The monorepo example: a change rebuilds the packages that it concerns and no others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from mystikos_tool.runtime import embedded

CHECKOUT = Path(__file__).resolve().parents[2]
DATA = CHECKOUT / "tests" / "data"
APPS = 6

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")


@dataclass(frozen=True)
class Monorepo:
    """A generated monorepo; ``runtime`` is what its packages are made with."""

    directory: Path
    runtime: Path

    def scons(self, *arguments: str) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "SCons", "-Q", f"--site-dir={CHECKOUT / 'site_scons'}"),
                *(f"MYST_RUNTIME={self.runtime}", *arguments),
            ],
            cwd=self.directory,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1767312000", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rebuilt(self) -> set[str]:
        """Build, and return the apps whose packages were made anew."""
        before = self.packages()
        said = set(re.findall(r"^packaged .* → build/(\w+)$", self.scons("-j4"), re.MULTILINE))
        after = self.packages()
        assert said == {app for app in after if after[app] != before.get(app)}
        return said

    def packages(self) -> dict[str, tuple[int, int]]:
        found = {app: self.directory / "build" / app for app in self.apps()}
        return {
            app: (path.stat().st_ino, path.stat().st_mtime_ns) for app, path in found.items() if path.exists()
        }

    def apps(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "apps").iterdir())

    def containing(self, library: str) -> set[str]:
        """Return the apps that contain a library."""
        return {app for app in self.apps() if library in self.about(app)["libraries"]}

    def about(self, app: str) -> dict[str, Collection[str]]:
        about: dict[str, Collection[str]] = json.loads((self.directory / f"apps/{app}/app.json").read_text())
        return about

    def append(self, name: str, text: str) -> None:
        with (self.directory / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def copy(self, directory: Path) -> Monorepo:
        shutil.copytree(self.directory, directory, symlinks=True)
        return Monorepo(directory, self.runtime)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Monorepo:
    """A monorepo with the recorded runtime and the same keys in every copy."""
    directory = tmp_path_factory.mktemp("monorepo")
    runtime = directory / "runtime"
    shutil.copytree(DATA / "rt-a" / "lib", runtime / "lib")
    with (runtime / "lib" / "libmystkernel.so").open("ab") as kernel:
        kernel.write(b"--myst-mount")  # as the embedded one, which starts the example's static program
    (runtime / "bin").mkdir()
    shutil.copy(DATA / "program", runtime / "bin" / "myst")
    generator = CHECKOUT / "examples" / "monorepo" / "generate.py"
    repository = directory / "repository"
    subprocess.run([sys.executable, generator, str(APPS), repository, "--files=3"], check=True)
    (repository / "keys").mkdir()
    for number, team in enumerate(("north", "south", "west")):
        shutil.copy(DATA / "keys" / f"key-{'ab'[number % 2]}.pem", repository / "keys" / f"{team}.pem")
    return Monorepo(repository, runtime)


@pytest.fixture(scope="module")
def _built(generated: Monorepo, tmp_path_factory: pytest.TempPathFactory) -> Monorepo:
    monorepo = generated.copy(tmp_path_factory.mktemp("built") / "repository")
    assert monorepo.rebuilt() == set(monorepo.apps())
    return monorepo


@pytest.fixture
def monorepo(_built: Monorepo, tmp_path: Path) -> Monorepo:
    """A copy of a monorepo that has been built."""
    return _built.copy(tmp_path / "repository")


@pytest.mark.parametrize("library", ["french", "italian"])
def test_a_change_in_a_library_rebuilds_the_packages_that_contain_it_and_no_others(
    monorepo: Monorepo, library: str
) -> None:
    containing = monorepo.containing(library)
    assert 0 < len(containing) < APPS
    monorepo.append(f"libs/{library}/red.txt", "blue: ?\n")
    assert monorepo.rebuilt() == containing
    assert monorepo.rebuilt() == set()


def test_a_change_in_a_library_that_does_not_reach_what_is_built_of_it_rebuilds_nothing(
    monorepo: Monorepo,
) -> None:
    source = monorepo.directory / "libs/french/red.txt"
    monorepo.append("libs/french/red.txt", source.read_text())
    assert monorepo.rebuilt() == set()


def test_a_change_in_the_base_rebuilds_all_packages_but_its_readme_none(monorepo: Monorepo) -> None:
    monorepo.append("base/README", "More of it.\n")
    assert monorepo.rebuilt() == set()
    monorepo.append("base/etc/motd", "Come in.\n")
    assert monorepo.rebuilt() == set(monorepo.apps())


@pytest.mark.parametrize("name", ["root/etc/title", "config.json"])
def test_a_change_in_an_app_rebuilds_its_package_alone(monorepo: Monorepo, name: str) -> None:
    monorepo.append(f"apps/app0002/{name}", "\n")
    assert monorepo.rebuilt() == {"app0002"}


def test_another_key_of_a_team_signs_its_packages_anew(monorepo: Monorepo) -> None:
    shutil.copy(DATA / "keys" / "key-b.pem", monorepo.directory / "keys" / "north.pem")
    assert monorepo.rebuilt() == {app for app in monorepo.apps() if monorepo.about(app)["team"] == "north"}


def test_an_app_more_builds_that_app_alone(monorepo: Monorepo) -> None:
    shutil.copytree(monorepo.directory / "apps/app0001", monorepo.directory / "apps/app9999")
    assert monorepo.rebuilt() == {"app9999"}


def test_one_package_at_a_time_gives_the_same_bytes(
    generated: Monorepo, monorepo: Monorepo, tmp_path: Path
) -> None:
    one_at_a_time = generated.copy(tmp_path / "other")
    one_at_a_time.scons("-j1")
    for app in monorepo.apps():
        assert (monorepo.directory / "build" / app).read_bytes() == (
            one_at_a_time.directory / "build" / app
        ).read_bytes()


def test_every_app_says_what_its_test_expects(generated: Monorepo, tmp_path: Path) -> None:
    runtime = embedded()
    monorepo = Monorepo(generated.copy(tmp_path / "repository").directory, runtime.loader.parents[1])
    assert f"check: {APPS} passed (0 of them unchanged), 0 failed\n" in monorepo.scons("-j4", "check")
    assert "red in italian: rosso\n" in monorepo.scons("run-app0003", "words=red")
