"""Passphrases and PINs, which are named by where they are and never given themselves.

    env:NAME      the value of an environment variable
    file:PATH     the content of a file, without the line end
    exec:COMMAND  what a command writes, without the line end
    terminal:     what the user types, asked for once in a run

Without one of them it is the terminal, where there is one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Lock

from mystikos_tool.errors import UserError
from mystikos_tool.io.atomic import read_input

WAYS = "env:NAME, file:PATH, exec:COMMAND or terminal:"
_LONGEST = 1 << 12
_SECONDS = 60.0

_typed: dict[str, bytes] = {}
_typing = Lock()


def read(source: str | None, what: str, where: str, remedy: str) -> bytes:
    """Return the secret that ``source`` names.

    ``what`` it is, as "the passphrase", and ``where`` it is needed are told to the user; ``remedy``
    says how a source is named. Raises UserError for a source that is none, that cannot be read, or
    that holds nothing or several lines; nothing of a source but its kind and name is shown.
    """
    if source is None or source == "terminal:":
        return _from_terminal(what, where, remedy)
    kind, _, name = source.partition(":")
    readers = {"env": _from_environment, "file": _from_file, "exec": _from_command}
    if kind not in readers or not name:
        # It may be the secret itself, and is not shown.
        problem = f"{what} is given in a form that is no source, and may be seen by others"
        raise UserError(where, problem, f"name where it is: {WAYS}")
    return _checked(readers[kind](name, what, where), f"{what} of {where}")


def _from_environment(name: str, what: str, where: str) -> bytes:
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise UserError(where, f"{what} is not in the environment variable {name}", f"set {name}")
    return value


def _from_file(name: str, what: str, where: str) -> bytes:
    return _line(read_input(Path(name), f"file of {what}", _LONGEST))


def _from_command(command: str, what: str, where: str) -> bytes:
    from mystikos_tool.io import commands  # few secrets come from one

    words = split(command, where)
    try:
        return _line(commands.run(words, seconds=_SECONDS, limit=_LONGEST))
    except commands.CommandFault as fault:
        problem = f"the command {words[0]}, which gives {what}, {fault}"
        raise UserError(where, problem, "see what it does when it is started by hand") from None


def _from_terminal(what: str, where: str, remedy: str) -> bytes:
    key = f"{what} of {where}"
    with _typing:  # several threads may need it, and the user is asked once
        if key not in _typed:
            if not _has_terminal():
                raise UserError(where, f"{what} is needed, and there is no terminal to ask for it", remedy)
            import getpass

            try:
                _typed[key] = _checked(os.fsencode(getpass.getpass(f"{key[0].upper()}{key[1:]}: ")), key)
            except EOFError:
                raise UserError(where, f"{what} was not given", remedy) from None
        return _typed[key]


def forget(what: str, where: str) -> None:
    """Ask anew for what was typed and turned out to be wrong."""
    with _typing:
        _typed.pop(f"{what} of {where}", None)


def _has_terminal() -> bool:
    """Tell whether somebody is there to be asked: the run's input is a terminal, and it is ours."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _line(data: bytes) -> bytes:
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _checked(secret: bytes, what: str) -> bytes:
    if not secret:
        raise UserError(what, "is empty", "correct its source")
    if b"\n" in secret or b"\0" in secret:
        raise UserError(what, "has several lines or a NUL in it", "let its source hold one line")
    return secret


def split(command: str, where: str) -> list[str]:
    """Return the words of a command as a shell would take them; nothing else of a shell is done.

    Raises UserError for one without words and for quotes that are not closed.
    """
    import shlex

    try:
        words = shlex.split(command)
    except ValueError:
        raise UserError(where, "has a quote that is not closed", "close it") from None
    if not words:
        raise UserError(where, "names no command", "write it behind exec:")
    return words
