"""The one exception for mistakes that the user can mend.

Everything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations


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
