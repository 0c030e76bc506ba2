"""The verb ``run``: start a program of a directory, an archive or a disk.

It has the options of the reference's ``exec-linux``, which starts the program where a Mystikos is
installed; elsewhere the embedded runtime does. Its package is temporary: it has no name any
more when this process becomes its host program, so that nothing is left behind, and signals and
the exit status are the program's own.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mystikos_tool.cli.verb import size_in_bytes, tell
from mystikos_tool.errors import UserError
from mystikos_tool.io import lookup

if TYPE_CHECKING:
    from mystikos_tool.config import Config
    from mystikos_tool.pipeline import Inputs
    from mystikos_tool.root.root import ArchiveRoot, Root
    from mystikos_tool.runtime import Runtime

EMBEDDED = "embedded"
_FORK_MODES = ("none", "pseudo", "pseudo_wait_for_exit_exec")
_OPTIONS = "mystikos-tool run"
_STRACE = "trace the calls with: strace -f mystikos-tool run ..."
# Options of exec-linux alone: how many values they take, and what does their work in the embedded runtime.
_OF_EXEC_LINUX = {
    ("--strace-filter", "--strace-exclude-filter"): (1, _STRACE),
    ("--strace-filter-tid", "--strace-filter-pid"): (1, "trace one process with: strace -p PID"),
    ("--strace-failing", "--etrace", "--trace-errors", "--ttrace", "--trace-times"): (0, _STRACE),
    ("--perf",): (0, "count the calls with: strace -c -f mystikos-tool run ..."),
    ("--memcheck",): (0, "leave it out; the kernel that it checks is not in the embedded runtime"),
    ("--report-native-tids",): (0, "see the threads with: ps -L -e"),
}


class _OfExecLinux(argparse.Action):
    """Keeps an option with its value to be passed on, or to be refused with what does its work."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.of_exec_linux.append(([str(option), *values], str(self.const)))


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``run``."""
    parser.usage = "%(prog)s [options] root program [arguments ...]"
    parser.add_argument("root", type=_root_path, help="application directory, archive or ext2 disk")
    parser.add_argument("program", help="absolute path in the root of the program to start")
    arguments = parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="the program's arguments, options as well"
    )
    arguments.required = False  # Python before 3.12 names them among what is missing
    parser.add_argument(
        "-c", "--config", "--app-config-path", type=Path, metavar="FILE", help="configuration to start with"
    )
    _declare_settings(parser)
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        type=_mount,
        metavar="SOURCE=TARGET",
        help="mount a directory or an ext2 disk of this machine, or where the configuration says ramfs an"
        " archive of the root, at a directory of the root (repeatable)",
    )
    for name, what in (
        ("pubkey", "signed by the key in this PEM file"),
        ("roothash", "with the root hash in"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help=f"trust disks {what}",
        )
    parser.add_argument(
        "--strace",
        "--trace-syscalls",
        action="store_true",
        help="tell each system call that is refused; for all calls use strace -f",
    )
    parser.add_argument("--shell", action="store_true", help="start /bin/sh of the root instead")
    parser.add_argument(
        "--no-isolation", action="store_true", help="do without namespaces where the machine allows none"
    )
    for kind in ("uid", "gid"):
        parser.add_argument(
            f"--host-to-enc-{kind}-map",
            metavar="HOST:ENC",
            help=f"in the embedded runtime only the caller's {kind} to 0 is possible, which is always so",
        )
    parser.add_argument(
        "--runtime",
        metavar="DIR",
        help=f"an installed Mystikos, whose exec-linux starts the program, or {EMBEDDED} (default: the one"
        f" of myst in PATH or in /opt/mystikos, else {EMBEDDED})",
    )
    parser.set_defaults(of_exec_linux=[])
    for names, (count, instead) in _OF_EXEC_LINUX.items():
        parser.add_argument(*names, action=_OfExecLinux, nargs=count, const=instead, help=argparse.SUPPRESS)


def _declare_settings(parser: argparse.ArgumentParser) -> None:
    """Declare what stands in place of a key of the configuration, whose name is its destination."""
    settings = parser.add_argument_group("in place of what the configuration says")
    for names, key in (
        (("--memory-size", "--user-mem-size"), "MemorySize"),
        (("--main-stack-size",), "MainStackSize"),
        (("--thread-stack-size",), "ThreadStackSize"),
    ):
        settings.add_argument(*names, dest=key, type=size_in_bytes, metavar="SIZE", help=key)
    settings.add_argument("--nobrk", dest="NoBrk", action="store_true", default=None, help="NoBrk")
    settings.add_argument(
        "--exec-stack", dest="ExecStack", action="store_true", default=None, help="ExecStack"
    )
    settings.add_argument("--fork-mode", dest="ForkMode", choices=_FORK_MODES, help="ForkMode")
    settings.add_argument(
        "--max-affinity-cpus", dest="MaxAffinityCPUs", type=int, metavar="N", help="MaxAffinityCPUs"
    )
    settings.add_argument(
        "--unhandled-syscall-enosys",
        dest="UnhandledSyscallEnosys",
        type=_boolean,
        metavar="BOOL",
        help="UnhandledSyscallEnosys: true or false",
    )


_SETTINGS = (
    "MemorySize",
    "MainStackSize",
    "ThreadStackSize",
    "NoBrk",
    "ExecStack",
    "ForkMode",
    "MaxAffinityCPUs",
    "UnhandledSyscallEnosys",
)


def run(options: argparse.Namespace) -> int:
    """Start the program; return its exit status, or become it."""
    from mystikos_tool.signing import trusted

    if not options.program.startswith("/"):
        remedy = f"write /{options.program}" if options.program else "name the program to start"
        raise UserError(options.program or "program", "is no absolute path in the root", remedy)
    for key in options.pubkey:
        trusted.load_public_key(key)
    for root_hash in options.roothash:
        trusted.load_root_hash(root_hash)
    installed = _installed(options)
    return _run_under(installed, options) if installed else _run_embedded(options)


def _installed(options: argparse.Namespace) -> Runtime | None:
    """Return the installed Mystikos that is to start the program; None for the embedded runtime."""
    from mystikos_tool.packaging import exec_linux
    from mystikos_tool.runtime import Runtime

    if options.runtime is None:
        return exec_linux.installed()
    if options.runtime == EMBEDDED:
        return None
    given = Runtime.installed(Path(options.runtime))
    return None if given.is_embedded else given


def _run_under(installed: Runtime, options: argparse.Namespace) -> int:
    """Start the program by exec-linux of an installed Mystikos; return its status, 128+n for a signal."""
    import tempfile

    from mystikos_tool.io import atomic
    from mystikos_tool.packaging import exec_linux

    if options.no_isolation:
        remedy = f"leave it out, or give --runtime {EMBEDDED}"
        raise UserError("option --no-isolation", "is none of an installed Mystikos", remedy)
    configuration = _configuration(options)
    tell(exec_linux.told(installed.loader, f"--runtime {EMBEDDED} takes the embedded runtime"))
    with atomic.scratch(Path(tempfile.gettempdir(), "run")) as directory:
        config = directory / "config.json"
        config.write_bytes(configuration.data)
        root = _packed(options.root, directory).path if lookup.is_dir(options.root) else options.root
        return _status_of(
            exec_linux.command(
                installed.loader,
                root,
                config,
                "/bin/sh" if options.shell else configuration.application_path,
                options.arguments,
                list(_exec_linux_options(options, directory)),
            )
        )


def _exec_linux_options(options: argparse.Namespace, directory: Path) -> Iterator[str]:
    """Yield the options of exec-linux, which takes root hashes as text alone; that lies in ``directory``."""
    from mystikos_tool.signing import trusted

    for source, target in options.mount:
        yield from ("--mount", f"{source}={target}")
    pubkeys, roothashes = _trusted(options)
    for key in pubkeys:
        yield from ("--pubkey", str(key))
    for number, path in enumerate(roothashes):
        text = directory / f"roothash{number}"
        text.write_text(trusted.load_root_hash(path).hex() + "\n")
        yield from ("--roothash", str(text))
    for kind in ("uid", "gid"):
        if given := getattr(options, f"host_to_enc_{kind}_map"):
            yield from (f"--host-to-enc-{kind}-map", given)
    if options.strace:
        yield "--strace"
    for words, _ in options.of_exec_linux:
        yield from words


def _status_of(command: Sequence[str]) -> int:
    """Wait for a program; what ends this run is passed on to it."""
    import subprocess

    with subprocess.Popen(command) as child:
        try:
            status = child.wait()
        except BaseException as end:
            code = end.code if isinstance(end, SystemExit) else None
            child.send_signal(code - 128 if isinstance(code, int) and code > 128 else signal.SIGINT)
            raise
    return status if status >= 0 else 128 - status


def _run_embedded(options: argparse.Namespace) -> NoReturn:
    """Become the program, in a package with the embedded runtime."""
    import tempfile

    from mystikos_tool import pipeline
    from mystikos_tool.io import atomic
    from mystikos_tool.signing import throwaway

    _check_maps(options)
    for words, instead in options.of_exec_linux:
        raise UserError(f"option {words[0]}", "is none of the embedded runtime", instead)
    configuration = _configuration(options)
    with atomic.scratch(Path(tempfile.gettempdir(), "run")) as directory:
        root = _root(options.root, directory)
        planned = pipeline.Planned(None, str(options.root))
        inputs = pipeline.inputs_of(configuration, root, *_trusted(options), None, planned)
        _check_trust(options, inputs)
        package = directory / "package"
        pipeline.build(inputs, throwaway.of_user(directory), pipeline.signing_day(None), package)
        descriptor = os.open(package, os.O_RDONLY | os.O_CLOEXEC)
    _become(descriptor, [configuration.application_name, *_loader_options(options), *options.arguments])


def _root(path: Path, directory: Path) -> Root:
    """Return the archive or disk to start; that of a directory is packed, and lies in ``directory``."""
    from mystikos_tool.root import root

    return _packed(path, directory) if lookup.is_dir(path) else root.of(path)


def _packed(path: Path, directory: Path) -> ArchiveRoot:
    from mystikos_tool import pipeline
    from mystikos_tool.root import archive
    from mystikos_tool.root.root import ArchiveRoot
    from mystikos_tool.root.source import DirectorySource

    tree = DirectorySource(path).tree()
    for warning in pipeline.warnings_of(tree, path):
        tell(f"warning: {warning}")
    packed = directory / "rootfs"
    return ArchiveRoot(packed, archive.write(tree, packed)._replace(where=str(path)))


def _trusted(options: argparse.Namespace) -> tuple[Sequence[Path], Sequence[Path]]:
    """Return which keys and root hashes are trusted: without any, those of the disks that were given."""
    from mystikos_tool.root.disk.reader import is_disk

    if options.pubkey or options.roothash:
        return options.pubkey, options.roothash
    given = [options.root, *(Path(source) for source, _ in options.mount)]
    return [], [path for path in given if is_disk(path)]


def _check_trust(options: argparse.Namespace, inputs: Inputs) -> None:
    """Refuse a root that is not trusted though it was said what is, which Debug would let pass."""
    from mystikos_tool.root.root import DiskRoot
    from mystikos_tool.signing import disk_trust

    index = inputs.root.index() if isinstance(inputs.root, DiskRoot) else None
    if index and (options.pubkey or options.roothash):
        trusts = inputs.pubkeys_content(), inputs.roothashes_content()
        disk_trust.check_trusted(index.fssig, *trusts, index.where, debug=False)


def _configuration(options: argparse.Namespace) -> Config:
    """Return the configuration of the file, or one that asks for nothing, with what the options say."""
    import json

    from mystikos_tool import config

    # Without a configuration the reference hands the whole environment on.
    members: dict[str, Any] = {"version": "0.1", "HostEnvironmentVariables": sorted(os.environ)}
    if options.config:
        # As exec-linux, which takes the program of the command line, whatever the configuration says of one.
        program = config.Changes({"ApplicationPath": options.program}, _OPTIONS)
        given = config.load(options.config, changes=program)
        for warning in given.warnings:
            tell(f"warning: {warning}")
        members = config.members(given)
    members |= {key: value for key in _SETTINGS if (value := getattr(options, key)) is not None}
    if "MemorySize" in members:
        members.pop("UserMemSize", None)
    members |= {"ApplicationPath": options.program, "HostApplicationParameters": True, "Debug": True}
    members["Mount"] = [*members.get("Mount", []), *_undeclared(options.mount, members.get("Mount", []))]
    # Without the places, which are in a text that the user does not see.
    return config.parse(json.dumps(members).encode(), _OPTIONS)._replace(places={})


def _undeclared(mounts: Sequence[tuple[str, str]], declared: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Yield a declaration for each mount that the configuration has none of."""
    known = {os.path.normpath(mount["Target"]) for mount in declared}
    for source, target in mounts:
        if os.path.normpath(target) not in known:
            yield {"Target": target, "Type": "ext2" if _is_ext2(Path(source)) else "hostfs"}


def _is_ext2(source: Path) -> bool:
    from mystikos_tool.root import root

    return isinstance(root.of(source), root.DiskRoot)


def _loader_options(options: argparse.Namespace) -> list[str]:
    flags = {
        "--myst-strace": options.strace,
        "--myst-shell": options.shell,
        "--myst-no-isolation": options.no_isolation,
    }
    mounts = [f"--myst-mount={source}={target}" for source, target in options.mount]
    root = [f"--myst-rootfs={options.root}"] if _is_ext2(options.root) else []
    return [*root, *mounts, *(flag for flag, wanted in flags.items() if wanted)]


def _become(descriptor: int, command: Sequence[str]) -> NoReturn:
    """Replace this process by a program that may have no name any more."""
    # Python ignores these, and a program that ignores them from its start is another one.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(descriptor, list(command), os.environ)
    except PermissionError:
        import tempfile

        where = tempfile.gettempdir()
        problem = "is mounted so that no program can be started from it (noexec)"
        raise UserError(where, problem, "set TMPDIR to another directory") from None


def _check_maps(options: argparse.Namespace) -> None:
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        given = getattr(options, f"host_to_enc_{kind}_map")
        if given not in (None, f"{own}:0"):
            raise UserError(
                f"option --host-to-enc-{kind}-map",
                f"cannot be {given}: in the embedded runtime the caller is 0, and nobody else is there",
                f"leave it out, or give {own}:0",
            )


def _root_path(text: str) -> Path:
    if not text:  # which would be taken for the current directory
        raise argparse.ArgumentTypeError("it is empty; name what to start")
    return Path(text)


def _mount(text: str) -> tuple[str, str]:
    # As the loader: a target is an absolute path, and a source may have a = in it.
    source, equals, target = text.partition("=/")
    if not (source and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no SOURCE=TARGET with a TARGET that begins with /")
    return source, f"/{target}"


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"
