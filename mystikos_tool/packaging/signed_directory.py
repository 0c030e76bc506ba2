"""The signed directory: a package's parts as files, as an installed Mystikos runs them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from mystikos_tool import runtime
from mystikos_tool.io.atomic import make_directory, writing
from mystikos_tool.io.content import Bytes, Content, FileContent
from mystikos_tool.pipeline import Inputs


def write(inputs: Inputs, image: bytes, rootfs: Path, directory: Path) -> None:
    """Write a runtime with a signed enclave image, the root file system and what goes with it.

    ``rootfs`` is copied as it is, archive or ext2 disk. Raises UserError when something cannot
    be read or written; earlier files of the directory are then as they were.
    """
    files: tuple[tuple[str, int, Content], ...] = (
        (runtime.LOADER, 0o755, FileContent.of(inputs.runtime.loader)),
        (runtime.ENCLAVE, 0o644, Bytes(image)),
        (runtime.KERNEL, 0o644, FileContent.of(inputs.runtime.kernel)),
        (runtime.CRT, 0o644, FileContent.of(inputs.runtime.crt)),
        ("rootfs", 0o644, FileContent.of(rootfs)),
        ("pubkeys", 0o644, Bytes(inputs.pubkeys_content())),
        ("roothashes", 0o644, Bytes(inputs.roothashes_content())),
        ("config.json", 0o644, Bytes(inputs.config.data)),
    )
    with ExitStack() as stack:  # every file is written before the first takes its place
        for name, mode, content in files:
            target = directory / name
            make_directory(target.parent)
            content.write_to(stack.enter_context(writing(target, mode)))
