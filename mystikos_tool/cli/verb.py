"""A verb of the command line, and how verbs talk to the user."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import printable
from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import console

PROGRAM = "mystikos-tool"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Verb(NamedTuple):
    """A verb: its line in the overview, an example, and where its code is.

    In the ``module`` of `mystikos_tool.cli` there are two functions for it: one declares its arguments, the
    other runs it. They are called ``declare`` and ``run``, with an underscore and ``part`` behind that where
    the module has several verbs. ``aliases`` are other names of the verb. With ``passes_on``, all that
    follows the positional arguments is a program's, options as well. ``writes`` is the argument that names
    the file to write.
    """

    name: str
    summary: str
    example: str
    module: str
    part: str = ""
    aliases: tuple[str, ...] = ()
    passes_on: bool = False
    writes: str = "outfile"

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the arguments behind the verb."""
        parser = argparse.ArgumentParser(
            prog=f"{PROGRAM} {self.name}",
            description=self.summary[0].upper() + self.summary[1:] + "." + self._other_names(),
            epilog=f"example:\n  {PROGRAM} {self.name} {self.example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.declare(parser)
        return parser

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Read the arguments behind the verb; options may stand between positional ones."""
        parser = self.parser()
        if self.passes_on:
            return parser.parse_args(arguments)
        if "" in arguments:  # which would be taken for the current directory
            parser.error("an argument is empty; name what belongs there, or leave it out")
        if _has_names_like_options(arguments):
            return parser.parse_args(arguments)
        return parser.parse_intermixed_args(arguments)

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        self._function("declare")(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Do the work; return the exit status. Raises UserError before a file is read and written over."""
        target = getattr(options, self.writes, None)
        if isinstance(target, Path):
            others = {name: value for name, value in vars(options).items() if name != self.writes}
            check_target(target, others)
        return self._function("run")(options) or 0

    def _function(self, name: str) -> Callable[..., int | None]:
        module = import_module(f"mystikos_tool.cli.{self.module}")
        function: Callable[..., int | None] = getattr(module, f"{name}_{self.part}" if self.part else name)
        return function

    def _other_names(self) -> str:
        return f" Other names: {', '.join(self.aliases)}." if self.aliases else ""


def _has_names_like_options(arguments: list[str]) -> bool:
    """Tell whether names behind ``--`` begin with a hyphen, which parse_intermixed_args takes for options."""
    behind = arguments[arguments.index("--") :] if "--" in arguments else []
    return any(name.startswith("-") for name in behind[1:])


def check_target(
    target: Path, others: Mapping[str, object], packed: Path | None = None, *, parents: bool = False
) -> None:
    """Refuse to write over a file that another argument names: a path, one of a list, an image or a key.

    ``packed`` and ``parents`` are as `atomic.check_target` has them.
    """
    from mystikos_tool.io import atomic, lookup
    from mystikos_tool.signing import notation

    given = [one for value in others.values() for one in (value if isinstance(value, list) else [value])]
    files = [one for one in given if isinstance(one, Path)]
    key, image = others.get("key"), others.get("image")
    files += [Path(image)] if isinstance(image, str) else []
    files += notation.parse(key).files if isinstance(key, str) else ()
    inputs = (file for file in files if not lookup.is_dir(file))
    atomic.check_target(target, inputs, packed, parents=parents)


def size_in_bytes(text: str) -> int:
    """Read a number of bytes, such as 67108864 or 64m; for argparse."""
    match = re.fullmatch(r"([0-9]+)([kmg]?)", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, such as 67108864 or 64m")
    return int(match[1]) * _UNITS[match[2]]


def tell(message: str) -> None:
    """Print a warning or an error on standard error, on one line. Where that is full, the status tells."""
    try:
        console.write_line(f"{PROGRAM}: {printable.one_line(message)}", sys.stderr)
    except BrokenPipeError:
        raise
    except OSError:
        pass


def say(message: str) -> None:
    """Print a result on standard output, fit to be shown."""
    put(console.shown(printable.lines(message), sys.stdout) + "\n")


def put(text: str) -> None:
    """Print a text on standard output as it is. Raises UserError where it cannot be written there."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = f"cannot be written: {reason_of(error)}"
        raise UserError("standard output", problem, "free some space, or send it elsewhere") from error
