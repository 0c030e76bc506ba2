"""Starting a root under an installed Mystikos without SGX: by its own ``bin/myst exec-linux``.

The kernel and the C library are the real ones, outside of an enclave: what runs is seen by everybody
who may look into the process, and nothing is measured.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mystikos_tool import config as config_reader
from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, lookup
from mystikos_tool.packaging import sections
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.runtime import Runtime

# Where Mystikos' own packages install it, and the devices of Linux' drivers for SGX.
INSTALLED = Path("/opt/mystikos")
SGX_DEVICES = (Path("/dev/sgx_enclave"), Path("/dev/sgx/enclave"), Path("/dev/isgx"))


def has_sgx() -> bool:
    """Tell whether enclaves can be started on this machine."""
    return any(lookup.exists(device) for device in SGX_DEVICES)


def installed() -> Runtime | None:
    """Return the Mystikos that is installed: of the ``myst`` in PATH, else in its usual place.

    None where there is none, or not all of it.
    """
    found = shutil.which("myst")
    above = [Path(os.path.realpath(found)).parent.parent] if found else []
    for directory in (*above, INSTALLED):
        try:
            runtime = Runtime.installed(directory)
        except UserError:
            continue
        if not runtime.is_embedded:
            return runtime
    return None


def command(
    loader: Path,
    archive: Path,
    config: Path,
    program: str,
    arguments: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that starts ``program`` of a root with the configuration in a file.

    ``options`` are those of exec-linux. It takes what looks like one of them out of the arguments too.
    """
    start = [str(loader), "exec-linux", "--app-config-path", str(config), *options]
    return [*start, str(archive), program, *arguments]


@contextmanager
def of_package(package: Path, loader: Path, arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the command that starts the root of a package, which lies in a temporary directory for so long.

    Raises UserError for what is no package or has its root on a disk.
    """
    opened = OpenedPackage(package)
    if opened.is_on_disk:
        problem = "has its root on a disk, which exec-linux has to be given"
        raise UserError(str(package), problem, f"run: {loader} exec-linux DISK PROGRAM")
    given = config_reader.parse(opened.config, opened.where(sections.CONFIG))
    with atomic.scratch(Path(tempfile.gettempdir(), "run")) as directory:
        archive, config = directory / "rootfs", directory / "config.json"
        with archive.open("wb") as file:
            opened.content(sections.ROOTFS).write_to(file)
        config.write_bytes(opened.config)
        yield command(loader, archive, config, given.application_path, arguments)


def told(loader: Path, override: str) -> str:
    """Return the line that says how a root is started, and what lets it be started in another way."""
    return f"started without SGX by {loader} exec-linux; {override}"
