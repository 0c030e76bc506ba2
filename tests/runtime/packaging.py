"""Make small packages for the tests of the runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from mystikos_tool import config as config_reader
from mystikos_tool import pipeline
from mystikos_tool.config import Config
from mystikos_tool.io.content import Bytes
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing.enclave_key import signer

DATA = Path(__file__).parent.parent / "data"
KEY = DATA / "keys" / "key-a.pem"
OTHER_KEY = DATA / "keys" / "key-b.pem"
SIGNING_DAY = date(2026, 1, 2)


def write_appdir(directory: Path, files: Mapping[str, bytes | Path]) -> Path:
    """Write files, each of them executable, into a directory: content or the path of a file to copy."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content)
        path.chmod(0o755)
    return directory


def make_package(
    directory: Path,
    runtime: Runtime,
    appdir: Path | None,
    settings: Mapping[str, Any],
    *,
    key: Path = KEY,
    pubkeys: Sequence[Path] = (),
    roothashes: Sequence[Path] = (),
    checked: bool = True,
) -> Path:
    """Run every stage in ``directory``; return the package's path.

    Without an ``appdir`` the root is an ext2 disk. What is not ``checked`` is packaged as another
    tool might, which the runtime has to refuse by itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config_file = directory / "config.json"
    text = json.dumps({"version": "0.1", **settings})
    config_file.write_text(text)
    if checked:
        config = config_reader.load(config_file)
    else:
        config = Config(settings["ApplicationPath"], debug=bool(settings.get("Debug")), data=text.encode())
    inputs = pipeline.Inputs(runtime, config, DiskRoot(), pubkeys, roothashes)
    tree, target = DirectorySource(appdir).tree() if appdir else None, directory / "package"
    if checked:
        pipeline.build(inputs, signer(key), SIGNING_DAY, target, tree=tree)
        return target
    with pipeline.packed(inputs, tree, target) as whole:
        measured = pipeline.measure_unchecked(whole)
        image = pipeline.sign(measured, runtime, config, signer(key), SIGNING_DAY)
        pipeline.package(whole, Bytes(image), target)
    return target
