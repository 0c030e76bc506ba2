"""What the application is told and may do is what Mystikos tells and lets it do, whoever starts it."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from compiling import HERE, compile_library, compile_static
from starting import SECONDS, Caller, MakePackage, read_line, refusal

from mystikos_tool.errors import UserError

PASSWD = b"root:x:0:0::/:/bin/sh\na:x:1000:1000::/:/bin/sh\n"
GROUP = b"root:x:0:\na:x:1000:\n"
ACCOUNTS = {"etc/passwd": PASSWD, "etc/group": GROUP}
MakeInside = Callable[..., Path]


# Users and owners


def test_a_server_drops_its_privileges_and_owns_what_it_makes(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(ACCOUNTS), "drop").splitlines() == [
        "setgroups: done",
        "setgid: done",
        "setuid: done",
        "1000 1000 1000, 1000 1000 1000, 2 groups",
        "back: Operation not permitted",
        "/tmp/own 1000 1000 644",
        "/tmp/directory 1000 1000 755",
        "chown: Operation not permitted",
        "unknown: Invalid argument",
    ]


def test_children_and_their_programs_are_the_same_user(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(ACCOUNTS), "inherit") == "1000 1000 1000, 1000 1000 1000, 0 groups\n"


@pytest.mark.parametrize("mode", ["pseudo", "pseudo_wait_for_exit_exec"])
def test_no_fork_is_interrupted_by_the_end_of_another_child(
    inside: MakeInside, anyone: Caller, mode: str
) -> None:
    assert anyone.output(inside(ForkMode=mode, MemorySize="256m"), "start-many") == "told, 0 interrupted\n"


def test_few_calls_are_interrupted_by_signals_however_busy_process_1_is(
    inside: MakeInside, caller: Caller
) -> None:
    made = inside(ForkMode="pseudo", MemorySize="256m")
    shares = []
    for _ in range(3):
        interrupted, calls = map(int, caller.output(made, "interrupt").split(" of "))
        shares.append(interrupted / calls)
    assert min(shares) < 0.2


def test_a_user_without_an_account_cannot_be_become(inside: MakeInside, anyone: Caller) -> None:
    assert anyone.output(inside(), "unknown").splitlines() == [
        "setuid: Invalid argument",
        "setgid: Invalid argument",
        "setreuid: Operation not permitted",
        "setresuid: Invalid argument",
        "0 0 0, 0 0 0, 0 groups",
    ]


def test_files_are_given_to_any_user_and_stat_shows_it(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "owners").splitlines() == [
        "chown: done",
        "/tmp/file 1000 2000 644",
        "fchown: done",
        "/tmp/file 7 2000 644",
        "fstat 7 2000",
        "lchown: done",
        "link 5 6 777",
        "through the link: done",
        "file 8 9 644",
        "missing: No such file or directory",
    ]


def test_user_0_creates_where_no_w_is_and_runs_what_has_no_x(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "modes").splitlines() == [
        "create in a directory without w: done",
        "mkdir in it: done",
        "/tmp/closed 0 0 555",
        "/tmp/closed/file 0 0 644",
        "0 0 0, 0 0 0, 0 groups",
    ]


# Limits and the machine


def test_the_limits_are_the_enclaves_and_setting_them_changes_nothing(
    inside: MakeInside, caller: Caller
) -> None:
    lines = caller.output(inside(MemorySize="256m"), "limits").splitlines()
    assert lines[:16] == [
        "0 -1 -1",
        "1 -1 -1",
        "2 187904819 187904819",
        "3 1605632 1605632",
        "4 0 -1",
        "5 -1 -1",
        "6 1024 1024",
        "7 2048 2048",
        "8 67108864 67108864",
        "9 -1 -1",
        "10 -1 -1",
        "11 128319 128319",
        "12 819200 819200",
        "13 0 0",
        "14 0 0",
        "15 -1 -1",
    ]
    assert lines[16:] == ["setrlimit: done", "2048 descriptors: No file descriptors available"]


def test_the_machine_is_the_enclave(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(MemorySize="256m"), "machine").splitlines() == [
        f"{256 << 20} of 1, free 1, 256 MiB by sysconf",
        "TEE 5.4.0 Mystikos 1.0.0",
        "858458f6 512 0",
        "sethostname: done",
        "other",
        "netlink: Address family not supported by protocol",
        "vsock: Address family not supported by protocol",
    ]


def test_proc_tells_the_memory_of_the_enclave(package: MakePackage, caller: Caller) -> None:
    lines = caller.output(package(MemorySize="256m"), "show", "/proc/meminfo").splitlines()
    assert [line.split()[0] for line in lines] == ["MemTotal:", "MemFree:", "Cached:"]
    assert lines[0].split()[1:] == [str(256 << 20)]


def test_names_are_the_hosts_whatever_the_root_says(package: MakePackage, caller: Caller) -> None:
    made = package({"etc/hosts": b"own\n", "etc/resolv.conf": b"own\n"})
    for path in (Path("/etc/hosts"), Path("/etc/resolv.conf")):
        assert caller.output(made, "show", str(path)) == path.read_text()


def test_a_dangling_link_in_place_of_the_names_refuses_the_start(
    package: MakePackage, anyone: Caller
) -> None:
    root = {"links": {"etc/resolv.conf": "../run/resolv.conf"}}
    with pytest.raises(UserError, match="is a symbolic link that leads nowhere"):
        package({"etc/x": b""}, **root)
    made = package({"etc/x": b""}, checked=False, **root)
    assert "/etc/resolv.conf in the root file system is a symbolic link" in refusal(
        anyone.run(made, "leave", "0")
    )


def test_a_root_with_files_below_proc_refuses_the_start(package: MakePackage, anyone: Caller) -> None:
    made = package({"proc/x": b""}, checked=False)
    assert refusal(anyone.run(made, "leave", "0")) == (
        "/proc in the root file system is not empty, and Mystikos does not start with it"
    )


def test_a_clock_that_mystikos_does_not_sleep_on_stops_the_program(
    inside: MakeInside, anyone: Caller
) -> None:
    assert anyone.output(inside(), "sleep", "real") == "sleep: done\n"
    done = anyone.run(inside(), "sleep", "monotonic")
    assert done.returncode == 128 + signal.SIGSYS
    assert "clock_nanosleep (230) is not handled" in done.stderr
    made = inside(UnhandledSyscallEnosys=True)
    assert anyone.output(made, "sleep", "monotonic") == "sleep: Function not implemented\n"


@pytest.mark.parametrize(("size", "problem"), [("16k", "32 KiB"), ("64m", "not smaller than MemorySize")])
def test_a_main_stack_that_mystikos_cannot_have_is_refused(
    package: MakePackage, anyone: Caller, size: str, problem: str
) -> None:
    done = anyone.run(package(checked=False, MemorySize="64m", MainStackSize=size), "leave", "0")
    assert problem in refusal(done)


# System calls


def test_what_mystikos_answers_by_arguments_alone_is_answered_so(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "rules").splitlines() == [
        "lock: done",
        "lock of another descriptor: done",
        "lock of none: done",
        "F_SETLK: done",
        "F_GETLK: Not supported",
        "F_OFD_SETLK: Not supported",
        "FUTEX_LOCK_PI: Not supported",
        "FUTEX_WAKE: done",
        "ITIMER_PROF: Invalid argument",
        "ITIMER_REAL: done",
        "mkfifo: done",
        "open of it: No such file or directory",
        "mknod: Not supported",
        "PR_GET_DUMPABLE: Invalid argument",
        "PR_SET_NAME: done",
        "SO_PEERCRED: Not supported",
        "dup2: Invalid argument",
        "bad flags of getrandom: done",
        "setsid: Operation not permitted",
        "low mlock: done",
        "shrink: Invalid argument",
        "group 101 of 101, session 100, parent 100, 4",
    ]


def test_a_working_directory_keeps_its_name_when_it_is_gone(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "directories").splitlines() == [
        "a file: No such file or directory",
        "a directory: done",
        "/tmp/gone",
        "too short: Result not representable",
        "in it: No such file or directory",
    ]


def test_where_mystikos_crashes_the_program_is_stopped(inside: MakeInside, caller: Caller) -> None:
    done = caller.run(inside(), "crash")
    assert done.returncode == 128 + signal.SIGSEGV
    assert re.fullmatch(
        r"package: mystikos: stopped: thread 101: system call \w+ \(\d+\): "
        r"Mystikos crashes upon these arguments\n",
        done.stderr,
    )


def test_what_is_no_program_to_mystikos_is_not_executed(
    inside: MakeInside, caller: Caller, library: bytes
) -> None:
    assert caller.output(inside({"lib/library.so": library}), "programs").splitlines() == [
        "a text: No such file or directory",
        "a directory: No such file or directory",
        "a library: No such file or directory",
    ]
    made = inside({"lib/library.so": library}, checked=False, ApplicationPath="/lib/library.so")
    assert "it is neither" in refusal(caller.run(made))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("library")
    (directory / "library.c").write_text("int value(void);\nint value(void) { return 1; }\n")
    return compile_library(directory / "library", directory / "library.c").read_bytes()


@pytest.mark.parametrize(("size", "told"), [("64k", 56), ("1568k", 1560), ("8m", 8184)])
def test_the_main_stack_is_told_as_large_as_it_is(
    inside: MakeInside, anyone: Caller, size: str, told: int
) -> None:
    assert anyone.output(inside(MainStackSize=size), "main-stack") == f"{told} KiB\n"


def test_what_mystikos_does_otherwise_is_told_once(inside: MakeInside, caller: Caller) -> None:
    done = caller.run(inside(), "told")
    assert done.stdout.splitlines() == [
        "mapped: x",
        "watch: done",
        "watch of nothing: done",
        "event: done",
        "epoll: done",
    ]
    assert done.stderr.splitlines() == [
        "package: mystikos: note: uses inotify: under Mystikos no event ever comes",
        "package: mystikos: note: uses shared mappings of files: under Mystikos each is a copy, which msync "
        "alone writes back",
        "package: mystikos: note: uses edge-triggered epoll: under Mystikos it reports a descriptor once "
        "only",
    ]
    assert caller.run(inside(), "--myst-quiet", "told").stderr == ""


def test_that_a_console_has_no_flags_is_told_where_the_program_aborts(
    inside: MakeInside, anyone: Caller
) -> None:
    assert anyone.run(inside(), "flags").stderr == ""
    done = anyone.run(inside(), "flags", "abort")
    assert done.returncode == 128 + signal.SIGABRT
    assert done.stderr == (
        "package: mystikos: note: uses fcntl F_GETFL of a console: under Mystikos it fails, upon which "
        "Node.js aborts; with --myst-linux it does not\n"
    )
    assert anyone.run(inside(Debug=True), "--myst-linux", "flags", "abort").returncode == 0


def test_directories_for_the_dynamic_linker_are_told(inside: MakeInside, anyone: Caller) -> None:
    made = inside(EnvironmentVariables=["LD_LIBRARY_PATH=/opt/lib"])
    assert anyone.run(made, "environment").stderr == (
        "package: mystikos: note: uses LD_LIBRARY_PATH: under Mystikos the dynamic linker does not look "
        "where it says\n"
    )
    assert anyone.output(inside(EnvironmentVariables=["LD_LIBRARY_PATH="]), "environment")


def test_a_signal_from_outside_is_told_where_the_application_handles_it(
    package: MakePackage, caller: Caller
) -> None:
    with caller.start(package(), "signals", stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert "uses a signal from outside: under Mystikos it ends the package" in process.stderr.read()


def test_an_application_has_linux_as_it_is_where_debug_lets_it(inside: MakeInside, caller: Caller) -> None:
    lines = caller.output(inside(Debug=True), "--myst-linux", "rules").splitlines()
    assert "lock of another descriptor: Resource temporarily unavailable" in lines
    assert "PR_GET_DUMPABLE: done" in lines
    assert "--myst-linux is for debug enclaves" in refusal(caller.run(inside(), "--myst-linux", "rules"))


# Arguments and environment


def test_arguments_take_more_than_a_quarter_of_the_stack(inside: MakeInside, caller: Caller) -> None:
    assert caller.output(inside(), "arguments", *["x" * 100_000] * 13) == "15 arguments\n"
    done = caller.run(inside(), "arguments", *["x" * 100_000] * 18)
    assert refusal(done).endswith("too large for MainStackSize")


@pytest.mark.parametrize("name", ["etc", "tmp"])
def test_a_file_in_the_place_of_a_directory_of_mystikos_gives_way(
    package: MakePackage, caller: Caller, name: str
) -> None:
    assert caller.output(package({name: b"file"}), "status", f"/{name}").startswith("40")


def test_the_roots_variables_come_behind_the_others(inside: MakeInside, caller: Caller) -> None:
    root = {"appenv.json": b'{"Env": ["PATH=/app", "LD_LIBRARY_PATH=/lib", "A=2", "B=3"]}'}
    made = inside(root, EnvironmentVariables=["A=1", "PATH=/bin"])
    assert caller.output(made, "--myst-quiet", "environment").splitlines() == [
        "A=1",
        "PATH=/bin:/app",
        "MYST_TARGET=linux",
        "LD_LIBRARY_PATH=/lib",
        "A=2",
        "B=3",
    ]
    first = inside(root, EnvironmentVariables=["PATH=/bin"])
    assert caller.output(first, "--myst-quiet", "environment").splitlines()[:3] == [
        "PATH=/bin",
        "MYST_TARGET=linux",
        "PATH=/app",
    ]


def test_host_variables_come_in_the_hosts_order_and_behind_their_namesakes(
    inside: MakeInside, caller: Caller
) -> None:
    made = inside(EnvironmentVariables=["A=own"], HostEnvironmentVariables=["H2", "H1", "A", "NONE"])
    host = {"H1": "1", "A": "host", "H2": "2", "OTHER": "x"}
    assert caller.output(made, "environment", env=host).splitlines() == [
        "A=own",
        "H1=1",
        "A=host",
        "H2=2",
        "MYST_TARGET=linux",
    ]


def test_credentials_are_refused_as_secrets_are(inside: MakeInside, anyone: Caller) -> None:
    made = inside(checked=False, EnvironmentVariables=["MYST_WANT_TEE_CREDENTIALS=CERT_PEMKEY"])
    assert refusal(anyone.run(made, "environment")) == (
        "environment: MYST_WANT_TEE_CREDENTIALS: credentials need attestation, and there is none here"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no",
        b"{}",
        b'{"Env": []}',
        b'{"Env": ["A"]}',
        b'{"Env": [1]}',
        b'{"Env": ["A=1"]} x',
        b'{"X": []}',
    ],
)
def test_broken_variables_of_the_root_refuse_the_start(
    inside: MakeInside, anyone: Caller, text: bytes
) -> None:
    with pytest.raises(UserError, match=r"/appenv\.json"):
        inside({"appenv.json": text})
    made = inside({"appenv.json": text}, checked=False)
    assert refusal(anyone.run(made, "environment")).startswith("/appenv.json: ")


# Nothing gets out


def test_processes_that_make_processes_end_at_a_number(inside: MakeInside, caller: Caller) -> None:
    count, reason = caller.output(inside(ForkMode="pseudo"), "bomb").rstrip().split(": ")
    assert 900 < int(count) < 1400
    assert reason == "Resource temporarily unavailable"


def test_a_signal_to_group_0_does_not_reach_the_callers_group(inside: MakeInside, caller: Caller) -> None:
    # In a session of its own: where the signal gets out, it must not reach the tests.
    assert caller.output(inside(), "signal-group", start_new_session=True).splitlines() == [
        "kill(0, SIGTERM): No such process",
        "kill(0, 0): No such process",
    ]


def test_a_directory_of_the_host_is_no_standard_input(package: MakePackage, caller: Caller) -> None:
    directory = os.open("/", os.O_RDONLY)
    done = caller.run(package(), "leave", "0", stdin=directory)
    os.close(directory)
    assert refusal(done).startswith("descriptor 0 is a directory of the host")


def test_descriptors_give_what_the_caller_gave_and_no_more(
    inside: MakeInside, caller: Caller, tmp_path: Path
) -> None:
    given, log = tmp_path / "given", tmp_path / "log"
    given.write_text("given")
    log.write_text("kept\n")
    for path in (given, log):
        path.chmod(0o666)
        if caller.user is not None:
            os.chown(path, caller.user, caller.user)
    with given.open() as stdin, log.open("a") as stdout:
        done = caller.run(inside(), "reach", stdin=stdin, stdout=stdout, capture_output=False)
    assert done.returncode == 0
    assert log.read_text().splitlines() == [
        "kept",
        "reopen 0 to read: done",
        "reopen 0 to write: Permission denied",
        "reopen 1 to write: Permission denied",
        "reopen 1 to truncate: Permission denied",
        "truncate 1: Bad file descriptor",
        "append no longer: Not supported",
        "punch a hole: done",
        "fchmod 0: Not supported",
        "fchmod 1: Not supported",
        "chmod 1: Operation not permitted",
        "chmod by a link: Operation not permitted",
        "chmod by the directory: Operation not permitted",
        "read 0: done",
        "give",
    ]
    assert given.stat().st_mode & 0o7777 == log.stat().st_mode & 0o7777 == 0o666


def test_where_no_descriptor_can_be_taken_files_are_changed_all_the_same(
    inside: MakeInside, anyone: Caller, public_directory: Path
) -> None:
    deny = compile_static(public_directory / "deny_getfd", HERE / "deny_call.c")
    pidfd_getfd = ["438", str(errno.EPERM)]
    command: list[str | Path] = [deny, *pidfd_getfd, inside()]
    assert anyone.run(command, "change-files").stdout == "truncate: done\nF_SETFL: done\n"


def test_abstract_sockets_of_the_host_are_out_of_reach(inside: MakeInside, caller: Caller) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0mystikos-test")
        listening.listen()
        assert caller.output(inside(), "--myst-quiet", "abstract").splitlines() == [
            "connect to the host's: Operation not permitted",
            "bind: done",
            "listen: done",
            "connect to its own: done",
        ]
        reached = caller.output(inside(HostUDS=True), "--myst-quiet", "abstract").splitlines()
        assert reached[0] == "connect to the host's: done"


def test_ports_below_1024_are_bound_where_the_caller_may(inside: MakeInside, caller: Caller) -> None:
    lines = caller.output(inside(), "low-port").splitlines()
    if caller.user is None and os.geteuid() == 0:
        assert lines == [
            "bind below 1024: done",
            "listen: done",
            "again: Address in use",
            "no socket: Not a socket",
        ]
    else:
        assert lines == ["bind below 1024: Permission denied"]


def test_no_set_id_file_is_left_in_a_directory_of_the_host(
    inside: MakeInside, caller: Caller, public_directory: Path
) -> None:
    directory = public_directory / f"shared-{caller.user}"
    directory.mkdir()
    directory.chmod(0o777)
    made = inside({"mnt/x": b""}, Mount=[{"Target": "/mnt", "Type": "hostfs"}])
    assert caller.output(made, f"--myst-mount={directory}=/mnt", "leave-set-id").splitlines() == [
        "create set-id: Operation not permitted",
        "chmod set-id: Operation not permitted",
        "chmod: done",
        "chmod in the root: done",
    ]
    assert [path.stat().st_mode & 0o7777 for path in directory.iterdir()] == [0o755]


def test_roots_other_groups_are_not_the_applications(package: MakePackage, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(
        [package(), "show", "/proc/.linux/self/status"],
        capture_output=True,
        text=True,
        check=True,
        extra_groups=[4242],
    )
    [groups] = [line for line in done.stdout.splitlines() if line.startswith("Groups:")]
    assert groups.split()[1:] == []


def test_what_root_alone_may_read_of_the_hosts_proc_is_hidden(package: MakePackage, caller: Caller) -> None:
    for name in ("slabinfo", "timer_list", "vmallocinfo", "kpagecount", "pagetypeinfo"):
        if not (Path("/proc") / name).exists():
            continue
        for directory in ("/proc", "/proc/.linux"):
            done = caller.run(package(), "show", f"{directory}/{name}")
            assert done.stdout == "No such file or directory\n"
        done = caller.run(package(Debug=True), "--myst-linux", "show", f"/proc/{name}")
        assert done.stdout in ("", "Permission denied\n")


def test_settings_of_the_hosts_system_cannot_be_written_with_linux_as_it_is(
    package: MakePackage, caller: Caller
) -> None:
    done = caller.run(package(Debug=True), "--myst-linux", "attack")
    lines = done.stdout.splitlines()
    assert {"kernel setting: refused", "kernel trigger: refused", "kernel log: refused"} <= set(lines)


def test_addresses_are_random_whatever_the_caller_set(package: MakePackage, anyone: Caller) -> None:
    setarch = shutil.which("setarch")
    if not setarch:
        pytest.skip("needs setarch(8)")
    assert anyone.output(package(), "show", "/proc/.linux/self/personality").strip() == "00000000"
    done = anyone.run([setarch, "-R", package()], "show", "/proc/.linux/self/personality")
    assert done.stdout.strip() == "00000000"


def test_a_caller_who_ignores_its_children_gets_the_status(package: MakePackage, caller: Caller) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    command = [package(), "leave", "7"]
    done = subprocess.run(command, check=False, preexec_fn=ignore, timeout=SECONDS, **caller.credentials)
    assert done.returncode == 7


def test_a_full_pipe_does_not_hold_a_refusal_up(package: MakePackage, anyone: Caller) -> None:
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    while True:
        try:
            os.write(ends[1], b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(ends[1], True)
    done = anyone.run(package(), "--myst-unknown", capture_output=False, stdout=ends[1], stderr=ends[1])
    assert done.returncode == 125
    for end in ends:
        os.close(end)


def test_a_limit_of_file_sizes_is_told(package: MakePackage, anyone: Caller) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command: list[str | Path] = [package(), "leave", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=limit, **anyone.credentials
    )
    assert refusal(done).endswith("File too large")


def test_a_soft_limit_of_file_sizes_is_raised(package: MakePackage, anyone: Caller) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    command: list[str | Path] = [package(), "fill", "/tmp/file", "8192"]
    done = subprocess.run(command, capture_output=True, check=False, preexec_fn=limit, **anyone.credentials)
    assert done.stdout == b"written\n"


def test_no_core_of_an_application_is_dumped(package: MakePackage, anyone: Caller) -> None:
    def allow() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    command: list[str | Path] = [package(), "show", "/proc/.linux/self/limits"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=allow, **anyone.credentials
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["1", "1"]  # with 0 a program of the host that takes cores gets one


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a set-id copy")
def test_a_set_id_copy_takes_no_option_that_changes_how_the_application_runs(
    package: MakePackage, anyone: Caller, public_directory: Path
) -> None:
    copy = public_directory / "package"
    shutil.copy(package(), copy)
    copy.chmod(0o4755)
    for option in ("--myst-no-isolation", "--myst-quiet", "--myst-mount=/etc=/etc", "--myst-rootfs=/disk"):
        assert "since this file is set-id" in refusal(anyone.run(copy, option, "leave", "0"))
    assert "verified" in anyone.run(copy, "--myst-verify").stdout
    copy.unlink()


@pytest.mark.parametrize("kibibytes", [16, 64, 200])
def test_a_limit_of_the_stack_that_is_too_low_is_told(
    package: MakePackage, anyone: Caller, kibibytes: int
) -> None:
    command: list[str | Path] = ["sh", "-c", f'ulimit -s {kibibytes} && exec "$0" "$@"', package()]
    assert "hard limit of the stack" in refusal(anyone.run(command, "leave", "0", env={}))


def test_a_soft_limit_of_the_stack_is_raised(package: MakePackage, anyone: Caller) -> None:
    command: list[str | Path] = ["sh", "-c", 'ulimit -S -s 16 && exec "$0" "$@"', package()]
    assert anyone.run(command, "leave", "7", env={}).returncode == 7


@pytest.mark.parametrize("way", ["ignored", "blocked"])
def test_a_package_starts_with_every_signal_ignored_or_blocked(
    package: MakePackage, caller: Caller, way: str
) -> None:
    def prepare() -> None:
        numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        if way == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers if way == "ignored" else ():
            signal.signal(number, signal.SIG_IGN)

    command: list[str | Path] = [package(), "leave", "7"]
    done = subprocess.run(command, check=False, preexec_fn=prepare, timeout=SECONDS, **caller.credentials)
    assert done.returncode == 7


def test_a_chroot_is_named_as_the_cause(package: MakePackage, tmp_path: Path) -> None:
    chroot = shutil.which("chroot")
    if os.geteuid() != 0 or not chroot:
        pytest.skip("needs root and chroot(8)")
    for name in ("proc", "dev", "tmp", "etc"):
        (tmp_path / name).mkdir()
    shutil.copy(package(), tmp_path / "package")
    script = f'mount -t proc proc {tmp_path}/proc && exec chroot {tmp_path} /package "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", "leave", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "chroot" in refusal(done)


def test_two_dashes_end_the_loaders_options(package: MakePackage, caller: Caller) -> None:
    made = package()
    assert caller.output(made, "--", "arguments", "--myst-no-isolation", "--").splitlines()[1:] == [
        "arguments",
        "--myst-no-isolation",
        "--",
    ]


def test_a_deployment_forbids_the_loaders_options(package: MakePackage, anyone: Caller) -> None:
    made, forbidden = package(), {"MYST_OPTIONS": "none"}
    assert refusal(anyone.run(made, "--myst-no-isolation", "leave", "0", env=forbidden)) == (
        "options: --myst-no-isolation is refused, since MYST_OPTIONS is none"
    )
    assert anyone.run(made, "leave", "3", env=forbidden).returncode == 3
    assert "none is all that it can be" in refusal(
        anyone.run(made, "leave", "0", env={"MYST_OPTIONS": "some"})
    )
