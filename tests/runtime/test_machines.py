"""Packages start on every machine and in every way; what a machine lacks they name."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compiling import HERE, compile_static
from starting import SECONDS, Caller, MakePackage, interrupt_the_group, read_line, refusal

MOUNT, UNSHARE, SECCOMP = 165, 272, 317
Deny = Callable[[int, int], list[str | Path]]
WARNING = "package: mystikos: warning: no isolation: "
REACH = "the application sees and reaches what the user who starts it does: files, processes and devices"


@pytest.fixture
def unshare() -> str:
    found = shutil.which("unshare")
    if not found:
        pytest.skip("needs unshare(1)")
    return found


# How it is started


def test_a_package_starts_by_its_name_through_the_path(package: MakePackage, caller: Caller) -> None:
    made = package()
    done = caller.run(["sh", "-c", "package identity"], env={"PATH": f"{made.parent}:/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("make", [os.symlink, os.link, shutil.copy], ids=["link", "hard link", "renamed"])
def test_a_package_starts_under_another_name_which_its_messages_have(
    package: MakePackage, caller: Caller, public_directory: Path, make: object
) -> None:
    other = public_directory / "other name"
    assert callable(make)
    make(package(), other)
    try:
        assert caller.run(other, "leave", "7").returncode == 7
        assert caller.run(other, "--myst-nonsense").stderr.startswith("other name: mystikos: options: ")
    finally:
        other.unlink()


def test_a_package_starts_with_an_empty_name(package: MakePackage, caller: Caller) -> None:
    done = caller.run([""], "leave", "7", executable=package())
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_package_starts_with_closed_descriptors(package: MakePackage, caller: Caller, closed: str) -> None:
    assert caller.run(["sh", "-c", f'exec "$0" leave 7 {closed}', package()]).returncode == 7


def test_a_package_starts_without_an_environment(package: MakePackage, caller: Caller) -> None:
    assert caller.output(package(), "environment", env={}) == "MYST_TARGET=linux\n"


def test_options_of_the_loader_are_not_seen_without_an_environment_either(
    package: MakePackage, anyone: Caller
) -> None:
    made = package(HostApplicationParameters=False, ApplicationParameters=["show", "/proc/.linux/1/cmdline"])
    signer = "--myst-signer=" + "0" * 64
    info = anyone.output(made, "--myst-info")
    [mrsigner] = [line.split()[1] for line in info.splitlines() if line.startswith("mrsigner")]
    output = anyone.output(made, signer.replace("0" * 64, mrsigner), env={})
    assert output.strip("\0") == ""


def test_a_package_whose_file_is_replaced_while_it_runs_goes_on(
    package: MakePackage, anyone: Caller, public_directory: Path
) -> None:
    running = public_directory / "running"
    shutil.copy(package(), running)
    with anyone.start(running, "copy-input") as process:
        other = public_directory / "next"
        other.write_text("#!/bin/false\n")
        other.rename(running)
        output, _ = process.communicate("text\n", timeout=SECONDS)
    assert (process.returncode, output) == (0, "text\n")
    running.unlink()


# What the machine is like


@pytest.mark.parametrize(
    "state",
    [
        "mount -t tmpfs -o noexec,nosuid,nodev none /dev/shm",
        "mount -o remount,bind,ro /",
    ],
    ids=["nothing may be executed in memory", "read-only"],
)
def test_a_package_needs_no_place_to_write_or_execute_in(
    package: MakePackage, anyone: Caller, unshare: str, state: str
) -> None:
    script = f'{state} && exec "$0" "$@"'
    command: list[str | Path] = [unshare, "--map-root-user", "--mount", "sh", "-c", script, package()]
    done = anyone.run(command, "fill", "/tmp/file", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "written\n", "")


def test_a_package_starts_where_tmp_is_mounted_noexec(
    package: MakePackage, anyone: Caller, unshare: str
) -> None:
    made = package()
    # The package itself lies in /tmp, and is put elsewhere before it is covered.
    script = (
        'mount -t tmpfs none /mnt && cp "$0" /mnt/package && '
        'mount -t tmpfs -o noexec none /tmp && exec /mnt/package "$@"'
    )
    done = anyone.run([unshare, "--map-root-user", "--mount", "sh", "-c", script, made], "leave", "7")
    assert (done.returncode, done.stderr) == (7, "")


def test_memory_that_is_not_to_be_had_is_told_wherever_it_runs_out(
    package: MakePackage, anyone: Caller
) -> None:
    made = package()

    def start(limit: int) -> subprocess.CompletedProcess[str]:
        def lower() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

        command: list[str | Path] = [made, "leave", "7"]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            preexec_fn=lower,
            **anyone.credentials,
        )

    assert refusal(start(1 << 20)) == ".mystenc: no memory for its relocations"
    refused = re.fullmatch(
        r"memory: no room for an enclave of (\d+) bytes: Out of memory", refusal(start(8 << 20))
    )
    assert refused
    told = set()
    for more in range(0, 3 << 20, 96 << 10):  # behind the enclave, what kernel and process 1 take
        done = start(int(refused[1]) + more)
        told.add("" if done.returncode == 7 else re.sub(r"\d+", "N", refusal(done)))
    assert "" in told
    assert "cannot make a stack for the C runtime image: Out of memory" in told


@pytest.fixture(scope="module")
def deny(public_directory: Path) -> Deny:
    """What stands before a program for which a system call must fail."""
    program = compile_static(public_directory / "deny", HERE / "deny_call.c")
    program.chmod(0o755)
    return lambda number, error: [program, str(number), str(error)]


@pytest.mark.parametrize(
    ("number", "error", "step", "obstacle"),
    [
        (
            UNSHARE,
            errno.EPERM,
            "cannot make namespaces: Operation not permitted",
            "user namespaces are not available, as in a container whose seccomp profile forbids them; "
            "allow them there (Docker and Podman: --security-opt seccomp=unconfined)",
        ),
        (
            UNSHARE,
            errno.ENOSPC,
            "cannot make namespaces: No space left on device",
            "too many user namespaces are in use, or too many are nested",
        ),
        (
            MOUNT,
            errno.EACCES,
            "cannot make the mounts private: Permission denied",
            "an AppArmor or SELinux profile forbids it, as in a container; "
            "lift it (Docker: --security-opt apparmor=unconfined",
        ),
        (
            SECCOMP,
            errno.EBUSY,
            "cannot watch the system calls",
            "another program does; UnhandledSyscallEnosys in the configuration needs no watching",
        ),
    ],
)
def test_a_container_is_told_what_is_missing_and_what_to_do(
    package: MakePackage,
    caller: Caller,
    deny: Deny,
    number: int,
    error: int,
    step: str,
    obstacle: str,
) -> None:
    problem = refusal(caller.run([*deny(number, error), package()], "leave", "0"))
    assert problem.startswith(f"{step}: {obstacle}")
    assert problem.endswith("--myst-no-isolation") == (number != SECCOMP)


def test_a_container_whose_root_lacks_a_capability_is_told_which(package: MakePackage) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or not setpriv:
        pytest.skip("needs root and setpriv(1)")
    command: list[str | Path] = [setpriv, "--bounding-set=-setfcap", "--inh-caps=-setfcap", package()]
    problem = refusal(Caller(None).run(command, "leave", "0"))
    assert problem.startswith("cannot map user 0: root lacks CAP_SETFCAP")
    done = Caller(None).run(command, "--myst-no-isolation", "leave", "7")
    assert done.returncode == 7


def test_where_calls_cannot_be_watched_a_package_runs_that_needs_no_watching(
    package: MakePackage, anyone: Caller, deny: Deny
) -> None:
    ioctl = 16  # by which calls are taken from the filter
    made = package(UnhandledSyscallEnosys=True)
    assert anyone.run([*deny(ioctl, errno.ENOTTY), made], "leave", "7").returncode == 7
    done = anyone.run([*deny(ioctl, errno.ENOTTY), package()], "attack")
    assert done.returncode == 128 + signal.SIGSYS
    assert "stopped: system calls cannot be watched: Not a tty" in done.stderr


def test_a_machine_without_user_namespaces_is_told_what_is_missing(
    package: MakePackage, anyone: Caller, unshare: str
) -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    done = anyone.run([unshare, "--map-root-user", "sh", "-c", script, package()], "leave", "0")
    assert "this machine allows no user namespaces" in refusal(done)
    assert "sysctl -w user.max_user_namespaces=" in done.stderr


def test_a_container_that_hides_parts_of_proc_is_told_how_to_show_them(
    package: MakePackage, anyone: Caller, unshare: str
) -> None:
    script = 'mount -t tmpfs tmpfs /proc/fs && exec "$0" "$@"'
    done = anyone.run([unshare, "--map-root-user", "--mount", "sh", "-c", script, package()], "leave", "0")
    assert refusal(done).startswith(
        "cannot mount /proc: Operation not permitted: parts of this machine's /proc"
    )
    assert "--security-opt" in done.stderr


# Without isolation


@pytest.fixture
def temporary(public_directory: Path) -> Iterator[Path]:
    """Where packages without isolation put their roots."""
    directory = public_directory / "temporary"
    directory.mkdir()
    directory.chmod(0o1777)
    yield directory
    assert list(directory.iterdir()) == []  # none is left behind
    directory.rmdir()


@pytest.fixture
def no_namespaces(deny: Deny, temporary: Path) -> list[str | Path]:
    """What stands before a package that runs without isolation, behind the caller."""
    return ["env", f"TMPDIR={temporary}", *deny(UNSHARE, errno.EPERM)]


def test_without_isolation_an_application_runs_after_a_warning(
    package: MakePackage, caller: Caller, no_namespaces: list[str | Path]
) -> None:
    done = caller.run([*no_namespaces, package(), "--myst-no-isolation"], "leave", "7")
    assert done.returncode == 7
    assert done.stderr.startswith(f"{WARNING}{REACH}")
    in_place = "absolute paths are this machine's" in done.stderr
    assert in_place == bool(caller.user or os.geteuid())


def test_without_isolation_the_root_is_there_and_goes_at_the_end(
    package: MakePackage, caller: Caller, no_namespaces: list[str | Path]
) -> None:
    made = package({"data/x": b"content\n", "shut/y": b""}, {"shut": 0o555}, CurrentWorkingDirectory="/data")
    done = caller.run([*no_namespaces, made, "--myst-no-isolation"], "show", "x")
    assert (done.returncode, done.stdout) == (0, "content\n")


def test_without_isolation_the_configuration_limits_as_ever(
    package: MakePackage, caller: Caller, no_namespaces: list[str | Path]
) -> None:
    made = package(MemorySize="40m", MainStackSize="3m", MaxAffinityCPUs=1, NoBrk=True)
    start = [*no_namespaces, made, "--myst-no-isolation"]
    assert caller.run(start, "limits").stdout.splitlines() == [
        "address space 18446744073709551615 18446744073709551615",
        f"stack {3 << 20} {3 << 20}",
        "processors 1",
    ]
    assert caller.run(start, "program-break").stdout == "ENOTSUP\n"
    assert caller.run(start, "attack").returncode == 128 + signal.SIGSYS
    assert caller.run(start, "descriptors").stdout.split() == ["0", "1", "2"]


def test_without_isolation_there_are_no_privileges_either(
    package: MakePackage, anyone: Caller, no_namespaces: list[str | Path]
) -> None:
    done = anyone.run([*no_namespaces, package(), "--myst-no-isolation"], "privileges")
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert lines["NoNewPrivs:"] == "1"
    assert {lines[f"Cap{name}:"] for name in ("Prm", "Eff", "Inh", "Amb")} == {"0" * 16}


def test_without_isolation_signals_reach_the_application(
    package: MakePackage, caller: Caller, temporary: Path
) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with caller.start(package(), "--myst-no-isolation", "signals", env=environment) as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        process.send_signal(signal.SIGUSR1)
        assert read_line(process.stdout) == str(int(signal.SIGUSR1))
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_without_isolation_a_signal_to_the_process_group_reaches_the_application_once(
    package: MakePackage, anyone: Caller, temporary: Path
) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = ["--myst-no-isolation", "signals"]
    with anyone.start(package(), *command, env=environment, start_new_session=True) as process:
        interrupt_the_group(process)


def test_without_isolation_nothing_of_the_application_outlives_it(
    package: MakePackage, anyone: Caller, no_namespaces: list[str | Path]
) -> None:
    command = [*map(str, no_namespaces), str(package(ForkMode="pseudo")), "--myst-no-isolation", "abandon"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **anyone.credentials) as process:
        assert process.stdout
        assert read_line(process.stdout) == "abandoned"
        assert process.stdout.read() == ""  # which only comes when nobody has the other end
        assert process.wait(SECONDS) == 0


def test_without_isolation_the_application_dies_with_the_package(
    package: MakePackage, anyone: Caller, temporary: Path
) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with anyone.start(package(), "--myst-no-isolation", "endure", env=environment) as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        process.kill()
        assert process.stdout.read() == ""  # which only comes when nobody has the other end
    [left] = temporary.iterdir()  # nobody was there to remove it
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    assert anyone.run(package(), "--myst-no-isolation", "leave", "7", env=environment).returncode == 7
    assert list(temporary.iterdir()) == []


def test_without_isolation_a_deep_root_is_removed_and_no_link_is_followed(
    package: MakePackage, anyone: Caller, temporary: Path, tmp_path: Path
) -> None:
    program = compile_static(tmp_path / "nest", HERE / "nest.c")
    made = package({"bin/nest": program}, ApplicationPath="/bin/nest")
    outside = temporary / "outside"
    outside.mkdir(0o755)
    (outside / "file").write_text("stays")
    place = temporary / "place"
    place.mkdir()
    place.chmod(0o777)
    environment = {**os.environ, "TMPDIR": str(place)}
    done = anyone.run(made, "--myst-no-isolation", str(outside), env=environment)
    assert done.stdout == "3000 directories\n"
    assert list(place.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert (outside / "file").read_text() == "stays"
    shutil.rmtree(outside)
    place.rmdir()


def test_without_isolation_no_file_of_the_root_is_set_id(
    package: MakePackage, anyone: Caller, temporary: Path
) -> None:
    made = package({"set-id": b"x"}, {"set-id": 0o6755}, Debug=True)
    options = ["--myst-no-isolation", "--myst-root=kept"]
    assert anyone.run(made, *options, "leave", "7", cwd=temporary).returncode == 7
    assert stat.S_IMODE((temporary / "kept" / "set-id").stat().st_mode) == 0o755
    shutil.rmtree(temporary / "kept")


def test_without_isolation_a_root_that_cannot_be_started_goes_too(
    package: MakePackage, anyone: Caller, no_namespaces: list[str | Path]
) -> None:
    made = package({"bin/program": b"text"}, ApplicationPath="/bin/program", checked=False)
    done = anyone.run([*no_namespaces, made, "--myst-no-isolation"])
    assert done.returncode == 125
    assert "it is neither an x86-64 ELF program nor a script" in done.stderr


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"Hostname": "name"}, "Hostname"),
        ({"Mount": [{"Target": "/bin", "Type": "hostfs"}]}, "Mount"),
    ],
)
def test_what_isolation_alone_can_honour_is_refused_without_it(
    package: MakePackage, anyone: Caller, settings: dict[str, object], key: str
) -> None:
    options = ["--myst-mount=/etc=/bin"] if key == "Mount" else []
    done = anyone.run(package(**settings), *options, "--myst-no-isolation", "leave", "0")
    assert refusal(done) == f"options: --myst-no-isolation: {key} of the configuration needs isolation"


def test_without_isolation_the_root_may_be_kept(
    package: MakePackage, anyone: Caller, temporary: Path
) -> None:
    kept = temporary / "kept"
    done = anyone.run(
        package(Debug=True), "--myst-no-isolation", "--myst-root=kept", "leave", "7", cwd=temporary
    )
    assert done.returncode == 7
    assert (kept / "bin" / "probe").exists()
    shutil.rmtree(kept)


def test_without_isolation_and_a_place_to_execute_in_a_package_says_so(
    package: MakePackage, anyone: Caller, unshare: str
) -> None:
    made = package()
    script = (
        'mount -t tmpfs none /mnt && cp "$0" /mnt/package && for d in /tmp /var/tmp /dev/shm; '
        'do mount -t tmpfs -o noexec none $d; done; exec /mnt/package "$@"'
    )
    command: list[str | Path] = [
        unshare,
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        made,
        "--myst-no-isolation",
    ]
    done = anyone.run(command, "leave", "0", env={"PATH": os.environ["PATH"]})
    assert done.returncode == 125
    assert "neither TMPDIR nor /tmp, /var/tmp and /dev/shm can be written to" in done.stderr
