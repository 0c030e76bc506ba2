"""A private key in a process of its own, which opens it on another core while this one reads its input.

No other process has the private half. It tells the numbers of the public half, as marshal writes them;
then it is given a digest of 32 bytes, gives the signature, and ends.
"""

from __future__ import annotations

import marshal
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from mystikos_tool.formats.sigstruct import KEY_SIZE
from mystikos_tool.io import lookup
from mystikos_tool.signing.named_key import NamedKey
from mystikos_tool.signing.rsa_public import KnowsPublicKey, RsaPublicKey
from mystikos_tool.signing.signer import Signer

_DIGEST_SIZE = 32


@contextmanager
def opened(named: NamedKey) -> Iterator[NamedKey]:
    """Yield a key for enclaves; one in files is being opened in a process of its own, there until the end.

    A process with threads is not forked. What goes wrong in the other one is left to this, which then
    opens the key itself.
    """
    if not _may_fork(named):
        yield named
        return
    questions, ask = os.pipe()
    answers, answer = os.pipe()
    child = _fork()
    if child == 0:
        os.close(ask)
        _serve(named, os.fdopen(questions, "rb"), os.fdopen(answer, "wb"))
    os.close(questions)
    os.close(answer)
    with os.fdopen(answers, "rb") as replies, os.fdopen(ask, "wb", buffering=0) as requests:
        try:
            yield named._replace(open=lambda: _signer(named, replies, requests))
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _may_fork(named: NamedKey) -> bool:
    """Tell whether a key is in plain files only, which may be read twice, and this process is one thread.

    Where SIGCHLD is ignored, nobody would know whether the other process is there.
    """
    try:
        are_plain = named.only_reads and all(map(lookup.is_file, named.files))
        is_told = signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN
        return are_plain and is_told and len([*Path("/proc/self/task").iterdir()]) == 1
    except OSError:  # no /proc here
        return False


def _fork() -> int | None:
    """Return what fork does; None where there may be no more processes."""
    try:
        return os.fork()
    except OSError:
        return None


def _serve(named: NamedKey, questions: BinaryIO, answers: BinaryIO) -> NoReturn:
    """Open the key, without a terminal to ask for its passphrase, tell what it is, and sign once."""
    try:
        os.setsid()
        signer = named.open()
        marshal.dump((signer.modulus, signer.exponent), answers)
        answers.flush()
        signer.sign(bytes(_DIGEST_SIZE))  # a key's first signature takes twice as long
        if len(digest := questions.read(_DIGEST_SIZE)) == _DIGEST_SIZE:
            answers.write(signer.sign(digest))
            answers.flush()
    finally:
        os._exit(0)


def _signer(named: NamedKey, replies: BinaryIO, requests: BinaryIO) -> Signer:
    try:
        return _Elsewhere(named, RsaPublicKey(*marshal.load(replies)), replies, requests)
    except EOFError:
        return named.open()


class _Elsewhere(KnowsPublicKey):
    """A key in another process; it signs as `signer.Signer` asks."""

    def __init__(self, named: NamedKey, key: RsaPublicKey, replies: BinaryIO, requests: BinaryIO) -> None:
        self._named = named
        self._key = key
        self._replies = replies
        self._requests = requests

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature over a SHA-256 digest, big-endian, 384 bytes."""
        with suppress(BrokenPipeError):
            self._requests.write(digest)
        signature = self._replies.read(KEY_SIZE)
        return signature if len(signature) == KEY_SIZE else self._named.open().sign(digest)
