"""Hold the two readers of configurations together: the packager's in Python and the kernel's in C.

python -m fuzz.differential [--seconds N] [--seed N]

Both read the same documents, made of the corpus and its dictionary by random changes: what the one accepts
the other accepts, and every value is the same. A document is given to the C reader as a package has it,
that is, the bytes that the packager puts in. Ends with status 1 and the document where they differ.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fuzz.targets import BUILD, COMPILER, CORPUS, HERE, RUNTIME
from mystikos_tool import config as reader
from mystikos_tool.config import Config
from mystikos_tool.errors import UserError

READER = HERE.parent / "tests" / "runtime" / "read_config.c"
SOURCES = ("common/config_reader.c", "common/error.c", "common/json.c")
_TYPES = ("ext2", "hostfs", "ramfs")
_MODES = ("none", "pseudo", "pseudo_wait_for_exit_exec")
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|//[^\n]*|[-+.0-9eE]+|[a-z]+|\s+|.', re.DOTALL)
_MAX_SIZE = 4096

Fields = dict[str, Any]


class Read(Protocol):
    """The kernel's reader: fields by name, or only ``error``."""

    def __call__(self, document: bytes) -> Fields:
        """Read a document."""


def fields_of(config: Config) -> Fields:
    """Return what the packager read, in the form in which the kernel's reader prints it."""
    return {
        "debug": int(config.debug),
        "product_id": config.product_id,
        "security_version": config.security_version,
        "create_zero_base_enclave": int(config.create_zero_base_enclave or False),
        "enclave_start_address": config.enclave_start_address or 0,
        "memory_size": config.memory_size,
        "main_stack_size": config.main_stack_size,
        "thread_stack_size": config.thread_stack_size,
        "max_affinity_cpus": config.max_affinity_cpus or 0,
        "no_brk": int(config.no_brk),
        "exec_stack": int(config.exec_stack),
        "application_path": config.application_path,
        "host_application_parameters": int(config.host_application_parameters),
        "application_parameters": list(config.application_parameters),
        "environment_variables": list(config.environment_variables),
        "host_environment_variables": list(config.host_environment_variables),
        "current_working_directory": config.current_working_directory,
        "hostname": config.hostname,
        "fork_mode": _MODES.index(config.fork_mode),
        "unhandled_syscall_enosys": int(config.unhandled_syscall_enosys),
        "host_uds": int(config.host_uds),
        "syslog_level": _LEVELS.index(config.syslog_level) if config.syslog_level else 0,
        "secret_count": len(config.secrets),
        "mounts": [
            [mount.target, _TYPES.index(mount.type), list(mount.flags), mount.public_key, mount.root_hash]
            for mount in config.mounts
        ],
    }


def without_empty_variables(fields: Fields) -> Fields:
    """Return the kernel's fields as the packager has them, which drops empty variables at once."""
    variables = fields.get("environment_variables", [])
    return {**fields, "environment_variables": [variable for variable in variables if variable]}


@contextmanager
def kernel_reader(program: Path) -> Iterator[Read]:
    """Run the kernel's reader, compiled of ``READER`` and ``SOURCES``."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        def read(document: bytes) -> Fields:
            stdin.write(len(document).to_bytes(4, "little") + document)
            stdin.flush()
            fields = {}
            for line in iter(stdout.readline, b"\n"):
                assert line, "the reader crashed"
                # What the reader passes on from damaged input need not be UTF-8.
                name, value = line.decode(errors="replace").split(" ", 1)
                fields[name] = json.loads(value)
            return fields

        yield read
        stdin.close()


def difference(read: Read, document: bytes) -> str | None:
    """Return how the readers differ about a document; None where they agree."""
    kernel = read(document)
    try:
        config = reader.parse(document, "c.json")
    except UserError as error:
        return None if "error" in kernel else f"the kernel accepts what the packager refuses: {error}"
    packaged = kernel if config.data == document else read(config.data)
    if "error" in packaged:
        return f"the packager accepts what the kernel refuses: {packaged['error']}"
    if config.data == document and (own := without_empty_variables(kernel)) != fields_of(config):
        return f"the kernel reads {_different(own, fields_of(config))}"
    return None


def _different(kernel: Fields, packager: Fields) -> str:
    names = [name for name in packager if kernel.get(name) != packager[name]]
    return ", ".join(f"{name} as {kernel.get(name)!r}, not {packager[name]!r}" for name in names)


class Documents:
    """Documents without end, each a known one after a few changes of its tokens or bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seeds = [path.read_bytes() for path in sorted((CORPUS / "config").iterdir())]
        lines = (HERE / "config.dict").read_text().splitlines()
        words = [json.loads(line) for line in lines if line.startswith('"')]
        self._words = [word.encode() for word in words]

    def __iter__(self) -> Iterator[bytes]:
        while True:
            document = self._random.choice(self._seeds)
            for _ in range(self._random.choice((1, 1, 2, 4))):
                document = self._changed(document)
            yield document[:_MAX_SIZE]

    def _changed(self, document: bytes) -> bytes:
        if self._random.random() < 0.2:
            at = self._random.randrange(len(document) + 1)
            noise = self._random.randbytes(self._random.randrange(3))
            return document[:at] + noise + document[at + self._random.randrange(3) :]
        tokens = _TOKEN.findall(document) or [b""]
        at, other = self._random.randrange(len(tokens)), self._random.randrange(len(tokens))
        way = self._random.randrange(5)
        if way == 0:
            del tokens[at]
        elif way == 1:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif way == 2:
            tokens.insert(at, tokens[other])
        elif way == 3:
            tokens[at] = self._random.choice(self._words)
        else:
            tokens[at] = self._value()
        return b"".join(tokens)

    def _value(self) -> bytes:
        number = self._random.choice((0, 1, -1, 4096, 65534, 65535, 1 << 31, 1 << 63, (1 << 64) - 1, 1 << 64))
        texts = (b"-0", b"1.0", b"1e3", b"0x10", b"01", b'""', b"[]", b"{}", b"[[]]", b'"\\u0041"', b'"1 m"')
        quoted = b'"%d%s"' % (number, self._random.choice((b"", b"k", b"M", b"G", b"t", b" ")))
        values: tuple[bytes, ...] = (b"%d" % number, quoted, *texts, *self._words)
        return self._random.choice(values)


def run(seconds: int, seed: int | None = None) -> bool:
    """Compare until the time is over or the readers differ; print which, and return whether they do."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program, seed = BUILD / "read_config", time.time_ns() % (1 << 32) if seed is None else seed
    sources = [str(READER), *(str(RUNTIME / source) for source in SOURCES)]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", f"-I{RUNTIME}"]
    subprocess.run([*COMPILER, *flags, *sources, "-o", str(program)], check=True)
    end, count, told = time.monotonic() + seconds, 0, None
    with kernel_reader(program) as read:
        for document in Documents(seed):
            if told or time.monotonic() > end:
                break
            count += 1
            if told := difference(read, document):
                sys.stdout.write(f"fuzz: configurations: {told}\n{document!r}\n")
    result = "FAILED" if told else "no difference"
    sys.stdout.write(f"fuzz: configurations: seed {seed}, {count} documents in two readers: {result}\n")
    return told is not None


def main() -> int:
    """Compare; return 1 for a difference."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.differential", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="20 when not given")
    parser.add_argument("--seed", type=int, help="of an earlier run, to see it again")
    options = parser.parse_args()
    return int(run(options.seconds, options.seed))


if __name__ == "__main__":
    sys.exit(main())
