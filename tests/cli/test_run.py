"""The verb run: what exec-linux of the reference does, with the embedded runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from cli_support import Run
from static_programs import STATIC_COMPILER
from test_process import COMMAND, ENVIRONMENT

from mystikos_tool.io import user_cache

needs_compiler = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package")

PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static int is_ignored(int number)
{
    struct sigaction action;
    sigaction(number, NULL, &action);
    return action.sa_handler == SIG_IGN;
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    char line[100] = "";
    struct rlimit limit;
    struct sysinfo machine;
    if (!strcmp(what, "wait"))
    {
        puts("waiting");
        fflush(stdout);
        pause();
    }
    else if (!strcmp(what, "limits"))
    {
        sysinfo(&machine);
        printf("%lu ", machine.totalram * machine.mem_unit);
        getrlimit(RLIMIT_STACK, &limit);
        printf("%lu\n", limit.rlim_cur);
    }
    else if (!strcmp(what, "ignored"))
        printf("hup %d pipe %d\n", is_ignored(SIGHUP), is_ignored(SIGPIPE));
    else if (!strcmp(what, "read"))
    {
        FILE *file = fopen(arguments[2], "r");
        puts(file && fgets(line, sizeof line, file) ? line : "nothing");
    }
    else if (!strcmp(what, "where"))
        printf("%s %s\n", getcwd(line, sizeof line), getenv("COLOUR") ? getenv("COLOUR") : "none");
    else
        for (int i = 0; i < count; i++)
            puts(arguments[i]);
    return count > 3 ? 7 : 0;
}
"""


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Path:
    """A directory with the program's appdir, and the cache that every run of these tests shares."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "appdir" / "bin").mkdir(parents=True)
    (directory / "appdir" / "data").mkdir()
    (directory / "program.c").write_text(PROGRAM)
    subprocess.run([*STATIC_COMPILER, "program.c", "-o", "appdir/bin/probe"], cwd=directory, check=True)
    shutil.copytree(embedded, directory / "cache" / "mystikos-tool" / embedded.name)
    return directory


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(machine: Path, tmp_path: Path) -> Start:
    """Start the command line where temporary files go to ``tmp_path / "tmp"``."""
    (tmp_path / "tmp").mkdir()
    environment = {
        **ENVIRONMENT,
        "XDG_CACHE_HOME": str(machine / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
        "COLOUR": "red",
    }

    def start(*arguments: str | Path, **keywords: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=machine,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **keywords,  # type: ignore[call-overload]
        )

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


@needs_compiler
@pytest.mark.parametrize("verb", ["run", "exec-linux"])
def test_the_program_gets_what_follows_it_and_its_status_is_that_of_the_run(start: Start, verb: str) -> None:
    done = ended(start(verb, "appdir", "/bin/probe", "one", "--memory-size", "-c"))
    assert done == (7, "/bin/probe\none\n--memory-size\n-c\n", "")


@needs_compiler
def test_an_archive_is_started_too(start: Start, tmp_path: Path) -> None:
    assert ended(start("mkcpio", "appdir", tmp_path / "rootfs.cpio"))[0] == 0
    assert ended(start("run", tmp_path / "rootfs.cpio", "/bin/probe", "x")) == (0, "/bin/probe\nx\n", "")


@needs_compiler
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_the_programs_and_no_file_is_left_while_it_runs(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("run", "appdir", "/bin/probe", "wait")
    assert process.stdout
    assert process.stdout.readline() == "waiting\n"
    assert list((tmp_path / "tmp").iterdir()) == []
    process.send_signal(number)
    assert ended(process) == (128 + number, "", "")


@needs_compiler
def test_signals_are_ignored_as_for_a_program_that_is_started_without_us(start: Start) -> None:
    assert ended(start("run", "appdir", "/bin/probe", "ignored"))[1] == "hup 0 pipe 0\n"
    ignoring = start(
        "run",
        "appdir",
        "/bin/probe",
        "ignored",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert ended(ignoring)[1] == "hup 1 pipe 0\n"


@needs_compiler
def test_the_options_of_exec_linux_stand_in_place_of_the_configuration(start: Start, tmp_path: Path) -> None:
    given = {"version": "0.1", "ApplicationPath": "/bin/other", "MemorySize": "32m", "MainStackSize": "2m"}
    (tmp_path / "config.json").write_text(json.dumps({**given, "CurrentWorkingDirectory": "/data"}))
    config = ["--app-config-path", tmp_path / "config.json"]
    limits = ["appdir", "/bin/probe", "limits"]
    assert ended(start("run", *config, *limits))[1] == f"{32 << 20} {2 << 20}\n"
    sizes = ["--memory-size", "16m", "--main-stack-size=1m"]
    assert ended(start("run", *sizes, *config, *limits))[1] == f"{16 << 20} {1 << 20}\n"
    assert ended(start("run", *config, "appdir", "/bin/probe", "where"))[1] == "/data none\n"
    del given["ApplicationPath"]
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert ended(start("run", *config, *limits))[1] == f"{32 << 20} {2 << 20}\n"


@needs_compiler
def test_without_a_configuration_the_environment_is_the_callers(start: Start) -> None:
    assert ended(start("run", "appdir", "/bin/probe", "where"))[1] == "/ red\n"


@needs_compiler
def test_a_directory_is_mounted_without_being_declared(start: Start, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("good day")
    mount = f"--mount={tmp_path}=/data"
    assert ended(start("run", mount, "appdir", "/bin/probe", "read", "/data/motd"))[1] == "good day\n"


@needs_compiler
def test_the_key_is_kept_for_the_next_run_and_for_its_user_only(start: Start, machine: Path) -> None:
    key = machine / "cache" / "mystikos-tool" / "throwaway.pem"
    ended(start("run", "appdir", "/bin/probe"))
    before = key.read_bytes()
    ended(start("run", "appdir", "/bin/probe"))
    assert (key.read_bytes(), key.stat().st_mode & 0o777) == (before, 0o600)


@needs_compiler
def test_a_program_that_is_not_there_is_told_with_the_name_that_was_given(
    start: Start, tmp_path: Path
) -> None:
    status, out, err = ended(start("run", "appdir", "/bin/prob"))
    assert (status, out) == (2, "")
    assert "/bin/prob is not in appdir; did you mean /bin/probe?" in err
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strace-filter=open", "appdir", "/bin/hello"], "strace -f mystikos-tool run"),
        (["--etrace", "appdir", "/bin/hello"], "strace -f mystikos-tool run"),
        (["--perf", "appdir", "/bin/hello"], "strace -c -f"),
        (["--memcheck", "appdir", "/bin/hello"], "leave it out"),
        (["--roothash=missing", "appdir", "/bin/hello"], "no such root hash file"),
        (["--host-to-enc-uid-map=12345:7", "appdir", "/bin/hello"], f"give {os.geteuid()}:0"),
        (["--host-to-enc-gid-map=12345:7", "appdir", "/bin/hello"], f"give {os.getegid()}:0"),
        (["--memory-size=lots", "appdir", "/bin/hello"], "no number of bytes"),
        (["--unhandled-syscall-enosys=1", "appdir", "/bin/hello"], "neither true nor false"),
        (["--mount=here", "appdir", "/bin/hello"], "no SOURCE=TARGET"),
        (["--config=missing.json", "appdir", "/bin/hello"], "no such configuration file"),
        (["appdir", "bin/hello"], "write /bin/hello"),
        (["appdir"], "required: program"),
        (["", "/bin/hello"], "argument root: it is empty"),
        (["appdir", ""], "error: program: is no absolute path in the root; name the program to start"),
    ],
)
def test_what_run_cannot_do_is_told_with_what_does_it(
    run: Run, project: Path, arguments: list[str], message: str
) -> None:
    result = run("run", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err


@pytest.fixture
def disk(start: Start, tmp_path: Path) -> Path:
    """A disk of the program's appdir."""
    assert ended(start("mkext2", "appdir", tmp_path / "app.disk"))[0] == 0
    return tmp_path / "app.disk"


@needs_compiler
def test_a_disk_is_started_and_held_to_its_own_root_hash(start: Start, disk: Path, tmp_path: Path) -> None:
    assert ended(start("run", disk, "/bin/probe", "x")) == (0, "/bin/probe\nx\n", "")
    assert list((tmp_path / "tmp").iterdir()) == []
    program = disk.read_bytes().index(b"\x7fELF")
    with disk.open("r+b") as file:
        file.seek(program + 4)
        file.write(b"another hand")
    assert ended(start("run", disk, "/bin/probe", "x"))[0] != 0


@needs_compiler
def test_a_disk_is_started_for_the_root_hash_or_key_that_is_given_and_for_no_other(
    start: Start, disk: Path, tmp_path: Path
) -> None:
    expected = tmp_path / "roothash"
    expected.write_text(ended(start("fssig", "--roothash", disk))[1])
    assert ended(start("run", f"--roothash={expected}", disk, "/bin/probe", "x"))[0] == 0
    expected.write_text("0" * 64)
    status, out, err = ended(start("run", f"--roothash={expected}", disk, "/bin/probe", "x"))
    assert (status, out) == (2, "")
    assert "app.disk: is signed by none of the trusted keys" in err
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    assert ended(start("run", f"--pubkey={public}", disk, "/bin/probe", "x"))[0] == 2
    assert ended(start("mkext2", "-f", f"--sign={public}:{key}", "appdir", disk))[0] == 0
    assert ended(start("run", f"--pubkey={public}", disk, "/bin/probe", "x"))[0] == 0


@needs_compiler
def test_a_disk_that_nothing_vouches_for_is_started_after_a_warning(
    start: Start, disk: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(disk.read_bytes()[:-4096])
    status, out, err = ended(start("run", plain, "/bin/probe", "x"))
    assert (status, out) == (0, "/bin/probe\nx\n")
    assert "unverified" in err


@needs_compiler
def test_a_disk_is_mounted_without_being_declared(start: Start, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/motd").write_text("good day")
    data = tmp_path / "data.disk"
    assert ended(start("mkext2", "--data", tmp_path / "tree", data))[0] == 0
    for root in ("appdir", disk):
        done = ended(start("run", f"--mount={data}=/data", root, "/bin/probe", "read", "/data/motd"))
        assert done == (0, "good day\n", "")


@needs_compiler
def test_an_encrypted_disk_is_no_root_to_run(start: Start, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(64)))
    disk = tmp_path / "app.disk"
    assert ended(start("mkext2", "-e", tmp_path / "key", "appdir", disk))[0] == 0
    status, _, err = ended(start("run", disk, "/bin/probe", "x"))
    assert status == 2
    assert "is encrypted" in err


@pytest.mark.parametrize("verb", ["exec-sgx", "exec"])
def test_what_starts_enclaves_in_hardware_names_run_and_sign_sgx(run: Run, verb: str) -> None:
    result = run(verb, "rootfs.cpio", "/bin/hello")
    assert result.status == 2
    assert "'mystikos-tool run'" in result.err
    assert "'mystikos-tool sign-sgx --runtime'" in result.err


def test_the_cache_of_a_user_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for given, directory in (
        ("/c", "/c"),
        ("relative", "/home/someone/.cache"),
        ("", "/home/someone/.cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert user_cache.directory() == Path(directory, "mystikos-tool")


# Under an installed Mystikos

MYST = """#!/bin/sh
for argument; do echo "$argument"; done
echo "name $APPLICATION"
config=$3
cat "$config"
[ -z "$SIGNAL" ] || kill -"$SIGNAL" $$
exit 9
"""


@pytest.fixture
def mystikos(tmp_path: Path, runtimes: Path) -> Path:
    """An installed Mystikos whose program shows how it is started."""
    directory = tmp_path / "mystikos"
    shutil.copytree(runtimes / "rt-a", directory)
    (directory / "bin" / "myst").write_text(MYST)
    return directory


@pytest.fixture
def start_in(tmp_path: Path) -> Start:
    (tmp_path / "appdir" / "bin").mkdir(parents=True)
    (tmp_path / "appdir" / "bin" / "app").write_text("#!/bin/app\n")
    (tmp_path / "tmp").mkdir()

    def start_in(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env={**ENVIRONMENT, "TMPDIR": str(tmp_path / "tmp"), **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start_in


def test_an_installed_mystikos_starts_the_root_by_exec_linux_and_its_status_is_passed_on(
    start_in: Start, tmp_path: Path, mystikos: Path
) -> None:
    options = ["--mount=/srv=/data", "--strace-filter", "SYS_open", "--memory-size=8m", "--perf"]
    status, out, err = ended(
        start_in("run", "--runtime", mystikos, *options, "appdir", "/bin/app", "x", "-y")
    )
    shown, _, configuration = out.partition("name \n")
    words = shown.split()
    assert status == 9
    assert words[:2] == ["exec-linux", "--app-config-path"]
    passed_on = ["--mount", "/srv=/data", "--strace-filter", "SYS_open", "--perf"]
    assert words[3:8] == passed_on
    assert words[8].endswith("/rootfs")
    assert words[9:] == ["/bin/app", "x", "-y"]
    told = json.loads(configuration)
    assert (told["MemorySize"], told["ApplicationPath"]) == (8 << 20, "/bin/app")
    assert told["Mount"] == [{"Target": "/data", "Type": "hostfs"}]
    assert err.count("\n") == 1
    assert f"started without SGX by {mystikos}/bin/myst exec-linux" in err
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_installed_mystikos_gets_a_disk_with_the_root_hash_that_it_is_held_to(
    start_in: Start, tmp_path: Path, mystikos: Path
) -> None:
    show = MYST.replace("exit 9", 'cat "$5"')
    (mystikos / "bin" / "myst").write_text(show)
    assert ended(start_in("mkext2", "appdir", "app.disk"))[0] == 0
    root_hash = ended(start_in("fssig", "--roothash", "app.disk"))[1]
    _, out, _ = ended(start_in("run", "--runtime", mystikos, "app.disk", "/bin/app", "x"))
    words = out.partition("name \n")[0].split()
    assert words[3] == "--roothash"
    assert words[5:] == ["app.disk", "/bin/app", "x"]
    assert root_hash in out


def test_the_mystikos_in_path_is_taken_by_itself(start_in: Start, mystikos: Path) -> None:
    path = f"{mystikos}/bin:{os.environ['PATH']}"
    assert ended(start_in("run", "appdir", "/bin/app", PATH=path))[0] == 9


@needs_compiler
def test_the_embedded_runtime_is_taken_where_that_is_asked_for(start: Start, mystikos: Path) -> None:
    assert ended(start("run", "--runtime=embedded", "appdir", "/bin/probe", "x")) == (
        0,
        "/bin/probe\nx\n",
        "",
    )


def test_a_signal_that_ends_the_program_is_told_by_the_status(start_in: Start, mystikos: Path) -> None:
    assert ended(start_in("run", "--runtime", mystikos, "appdir", "/bin/app", SIGNAL="TERM"))[0] == 143


def test_what_is_no_option_of_the_one_that_starts_is_refused(start_in: Start, mystikos: Path) -> None:
    refused = ended(start_in("run", "--runtime", mystikos, "--no-isolation", "appdir", "/bin/app"))
    assert refused[0] == 2
    assert "option --no-isolation: is none of an installed Mystikos" in refused[2]
    refused = ended(start_in("run", "--runtime=embedded", "--perf", "appdir", "/bin/app"))
    assert refused[0] == 2
    assert "option --perf: is none of the embedded runtime" in refused[2]


def test_a_program_that_is_forgotten_is_all_that_is_asked_for(run: Run) -> None:
    result = run("run", "appdir")
    assert result.status == 2
    assert result.err.endswith("the following arguments are required: program\n")
