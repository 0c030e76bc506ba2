"""A program that is started on a farm comes to what it would come to here, whatever breaks between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from reapi_farm import Farm
from reapi_server import as_bytes

from mystikos_tool.cache.remote import address, messages
from mystikos_tool.cache.remote.executor import Done, Executor, Program, TimedOut
from mystikos_tool.errors import UserError

ECHO = '#!/bin/sh\nprintf "[%s]" "$@"\necho " $GREETING"\ncat\n'
Code = grpc.StatusCode


@pytest.fixture
def farm() -> Iterator[Farm]:
    farm = Farm().start()
    yield farm
    farm.stop()


@dataclass
class Machine:
    """A machine that has programs and starts them on a farm."""

    directory: Path
    url: str
    executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        url = self.url if "?" in self.url else f"{self.url}?patience=2"
        self.executor = Executor(address.parse(url, address.EXECUTOR))

    def program(self, text: str = ECHO, *arguments: str, timeout: float = 20, **given: object) -> Program:
        path = self.directory / "program"
        path.write_text(text)
        path.chmod(0o755)
        program = Program(path, arguments, {"PATH": "/usr/bin:/bin"}, b"", {}, timeout, {})
        return program._replace(**given)

    def run(self, text: str = ECHO, *arguments: str, fresh: bool = False, **given: object) -> Done:
        return self.executor.run(self.program(text, *arguments, **given), fresh=fresh)

    def fails(self, text: str = ECHO, **given: object) -> str:
        with pytest.raises(UserError) as raised:
            self.run(text, **given)
        assert "secret" not in str(raised.value)
        return str(raised.value)


@pytest.fixture
def machine(farm: Farm, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, farm.url)
    yield machine
    machine.executor.close()


def test_a_program_gets_arguments_environment_input_and_files(farm: Farm, machine: Machine) -> None:
    file = machine.directory / "some file"
    file.write_text("content")
    done = machine.run(
        ECHO + "cat input/disk; echo to stderr >&2; exit 7\n",
        "red",
        environment={"GREETING": "hi", "PATH": "/usr/bin:/bin"},
        stdin=b"in\n",
        files={"input/disk": file},
    )
    assert done == Done(7, b"[red] hi\nin\ncontent", b"to stderr\n", is_known=False)


@pytest.mark.parametrize("word", ["$(exit 9)", "'; exit 9 #", "a\nb", "", "*", "-c", "ä"])
def test_no_argument_is_read_by_a_shell(word: str, machine: Machine) -> None:
    assert machine.run(ECHO, word, "last").stdout.decode() == f"[{word}][last] \n"


def test_a_program_without_input_gets_an_empty_one(machine: Machine) -> None:
    assert machine.run("#!/bin/sh\ncat\n").stdout == b""


@pytest.mark.parametrize("inlines", [True, False])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_output_comes_along_or_from_the_store(size: int, inlines: bool, farm: Farm, machine: Machine) -> None:
    farm.inlines = inlines and size < 10**6
    done = machine.run(f"#!/bin/sh\nhead -c {size} /dev/zero\n")
    assert done.stdout == bytes(size)


def test_a_signal_is_told_from_a_status_as_shells_tell_it(machine: Machine) -> None:
    done = machine.run("#!/bin/sh\nkill -9 $$\n")
    assert (done.status, done.signal) == (137, 9)
    assert machine.run("#!/bin/sh\nexit 3\n").signal == 0


def test_what_the_farm_knows_is_not_executed_again(farm: Farm, machine: Machine, tmp_path: Path) -> None:
    first = machine.run(ECHO, "a")
    other = Machine(tmp_path / "elsewhere", farm.url)
    other.directory.mkdir()
    assert other.run(ECHO, "a") == first._replace(is_known=True)
    assert len(farm.actions) == 1
    assert not other.run(ECHO, "a", fresh=True).is_known
    assert len(farm.actions) == 2
    other.executor.close()


def test_a_result_whose_output_is_gone_is_executed_again(farm: Farm, machine: Machine) -> None:
    farm.inlines = False
    machine.run(ECHO, "a")
    farm.blobs = {hash: data for hash, data in farm.blobs.items() if data != b"[a] \n"}
    assert machine.run(ECHO, "a") == Done(0, b"[a] \n", b"", is_known=False)


def test_output_that_is_not_as_its_digest_says_is_never_taken(farm: Farm, machine: Machine) -> None:
    farm.inlines = False
    machine.run(ECHO, "a")
    farm.blobs = {hash: b"[b] \n" if data == b"[a] \n" else data for hash, data in farm.blobs.items()}
    assert machine.run(ECHO, "a").stdout == b"[a] \n"


@pytest.mark.parametrize("last", ["no response", "another response", "no result", "rubbish", "error 0"])
def test_an_operation_that_ends_without_a_result_is_no_program_that_succeeded(
    farm: Farm, machine: Machine, last: str
) -> None:
    empty = messages.new("Any", type_url="type.googleapis.com/google.protobuf.Empty")
    more = {
        "no response": {},
        "another response": {"response": empty},
        "no result": {
            "response": messages.new("Any", value=as_bytes(messages.new("ExecuteResponse", status={})))
        },
        "rubbish": {"response": messages.new("Any", value=b"\xff")},
        "error 0": {"error": {}},
    }[last]
    farm.ending = as_bytes(messages.new("Operation", name="operations/0", done=True, **more))
    assert "lost the test 3 times: it ends a test without its result" in machine.fails()


def test_output_that_came_along_cut_off_is_taken_from_the_store(farm: Farm, machine: Machine) -> None:
    farm.cuts_off = 4
    assert machine.run('#!/bin/sh\necho "long enough"; echo "as well" >&2').stdout == b"long enough\n"
    assert machine.run('#!/bin/sh\necho "long enough"; echo "as well" >&2').stderr == b"as well\n"


def test_platform_and_timeout_in_whole_seconds_are_the_action_s(farm: Farm, machine: Machine) -> None:
    machine.run(timeout=2.5, platform={"sgx": "2", "OSFamily": "linux"})
    (action,), (command,) = farm.actions, farm.commands
    expected = [("OSFamily", "linux"), ("sgx", "2")]
    assert [(each.name, each.value) for each in action.platform.properties] == expected
    assert [(each.name, each.value) for each in command.platform.properties] == expected
    assert (action.timeout.seconds, action.timeout.nanos) == (3, 0)


def test_a_program_that_takes_too_long_is_told_apart(farm: Farm, machine: Machine) -> None:
    with pytest.raises(TimedOut):
        machine.run("#!/bin/sh\nexec sleep 20\n", timeout=0.2)


def test_programs_of_one_file_send_it_once(farm: Farm, machine: Machine) -> None:
    large = machine.directory / "large"
    large.write_bytes(bytes(3_000_000))
    programs = [machine.program(ECHO, str(number), files={"input/disk": large}) for number in range(6)]
    threads = [threading.Thread(target=machine.executor.run, args=(program,)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(farm.actions) == 6
    assert farm.calls["Write"] == 1


def test_a_full_queue_is_waited_for(farm: Farm, machine: Machine) -> None:
    left = [3]

    def full(context: grpc.ServicerContext, moved: int) -> None:
        if left[0]:
            left[0] -= 1
            context.abort(Code.RESOURCE_EXHAUSTED, "the secret of the server")

    farm.faults["Execute"] = full
    assert machine.run(ECHO, "a").stdout == b"[a] \n"


def test_a_queue_that_stays_full_is_not_waited_for_longer_than_the_url_says(
    farm: Farm, tmp_path: Path
) -> None:
    farm.faults["Execute"] = farm.answers(Code.RESOURCE_EXHAUSTED)
    machine = Machine(tmp_path, f"{farm.url}?wait=0.2")
    assert "has no result after 0.4 s; look at its queue" in machine.fails(timeout=0.2)


def test_a_worker_that_never_comes_is_not_waited_for_longer(farm: Farm, tmp_path: Path) -> None:
    farm.together = threading.Barrier(2)
    machine = Machine(tmp_path, f"{farm.url}?wait=0.2")
    assert "has no result after 0.4 s" in machine.fails(timeout=0.2)
    assert farm.calls["CancelOperation"] == 1
    farm.together.abort()


def test_a_stream_that_breaks_off_is_taken_up_again(farm: Farm, machine: Machine) -> None:
    farm.faults["Execute"] = farm.breaks_off(1)
    farm.faults["WaitExecution"] = farm.breaks_off(1, times=2)
    assert machine.run(ECHO, "a").stdout == b"[a] \n"
    assert (farm.calls["Execute"], farm.calls["WaitExecution"], len(farm.actions)) == (1, 3, 1)


@pytest.mark.parametrize("rubbish", [b"\xff", b"\x0a\xff\xff"])
def test_a_farm_that_answers_with_rubbish_is_told_of_at_once(
    farm: Farm, tmp_path: Path, rubbish: bytes
) -> None:
    farm.ending = rubbish
    machine = Machine(tmp_path, f"{farm.url}?patience=60")
    started = time.monotonic()
    assert "it answers with something else than REAPI; name a server that executes" in machine.fails()
    assert time.monotonic() - started < 20
    assert (farm.calls["Execute"], farm.calls["WaitExecution"], farm.calls["CancelOperation"]) == (1, 0, 1)


def test_a_farm_that_breaks_each_answer_off_is_followed_no_longer_than_the_patience(
    farm: Farm, tmp_path: Path
) -> None:
    for method in ("Execute", "WaitExecution"):
        farm.faults[method] = farm.breaks_off(1, times=10**6)
    machine = Machine(tmp_path, f"{farm.url}?patience=1")
    started = time.monotonic()
    assert "; start it, correct MYST_REMOTE_EXECUTOR" in machine.fails(
        "#!/bin/sh\nexec sleep 9\n", timeout=60
    )
    assert time.monotonic() - started < 20


def test_answers_that_are_broken_off_late_are_no_reason_to_give_up(farm: Farm, tmp_path: Path) -> None:
    """As by a proxy that ends every connection after some time."""
    left = [4]

    def late(context: grpc.ServicerContext, moved: int) -> None:
        if moved and left[0]:
            left[0] -= 1
            farm.ended.wait(0.5)
            context.abort(Code.UNAVAILABLE, "broken off")

    farm.faults["Execute"] = farm.faults["WaitExecution"] = late
    machine = Machine(tmp_path, f"{farm.url}?patience=0.4")
    assert machine.run("#!/bin/sh\nsleep 2.5; echo a\n").stdout == b"a\n"
    assert farm.calls["WaitExecution"] >= 4


def test_an_operation_that_the_farm_forgot_is_begun_anew(farm: Farm, machine: Machine) -> None:
    farm.faults["Execute"] = farm.breaks_off(1)
    farm.forgets = True
    assert machine.run(ECHO, "a").stdout == b"[a] \n"
    assert farm.calls["Execute"] == 2


@pytest.mark.parametrize("tells_in_status", [True, False])
@pytest.mark.parametrize("claims", [True, False])
def test_blobs_that_are_lost_are_sent_again(
    claims: bool, tells_in_status: bool, farm: Farm, machine: Machine
) -> None:
    farm.tells_in_status = tells_in_status
    times = [1]

    def lose(context: grpc.ServicerContext, moved: int) -> None:
        if times and times.pop():
            farm.blobs.clear()
            farm.claims = claims

    farm.faults["Execute"] = lose
    assert machine.run(ECHO, "a").stdout == b"[a] \n"


def test_blobs_that_are_lost_again_and_again_are_told_of(farm: Farm, machine: Machine) -> None:
    farm.faults["Execute"] = lambda context, moved: farm.blobs.clear()
    assert "said of blobs that it lacks them 3 times: it " in machine.fails()


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.ABORTED, Code.INTERNAL, Code.UNKNOWN])
def test_a_worker_that_dies_is_replaced(code: grpc.StatusCode, farm: Farm, machine: Machine) -> None:
    farm.losses = [code, code]
    assert machine.run(ECHO, "a").stdout == b"[a] \n"
    farm.losses = [code] * 4
    assert "lost the test 3 times" in machine.fails()


def test_a_farm_that_ends_while_a_program_runs_is_told_of(farm: Farm, tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"{farm.url}?patience=0.3")
    threading.Thread(target=lambda: farm.started.wait(20) and farm.stop()).start()
    assert "it cannot be reached; start it" in machine.fails("#!/bin/sh\nexec sleep 5\n")


def test_a_farm_that_is_not_there_is_told_of_once_waited_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "grpc://127.0.0.1:1/main?patience=1")
    message = machine.fails()
    assert message == (
        "remote executor grpc://127.0.0.1:1/main: it cannot be reached; start it, correct"
        ' MYST_REMOTE_EXECUTOR, or run the tests here with MYST_REMOTE_EXECUTOR=""'
    )
    started = time.monotonic()
    assert machine.fails() == message
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "code",
    [
        Code.PERMISSION_DENIED,
        Code.INVALID_ARGUMENT,
        Code.FAILED_PRECONDITION,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    ],
)
def test_what_a_farm_refuses_is_an_error_in_our_words(
    code: grpc.StatusCode, farm: Farm, machine: Machine
) -> None:
    farm.faults["Execute"] = farm.answers(code)
    assert machine.fails().startswith(f"remote executor grpc://127.0.0.1:{farm.port}/main: it ")
    assert farm.calls["Execute"] == 1


def test_a_server_that_executes_nothing_is_told_of(farm: Farm, machine: Machine) -> None:
    farm.executes = False
    assert "it does not execute actions here" in machine.fails()


def test_a_server_that_executes_by_other_digests_only_is_told_of(farm: Farm, machine: Machine) -> None:
    farm.functions = (2,)
    assert "it does not execute actions here" in machine.fails()


def test_a_token_that_expired_is_read_again(farm: Farm, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    farm.token = "one"
    machine = Machine(tmp_path, f"{farm.url}?token-file={token}&patience=2")
    machine.run(ECHO, "a")
    farm.token = "two"
    token.write_text("two")
    machine.run(ECHO, "b")
    farm.token = "secret"
    assert "does not accept the credentials" in machine.fails(ECHO)


def test_an_interruption_ends_what_runs_on_the_farm(farm: Farm, machine: Machine) -> None:
    threading.Thread(target=lambda: farm.started.wait(20) and machine.executor.interrupt()).start()
    assert "the build was interrupted" in machine.fails("#!/bin/sh\nexec sleep 20\n")
    (operation,) = farm.operations.values()
    assert operation.done.wait(10)
    assert operation.is_cancelled


@pytest.mark.parametrize("given", [{"arguments": ("\udc80",)}, {"environment": {"NAME": "\udc80"}}])
def test_what_is_no_text_is_refused(given: dict[str, object], machine: Machine) -> None:
    assert "as text only" in machine.fails(**given)


def test_a_worker_is_asked_for_what_the_program_is_not_for_where_it_is(farm: Farm, machine: Machine) -> None:
    machine.run(ECHO, "a")
    directory = str(machine.directory)
    assert not any(directory.encode() in data for data in farm.blobs.values())
