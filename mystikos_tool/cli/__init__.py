"""The command line: ``mystikos-tool VERB ...``, with the verbs of Mystikos' own ``myst``.

It only translates: arguments to calls, results to a line on standard output, and UserError to a
line on standard error with exit status 2. Each group of verbs has a file; :data:`VERBS` is the
one table of them. What a verb needs of the core is imported when it runs, so that help, and a verb
that needs little, come at once.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mystikos_tool import __version__
from mystikos_tool.cli import (
    appdir,
    archive,
    disk,
    explain,
    image,
    inspect,
    keys,
    offline,
    package,
    relying,
    run,
    schema,
    shell,
)
from mystikos_tool.cli.verb import PROGRAM, Verb, tell
from mystikos_tool.errors import UserError, explained, not_installed

USER_ERROR = 2


def _declare_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=shell.SHELLS, help="the shell that is to read the script")


def _print_completion(options: argparse.Namespace) -> None:
    sys.stdout.write(shell.completion(options.shell, VERBS.values()))


def _declare_nothing(parser: argparse.ArgumentParser) -> None:
    pass


def _print_manual(options: argparse.Namespace) -> None:
    sys.stdout.write(shell.manual(VERBS.values(), __version__))


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "package-sgx",
            "make a package of an appdir or an archive, a key and a configuration",
            "appdir private.pem config.json --outfile hello",
            package.declare_package,
            package.run_package,
            aliases=("package",),
        ),
        Verb(
            "sign-sgx",
            "make a signed directory, in the layout of an installed Mystikos",
            "rootfs.cpio private.pem config.json --outdir hello.signed",
            package.declare_sign,
            package.run_sign,
            aliases=("sign",),
        ),
        Verb(
            "digest",
            "write what is to be signed elsewhere, so that a package gets a production signature",
            "hello",
            offline.declare_digest,
            offline.run_digest,
        ),
        Verb(
            "attach",
            "finish a package with a signature that was made elsewhere",
            "hello hello.statement.json hello.sig release.pub.pem --outfile hello.release",
            offline.declare_attach,
            offline.run_attach,
        ),
        Verb(
            "run",
            "start a program of a directory or an archive at once, under Mystikos where it is installed",
            "--config config.json appdir /bin/hello one two",
            run.declare,
            run.run,
            aliases=("exec-linux",),
            passes_on=True,
        ),
        Verb(
            "appdir",
            "make an appdir of programs with all that they need to start, or of a container image",
            "closure /usr/bin/python3 /usr/lib/python3.11 --extra certificates -o appdir",
            appdir.declare,
            appdir.run,
        ),
        Verb(
            "image",
            "write down which images tags stand for, so that they stay the same; prune the cache of layers",
            "lock docker.io/library/nginx:1.27",
            image.declare_image,
            image.run_image,
        ),
        Verb(
            "mkcpio",
            "pack a directory into a CPIO archive",
            "appdir rootfs.cpio",
            archive.declare_mkcpio,
            archive.run_mkcpio,
        ),
        Verb(
            "excpio",
            "unpack a CPIO archive into a directory that is new or empty",
            "rootfs.cpio dir",
            archive.declare_excpio,
            archive.run_excpio,
        ),
        Verb(
            "dump-sgx",
            "show what a package says about itself",
            "hello --json",
            inspect.declare_dump,
            inspect.run_dump,
            aliases=("dump",),
        ),
        Verb(
            "inspect",
            "show what is in a package, its page layout and its files, also as a page with a picture",
            "hello --format html -o hello.html",
            explain.declare_inspect,
            explain.run_inspect,
        ),
        Verb(
            "verify",
            "prove what a package is: measure it anew, check its signature and what is expected",
            "hello --signer public.pem --no-debug",
            inspect.declare_verify,
            inspect.run_verify,
        ),
        Verb(
            "check",
            "tell what of an appdir or a package cannot work in the enclave, before anything runs",
            "appdir --config config.json --fail-on warning",
            explain.declare_check,
            explain.run_check,
        ),
        Verb(
            "diff",
            "tell why two packages are not the same enclave, or that they are",
            "hello hello.rebuilt",
            explain.declare_diff,
            explain.run_diff,
        ),
        Verb(
            "sbom",
            "write the bill of materials of a package: its files and components, as CycloneDX 1.6",
            "hello -o hello.cdx.json",
            explain.declare_sbom,
            explain.run_sbom,
        ),
        Verb(
            "provenance",
            "state what a package was made of, by digest: in-toto, SLSA",
            "hello appdir config.json -o hello.provenance.json",
            explain.declare_provenance,
            explain.run_provenance,
        ),
        Verb(
            "rebuild",
            "make a package again from the inputs that its provenance names, and tell whether it is the same",
            "hello --from hello.provenance.json --signer public.pem",
            explain.declare_rebuild,
            explain.run_rebuild,
        ),
        Verb(
            "policy",
            "write what a relying party holds the enclave to, in the form of those who check it",
            "hello --format maa",
            relying.declare_policy,
            relying.run_policy,
        ),
        Verb(
            "check-quote",
            "show an SGX quote and hold its report to a policy",
            "quote.bin --policy hello.policy.json",
            relying.declare_check_quote,
            relying.run_check_quote,
        ),
        Verb(
            "sgxs",
            "export the measured stream of a package, whose SHA-256 is MRENCLAVE",
            "hello hello.sgxs",
            relying.declare_sgxs,
            relying.run_sgxs,
        ),
        Verb(
            "mkext2",
            "make an ext2 disk of a directory, integrity-protected, signed and encrypted as asked",
            "appdir app.disk --sign public.pem:private.pem",
            disk.declare_mkext2,
            disk.run_mkext2,
        ),
        Verb(
            "fssig",
            "check the hash tree of a disk and show its root hash and signature",
            "app.disk --roothash",
            disk.declare_fssig,
            disk.run_fssig,
        ),
        Verb(
            "schema",
            "print the JSON schema of the configuration, for an editor, or of what verify prints",
            "> config.schema.json",
            schema.declare,
            schema.run,
        ),
        Verb(
            "keygen",
            "make a signing key in a new file",
            "private.pem",
            keys.declare_keygen,
            keys.run_keygen,
        ),
        Verb(
            "completion",
            "print the script that completes command lines in bash, zsh or fish",
            "bash > ~/.local/share/bash-completion/completions/mystikos-tool",
            _declare_completion,
            _print_completion,
        ),
        Verb(
            "man",
            "print the manual page",
            "> ~/.local/share/man/man1/mystikos-tool.1",
            _declare_nothing,
            _print_manual,
        ),
    )
}

# What a verb is called on the command line: its own name and its other ones.
NAMES = {name: verb for verb in VERBS.values() for name in (verb.name, *verb.aliases)}

_IN_HARDWARE = (
    "starts enclaves in SGX hardware, which is an installed Mystikos' to do",
    f"use '{PROGRAM} run' to start with the embedded runtime; for hardware, '{PROGRAM} sign-sgx --runtime'"
    " makes a directory whose bin/myst has this verb",
)
_ELSEWHERE = {"exec-sgx": _IN_HARDWARE, "exec": _IN_HARDWARE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status.

    It is the verb's, 2 for the user's mistakes, 128+n for a signal.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _collect_less_garbage()
    try:
        with _signals_end_the_run():
            return _run(given)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _collect_less_garbage() -> None:
    """Let the collector look at what modules consist of rarely, and not at all when the process ends.

    It is a tenth of the time in which a small package is made.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def _run(arguments: list[str]) -> int:
    try:
        if arguments and arguments[0] in _ELSEWHERE:
            raise UserError(arguments[0], *_ELSEWHERE[arguments[0]])
        if not arguments or arguments[0] not in NAMES:
            _overview().parse_args(arguments[:1])  # prints help or what is wrong, and exits
        verb = NAMES[arguments[0]]
        status = verb.run(verb.parse(arguments[1:]))
        sys.stdout.flush()
    except UserError as error:
        return _told(error)
    except Exception as error:
        missing = not_installed(error)
        if not missing:
            raise
        return _told(missing)
    return status or 0


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
