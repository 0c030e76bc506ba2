"""A key that was named and is not opened yet, and the time limit of its signer."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup
from mystikos_tool.signing.signer import Signer

SECONDS = 60.0
_LONGEST = 10**8  # seconds; the system's clocks count no endless time


class NamedKey(NamedTuple):
    """A key that was named and is not opened yet.

    ``shown`` names it in messages, without anything that may be secret. ``open`` returns who signs with
    it, and raises UserError where there is nobody. ``files`` are those whose content says which key it
    is; where there are none, the signer itself is asked. ``only_reads`` says that opening it starts no
    program.
    """

    shown: str
    open: Callable[[], Signer]
    files: tuple[Path, ...] = ()
    keeps_secret: bool = False
    only_reads: bool = False

    def warnings(self) -> list[str]:
        """Return what is to be said of the files that hold the private key, as who may read them."""
        if not self.keeps_secret:
            return []
        return [text for path in self.files if lookup.exists(path) and (text := exposed(path))]


def exposed(path: Path) -> str | None:
    """Return a warning where others than its owner may read or write a key file, else None."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not (mode & 0o066 and stat.S_ISREG(status.st_mode)):
        return None
    return f"{path}: others may read or change this key (mode {mode:04o}); chmod go= {path}"


def seconds_of(text: str | None, where: str) -> float:
    """Return a time limit; raise UserError for what is no number of seconds, 10^8 at most."""
    try:
        seconds = SECONDS if text is None else float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST:
        remedy = f"give a number of seconds greater than 0, at most {_LONGEST:,}"
        raise UserError(where, f"its timeout cannot be {text!r}", remedy)
    return seconds
