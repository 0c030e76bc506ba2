"""A key in a process of its own: what it signs, what it refuses, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from reference_cases import DATA

import mystikos_tool
from mystikos_tool.errors import UserError
from mystikos_tool.signing import notation, pem

KEY = DATA / "keys" / "key-a.pem"
DIGEST = bytes(range(32))

# What is run is a process with one thread, which the tests are not in everywhere.
BEGIN = f"""
import os, signal, sys, threading
from pathlib import Path
from mystikos_tool.errors import UserError
from mystikos_tool.signing import key_process, notation
DIGEST = bytes(range(32))
def children():
    return [int(number) for number in Path("/proc/self/task/%d/children" % os.getpid()).read_text().split()]
named = notation.parse({str(KEY)!r})
"""


def printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        cwd=Path(mystikos_tool.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_it_signs_as_the_key_does_and_the_key_is_nowhere_else() -> None:
    code = """
with key_process.opened(named) as key:
    signer = key.open()
    print(signer.sign(DIGEST).hex(), signer.modulus, signer.exponent, signer.identity)
    print("cryptography" in sys.modules)
print(children())
"""
    key = pem.load(KEY)
    values = (key.sign(DIGEST).hex(), key.modulus, key.exponent, key.identity)
    assert printed(code).splitlines() == [" ".join(map(str, values)), "False", "[]"]


def test_a_key_that_nobody_asks_for_ends_with_what_began_it() -> None:
    code = "with key_process.opened(named): print(len(children()))\nprint(len(children()))"
    assert printed(code).split() == ["1", "0"]


@pytest.mark.parametrize("content", [None, b"no key", (DATA / "keys" / "key-a.pub.pem").read_bytes()])
def test_it_refuses_what_is_refused_without_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "größe.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        notation.parse(path).open()
    code = f"""
with key_process.opened(notation.parse({str(path)!r})) as key:
    try: key.open()
    except UserError as error: print(ascii(str(error)))
"""
    assert printed(code) == ascii(str(refused.value))


@pytest.mark.parametrize("asked_first", [False, True])
def test_a_process_that_was_killed_is_done_without(asked_first: bool) -> None:
    code = """
with key_process.opened(named) as key:
    {0}
    os.kill(children()[0], signal.SIGKILL)
    while "Z" not in Path("/proc/%d/stat" % children()[0]).read_text().split(): pass
    {1}
    print(signer.sign(DIGEST).hex())
"""
    asks = "signer = key.open()"
    code = code.format(*((asks, "") if asked_first else ("", asks)))
    assert printed(code) == pem.load(KEY).sign(DIGEST).hex()


def test_where_there_may_be_no_more_processes_the_key_is_opened_here() -> None:
    code = """
def refuse(): raise BlockingIOError
os.fork = refuse
with key_process.opened(named) as key: print(key.open().sign(DIGEST).hex())
"""
    assert printed(code) == pem.load(KEY).sign(DIGEST).hex()


def test_a_process_with_threads_is_not_forked() -> None:
    code = """
done = threading.Event()
thread = threading.Thread(target=done.wait)
thread.start()
with key_process.opened(named) as key: print(key is named, children())
done.set()
"""
    assert printed(code) == "True []"


def test_a_passphrase_is_asked_for_by_the_process_that_has_the_terminal(tmp_path: Path) -> None:
    encrypted = serialization.BestAvailableEncryption(b"typed")
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "key"
    path.write_bytes(rsa_keys.read(KEY.read_bytes()).private_bytes(*forms, encrypted))
    code = f"""
from mystikos_tool.signing import secret
me = os.getpid()
def typed(*_): print(os.getpid() == me); return b"typed"
has_terminal = secret._has_terminal
terminal, other = os.openpty()
os.setsid()
os.dup2(other, 0)
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
def asked(what, where, remedy):
    if not has_terminal(): raise UserError(where, "no terminal", remedy)
    return typed()
secret._from_terminal = asked
with key_process.opened(notation.parse({str(path)!r})) as key: print(key.open().sign(DIGEST).hex())
"""
    assert printed(code).split() == ["True", pem.load(KEY).sign(DIGEST).hex()]


def test_a_key_from_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    code = f"""
named = notation.parse({str(tmp_path / "key")!r})
with key_process.opened(named) as key: print(key is named, children())
"""
    assert printed(code) == "True []"


def test_a_key_whose_passphrase_a_command_gives_is_opened_here() -> None:
    code = f"""
named = notation.parse("file:{KEY}?passphrase=exec:pass show key")
with key_process.opened(named) as key: print(key is named, children())
"""
    assert printed(code) == "True []"


def test_where_the_end_of_a_process_is_not_told_the_key_is_opened_here() -> None:
    code = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with key_process.opened(named) as key: print(key.open().sign(DIGEST).hex())
"""
    assert printed(code) == pem.load(KEY).sign(DIGEST).hex()


def test_a_key_that_may_not_be_looked_at_is_told_as_without_it(tmp_path: Path) -> None:
    code = f"""
path = Path({str(tmp_path)!r}, "closed", "key.pem")
path.parent.mkdir(mode=0)
if os.geteuid() == 0: os.seteuid(65534)
named = notation.parse(path)
with key_process.opened(named) as key: print(key is named)
"""
    assert printed(code) == "True"
