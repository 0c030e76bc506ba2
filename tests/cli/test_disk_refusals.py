"""What is refused of disks: as whoever runs the tests and, where that is root, as an ordinary user too."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_support import DATA, Result, Run

from mystikos_tool import cli

KEYS = {
    "disk": DATA / "disks" / "p2-names-signed" / "rsa2048",
    "other": DATA / "disks" / "p3-sparse-signed-e3" / "rsa3072e3",
}
NOBODY = 65534
SIGNED = "--sign=disk.pub:disk.pem"
DISK = ("mkext2", "appdir", "new.disk")
PACKAGE = ("package-sgx", "key.pem", "config.json", "--runtime=runtime", "--outfile=new", "--set=Debug=false")
SIGNED_IMAGE = ("sign-sgx", "app.disk", "key.pem", "config.json", "--runtime=runtime", "--set=Debug=false")

As = Callable[..., Result]


def load(directory: Path, arguments: tuple[str, ...]) -> None:
    """Load what a command line needs, on a copy: an ordinary user may not read every interpreter's files."""
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as copy, pytest.MonkeyPatch.context() as patch:
        patch.chdir(shutil.copytree(directory, Path(copy) / "project", symlinks=True))
        with silence[0], silence[1], contextlib.suppress(SystemExit):
            cli.main(list(arguments))


def as_nobody(directory: Path) -> As:
    """Run the command line in a process of an ordinary user, who has the directory."""

    def run(*arguments: str) -> Result:
        load(directory, arguments)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                status = 70
                with contextlib.suppress(BaseException):
                    sys.stdout, sys.stderr = out, err
                    status = _run_as_nobody(directory, arguments)
                    out.flush()
                    err.flush()
                os._exit(status)
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            return Result(os.waitstatus_to_exitcode(status), out.read(), err.read())

    return run


def _run_as_nobody(directory: Path, arguments: tuple[str, ...]) -> int:
    os.environ["XDG_CACHE_HOME"] = str(directory / ".cache")
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.chdir(directory)
    try:
        return cli.main(list(arguments))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise


@pytest.fixture
def callers(project: Path, run: Run) -> Iterator[dict[str, tuple[Path, As]]]:
    """By who it is: a directory with disks, keys and what packages are made of, and how to run there."""
    for name, stem in KEYS.items():
        for suffix in (".pem", ".pub"):
            shutil.copy(stem.with_suffix(suffix), project / f"{name}{suffix}")
    (project / "master.key").write_bytes(bytes(range(64)))
    run("mkext2", "appdir", "app.disk", SIGNED)
    run("mkext2", "appdir", "secret.disk", "--encrypt=master.key")
    found: dict[str, tuple[Path, As]] = {"whoever runs the tests": (project, run)}
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            directory = Path(name) / "project"
            shutil.copytree(project, directory)
            for path in [Path(name), directory, *directory.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
            found["an ordinary user"] = directory, as_nobody(directory)
        yield found


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def nothing(project: Path) -> None:
    pass


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda project: (project / name).write_bytes(data)


def remove(name: str) -> Callable[[Path], object]:
    return lambda project: (project / name).unlink()


def tamper(project: Path) -> None:
    with (project / "app.disk").open("r+b") as file:
        file.seek(-4096 + 24, os.SEEK_END)  # the root hash
        file.write(b"another")


def without_an_fssig(project: Path) -> None:
    os.truncate(project / "app.disk", (project / "app.disk").stat().st_size - 4096)


def dangling_resolv_conf(project: Path) -> None:
    (project / "appdir" / "etc").mkdir()
    (project / "appdir" / "etc" / "resolv.conf").symlink_to("/run/nothing")


REFUSALS = {
    # Disks
    "a public key of another": (nothing, (*DISK, "--sign=other.pub:disk.pem"), "is not the public half of"),
    "a private key as public one": (nothing, (*DISK, "--sign=disk.pem:disk.pem"), "is a private key"),
    "no private key there": (remove("disk.pem"), (*DISK, SIGNED), "there is no such key file"),
    "no public key there": (remove("disk.pub"), (*DISK, SIGNED), "there is no such public key file"),
    "no key in the file": (write("disk.pem", b"?"), (*DISK, SIGNED), "is not PEM"),
    "no pair of keys": (nothing, (*DISK, "--sign=disk.pem"), "is no pair PUB:KEY"),
    "a size that the kernel refuses": (
        nothing,
        (*DISK, "--size=8388609"),
        "kernel refuses such a disk; give",
    ),
    "a size that is too small": (nothing, (*DISK, "--size=32k"), "is too small"),
    "a size that is no number": (nothing, (*DISK, "--size=much"), "is no number of bytes"),
    "a directory that is forgotten": (nothing, DISK[::2], "the following arguments are required: disk"),
    "a directory that is not there": (nothing, ("mkext2", "appdri", "new.disk"), "appdri"),
    "a link that keeps the kernel from booting": (dangling_resolv_conf, DISK, "the kernel would not start"),
    "a file where a directory has to be": (write("appdir/tmp", b""), DISK, "needs the directory /tmp"),
    "a disk that is there": (nothing, ("mkext2", "appdir", "app.disk"), "is there already; give --force"),
    "no master key": (write("master.key", bytes(63)), (*DISK, "--encrypt=master.key"), "has 63 bytes"),
    # Packages whose root is on a disk
    "neither Debug nor trust": (nothing, PACKAGE, "would be mounted unchecked in an enclave without Debug"),
    "neither, with the disk": (nothing, (*PACKAGE, "--rootfs=app.disk"), "would be mounted unchecked"),
    "neither, when signing": (nothing, SIGNED_IMAGE, "would be mounted unchecked"),
    "another key": (nothing, (*PACKAGE, "--rootfs=app.disk", "--pubkey=other.pub"), "by none of the trusted"),
    "another hash": (
        write("hash", b"ab" * 32),
        (*PACKAGE, "--rootfs=app.disk", "--roothash=hash"),
        "has none of the trusted root hashes",
    ),
    "no hash": (write("hash", b"ab" * 31), (*PACKAGE, "--roothash=hash"), "is not a root hash, a line of 64"),
    "a private key to be trusted": (nothing, (*PACKAGE, "--pubkey=disk.pem"), "must not go into a package"),
    "no key to be trusted": (nothing, (*PACKAGE, "--pubkey=config.json"), "is not one public key in PEM"),
    "a disk as key": (nothing, (*PACKAGE, "--pubkey=app.disk"), "does not hold the public key"),
    "no disk there": (nothing, (*PACKAGE, "--rootfs=no.disk"), "no.disk"),
    "an encrypted root": (
        nothing,
        (*PACKAGE, "--rootfs=secret.disk", "--roothash=secret.disk"),
        "is encrypted, and nothing gives the kernel the key of its root",
    ),
    "a disk without an FSSIG": (
        without_an_fssig,
        (*PACKAGE, "--rootfs=app.disk", "--pubkey=disk.pub"),
        "app.disk",
    ),
    "another FSSIG": (tamper, (*PACKAGE, "--rootfs=app.disk", "--pubkey=disk.pub"), "is signed by none"),
    "a program that is not on it": (
        nothing,
        (*PACKAGE, "--rootfs=app.disk", "--pubkey=disk.pub", "--set=ApplicationPath=/bin/other"),
        "/bin/other is not in app.disk",
    ),
    "a mount over a file": (
        nothing,
        (
            *PACKAGE,
            "--rootfs=app.disk",
            "--pubkey=disk.pub",
            '--set=Mount=[{"Target": "/motd", "Type": "ext2"}]',
        ),
        "/motd is no directory in app.disk",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_it_is_refused_in_one_line_and_nothing_is_written(
    callers: dict[str, tuple[Path, As]], name: str
) -> None:
    prepare, command, problem = REFUSALS[name]
    for who, (directory, run) in callers.items():
        prepare(directory)
        before = files_below(directory)
        result = run(*command)
        assert (result.status, result.out) == (2, ""), (who, result)
        assert problem in result.err, who
        assert "Traceback" not in result.err, who
        assert files_below(directory) == before, who


UNREADABLE = {
    "the private key": ("disk.pem", (*DISK, SIGNED), "may not be read as key file"),
    "the public key": ("disk.pub", (*DISK, SIGNED), "may not be read as public key file"),
    "the master key": ("master.key", (*DISK, "--encrypt=master.key"), "may not be read as key file"),
    "a file for the disk": ("appdir/motd", DISK, "may not be read"),
    "a directory for the disk": ("appdir/bin", DISK, "appdir/bin"),
    "a key to be trusted": ("disk.pub", (*PACKAGE, "--pubkey=disk.pub"), "may not be read as public key"),
    "a disk to be trusted": ("app.disk", (*PACKAGE, "--roothash=app.disk"), "app.disk"),
    "the disk that is the root": (
        "app.disk",
        (*PACKAGE, "--rootfs=app.disk", "--pubkey=disk.pub"),
        "app.disk",
    ),
    "what a package is in": ("appdir/bin", ("verify", "appdir/bin/hello"), "appdir/bin/hello: permission"),
    "what a root is in": ("appdir/bin", ("mkcpio", "appdir/bin/x", "new"), "appdir/bin/x: permission denied"),
    "what a disk is put into": ("appdir/bin", ("mkext2", "appdir", "appdir/bin/x"), "appdir/bin/x: "),
    "what a disk is in": (
        "appdir/bin",
        ("fssig", "appdir/bin/x"),
        "appdir/bin/x: permission denied",
    ),
    "what a trusted key is in": (
        "appdir/bin",
        (*PACKAGE, "--pubkey=appdir/bin/x"),
        "appdir/bin/x: may not be read as public key file",
    ),
    "what a trusted disk is in": (
        "appdir/bin",
        (*PACKAGE, "--roothash=appdir/bin/x"),
        "appdir/bin/x: may not be read as root hash file",
    ),
    "what a lock file is in": (
        "appdir/bin",
        ("image", "lock", "--lock=appdir/bin/x", "a/b:c"),
        "appdir/bin/x: may not be read as lock file",
    ),
    "what a runtime is in": (
        "appdir/bin",
        (*PACKAGE, "--runtime=appdir/bin/x"),
        "appdir/bin/x: permission denied; give the directory",
    ),
    "where a directory of programs is to be": (
        "appdir/bin",
        ("appdir", "closure", "/bin/true", "-o", "appdir/bin"),
        "appdir/bin: permission denied",
    ),
    "the place of the disk": (".", DISK, "new.disk: cannot be written: permission denied"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_an_ordinary_user_may_not_read_or_write_is_told(
    callers: dict[str, tuple[Path, As]], name: str
) -> None:
    if os.geteuid() == 0:
        directory, run = callers["an ordinary user"]
    else:
        directory, run = callers["whoever runs the tests"]
    file, command, problem = UNREADABLE[name]
    (directory / file).chmod(0o555 if file == "." else 0)
    try:
        result = run(*command)
    finally:
        (directory / file).chmod(0o755)
    assert (result.status, result.out) == (2, "")
    assert problem in result.err
    assert "Traceback" not in result.err
    assert not {"new", "new.disk"} & set(files_below(directory))
