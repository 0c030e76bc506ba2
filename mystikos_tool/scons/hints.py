"""Remedies for a root in which a file is not where it was meant to be: a mapping puts it there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from mystikos_tool.errors import UserError
from mystikos_tool.scons.stages import Enclave, Rootfs, stage_of


@contextmanager
def pointing_to_mappings(enclave: Enclave, program: str) -> Iterator[None]:
    """Let an error about the root's program name the mapping that puts a file of the sources in its place.

    ``program`` is its path in the root. A file that is the only source is taken for an archive, and one
    among several goes to the top of the root.
    """
    try:
        yield
    except UserError as error:
        file = _meant(error, enclave, program)
        if not file:
            raise
        mapping = f'{{"{program.strip("/")}": "{file}"}}'
        remedy = f"to put the file there give the mapping {mapping} as the source"
        raise UserError(error.where, error.problem, remedy) from error


def _meant(error: UserError, enclave: Enclave, program: str) -> str | None:
    """Return the source that seems to be meant as the program; None where nothing says so."""
    if "no CPIO archive" in error.problem:
        return str(enclave.rootfs)
    if not error.problem.startswith(f"{program} is not in ") or not isinstance(
        stage_of(enclave.rootfs), Rootfs
    ):
        return None
    files = [name for name in (node.unplaced_file() for node in enclave.rootfs.sources) if name]
    named = [name for name in files if PurePath(name).name == PurePath(program).name]
    return named[0] if named else files[0] if len(files) == 1 else None
