"""The one exception for mistakes that the user can mend.

Everything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from mystikos_tool.printable import lines, one_line

# What this project is made with that is not Python's, and the package to install for it.
_DEPENDENCIES = {
    "SCons": "scons",
    "cryptography": "cryptography",
    "cyclonedx": "cyclonedx-python-lib",
    "elftools": "pyelftools",
    "jinja2": "jinja2",
    "jsonschema": "jsonschema",
    "packageurl": "packageurl-python",
}

_OF_A_DISK = {errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ENOTCONN, errno.ETIMEDOUT}
_TOO_MANY = {
    errno.EMFILE: (
        "cannot be opened: this process has as many open as it may",
        "allow more, as by: ulimit -n 1024",
    ),
    errno.ENFILE: (
        "cannot be opened: the system has as many open as it may",
        "end what has opened them, or set fs.file-max",
    ),
}

# A path in front of what is wrong with it, from its component ~ or ~user on; SCons has a word before it.
_TILDE = r"(?:Source `)?(?P<before>(?:[^:\s]*/)?)(?P<user>~[\w.-]*)(?P<rest>[^:']*)[:']"


class UserError(Exception):
    """A mistake in what the user gave: a file, its content or an option.

    ``where`` is the file with the place in it (line, key or section), ``problem`` what is
    wrong there, ``remedy`` what to do about it, as a phrase in the imperative.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(where, problem, remedy)
        self.where = where
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        # What is wrong is told on one line, whatever is in the names of a hostile package.
        return f"{one_line(self.where)}: {one_line(self.problem)}; {lines(self.remedy)}"


def explained(message: str) -> str:
    """Return a message, with what is to be known of a ``~`` that begins a path in it and was not expanded."""
    found = re.match(_TILDE, message)
    if not found or os.path.lexists(found["before"] + found["user"]):
        return message
    home = os.path.expanduser(found["user"])  # noqa: PTH111 a word, and no path
    instead = "its path" if home == found["user"] else home + found["rest"]
    return f"{message}; {found['user']} stands for a home directory in shells only: write {instead}"


def reason_of(error: BaseException) -> str:
    """Return what the system says of an error, as it goes on in a sentence."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def too_many_files(error: BaseException) -> UserError | None:
    """Return the error of having too many files open, where that is behind an error; None for another.

    Whoever could not open a file may have told so in words of its own, with a remedy that does not help.
    """
    behind: BaseException | None = error
    seen = set[BaseException]()  # an error that is raised again and again may be behind itself
    while behind and behind not in seen:
        seen.add(behind)
        if isinstance(behind, OSError) and behind.errno in _TOO_MANY:
            return UserError(_place(behind.filename), *_TOO_MANY[behind.errno])
        # A library that cannot be loaded says why in words alone.
        if isinstance(behind, ImportError) and os.strerror(errno.EMFILE) in str(behind):
            return UserError(_place(behind.path), *_TOO_MANY[errno.EMFILE])
        behind = behind.__cause__ or behind.__context__
    return None


def failed_disk(error: BaseException) -> UserError | None:
    """Return the error of a disk, or a file system's server, that failed the system; None for another."""
    if not isinstance(error, OSError) or error.errno not in _OF_A_DISK:
        return None
    return UserError(
        _place(error.filename), reason_of(error), "see to the disk or file system that it lies on"
    )


def _place(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else "a file"


def not_installed(error: BaseException) -> UserError | None:
    """Return the error of a package that this project needs and that is missing or cannot be loaded.

    None for another. That it cannot be loaded may come of what it needs itself, of another version of
    it, or of files that are not there or not for this machine.
    """
    name = error.name or "" if isinstance(error, ImportError) else ""
    if isinstance(error, ModuleNotFoundError) and name in _DEPENDENCIES:
        package = _DEPENDENCIES[name]
        remedy = f"run: {sys.executable} -m pip install {package}"
        return UserError(sys.executable, f"has no {package}, which mystikos-tool needs", remedy)
    found = _DEPENDENCIES.get(name.partition(".")[0]) or _loaded_when(error)
    if not found:
        return None
    problem = f"has a {found} that cannot be loaded ({type(error).__name__}: {error})"
    remedy = f"install it anew, run: {sys.executable} -m pip install --force-reinstall {found}"
    return UserError(sys.executable, problem, remedy)


def _loaded_when(error: BaseException) -> str | None:
    """Return the package whose module was being loaded, by us, when an error came; None where none was."""
    place = error.__traceback__
    while place:
        code, name = place.tb_frame.f_code, str(place.tb_frame.f_globals.get("__name__"))
        if not name.startswith(("mystikos_tool", "importlib")) and code.co_name == "<module>":
            return _DEPENDENCIES.get(name.partition(".")[0])
        place = place.tb_next
    return None
