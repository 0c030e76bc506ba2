from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from compiling import HERE, compile_static
from starting import (
    PROBE,
    SECONDS,
    Caller,
    MakePackage,
    Terminal,
    children,
    execute,
    interrupt_the_group,
    read_line,
    refusal,
)

from mystikos_tool.errors import UserError

# What the application is given


def test_the_application_is_user_0_in_a_process_and_host_namespace_of_its_own(
    package: MakePackage, caller: Caller
) -> None:
    assert caller.output(package(), "identity").splitlines() == [
        "host TEE",
        "directory /",
        "process 101 of 100",
        "user 0 0 group 0 0",
        "mask 022",
    ]


def test_host_name_and_working_directory_are_the_configurations(package: MakePackage, caller: Caller) -> None:
    made = package({"data/x": b""}, Hostname="enclave-1.example", CurrentWorkingDirectory="/data")
    assert caller.output(made, "identity").splitlines()[:2] == ["host enclave-1.example", "directory /data"]


def test_a_working_directory_that_is_not_in_the_root_is_empty(package: MakePackage, anyone: Caller) -> None:
    made = package(CurrentWorkingDirectory="/missing/directory")
    assert anyone.output(made, "identity").splitlines()[1] == "directory /missing/directory"
    assert anyone.output(made, "fill", "file", "1") == "No such file or directory\n"


def test_a_working_directory_that_is_a_file_is_refused(package: MakePackage, anyone: Caller) -> None:
    done = anyone.run(package({"file": b""}, checked=False, CurrentWorkingDirectory="/file"), "identity")
    assert refusal(done) == "configuration: CurrentWorkingDirectory: cannot enter /file: Not a directory"


def test_arguments_come_from_the_command_line_where_the_configuration_lets_them(
    package: MakePackage, caller: Caller
) -> None:
    output = caller.output(package(), "arguments", "", "two words", "--three", "ü")
    assert output.splitlines() == [PROBE, "arguments", "", "two words", "--three", "ü"]


def test_arguments_come_from_the_configuration_otherwise_and_a_warning_says_so(
    package: MakePackage, anyone: Caller
) -> None:
    made = package(HostApplicationParameters=False, ApplicationParameters=["arguments", "own"])
    assert anyone.output(made).splitlines() == [PROBE, "arguments", "own"]
    done = anyone.run(made, "theirs")
    assert done.stdout.splitlines() == [PROBE, "arguments", "own"]
    assert done.stderr == (
        "package: mystikos: warning: the arguments are ignored: "
        "HostApplicationParameters is not set in the configuration\n"
    )


def test_the_environment_is_the_configurations_and_what_it_names_of_the_hosts(
    package: MakePackage, caller: Caller
) -> None:
    made = package(
        EnvironmentVariables=["FIXED=inside", "EMPTY=", ""],
        HostEnvironmentVariables=["PASSED", "FIXED", "ABSENT", "PASS"],
    )
    host = {"PASSED": "a=b", "FIXED": "outside", "MYST_TARGET": "sgx", "LD_PRELOAD": "/evil", "OTHER": "x"}
    assert caller.output(made, "environment", env=host).splitlines() == [
        "FIXED=inside",
        "EMPTY=",
        "",
        "PASSED=a=b",
        "FIXED=outside",
        "MYST_TARGET=linux",
    ]


# What comes back


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_the_exit_status_is_the_applications(package: MakePackage, caller: Caller, status: int) -> None:
    assert caller.run(package(), "leave", str(status)).returncode == status


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE])
def test_a_fatal_signal_gives_128_and_its_number(
    package: MakePackage, anyone: Caller, number: signal.Signals
) -> None:
    done = anyone.run(package(), "die", str(int(number)))
    assert (done.returncode, done.stderr) == (128 + number, "")


def test_input_and_output_pass_byte_for_byte(package: MakePackage, caller: Caller) -> None:
    data = os.urandom(1 << 20)
    done = caller.run(package(), "copy-input", stdin=None, input=data, text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_a_closed_descriptor_stays_closed_and_no_other_takes_its_place(
    package: MakePackage, anyone: Caller
) -> None:
    done = anyone.run(["sh", "-c", 'exec "$0" "$@" <&- 2>&-', package()], "descriptors")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_no_descriptor_beyond_the_third_reaches_the_application(package: MakePackage, caller: Caller) -> None:
    ends = os.pipe()
    output = caller.output(package(), "descriptors", pass_fds=ends)
    for end in ends:
        os.close(end)
    assert output.split() == ["0", "1", "2"]


# Limits


def test_memory_beyond_memory_size_is_not_to_be_had(package: MakePackage, caller: Caller) -> None:
    assert caller.output(package(), "allocate", str(32 << 20)) == "allocated\n"
    assert caller.output(package(), "allocate", str(64 << 20)) == "ENOMEM\n"
    assert caller.output(package(MemorySize="128m"), "allocate", str(64 << 20)) == "allocated\n"
    assert caller.output(package(UserMemSize="128m"), "allocate", str(64 << 20)) == "allocated\n"


def held(process: int) -> int:
    """Bytes of memory of a process and those below it that belong to no file; shared ones count in shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    own = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))
    return own + sum(map(held, children(process)))


def test_no_process_holds_on_to_the_archive_that_was_unpacked(package: MakePackage, caller: Caller) -> None:
    large = bytes(range(256)) * (1 << 17)
    with caller.start(package({"usr/large": large}), "endure") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        assert held(process.pid) < len(large) // 4


def test_files_beyond_memory_size_are_not_to_be_had_however_large_the_archive(
    package: MakePackage, anyone: Caller
) -> None:
    made = package({"large": bytes(20 << 20)}, MemorySize="8m")
    assert anyone.output(made, "fill", "/tmp/file", str(7 << 20)) == "written\n"
    assert anyone.output(made, "fill", "/tmp/file", str(9 << 20)) == "No space left on device\n"
    assert anyone.output(made, "fill", "/dev/shm/file", str(9 << 20)) == "No space left on device\n"


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_what_processes_take_is_out_of_the_reach_of_files_and_the_other_way_round(
    package: MakePackage, caller: Caller, directory: str
) -> None:
    words = ("share", str(40 << 20), f"{directory}/file", str(30 << 20))
    assert caller.output(package(MemorySize="64m"), *words).splitlines() == [
        "No space left on device",
        "written",
        "ENOMEM",
        "allocated",
    ]


def test_what_a_file_took_a_moment_ago_is_no_memory_and_what_it_left_is(
    package: MakePackage, caller: Caller
) -> None:
    lines = caller.output(package(MemorySize="64m"), "take-turns", str(40 << 20)).splitlines()
    assert lines == 3 * ["written", "ENOMEM", "allocated"]


def test_the_limits_are_the_configurations_and_cannot_be_raised(package: MakePackage, caller: Caller) -> None:
    made = package(MemorySize="40m", MainStackSize="3m", MaxAffinityCPUs=1)
    assert caller.output(made, "limits").splitlines() == [
        "address space 18446744073709551615 18446744073709551615",  # as on Mystikos, and it ends before
        f"stack {3 << 20} {3 << 20}",
        "processors 1",
    ]
    assert caller.output(package(), "limits").splitlines()[1] == f"stack {1568 << 10} {1568 << 10}"


def test_the_main_stack_is_as_large_as_the_configuration_says(package: MakePackage, anyone: Caller) -> None:
    assert anyone.output(package(), "stack", str(1 << 20)) == "used\n"
    assert anyone.run(package(), "stack", str(2 << 20)).returncode == 128 + signal.SIGSEGV
    assert anyone.output(package(MainStackSize="8m"), "stack", str(7 << 20)) == "used\n"


def test_the_program_break_fails_where_the_configuration_forbids_it(
    package: MakePackage, anyone: Caller
) -> None:
    assert anyone.output(package(), "program-break") == "supported\n"
    assert anyone.output(package(NoBrk=True), "program-break") == "ENOTSUP\n"


# The small Linux inside


def test_the_devices_are_those_of_mystikos(package: MakePackage, caller: Caller) -> None:
    names = ["null", "zero", "random", "urandom", "ptmx", "pts", "shm", "fd"]
    output = caller.output(package(), "status", *(f"/dev/{name}" for name in names))
    assert output.splitlines() == [
        "20600 0 /dev/null",
        "20600 0 /dev/zero",
        "20600 0 /dev/random",
        "20600 0 /dev/urandom",
        "20600 0 /dev/ptmx",
        "40777 0 /dev/pts",
        "40777 0 /dev/shm",
        "120777 0 /dev/fd",
    ]
    for name in ("full", "tty", "stdin", "stdout", "stderr"):
        done = caller.run(package(), "show", f"/dev/{name}")
        assert done.stdout == "No such file or directory\n"


def test_mystikos_adds_these_directories_and_no_accounts(package: MakePackage, caller: Caller) -> None:
    paths = ["/", "/tmp", "/proc", "/usr/local/etc", "/etc/passwd", "/etc/group"]
    assert caller.output(package(), "status", *paths).splitlines() == [
        "40777 0 /",
        "40777 0 /tmp",
        "40777 0 /proc",
        "40777 0 /usr/local/etc",
        "No such file or directory /etc/passwd",
        "No such file or directory /etc/group",
    ]


def test_modes_are_the_archives(package: MakePackage, caller: Caller) -> None:
    made = package({"set-id": b"x", "plain": b""}, {"set-id": 0o6755, "plain": 0o644, "bin": 0o3755})
    assert caller.output(made, "status", "/set-id", "/plain", "/bin").splitlines() == [
        "106755 0 /set-id",
        "100644 0 /plain",
        "43755 0 /bin",
    ]


def test_only_the_sandboxs_processes_are_seen(package: MakePackage, caller: Caller) -> None:
    assert sorted(caller.output(package(), "processes").split()) == ["101"]


def test_the_hosts_command_line_is_not_seen(package: MakePackage, caller: Caller) -> None:
    assert caller.output(package(), "show", "/proc/.linux/1/cmdline").strip("\0") == ""


def test_orphans_are_reaped(package: MakePackage, anyone: Caller) -> None:
    assert anyone.output(package(ForkMode="pseudo"), "orphan") == "reaped\n"


# Privileges


def test_no_capability_is_left_and_none_can_come_back(package: MakePackage, caller: Caller) -> None:
    sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
    expected = [f"{name}:\t{0:016x}" for name in sets] + ["NoNewPrivs:\t1"]
    assert caller.output(package(), "privileges").splitlines() == expected


def test_a_hostile_application_finds_no_way_out(package: MakePackage, caller: Caller) -> None:
    tried = caller.output(package(UnhandledSyscallEnosys=True), "attack").splitlines()
    assert len(tried) > 20
    assert [line for line in tried if not line.endswith(": refused")] == []


# Signals and terminals


def test_a_signal_to_the_package_reaches_the_application_once(package: MakePackage, caller: Caller) -> None:
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGCONT]
    with caller.start(package(), "signals") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        for number in numbers:
            process.send_signal(number)
            assert read_line(process.stdout) == str(int(number))
        process.terminate()
        assert read_line(process.stdout) == str(int(signal.SIGTERM))
        assert process.stdout.read() == ""
        assert process.wait(SECONDS) == 0


def test_a_signal_to_the_process_group_reaches_the_application_once(
    package: MakePackage, anyone: Caller
) -> None:
    with anyone.start(package(), "signals", start_new_session=True) as process:
        interrupt_the_group(process)


def test_a_signal_that_comes_when_the_application_has_just_ended_changes_nothing(
    package: MakePackage, anyone: Caller
) -> None:
    with anyone.start(package(), "copy-input") as process:
        process.stdin.write("running\n")
        process.stdin.flush()
        assert read_line(process.stdout) == "running"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        sandbox = children(process.pid)[-1]
        ended = os.pidfd_open(sandbox)
        process.stdin.close()
        assert select.select([ended], [], [], SECONDS)[0]
        os.close(ended)
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGCONT):
            process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_with_the_package_the_application_dies(package: MakePackage, caller: Caller) -> None:
    with caller.start(package(), "endure") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        process.kill()
        readable, _, _ = select.select([process.stdout], [], [], SECONDS)
        assert readable
        assert process.stdout.read() == ""  # which only comes when nobody has the other end


def test_keys_of_the_terminal_reach_the_application_once(package: MakePackage, caller: Caller) -> None:
    terminal = Terminal(caller, execute, package(), "signals")
    terminal.expect("ready")
    for key, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):
        terminal.type(key)
        terminal.expect(str(int(number)))
        os.kill(terminal.pid, signal.SIGUSR2)  # behind whatever else was on its way
        terminal.expect(str(int(signal.SIGUSR2)))
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.expect(str(int(signal.SIGTERM)))
    assert terminal.end() == 0


def act_as_shell(*command: str | Path) -> None:
    """Start a job in the foreground; continue it when it stops, then end it."""

    def tell(text: str) -> None:
        os.write(1, f"{text}\n".encode())

    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        execute(*command)
    _, status = os.waitpid(job, os.WUNTRACED)
    tell(f"stopped {os.WIFSTOPPED(status)}")
    os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, os.WCONTINUED)
    tell(f"continued {os.WIFCONTINUED(status)}")
    os.kill(job, signal.SIGTERM)
    _, status = os.waitpid(job, 0)
    tell(f"ended {os.waitstatus_to_exitcode(status)}")


def test_a_job_stops_and_continues_as_any_other(package: MakePackage, caller: Caller) -> None:
    terminal = Terminal(caller, act_as_shell, package(), "endure")
    terminal.expect("ready")
    terminal.type(b"\x1a")
    terminal.expect("stopped True")
    terminal.expect("continued True")
    terminal.expect(f"ended {128 + signal.SIGTERM}")
    assert terminal.end() == 0


# What does not start


def test_a_package_with_secrets_does_not_start_without_attestation(
    package: MakePackage, anyone: Caller
) -> None:
    secret = {"ID": "a", "SrsAddress": "b", "LocalPath": "/c", "ClientLib": "d"}
    with pytest.raises(UserError, match="Secret: secrets are released after attestation"):
        package(Secret=[secret])
    assert refusal(anyone.run(package(checked=False, Secret=[secret]), "leave", "0")) == (
        "configuration: Secret: secrets are released after attestation, and there is none here"
    )


def test_values_that_ask_for_nothing_start(package: MakePackage, anyone: Caller) -> None:
    nothing = {
        "ThreadStackSize": 0,
        "ExecStack": False,
        "NoBrk": 0,
        "ForkMode": "none",
        "Mount": [],
        "Secret": [],
    }
    measured_only = {"HostUDS": True, "SyslogLevel": "debug", "CreateZeroBaseEnclave": False}
    assert anyone.run(package(**nothing, **measured_only), "leave", "7").returncode == 7


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        (b"#!/bin/missing -x\n", "its interpreter /bin/missing: No such file or directory"),
        (b"text", "it is neither an x86-64 ELF program nor a script that begins with #!"),
    ],
)
def test_a_program_that_cannot_be_executed_is_named(
    package: MakePackage, anyone: Caller, program: bytes, problem: str
) -> None:
    with pytest.raises(UserError, match="/bin/program does not start"):
        package({"bin/program": program}, ApplicationPath="/bin/program")
    done = anyone.run(package({"bin/program": program}, checked=False, ApplicationPath="/bin/program"))
    assert refusal(done) == f"cannot start /bin/program: {problem}"


def test_a_missing_dynamic_linker_is_named(package: MakePackage, anyone: Caller) -> None:
    shell = Path("/bin/sh").resolve()
    if b"/lib64/ld-linux-x86-64.so.2\0" not in shell.read_bytes()[:4096]:
        pytest.skip("needs a dynamically linked /bin/sh")
    with pytest.raises(UserError, match=r"its interpreter /lib64/ld-linux-x86-64\.so\.2 is not in the root"):
        package({"bin/program": shell}, ApplicationPath="/bin/program")
    done = anyone.run(package({"bin/program": shell}, checked=False, ApplicationPath="/bin/program"))
    assert refusal(done) == (
        "cannot start /bin/program: its interpreter /lib64/ld-linux-x86-64.so.2: No such file or directory"
    )


def test_a_large_root_is_read_with_a_second_thread_and_unpacked_with_one(
    package: MakePackage, public_directory: Path, caller: Caller
) -> None:
    count_threads = compile_static(public_directory / "count_threads", HERE / "count_threads.c")
    small, large = package(), package({"large": bytes(8 << 20)})
    for made, threads in ((small, 0), (large, 2)):
        done = caller.run([count_threads, made], "leave", "7")
        assert (done.returncode, done.stdout) == (7, f"threads: {threads}\n")
