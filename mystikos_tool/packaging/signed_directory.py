"""The signed directory: a package's parts as files, as an installed Mystikos runs them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mystikos_tool import runtime
from mystikos_tool.io.atomic import make_directory, writing
from mystikos_tool.io.content import FileContent
from mystikos_tool.packaging.sections import Parts

# In the order of the loader and a package's sections.
FILES = (
    runtime.LOADER,
    runtime.ENCLAVE,
    runtime.CRT,
    runtime.KERNEL,
    "rootfs",
    "pubkeys",
    "roothashes",
    "config.json",
)


def write(loader: Path, parts: Parts, directory: Path) -> None:
    """Write the loader and the parts of a package as files.

    Raises UserError when something cannot be read or written; earlier files of the directory are
    then as they were.
    """
    files = zip(FILES, (FileContent.of(loader), *parts.in_order()), strict=True)
    with ExitStack() as stack:  # every file is written before the first takes its place
        for name, content in files:
            target = directory / name
            make_directory(target.parent)
            mode = 0o755 if name == runtime.LOADER else 0o644
            content.write_to(stack.enter_context(writing(target, mode)))


def others(directory: Path) -> list[Path]:
    """Return what else than directories and the files of a signed directory is in ``directory``."""
    return sorted(
        path
        for path in directory.rglob("*")
        if not (path.is_dir() and not path.is_symlink()) and str(path.relative_to(directory)) not in FILES
    )
