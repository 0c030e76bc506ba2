"""What is told of errors of the system, whoever has told of them before."""

from __future__ import annotations

import errno
import os

import pytest

from mystikos_tool.errors import UserError, too_many_files


def told_of(number: int) -> UserError:
    """The error of a file that cannot be opened, in words of somebody who knows the file alone."""
    with pytest.raises(UserError) as error:
        try:
            raise OSError(number, os.strerror(number), "lib/one.so")
        except OSError:
            raise UserError("lib/one.so", "cannot be read", "make it readable") from None
    return error.value


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "allow more, as by: ulimit -n"), (errno.ENFILE, "set fs.file-max")]
)
def test_too_many_open_files_are_found_behind_what_was_told_of_one(number: int, remedy: str) -> None:
    found = too_many_files(told_of(number))
    assert found
    assert found.where == "lib/one.so"
    assert remedy in found.remedy
    assert too_many_files(told_of(errno.EACCES)) is None


def test_a_library_that_cannot_be_loaded_for_them_says_so_in_words_alone() -> None:
    words = f"libx.so: cannot open shared object file: {os.strerror(errno.EMFILE)}"
    found = too_many_files(ImportError(words, path="/lib/x.so"))
    assert found
    assert found.where == "/lib/x.so"


def test_an_error_that_is_behind_itself_has_nothing_else_behind_it() -> None:
    first, second = UserError("a", "b", "c"), ValueError()
    first.__context__, second.__context__ = second, first
    assert too_many_files(first) is None
