"""The command line: ``mystikos-tool VERB ...``, with the verbs of Mystikos' own ``myst``.

It only translates: arguments to calls, results to a line on standard output, and UserError to a
line on standard error with exit status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mystikos_tool.errors import UserError

if TYPE_CHECKING:
    from mystikos_tool.config import Config
    from mystikos_tool.pipeline import Inputs

PROGRAM = "mystikos-tool"
USER_ERROR = 2

_CPIO_MAGIC = b"070701"
_EXT2_MAGIC, _EXT2_MAGIC_OFFSET = b"\x53\xef", 1080


@dataclass(frozen=True)
class Verb:
    """A verb: its line in the overview, examples, its arguments, and what it does with them."""

    name: str
    summary: str
    example: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the arguments behind the verb."""
        parser = argparse.ArgumentParser(
            prog=f"{PROGRAM} {self.name}",
            description=self.summary[0].upper() + self.summary[1:] + ".",
            epilog=f"example:\n  {PROGRAM} {self.name} {self.example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.declare(parser)
        return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status: 0, 2 for the user's mistakes, 128+n for a signal."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _signals_end_the_run():
            return _run(given)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(arguments: list[str]) -> int:
    verb = VERBS[_overview().parse_args(arguments[:1]).verb]
    # Intermixed: options may stand between positional arguments, as the reference allows.
    options = verb.parser().parse_intermixed_args(arguments[1:])
    try:
        verb.run(options)
        sys.stdout.flush()
    except UserError as error:
        for line in str(error).splitlines():
            _tell(f"error: {line}")
        return USER_ERROR
    return 0


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    lines = [f"  {verb.name:{width}}  {verb.summary}" for verb in VERBS.values()]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] VERB ...",
        description="Package applications for Mystikos enclaves.",
        epilog="\n".join(["verbs:", *lines, "", f"{PROGRAM} VERB --help tells more about a verb."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help="what to do, one of the verbs below")
    return parser


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata  # takes longer to load than all of the tool

        try:
            version = metadata.version("mystikos-tool")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        _say(f"{PROGRAM} {version}")
        parser.exit()


@contextmanager
def _signals_end_the_run() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as an exception does, so that no temporary file is left."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)  # noqa: T201


def _say(message: str) -> None:
    print(message)  # noqa: T201


# package-sgx and sign-sgx


def _declare_package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "appdir",
        nargs="?",
        type=Path,
        help="directory that becomes the root file system; without it and --rootfs the root is an ext2 disk",
    )
    _declare_signing(parser)
    parser.add_argument(
        "--rootfs", type=Path, metavar="ARCHIVE", help="take this archive instead of packing an appdir"
    )
    _declare_modes(parser, "canonical")
    parser.add_argument(
        "-o", "--outfile", type=Path, metavar="FILE", help="the package (default: myst/bin/NAME)"
    )


def _package(options: argparse.Namespace) -> None:
    from mystikos_tool import pipeline
    from mystikos_tool.io import atomic
    from mystikos_tool.signing import keys

    if options.appdir and options.rootfs:
        raise UserError("--rootfs", f"cannot go with the appdir {options.appdir}", "give one of the two")
    inputs = _inputs(options)
    key, day = keys.load_key(options.key), pipeline.signing_day(os.environ.get("SOURCE_DATE_EPOCH"))
    target = options.outfile or Path("myst", "bin", inputs.config.application_name)
    _check_target(target, options)
    with atomic.scratch(target) as directory:
        if options.appdir:
            inputs = inputs._replace(rootfs=directory / "rootfs")
            _pack(options, directory / "rootfs")
        measured = pipeline.measure(inputs)
        image = pipeline.sign(measured, inputs.runtime, inputs.config, key, day)
        atomic.write(directory / "mystenc.so", image)
        if not options.outfile:
            atomic.make_directory(target.parent)
        size = pipeline.assemble(inputs, directory / "mystenc.so", target)
    _say(f"created {target}: {size:,} bytes, MRENCLAVE {measured.mrenclave.hex()}")


def _declare_sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rootfs", type=Path, help="root file system: an archive, or an ext2 disk")
    _declare_signing(parser)
    parser.add_argument(
        "-d", "--outdir", type=Path, metavar="DIR", help="the signed directory (default: NAME.signed)"
    )


def _sign(options: argparse.Namespace) -> None:
    from mystikos_tool import pipeline
    from mystikos_tool.package import signed_directory
    from mystikos_tool.signing import keys

    inputs = _inputs(options)
    if _is_ext2(options.rootfs):
        inputs = inputs._replace(rootfs=None)
    key, day = keys.load_key(options.key), pipeline.signing_day(os.environ.get("SOURCE_DATE_EPOCH"))
    directory = options.outdir or Path(f"{inputs.config.application_name}.signed")
    measured = pipeline.measure(inputs)
    image = pipeline.sign(measured, inputs.runtime, inputs.config, key, day)
    signed_directory.write(inputs, image, options.rootfs, directory)
    _say(f"created {directory}: MRENCLAVE {measured.mrenclave.hex()}")


def _declare_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, help="private key: PEM, RSA of 3072 bits, exponent 3")
    parser.add_argument(
        "config", type=Path, help="configuration; the last part of its ApplicationPath is NAME"
    )
    parser.add_argument(
        "--runtime", type=Path, metavar="DIR", help="an installed Mystikos (default: the embedded runtime)"
    )
    parser.add_argument(
        "--pubkey",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="trust disks signed by this public key (repeatable)",
    )
    parser.add_argument(
        "--roothash",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="trust the disk with this root hash (repeatable)",
    )


def _inputs(options: argparse.Namespace) -> Inputs:
    """Read what the enclave is made of; tell what in the configuration is better changed."""
    from mystikos_tool import config, pipeline, runtime

    configuration = config.load(options.config)
    _warn(configuration)
    chosen = runtime.Runtime.installed(options.runtime) if options.runtime else runtime.embedded()
    return pipeline.Inputs(
        runtime=chosen,
        config=configuration,
        rootfs=options.rootfs,
        pubkeys=tuple(options.pubkey),
        roothashes=tuple(options.roothash),
    )


def _warn(configuration: Config) -> None:
    for warning in configuration.warnings:
        _tell(f"warning: {warning}")


def _is_ext2(path: Path) -> bool:
    """Tell an ext2 disk by its magic number, as the reference does by what an archive begins with."""
    try:
        with path.open("rb") as file:
            start = file.read(_EXT2_MAGIC_OFFSET + len(_EXT2_MAGIC))
    except OSError:
        return False  # reading it as an archive says why
    return not start.startswith(_CPIO_MAGIC) and start[_EXT2_MAGIC_OFFSET:] == _EXT2_MAGIC


def _check_target(target: Path, options: argparse.Namespace) -> None:
    """Refuse to write a package over what it is made from, or into the directory that is packed."""
    given = [options.key, options.config, options.rootfs, *options.pubkey, *options.roothash]
    for path in filter(None, given):
        if target.exists() and path.exists() and target.samefile(path):
            raise UserError(str(target), "is read for the package", "choose another --outfile")
    if options.appdir:
        _check_outside(target, options.appdir)


def _check_outside(target: Path, appdir: Path) -> None:
    if target.resolve().is_relative_to(appdir.resolve()):
        raise UserError(str(target), f"lies in {appdir}, which is packed", "write it somewhere else")


# mkcpio and excpio


def _declare_mkcpio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("appdir", type=Path, metavar="dir", help="directory to pack")
    parser.add_argument("archive", type=Path, help="the CPIO archive to write")
    _declare_modes(parser, "preserve")


def _declare_modes(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--modes",
        choices=("canonical", "preserve"),
        default=default,
        help="permissions: canonical, the same under every umask, or preserve, as they are"
        f" (default: {default})",
    )


def _mkcpio(options: argparse.Namespace) -> None:
    _check_outside(options.archive, options.appdir)
    _pack(options, options.archive, f"created {options.archive}")


def _pack(options: argparse.Namespace, archive: Path, announce: str = "") -> None:
    from mystikos_tool import pipeline
    from mystikos_tool.root.tree import TOO_LONG_TO_BOOT

    tree = pipeline.pack(options.appdir, archive, preserve_modes=options.modes == "preserve")
    for path in tree.left_out:
        _tell(f"warning: {options.appdir / path}: is left out; a root file system holds no devices and FIFOs")
    for path in tree.too_long_to_boot:
        _tell(f"warning: {options.appdir / path}: {TOO_LONG_TO_BOOT}")
    if announce:
        _say(f"{announce}: {tree.files:,} files, {tree.size:,} bytes")


def _declare_excpio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, help="the CPIO archive")
    parser.add_argument("directory", type=Path, metavar="dir", help="directory to unpack it into")


def _excpio(options: argparse.Namespace) -> None:
    from mystikos_tool.formats import cpio

    archive = cpio.read(options.archive)
    cpio.extract(archive, options.directory)
    _say(f"created {options.directory}: {len(archive.members):,} members of {options.archive}")


# dump-sgx and verify


def _declare_dump(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, help="the package")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def _dump(options: argparse.Namespace) -> None:
    from mystikos_tool.package import inspection

    description = inspection.describe(options.package)
    _say(json.dumps(description, indent=1) if options.json else inspection.to_text(description))


def _declare_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, help="the package")


def _verify(options: argparse.Namespace) -> None:
    from mystikos_tool import pipeline

    identity = pipeline.verify(options.package)
    _say(
        f"{options.package} is sound: MRENCLAVE {identity.mrenclave.hex()},"
        f" MRSIGNER {identity.mrsigner.hex()}, product {identity.product_id},"
        f" security version {identity.security_version}, debug {'on' if identity.debug else 'off'}"
    )


# keygen


def _declare_keygen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the key file to make; nothing is overwritten")


def _keygen(options: argparse.Namespace) -> None:
    from mystikos_tool.signing import keys

    key = keys.generate_key(options.file)
    _say(f"created {options.file}: RSA-3072, exponent 3, MRSIGNER {key.mrsigner.hex()}")


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "package-sgx",
            "make a package of an appdir or an archive, a key and a configuration",
            "appdir private.pem config.json --outfile hello",
            _declare_package,
            _package,
        ),
        Verb(
            "sign-sgx",
            "make a signed directory, in the layout of an installed Mystikos",
            "rootfs.cpio private.pem config.json --outdir hello.signed",
            _declare_sign,
            _sign,
        ),
        Verb(
            "mkcpio", "pack a directory into a CPIO archive", "appdir rootfs.cpio", _declare_mkcpio, _mkcpio
        ),
        Verb(
            "excpio",
            "unpack a CPIO archive into a new directory",
            "rootfs.cpio dir",
            _declare_excpio,
            _excpio,
        ),
        Verb(
            "dump-sgx",
            "show what a package says about itself",
            "hello --json",
            _declare_dump,
            _dump,
        ),
        Verb(
            "verify",
            "measure a package anew and check its signature",
            "hello",
            _declare_verify,
            _verify,
        ),
        Verb("keygen", "make a signing key in a new file", "private.pem", _declare_keygen, _keygen),
    )
}
