"""SCons' CacheDir on a server: ``env.CacheDir("grpc://cache:8980/instance", custom_class=RemoteCache)``.

All targets of an action are fetched together or not at all, when SCons asks for the first of them.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Action
import SCons.CacheDir
import SCons.Errors
import SCons.Node.FS
import SCons.Tool.linkCommon

from mystikos_tool.cache.remote import address
from mystikos_tool.errors import UserError
from mystikos_tool.io import console
from mystikos_tool.scons import blame, scons_internals
from mystikos_tool.scons.stages import CACHED, stage_of

if TYPE_CHECKING:
    from mystikos_tool.cache.remote.client import Client
    from mystikos_tool.cache.remote.results import Key
    from mystikos_tool.cache.remote.uploads import Uploads
    from mystikos_tool.io.arriving import Arriving

_UPLOADS_AT_ONCE = 4
_DONE = {
    ("Retrieve", False): "not in cache",
    ("Retrieve", True): "retrieving from cache",
    ("Push", False): "not pushing to cache",
    ("Push", True): "pushing to cache",
}


def accepts(target: Any, paths: Sequence[Path]) -> bool:
    """Tell whether a cache may have a say in ``target``.

    Asked with no ``paths`` before anything is fetched or stored; and with the files that were fetched
    for all targets of the action, complete and of the digests that the cache gave, before they take
    their places. Of what the tool's own stages make, a package and an image of the runtime are cached, and
    held to what this build makes; the others lead to a signature.
    """
    stage = stage_of(target)
    if stage is None or not paths:
        return stage is None or isinstance(stage, CACHED)
    from mystikos_tool.scons import acceptance

    return all(acceptance.accepts(target, path.resolve()) for path in paths)


def attach(env: Any, url: str) -> None:
    """Make an environment use a cache, unless it does."""
    if scons_internals.cache_given(env) != url:
        env.CacheDir(url.replace("$", "$$"), custom_class=RemoteCache)


class RemoteCache(SCons.CacheDir.CacheDir):  # type: ignore[misc]
    """A cache on a server. Raises SCons' UserError for a URL that is none.

    What is fetched is held to what this build makes before it takes its place.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__(None)
        self.path = path
        self._session = _session(str(path)) if path else None

    def cachepath(self, node: Any) -> tuple[None, None]:
        """Return that no file of this machine is the cache's."""
        return None, None

    def begin(self) -> None:
        """Open the connection in a thread, as something will be asked for."""
        if self.is_enabled() and self._session:
            self._session.begin()

    def retrieve(self, node: Any) -> bool:
        """Fetch all targets of a node's action, unless that was tried; tell whether they are there."""
        action = self._action(node)
        if action is None or not self._done(action, "Retrieve", node):
            return False
        if not SCons.CacheDir.cache_show:
            _RETRIEVED(node, [], node.get_build_env(), execute=1)
        elif node is action.targets[0]:
            node.build(presub=0, execute=0)
        return True

    def push(self, node: Any) -> None:
        """Store all targets of a node's action beside the build, unless that was done."""
        if SCons.Action.execute_actions and not self.is_readonly() and (action := self._action(node)):
            self._done(action, "Push", node)

    def _action(self, node: Any) -> _Action | None:
        return self._session.action(node) if self.is_enabled() and self._session else None

    def _done(self, action: _Action, step: str, node: Any) -> bool:
        """Do a step; a bug of the cache's costs the cache, not the build."""
        try:
            done = action.retrieved() if step == "Retrieve" else action.push()
        except Exception as error:
            traceback.print_exc()
            action.client.health.stop(f"{type(error).__name__}; the build goes on without it")
            done = False
        if step == "Retrieve":
            self.requests += 1
            self.hits += done
        self.CacheDebug(f"Cache{step}(%s):  {_DONE[step, done]}, %s\n", node, action.key.digest.hash)
        return done


def _retrieved(target: list[Any], source: list[Any], env: Any) -> str:
    return f"Retrieved `{target[0].get_internal_path()}' from cache"


_RETRIEVED = SCons.Action.Action(lambda target, source, env: 0, _retrieved)


class _Action:
    """An action of the build: its targets, which are fetched and stored as one."""

    def __init__(self, client: Client, uploads: Uploads, targets: list[Any]) -> None:
        self.client = client
        self.targets = targets
        self._uploads = uploads
        self._paths = {_name(target): Path(target.get_abspath()) for target in targets}
        self._signature = "\n".join(target.get_cachedir_bsig() for target in targets)
        self._asked: float | None = None
        self._lock, self._fetching = threading.Lock(), threading.Lock()
        self._retrieved: bool | None = None
        self._is_pushed = False

    @cached_property
    def key(self) -> Key:
        """What the results are found by."""
        from mystikos_tool.cache.remote import results

        return results.key(self._signature, list(self._paths))

    def retrieved(self) -> bool:
        """Tell whether the targets are those of the cache, which are fetched when that is first asked."""
        # No cached_property: until Python 3.12 all actions share the lock of one, which lasts for the fetch.
        with self._fetching:
            if self._retrieved is None:
                self._retrieved = self._fetch()
            return self._retrieved

    def _fetch(self) -> bool:
        if SCons.Action.execute_actions:
            found = self.client.fetch(self.key, self._paths, self._accepts, self._begin)
        else:
            found = self.client.has(self.key, list(self._paths))
        if found and SCons.Action.execute_actions:
            self._make_links()
        self._asked = time.monotonic()
        return found

    def push(self) -> bool:
        """Let the targets be stored; tell whether they are to be."""
        from mystikos_tool.cache.remote.client import made

        with self._lock:
            if self._is_pushed or not self.client.health.writes or self._retrieved:
                return False
            self._is_pushed = True
        seconds = time.monotonic() - self._asked if self._asked else 0.0
        files = [made(name, path) for name, path in self._paths.items()]
        whole = [file for file in files if file]
        if len(whole) != len(files):
            return False
        self._uploads.add(partial(self.client.store, self.key, whole, seconds))
        return True

    def _begin(self, files: Sequence[Arriving]) -> None:
        """Begin to hold files, of which there are none for what is to be a link, to what is made here."""
        if len(files) == len(self.targets) and any(map(stage_of, self.targets)):
            from mystikos_tool.scons import acceptance

            for target, file in zip(self.targets, files, strict=True):
                acceptance.begin(target, file)

    def _accepts(self, paths: Sequence[Path]) -> bool:
        """Tell whether files, of which there are none for what is to be a link, are what is made here."""
        if len(paths) < len(self.targets) and any(map(stage_of, self.targets)):
            return False
        return all(accepts(target, paths) for target in self.targets)

    def _make_links(self) -> None:
        """Make the symbolic links of a versioned library, which SCons does not count among its targets."""
        for target in self.targets:
            if links := getattr(target.attributes, "shliblinks", None):
                SCons.Tool.linkCommon.CreateLibSymlinks(target.get_build_env(), links)


class _Session:
    """One cache as all environments of a build use it."""

    def __init__(self, where: address.Address) -> None:
        self._address = where
        self._actions: dict[Any, _Action | None] = {}
        self._lock = threading.Lock()
        self._used: tuple[Client, Uploads] | None = None
        self._connecting: threading.Thread | None = None
        self._is_usable = True

    def begin(self) -> None:
        """Open the connection in a thread, unless one has begun to."""
        if self._connecting is None and self._used is None:
            self._connecting = threading.Thread(target=self._connect, daemon=True)
            self._connecting.start()

    def _connect(self) -> None:
        if used := self._use():
            used[0].connect()

    def action(self, node: Any) -> _Action | None:
        """Return a node's action; None where the cache has nothing to do with it."""
        executor = node.get_executor()
        if executor in self._actions:
            return self._actions[executor]
        targets = executor.get_all_targets()
        used = self._use() if all(map(_is_kept, targets)) else None
        return self._actions.setdefault(executor, _Action(*used, targets) if used else None)

    def _use(self) -> tuple[Client, Uploads] | None:
        """Return what the cache is used with, which is loaded at the first time."""
        with self._lock:
            if self._is_usable and self._used is None:
                try:
                    from mystikos_tool.cache.remote.client import Client
                    from mystikos_tool.cache.remote.uploads import Uploads
                except ImportError as error:
                    self._is_usable = False
                    blame.warn(
                        f"remote cache {self._address}: install mystikos-tool[remote] ({error.name or error})"
                    )
                    return None
                self._used = Client(self._address, blame.warn), Uploads(_UPLOADS_AT_ONCE)
                scons_internals.at_end_of_build(self._end)
            return self._used

    def _end(self) -> None:
        """Wait for what is stored, and say what the build had of the cache."""
        if self._connecting:
            self._connecting.join()
            self._connecting = None
        if self._used:
            (client, uploads), self._used = self._used, None
            self._actions.clear()
            uploads.wait()
            client.close()
            line = client.summary()
            if line and SCons.Action.print_actions:
                console.write_line(line, sys.stdout)


@lru_cache(None)
def _session(url: str) -> _Session:
    try:
        return _Session(address.parse(url))
    except UserError as error:
        raise blame.of_caller(error) from error


def _is_kept(target: Any) -> bool:
    is_file = isinstance(target, SCons.Node.FS.File) and target.is_derived()
    return is_file and not target.nocache and _is_text(_name(target)) and accepts(target, ())


def _is_text(name: str) -> bool:
    """Tell whether a name can be in a signature and in a message."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(target: Any) -> str:
    """Return a target's path from the top of the build; of one elsewhere, all of it but the first slash."""
    return str(target.get_internal_path()).lstrip("/")
