"""Make the packages of recorded runs and start them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mystikos_tool
from behaviour.record import REFUSED, Case, Mount, Outcome, Record, outcome
from mystikos_tool.errors import UserError

_HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBC = ("/usr/lib/x86_64-linux-musl/libc.so", "/lib/x86_64-linux-musl/libc.so", "/lib/ld-musl-x86_64.so.1")
_PATIENCE = {"calls": 3.0}
_OTHER_PATIENCE = 8.0
_BASE = "A"  # the appdir that all others have more than
_KEY = Path(__file__).parent.parent / "tests" / "data" / "keys" / "key-a.pem"


class Workshop:
    """A temporary directory with built programs, appdirs and packages."""

    def __init__(self, record: Record, top: Path, libc: Path | None) -> None:
        self._record, self._top, self._built = record, top, top / "built"
        subprocess.run([record.directory / "build.sh", sys.executable, self._built], check=True)
        self._libc = libc or next((Path(path) for path in _LIBC if Path(path).exists()), None)
        # One at a time packages or starts a process: a child that is just being started would hold the
        # package of another thread open, and what is open for writing cannot be started.
        self._lock = threading.Lock()
        self._users: Counter[Path] = Counter()
        logging.getLogger("mystikos_tool").setLevel(logging.ERROR)

    def lacks(self, case: Case) -> str | None:
        """Return what a case needs and this machine has not."""
        if case.needs and not (self._built / case.needs).exists():
            return case.needs
        uses_libc = any(entry.get("built") == "libc" for entry in self._entries(case.appdir).values())
        return "musl" if uses_libc and not self._libc else None

    def expect(self, case: Case) -> None:
        """Keep the case's package until it has run as often as it was expected."""
        self._users[self._path(case)] += 1

    def run(self, case: Case) -> Outcome:
        """Package what the case needs and start it."""
        try:
            return self._start(case, self._package(case))
        except UserError as error:
            return Outcome(REFUSED, None, (str(error),))
        finally:
            self._release(case)

    def _path(self, case: Case) -> Path:
        digest = hashlib.sha256(case.config.encode()).hexdigest()[:12]
        return self._top / f"{case.appdir}-{digest}"

    def _release(self, case: Case) -> None:
        path = self._path(case)
        with self._lock:
            self._users[path] -= 1
            if not self._users[path]:
                path.unlink(missing_ok=True)

    def _package(self, case: Case) -> Path:
        path = self._path(case)
        with self._lock:
            if not path.exists():
                config = path.with_suffix(".json")
                config.write_text(case.config)
                mystikos_tool.package(path, self._appdir(case.appdir), config=config, key=_KEY)
        return path

    def _entries(self, name: str) -> dict[str, dict[str, Any]]:
        base = self._record.appdirs[_BASE]
        return base if name == _BASE else {**base, **self._record.appdirs[name]}

    def _appdir(self, name: str) -> Path:
        top = self._top / f"appdir-{name}"
        if not top.exists():
            for path, entry in self._entries(name).items():
                self._make(top / path, entry)
        return top

    def _make(self, path: Path, entry: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in entry:
            path.symlink_to(entry["link"])
            return
        if "directory" in entry:
            path.mkdir(exist_ok=True)
        elif "built" in entry:
            source = self._libc if entry["built"] == "libc" else self._built / entry["built"]
            if not source or not source.exists():
                return
            shutil.copyfile(source, path)
        else:
            text: str = entry.get("file", "")
            path.write_bytes(base64.b64decode(entry["base64"]) if "base64" in entry else text.encode())
        if os.geteuid() == 0 and "owner" in entry:
            os.chown(path, entry["owner"], entry["owner"])
        path.chmod(int(entry.get("mode", "755" if "directory" in entry else "644"), 8))

    def _start(self, case: Case, package: Path) -> Outcome:
        environment = {"PATH": _HOST_PATH, **case.environment} if case.environment is not None else None
        with contextlib.ExitStack() as stack:
            mounts = [stack.enter_context(self._mount(case, mount)) for mount in case.mounts]
            with self._lock:
                process = subprocess.Popen(
                    [package, *mounts, "--", *case.arguments],
                    env=environment,
                    cwd=self._top,
                    stdin=subprocess.DEVNULL if case.stdin is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="backslashreplace",
                    start_new_session=True,
                )
            if case.signal:
                number, after = case.signal
                threading.Timer(after, process.send_signal, [number]).start()
            return _end(process, case)

    @contextlib.contextmanager
    def _mount(self, case: Case, mount: Mount) -> Iterator[str]:
        if mount.source is not None:
            yield f"--myst-mount={mount.source}={mount.target}"
        elif mount.appdir_file is not None:
            yield f"--myst-mount={self._appdir(case.appdir) / mount.appdir_file}={mount.target}"
        else:
            with tempfile.TemporaryDirectory(dir=self._top) as name:
                Path(name).chmod(0o755)
                for path, content in mount.files.items():
                    (Path(name) / path).write_text(content)
                yield f"--myst-mount={name}={mount.target}"


def _end(process: subprocess.Popen[str], case: Case) -> Outcome:
    try:
        stdout, stderr = process.communicate(case.stdin, _PATIENCE.get(case.kind, _OTHER_PATIENCE))
        return outcome(process.returncode, stdout, stderr)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return outcome(None, stdout, stderr)
