"""The signed directory: a package's parts as files, as an installed Mystikos runs them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mystikos_tool import runtime
from mystikos_tool.io.atomic import make_directory, writing
from mystikos_tool.io.content import Content, FileContent
from mystikos_tool.packaging.sections import Parts


def write(loader: Path, parts: Parts, directory: Path) -> None:
    """Write the loader and the parts of a package as files.

    Raises UserError when something cannot be read or written; earlier files of the directory are
    then as they were.
    """
    files: tuple[tuple[str, int, Content], ...] = (
        (runtime.LOADER, 0o755, FileContent.of(loader)),
        (runtime.ENCLAVE, 0o644, parts.enclave),
        (runtime.KERNEL, 0o644, parts.kernel),
        (runtime.CRT, 0o644, parts.crt),
        ("rootfs", 0o644, parts.rootfs),
        ("pubkeys", 0o644, parts.pubkeys),
        ("roothashes", 0o644, parts.roothashes),
        ("config.json", 0o644, parts.config),
    )
    with ExitStack() as stack:  # every file is written before the first takes its place
        for name, mode, content in files:
            target = directory / name
            make_directory(target.parent)
            content.write_to(stack.enter_context(writing(target, mode)))
