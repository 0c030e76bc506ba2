"""The command line as a process: started as a module, ended by signals, its output cut off."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import DATA, EPOCH_OF_VECTORS

import mystikos_tool

ROOT = Path(mystikos_tool.__file__).parent.parent
COMMAND = [sys.executable, "-m", "mystikos_tool"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "SOURCE_DATE_EPOCH": EPOCH_OF_VECTORS,
    "PYTHONUNBUFFERED": "",  # with it nothing is left to be written at the end
}


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )


def writer_once_read(path: str, process: subprocess.Popen[bytes]) -> int:
    """Open a FIFO for writing as soon as ``process`` has opened it for reading."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            raise AssertionError(process.communicate())


def test_it_runs_as_a_module_and_tells_mistakes_with_status_2(project: Path) -> None:
    process = start("verify", "key.pem")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode().startswith("mystikos-tool: error: key.pem: ")


def test_output_that_nobody_reads_is_no_traceback(project: Path) -> None:
    process = start("mkcpio", "appdir", "archive")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE
    process.stderr.close()


@pytest.mark.parametrize("arguments", [("verify", "missing"), ("verify",)])
def test_an_error_that_nobody_reads_is_no_traceback(project: Path, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *arguments], stderr=write, env=ENVIRONMENT, check=False)
    os.close(write)
    assert done.returncode in (2, 128 + signal.SIGPIPE)  # argparse does without its message


def run_by_shell(line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which "$@" is the command line's beginning."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND], env=ENVIRONMENT, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "verb", ["dump-sgx hello --json", "schema", "man", "mkcpio appdir archive", "--help", "verify --help"]
)
def test_output_that_cannot_be_written_is_an_error(project: Path, verb: str) -> None:
    run_by_shell(f'"$@" {PACKAGED}')
    done = run_by_shell(f'"$@" {verb} > /dev/full')
    assert (done.returncode, done.stderr) == (
        2,
        b"mystikos-tool: error: standard output: cannot be written: no space left on device;"
        b" free some space, or send it elsewhere\n",
    )


SIGNS = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, utils
key = serialization.load_pem_private_key(Path("key.pem").read_bytes(), None)
print("noise", file=sys.stderr, flush=True)
digest = utils.Prehashed(hashes.SHA256())
sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read(), padding.PKCS1v15(), digest))
"""
PACKAGED = "package-sgx appdir key.pem config.json --runtime=runtime -o=hello"


@pytest.mark.parametrize("place", ["2>&-", "2> /dev/full"])
def test_the_status_is_right_where_no_error_can_be_written(project: Path, place: str) -> None:
    done = run_by_shell(f'"$@" verify missing {place}')
    assert (done.returncode, done.stderr) == (2, b"")
    assert run_by_shell(f'"$@" verify {place}').returncode == 2
    (project / "key.pem").chmod(0o644)  # which is warned of
    assert run_by_shell(f'"$@" {PACKAGED} {place}').returncode == 0
    assert (project / "hello").exists()


def test_no_file_gets_the_number_of_a_closed_stream(project: Path) -> None:
    """What a command that signs writes to standard error would go into a package."""
    run_by_shell(f'"$@" {PACKAGED}')
    expected = (project / "hello").read_bytes()
    (project / "signs.py").write_text(SIGNS)
    key = f"'exec:public-key={DATA}/keys/key-a.pub.pem {sys.executable} signs.py'"
    for closed in ("<&- >&- 2>&-", ">&-", "2>&-"):
        (project / "hello").unlink()
        done = run_by_shell(f'"$@" {PACKAGED.replace("key.pem", key)} {closed}')
        assert (done.returncode, done.stderr) == (0, b"noise\n" if closed == ">&-" else b"")
        assert (project / "hello").read_bytes() == expected


def test_a_current_directory_that_is_gone_is_told(project: Path) -> None:
    (project / "gone").mkdir()
    line = f'cd gone; rmdir ../gone; "$@" mkcpio {project}/appdir archive'
    done = run_by_shell(line)
    assert (done.returncode, done.stdout) == (2, b"")
    problem = b"the current directory: is gone; change into one that is there\n"
    assert done.stderr == b"mystikos-tool: error: " + problem
    assert run_by_shell(line.replace("archive", f"{project}/archive")).returncode == 0


def test_a_name_that_the_stream_cannot_show_is_no_failure(project: Path) -> None:
    project.joinpath("appdir").rename("größe")
    done = subprocess.run(
        [*COMMAND, "mkcpio", "größe", os.fsdecode(b"arch\xffive")],
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(rb"created arch\xffive: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_without_a_trace(project: Path, number: signal.Signals) -> None:
    os.mkfifo("roothash")
    before = {*project.rglob("*")}
    process = start(*PACKAGE, "--roothash=roothash")
    writer = writer_once_read("roothash", process)  # now it waits for the root hash, the archive made
    during = {*project.rglob("*")}
    process.send_signal(number)
    os.close(writer)  # so that a read that began after the signal ends too
    out, err = process.communicate()
    assert (process.returncode, out, err) == (128 + number, b"", b"")
    assert {path.name for path in during - before} >= {"rootfs"}
    assert {*project.rglob("*")} == before


def modules_after(*arguments: str) -> set[str]:
    """The modules that a command line has loaded at its end."""
    code = (
        "import sys; from mystikos_tool import cli\n"
        f"try: cli.main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        "print('modules', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True)
    return set(done.stdout.decode().splitlines()[-1].split())


PACKAGE = ("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello")
SLOW = {"cryptography", "elftools", "jsonschema", "importlib.metadata", "dataclasses"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("package-sgx", "--help")])
def test_help_and_version_load_nothing_that_takes_long(arguments: tuple[str, ...]) -> None:
    loaded = modules_after(*arguments)
    assert not loaded & SLOW
    light = {f"mystikos_tool.{name}" for name in ("errors", "io", "io.console", "printable")}
    ours = {name for name in loaded if name.startswith("mystikos_tool.")} - light
    assert all(name.startswith("mystikos_tool.cli") for name in ours)


@pytest.mark.parametrize(
    ("verb", "does_without"),
    [
        (("mkcpio", "appdir", "a"), {"cryptography", "importlib.metadata"}),
        (("verify", "runtime/bin/myst"), {"cryptography", "importlib.metadata"}),
        (("dump-sgx", "runtime/bin/myst"), {"cryptography", "importlib.metadata", "mystikos_tool.pipeline"}),
        (PACKAGE, {"cryptography", "dataclasses", "importlib.metadata", "inspect"}),
        (("keygen", "made.pem"), {"elftools", "importlib.metadata", "mystikos_tool.pipeline"}),
    ],
)
def test_a_verb_loads_what_it_needs(project: Path, verb: tuple[str, ...], does_without: set[str]) -> None:
    assert not modules_after(*verb) & does_without


@pytest.mark.parametrize("line", [PACKAGED, "check appdir"])
def test_too_many_open_files_are_told_with_what_to_do(project: Path, line: str) -> None:
    starts = f"exec {sys.executable} -c 'import mystikos_tool.cli'"
    least = next(most for most in range(3, 20) if not run_by_shell(f"ulimit -n {most}; {starts}").returncode)
    told = 0
    while (done := run_by_shell(f'ulimit -n {least + told}; exec "$@" {line}')).returncode:
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        assert b": cannot be opened: this process has as many open as it may; allow more" in done.stderr
        told += 1
    assert 0 < told < 10
