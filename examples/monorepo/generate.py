"""Make a monorepo of any size, the same for the same number of apps.

python generate.py 100 /tmp/monorepo
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent

PHRASES = {
    "danish": {"red": "rød", "green": "grøn", "hello": "hej"},
    "french": {"red": "rouge", "green": "vert", "hello": "bonjour"},
    "german": {"red": "rot", "green": "grün", "hello": "hallo"},
    "italian": {"red": "rosso", "green": "verde", "hello": "ciao"},
    "spanish": {"red": "rojo", "green": "verde", "hello": "hola"},
}
TEAMS = ("north", "south", "west")
_FILE_SIZE = 1000
_FILES_IN_DIRECTORY = 100


def main() -> int:
    """Write the monorepo that the arguments ask for."""
    parser = argparse.ArgumentParser(description="Make a monorepo of any size.")
    parser.add_argument("apps", type=int, help="number of apps")
    parser.add_argument("directory", type=Path, help="a new directory for them")
    parser.add_argument("--files", type=int, default=20, help="files in each app (%(default)s)")
    arguments = parser.parse_args()
    try:
        generate(arguments.directory, arguments.apps, arguments.files)
    except FileExistsError:
        parser.error(f"{arguments.directory} is there already")
    sys.stdout.write(f"{arguments.apps} apps in {arguments.directory}; build them there: scons -j8\n")
    return 0


def generate(directory: Path, apps: int, files: int = 20) -> None:
    """Write a monorepo; raise FileExistsError where ``directory`` is there already."""
    directory.mkdir(parents=True)
    for name in ("SConstruct", "phrasebook.c"):
        shutil.copy(HERE / name, directory / name)
    shutil.copytree(HERE / "base", directory / "base")
    for language, phrases in PHRASES.items():
        for word, phrase in phrases.items():
            _write(directory / "libs" / language / f"{word}.txt", f"{word}: {phrase}\n")
    for number in range(apps):
        _app(directory / "apps" / f"app{number:04}", number, files)


def _app(directory: Path, number: int, files: int) -> None:
    """Write an app with one to three libraries; the next app has the next ones."""
    languages = list(PHRASES)
    used = sorted({languages[(number + step) % len(languages)] for step in range(1 + number % 3)})
    title = f"Phrasebook {number}: {', '.join(used)}"
    about = {
        "team": TEAMS[number % len(TEAMS)],
        "libraries": used,
        "test": {"words": ["red"], "says": f"{title}\n" + "".join(_answers("red", used))},
    }
    config = {
        "version": "0.1",
        "Debug": True,
        "ProductID": number,
        "MemorySize": "16m",
        "ApplicationPath": "/bin/phrasebook",
        "HostApplicationParameters": True,
    }
    _write(directory / "app.json", json.dumps(about, indent=2) + "\n")
    _write(directory / "config.json", json.dumps(config, indent=2) + "\n")
    _write(directory / "root" / "etc" / "title", title + "\n")
    source = random.Random(number)
    for count in range(files - 1):
        name = f"usr/share/phrasebook/{count // _FILES_IN_DIRECTORY:03}/{count:05}"
        _write(directory / "root" / name, source.randbytes(_FILE_SIZE).hex())


def _answers(word: str, languages: list[str]) -> Iterator[str]:
    return (f"{word} in {language}: {PHRASES[language][word]}\n" for language in languages)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
