"""The stacks that the configuration asks for: of the main thread, of others, and whether code runs there."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import HERE, compile_at_fixed_addresses, compile_dynamic, compile_static
from starting import SECONDS, Caller, MakePackage, read_line

FAULT = 128 + signal.SIGSEGV
MUSL_DEFAULT = 128  # KiB
MakeStacks = Callable[..., Path]


@pytest.fixture(scope="module", params=["musl", "glibc"])
def stacks(
    package: MakePackage, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> MakeStacks:
    """Packages of a program that tells of its stacks, with either C library."""
    program = tmp_path_factory.mktemp("stacks") / "stacks"
    files: dict[str, Path] = {"bin/stacks": program}
    if request.param == "musl":
        compile_static(program, HERE / "stacks.c", options=["-Wl,-z,stack-size=65536"])
    else:
        files.update(compile_dynamic(program, HERE / "stacks.c"))

    def stacks(**settings: Any) -> Path:
        return package(files, ApplicationPath="/bin/stacks", **{"MemorySize": "512m", **settings})

    stacks.default = MUSL_DEFAULT if request.param == "musl" else 1568  # type: ignore[attr-defined]
    return stacks


def default_size(stacks: MakeStacks) -> int:
    """What a thread has without a setting, in KiB: glibc goes by the main thread's."""
    return int(getattr(stacks, "default"))  # noqa: B009


def about(kibibytes: int) -> range:
    """C libraries count guard pages and the thread's own data differently."""
    return range(kibibytes - 8, kibibytes + 65)


@pytest.mark.parametrize("how", [[], ["again"], ["replace"], ["again", "replace", "again"]])
def test_threads_of_every_program_get_stacks_of_the_size_that_is_set(
    stacks: MakeStacks, caller: Caller, how: list[str]
) -> None:
    made = stacks(ThreadStackSize="5m")
    assert int(caller.output(made, *how, "size")) in about(5 << 10)


def test_a_program_at_fixed_addresses_gets_such_stacks_too(
    package: MakePackage, anyone: Caller, tmp_path: Path
) -> None:
    program = compile_at_fixed_addresses(tmp_path / "stacks", HERE / "stacks.c")
    settings = {"ThreadStackSize": "5m", "MemorySize": "512m", "ExecStack": True}
    made = package({"bin/stacks": program}, ApplicationPath="/bin/stacks", **settings)
    assert int(anyone.output(made, "size")) in about(5 << 10)
    assert anyone.output(made, "execute") == "7\n"


@pytest.mark.parametrize("size", ["0", "64k"])
def test_a_size_below_the_default_changes_nothing(stacks: MakeStacks, anyone: Caller, size: str) -> None:
    assert int(anyone.output(stacks(ThreadStackSize=size), "size")) in about(default_size(stacks))


def test_a_size_for_threads_leaves_the_main_stack_as_large_as_it_was(
    stacks: MakeStacks, caller: Caller
) -> None:
    made = stacks(ThreadStackSize="5m", MainStackSize="2m")
    assert caller.output(made, "use", "1800") == "used\n"
    assert caller.run(made, "use", "2100").returncode == FAULT
    assert caller.output(made, "again", "use", "1800") == "used\n"
    assert caller.run(made, "again", "use", "2100").returncode == FAULT


@pytest.mark.parametrize("how", [[], ["again"], ["replace"]])
def test_code_runs_on_stacks_where_the_configuration_lets_it(
    stacks: MakeStacks, caller: Caller, how: list[str]
) -> None:
    made = stacks(ExecStack=True)
    assert caller.output(made, *how, "execute") == "7\n"
    assert caller.output(made, *how, "execute-in-thread") == "7\n"


def test_code_does_not_run_on_stacks_otherwise(stacks: MakeStacks, anyone: Caller) -> None:
    assert anyone.run(stacks(), "execute").returncode == FAULT
    assert anyone.run(stacks(), "execute-in-thread").returncode == FAULT


def test_a_stack_that_grows_stays_executable(stacks: MakeStacks, anyone: Caller) -> None:
    made = stacks(ExecStack=True, ThreadStackSize="5m", MainStackSize="2m")
    assert anyone.output(made, "use", "1800") == "used\n"
    assert anyone.output(made, "execute") == "7\n"


def test_a_program_that_was_prepared_takes_signals_as_any_other(stacks: MakeStacks, anyone: Caller) -> None:
    made = stacks(ExecStack=True, ThreadStackSize="5m")
    with anyone.start(made, "wait") as process:
        assert process.stdout
        assert read_line(process.stdout) == "ready"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(SECONDS) == 100 + signal.SIGUSR1
