"""The scripts of docs/recipes.md make application directories whose packages start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mystikos_tool.root.closure import Closure

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "recipes.md"
KEY = CHECKOUT / "tests" / "data" / "keys" / "key-a.pem"

pytestmark = pytest.mark.long


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} is not installed")


@dataclass(frozen=True)
class Recipe:
    """A directory in which a script of the page runs."""

    directory: Path

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def sh(self, script: str) -> None:
        """Run a script with this checkout's command line, and its Python as python3."""
        tools = self.directory.parent / "tools"
        tools.mkdir(exist_ok=True)
        for name, command in (
            ("python3", sys.executable),
            ("mystikos-tool", f"{sys.executable} -m mystikos_tool"),
        ):
            (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (tools / name).chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def make(self, heading: str) -> None:
        part = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
        (script,) = re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        self.sh(script)

    def started(self, program: str, *arguments: str, appdir: str = "appdir", **more: object) -> str:
        """Package the directory with these keys, start the package, and return what it printed."""
        members = {
            "version": "0.1",
            "Debug": True,
            "MemorySize": "1g",
            "ApplicationPath": program,
            "ApplicationParameters": arguments,
            **more,
        }
        self.write({"config.json": json.dumps(members)})
        self.sh(f"mystikos-tool package-sgx {appdir} {KEY} config.json -o package")
        size = (self.directory / "package").stat().st_size
        sys.stderr.write(f"{self.directory.parent.name}: {appdir} {size / 1e6:.1f} MB\n")
        done = subprocess.run([self.directory / "package"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "work").mkdir()
    return Recipe(tmp_path / "work")


def interpreter() -> str:
    return os.path.realpath(sys.executable)


@needs("mmdebstrap")
def test_debian_packages(recipe: Recipe) -> None:
    recipe.make("Debian packages")
    program = next((recipe.directory / "appdir" / "usr" / "bin").glob("python3.*"))
    name = f"/usr/bin/{program.name}"
    assert recipe.started(name, "-c", "print('hello from Debian')") == "hello from Debian\n"
    library = f"/usr/lib/{program.name}"
    recipe.sh(f"mystikos-tool appdir closure {name} {library} --sysroot appdir -o closure")
    assert recipe.started(name, "-c", "print('less')", appdir="closure") == "less\n"


def test_python_with_pip(recipe: Recipe) -> None:
    recipe.write(
        {
            "requirements.txt": "markupsafe==3.0.2\n",
            "main.py": "from markupsafe import _speedups, escape\nprint(escape('<hello>'))\n",
        }
    )
    recipe.make("Python with pip")
    assert recipe.started(interpreter(), "/opt/app/main.py") == "&lt;hello&gt;\n"


@needs("node", "npm")
def test_node_with_npm(recipe: Recipe) -> None:
    package = {"name": "hello", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}}
    recipe.write({"package.json": json.dumps(package), "main.js": "console.log(require('ms')('2 days'))\n"})
    recipe.sh("npm install --package-lock-only --no-audit --no-fund")
    recipe.make("Node with npm")
    node = os.path.realpath(str(shutil.which("node")))
    found = recipe.started(node, "/opt/app/main.js", UnhandledSyscallEnosys=True)
    assert found == "172800000\n"


@needs("go", "gcc")
def test_go(recipe: Recipe) -> None:
    code = (
        'package main\n\nimport (\n\t"fmt"\n\t"os/user"\n)\n\n'
        'func main() {\n\tme, _ := user.LookupId("0")\n\tfmt.Println("hello from Go", me != nil)\n}\n'
    )
    recipe.write({"go.mod": "module hello\n\ngo 1.19\n", "main.go": code, "etc/passwd": "root:x:0:0::/:\n"})
    recipe.make("Go")
    recipe.sh("cp -r etc appdir")
    assert recipe.started("/usr/bin/hello") == "hello from Go true\n"


@needs("cargo", "rustc")
def test_rust(recipe: Recipe) -> None:
    recipe.write(
        {
            "Cargo.toml": '[package]\nname = "hello"\nversion = "1.0.0"\nedition = "2021"\n',
            "src/main.rs": 'fn main() { println!("hello from Rust") }\n',
            "Cargo.lock": 'version = 3\n\n[[package]]\nname = "hello"\nversion = "1.0.0"\n',
        }
    )
    recipe.make("Rust")
    assert recipe.started("/usr/bin/hello") == "hello from Rust\n"
    program = (recipe.directory / "appdir" / "usr" / "bin" / "hello").read_bytes()
    assert os.fsencode(recipe.directory) not in program


@needs("buildah")
def test_a_containerfile(recipe: Recipe) -> None:
    shell = "/bin/sh"
    assert Closure([shell]).tree().files
    recipe.write(
        {
            "Containerfile": "FROM scratch\nCOPY base/ /\nCOPY hello.sh /app/\n"
            'RUN ["/bin/sh", "-c", "echo built > /app/stamp"]\n',
            "hello.sh": 'read made < /app/stamp\necho "hello, $made"\n',
        }
    )
    recipe.sh(f"mystikos-tool appdir closure {shell} -o base")
    recipe.make("A Containerfile")
    assert recipe.started(shell, "/app/hello.sh") == "hello, built\n"
