"""Which configurations were found valid before (`config.Known`): for a project's builds, and for a user."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mystikos_tool.cache.store import Store
from mystikos_tool.io import lookup, user_cache

LIMIT = 1000  # then they are forgotten, so that no store or file grows for ever

_TABLE = "configurations"
_LINE = 65


class KnownInStore:
    """The digests of valid configurations, in a table of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __contains__(self, digest: str) -> bool:
        """Tell whether a digest was added."""
        return digest in self._store.table(_TABLE)

    def add(self, digest: str) -> None:
        """Remember a digest."""
        if len(self._store.table(_TABLE)) >= LIMIT:
            self._store.table(_TABLE).clear()
        self._store.change(_TABLE, digest, True)


class KnownInFile:
    """The digests of valid configurations, in a text file; one that can't be used costs only time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, digest: str) -> bool:
        """Tell whether a digest was added."""
        with suppress(OSError, ValueError), self._path.open(encoding="utf-8") as file:
            return f"{digest}\n" in file.readlines(LIMIT * _LINE)
        return False

    def add(self, digest: str) -> None:
        """Remember a digest."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            full = lookup.exists(self._path) and self._path.stat().st_size >= LIMIT * _LINE
            with self._path.open("w" if full else "a", encoding="utf-8") as file:
                file.write(f"{digest}\n")


def of_user() -> KnownInFile:
    """Return what the user's command lines found valid, in the cache directory that XDG specifies."""
    return KnownInFile(user_cache.directory() / "configurations")
