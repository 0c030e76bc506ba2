"""The one exception for mistakes that the user can mend.

Everything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys

# What this project is made with that is not Python's, and the package to install for it.
_DEPENDENCIES = {
    "SCons": "scons",
    "cryptography": "cryptography",
    "cyclonedx": "cyclonedx-python-lib",
    "elftools": "pyelftools",
    "jsonschema": "jsonschema",
    "packageurl": "packageurl-python",
}


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
        return f"{self.where}: {self.problem}; {self.remedy}"


def reason_of(error: BaseException) -> str:
    """Return what the system says of an error, as it goes on in a sentence."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def not_installed(error: BaseException) -> UserError | None:
    """Return the error of a package that this project needs and that is not installed; None for another."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    package = _DEPENDENCIES.get((name or "").partition(".")[0])
    if not package:
        return None
    remedy = f"run: {sys.executable} -m pip install {package}"
    return UserError(sys.executable, f"has no {package}, which mystikos-tool needs", remedy)
