"""What a build remembers for the next, in one store beside SCons' signature database.

SCons asks for signatures in its main thread and, with ``-j``, runs actions in threads of their own.
Both look up and remember. The rule: any thread may use the store, each operation holds its lock, and
tables are changed by :meth:`Store.change` alone. No operation takes long but reading and writing the
file; whoever hashes or packs does so between operations.
"""

from __future__ import annotations

import atexit
import glob
import hashlib
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import SCons.Node.FS

from mystikos_tool.cache.digests import Digests
from mystikos_tool.cache.store import Store
from mystikos_tool.scons import scons_internals

# Stands for the signature of what cannot be read: it counts as changed, so that the action gets to say why.
UNREADABLE = "unreadable"

_store: SharedStore | None = None


class SharedStore(Store):
    """A store for several threads."""

    def __init__(self, path: Path | None) -> None:
        self._lock = RLock()
        super().__init__(path)

    def table(self, name: str) -> dict[Any, Any]:
        """Return a table to look up in; another thread may change it meanwhile."""
        with self._lock:
            return super().table(name)

    def change(self, table: str, key: object, value: object) -> None:
        """Set a table's value."""
        with self._lock:
            super().change(table, key, value)

    def value(self, name: str) -> Any:
        """Return a large value, None where there is none."""
        with self._lock:
            return super().value(name)

    def keep(self, name: str, value: Any) -> None:
        """Set a large value."""
        with self._lock:
            super().keep(name, value)

    def forget(self, name: str) -> None:
        """Remove a large value, if it is there."""
        with self._lock:
            super().forget(name)

    def save(self) -> None:
        """Write the store; one that cannot be written costs only time."""
        with self._lock:
            super().save()


def store_path() -> Path:
    """Return the path of this build's store."""
    top = Path(SCons.Node.FS.get_default_fs().Top.get_abspath())
    return top / _store_name()


def _store_name() -> str:
    return f"{scons_internals.database_name()}.mystikos"


def patterns_in(directory: str | Path) -> tuple[str, ...]:
    """Return patterns of the files that SCons and this tool keep for themselves below a directory."""
    names, paths = _kept_files()
    above = str(directory).rstrip("/") + "/"
    below = (path.removeprefix(above) for path in paths if path.startswith(above))
    return (*names, *(f"/{glob.escape(path)}" for path in below))


@lru_cache
def _kept_files() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that such files have in any directory, and the paths of others."""
    top = SCons.Node.FS.get_default_fs().Top
    tops = [Path(each.get_abspath()) for each in (top, *top.repositories)]
    names = scons_internals.database_files()
    paths = {str(each / name) for each in tops for name in names if "/" in name}
    paths |= {str(each / _store_name()) for each in tops}
    paths.update(scons_internals.configure_files())
    return tuple(name for name in names if "/" not in name), tuple(sorted(paths))


def store() -> Store:
    """Return the store of this build; it is written when SCons ends, unless it only tells."""
    global _store
    if _store is None:
        _store = SharedStore(store_path())
        atexit.register(_save)
    return _store


def _save() -> None:
    if _store and not scons_internals.only_tells():
        _store.save()


def content_digest(node: Any) -> str:
    """Return the SHA-256 of a file node's content in hexadecimal; of nothing where there is no file."""
    try:
        return Digests(store()).file(str(node.rfile().get_abspath())).hex()
    except FileNotFoundError:
        return hashlib.sha256().hexdigest()
    except OSError:
        return UNREADABLE
