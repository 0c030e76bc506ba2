"""The command line: ``mystikos-tool VERB ...``, with the verbs of Mystikos' own ``myst``.

It only translates: arguments to calls, results to a line on standard output, and UserError to a
line on standard error with exit status 2. Each group of verbs has a file; `verbs` has the table of
them. A verb's file is imported when the verb is used, and what it needs of the core when it runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mystikos_tool import __version__
from mystikos_tool.cli.verb import PROGRAM, put, tell
from mystikos_tool.cli.verbs import NAMES, VERBS
from mystikos_tool.errors import UserError, explained, failed_disk, not_installed, reason_of, too_many_files

USER_ERROR = 2


_IN_HARDWARE = (
    "starts enclaves in SGX hardware, which is an installed Mystikos' to do",
    f"use '{PROGRAM} run' to start with the embedded runtime; for hardware, '{PROGRAM} sign-sgx --runtime'"
    " makes a directory whose bin/myst has this verb",
)
_ELSEWHERE = {"exec-sgx": _IN_HARDWARE, "exec": _IN_HARDWARE}


def process() -> NoReturn:
    """Run one verb and end the process at once: what is in memory the system clears away faster."""
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status.

    It is the verb's, 2 for the user's mistakes, 128+n for a signal.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _collect_less_garbage()
    _open_what_is_closed()
    try:
        with _signals_end_the_run():
            return _run(given)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    finally:
        _drop_unwritten()


def _open_what_is_closed() -> None:
    """Give a standard stream that is closed to nothing: a file that is written would else get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest free number, this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 to the end


def _drop_unwritten() -> None:
    """Let what cannot be written go nowhere: the interpreter, which has its own status, tries again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _collect_less_garbage() -> None:
    """Let the collector look at what modules consist of rarely, which is most of what a run has in memory."""
    gc.set_threshold(100_000)


def _run(arguments: list[str]) -> int:
    try:
        try:
            return _run_verb(arguments)
        finally:
            put("")  # help leaves it to others to tell that it cannot be written
    except UserError as error:
        return _told(too_many_files(error) or error)
    except Exception as error:
        told = too_many_files(error) or not_installed(error) or _no_current_directory() or failed_disk(error)
        if not told:
            raise
        return _told(told)


def _run_verb(arguments: list[str]) -> int:
    if arguments and arguments[0] in _ELSEWHERE:
        raise UserError(arguments[0], *_ELSEWHERE[arguments[0]])
    try:
        if not arguments or arguments[0] not in NAMES:
            _overview().parse_args(arguments[:1])  # prints help or what is wrong, and exits
        verb = NAMES[arguments[0]]
        options = verb.parse(arguments[1:])
    except OSError as error:  # Python 3.10 lets out that it cannot write what is wrong with them
        problem = f"cannot be told of: {reason_of(error)}"
        raise UserError("the arguments", problem, "free some space, or send messages elsewhere") from error
    return verb.run(options)


def _no_current_directory() -> UserError | None:
    """Say so where the current directory was removed, which any relative path fails for."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return UserError("the current directory", "is gone", "change into one that is there")
    return None


def _told(error: UserError) -> int:
    for line in explained(str(error)).splitlines():
        tell(f"error: {line}")
    return USER_ERROR


def _overview() -> argparse.ArgumentParser:
    shown = {", ".join((verb.name, *verb.aliases)): verb.summary for verb in VERBS.values()}
    width = max(map(len, shown))
    lines = [f"  {names:{width}}  {summary}" for names, summary in shown.items()]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] VERB ...",
        description="Package applications for Mystikos enclaves.",
        epilog="\n".join(["verbs:", *lines, "", f"{PROGRAM} VERB --help tells more about a verb."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("verb", metavar="VERB", choices=NAMES, help="what to do, one of the verbs below")
    return parser


@contextmanager
def _signals_end_the_run() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as an exception does, so that no temporary file is left.

    One that is ignored, as under nohup, stays so: for this run and for a program that it starts.
    """

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = {
        number: signal.signal(number, end)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
