"""Collect this machine's Python, its standard library and the shared libraries they need.

usage: collect.py APPDIR MAIN
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = (
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "ensurepip",
    "config-*",
)


def needed(files: list[Path]) -> set[Path]:
    """Return the shared libraries, the dynamic linker among them, that ELF files are linked with."""
    found = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", found, re.MULTILINE)}


def main(appdir: Path, program: Path) -> None:
    """Make the appdir anew."""
    shutil.rmtree(appdir, ignore_errors=True)
    libraries = appdir / "usr/lib"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = libraries / version
    shutil.copytree(
        sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True
    )
    extensions = library / "lib-dynload"
    if not extensions.is_dir():
        shutil.copytree(Path(sysconfig.get_path("platstdlib")) / "lib-dynload", extensions)

    interpreter = appdir / "usr/bin/python3"
    interpreter.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), interpreter)
    for path in sorted(needed([interpreter, *sorted(extensions.glob("*.so"))])):
        # The dynamic linker has to be where the interpreter names it.
        target = appdir / str(path).lstrip("/") if path.name.startswith("ld-") else libraries / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (appdir / "app").mkdir()
    shutil.copy(program, appdir / "app/main.py")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
