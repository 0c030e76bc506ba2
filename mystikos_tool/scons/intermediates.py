"""Archive, measurement and signed image of a package that a cache has: made only where somebody wants them.

SCons decides about what a target is made of before it decides about the target. So the first of a
package's intermediates that is out of date asks the cache for the package, once all is known that
decides the package. When that is there, and proved to be what this build makes, the intermediates
count as up to date, with the signatures that their contents would have, and none of them is written.
What a build has fetched so is remembered for the next one.

This is for intermediates of which only the package is made. Who else is made of one wants it: a
target of another builder, the command line, and a call of its own below a directory that is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Errors
import SCons.Node.Alias
import SCons.Node.FS

from mystikos_tool.io import fingerprint
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.database import store
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.stages import Image, Measurement, Package, Rootfs, Stage, stage_for, stage_of

if TYPE_CHECKING:
    from concurrent.futures import Future

# The table of the store with what packages were fetched of.
_FETCHED = "fetched"


class Contents(NamedTuple):
    """The digests, in hexadecimal, that a measurement and a signed image would have."""

    measurement: str
    image: str


class Intermediates:
    """What is made for one package alone, in the order in which it is made.

    ``unmade`` has those of them that need not be made. ``contents`` is set by who proves a package
    that was fetched without them.
    """

    def __init__(self, package: Any, nodes: list[Any]) -> None:
        self.package = package
        self.nodes = nodes
        self.unmade: tuple[Any, ...] = ()
        self.contents: Contents | None = None
        # What the package has to have, where that is found out beside its fetching.
        self.expected: Future[Any] | None = None
        # Why the package is made, as SCons would have said before it was fetched.
        self.reason: str | None = None
        self._is_asked = False
        parts = (part for node in (*nodes[1:], package) for part in _declared(node))
        # What has to be made before the first of them can ask the cache for the package.
        self.parts = [part for part in dict.fromkeys(parts) if part not in nodes]

    def spare(self, node: Any) -> bool:
        """Tell whether a node need not be made, as the package is there already."""
        if node is self.nodes[0] and not self._is_asked and not self.unmade:
            self._look_up()
        return node in self.unmade

    def fetch_at(self, node: Any) -> bool:
        """Ask the cache for the package where ``node`` would be made; tell whether it is there."""
        if self._is_asked or node is self.package:
            return False
        self._is_asked = True
        self.unmade = tuple(self.nodes[self.nodes.index(node) :])
        if not self.package.exists():
            self.reason = f"building `{self.package}' because it doesn't exist\n"
        if not self._take_package():
            self.unmade, self.expected = (), None  # which was found out of what did not come
            return False
        self._settle()
        return True

    def _take_package(self) -> bool:
        if scons_internals.only_tells():
            return bool(self.package.take_from_cache())
        with suppress(OSError):  # taking the file says what is wrong
            Path(self.package.get_abspath()).parent.mkdir(parents=True, exist_ok=True)
        if not self.package.take_from_cache():
            return False
        assert self.contents is not None  # noqa: S101 whoever accepted the package has proved it
        self._remember(self.contents)
        return True

    def fetched(self) -> bool | None:
        """Tell whether the package is there already; None where nobody has asked the cache yet."""
        return bool(self.unmade) if self.unmade or self._is_asked else None

    def make(self) -> None:
        """Make what was not made, for somebody of whom nothing said that he is made of it."""
        nodes, self.unmade = self.unmade, ()
        for node in nodes:
            node.clear()
            scons_internals.make_now(node)

    def _settle(self) -> None:
        contents = self.contents or Contents(scons_internals.NOT_MADE, scons_internals.NOT_MADE)
        for node in self.unmade:
            if isinstance(stage_of(node), Measurement):
                node.get_ninfo().csig = contents.measurement
            elif isinstance(stage_of(node), Image):
                node.get_ninfo().csig = contents.image

    def _remember(self, contents: Contents) -> None:
        for node in self.unmade:  # what is there is of an earlier state
            Path(node.get_abspath()).unlink(missing_ok=True)
            node.clear_memoized_values()
        path = Path(self.package.get_abspath())
        row = self._sources(), fingerprint.of(path.stat()), tuple(contents)
        store().change(_FETCHED, str(self.package), row)

    def _look_up(self) -> None:
        """Spare all of them where the package is the one that was fetched, of the same sources."""
        row = store().table(_FETCHED).get(str(self.package))
        with suppress(OSError):
            path = Path(self.package.get_abspath())
            if row and row[1] == fingerprint.of(path.stat()) and row[0] == self._sources():
                self.unmade, self.contents = tuple(self.nodes), Contents(*row[2])
                self._settle()

    def _sources(self) -> str:
        """Return what stands for all that the package is made of, but for today's date."""
        image, *others = self.package.children()
        words = [image.get_cachedir_bsig(), *(child.get_csig() for child in others)]
        return hashlib.sha256("\n".join((*words, self.package.get_contents_sig())).encode()).hexdigest()


_packages: list[Any] = []
_plan: dict[Any, Intermediates] | None = None


def add_package(package: Any) -> None:
    """Let a package be one that may be fetched."""
    _packages.append(package)


def of(node: Any) -> Intermediates | None:
    """Return what a package's node, or that of one of its intermediates, belongs to; None for others.

    That is known when the build has begun, and no builder comes any more.
    """
    global _plan
    if _plan is None:
        if scons_internals.reads_sconscripts():
            return None
        _plan = _planned()
    return _plan.get(node) if _plan else None


def unmade(package: Any) -> tuple[Any, ...]:
    """Return those intermediates of a package that are not made."""
    found = of(package)
    return found.unmade if found else ()


def expect(package: Any, find: Callable[[], object]) -> None:
    """Begin to find out what a package has to have for which intermediates are not made."""
    if (found := of(package)) and found.unmade:
        from concurrent.futures import ThreadPoolExecutor  # a build with nothing to do needs it not

        pool = ThreadPoolExecutor(1)
        found.expected = pool.submit(find)
        pool.shutdown(wait=False)


def expected(package: Any) -> Any:
    """Return what was found out, once it is, or raise its error; None where nobody has begun."""
    found = of(package)
    return found.expected.result() if found and found.expected else None


def prove(package: Any, contents: Contents) -> None:
    """Say what the intermediates of a package would hold that it was proved without."""
    if found := of(package):
        found.contents = contents


def _planned() -> dict[Any, Intermediates]:
    records = store().table(_FETCHED)
    fetched = {package for package in _packages if str(package) in records} if records else ()
    packages = [package for package in _packages if package in fetched or _is_cached(package)]
    targets = scons_internals.build_targets() if packages else None
    if targets is None:
        return {}
    graph = _Graph()
    try:
        graph.walk(targets)
    except (SCons.Errors.StopError, SCons.Errors.UserError, OSError):
        return {}  # who is asked next tells what is wrong
    plan: dict[Any, Intermediates] = {}
    for package in packages:
        if nodes := graph.spared(package):
            plan |= dict.fromkeys((package, *nodes), Intermediates(package, nodes))
            if not package.exists():
                scons_internals.begin_to_ask(package.get_env().get_CacheDir())
    return plan


def _is_cached(package: Any) -> bool:
    return bool(scons_internals.cache_dir(package).is_enabled())


class _Graph:
    """Who is made of which intermediates: ``wanted`` are those that not only packages are made of."""

    def __init__(self) -> None:
        self.wanted: set[Any] = set()
        self._users: dict[Any, set[Any]] = {}
        self._seen: set[tuple[Any, bool]] = set()
        self._todo: list[tuple[Any, bool]] = []

    def walk(self, targets: Iterable[Any]) -> None:
        """Look at all that the targets are made of."""
        for target in targets:
            self._add_target(target)
        while self._todo:
            node, is_wanted = self._todo.pop()
            if not is_wanted and (node, True) in self._seen:
                continue
            if is_wanted and _is_intermediate(node):
                self.wanted.add(node)
            before = None if is_wanted and _is_intermediate(node) else intermediate_of(node)
            for part in _parts(node):
                if part is not before:
                    self._add(part, is_wanted=True)
            if before is not None:
                self._users.setdefault(before, set()).add(node)
                self._add(before, is_wanted=False)

    def spared(self, package: Any) -> list[Any]:
        """Return the intermediates of which nothing but a package is made, in their order."""
        found: list[Any] = []
        if is_special(package) or package.nocache:
            return found
        user, node = package, intermediate_of(package)
        while node is not None and node not in self.wanted and not is_special(node):
            if self._users.get(node) != {user}:
                break
            found.insert(0, node)
            user, node = node, intermediate_of(node)
        return found

    def _add(self, node: Any, *, is_wanted: bool) -> None:
        if (node, is_wanted) not in self._seen:
            self._seen.add((node, is_wanted))
            self._todo.append((node, is_wanted))

    def _add_target(self, node: Any) -> None:
        """Add a target of the build: of a directory, what calls describe in it, not what they add."""
        if (node, False) in self._seen:
            return
        if isinstance(node, SCons.Node.Alias.Alias):
            self._seen.add((node, False))
            for part in _declared(node):
                self._add_target(part)
        elif isinstance(node, SCons.Node.FS.Dir) and not node.has_explicit_builder():
            self._seen.add((node, False))
            for part in _declared(node):
                self._add(part, is_wanted=True)
            for child in _entries(node):
                if not (_is_intermediate(child) and stage_for(child, Stage).added_for):
                    self._add_target(child)
        else:
            self._add(node, is_wanted=True)


def intermediate_of(node: Any) -> Any:
    """Return the intermediate that a package, or another intermediate, is made of; None without one."""
    stage = stage_of(node)
    if isinstance(stage, Package):
        found = node.sources[0]
    elif isinstance(stage, Image):
        found = stage.measurement
    elif isinstance(stage, Measurement):
        found = stage.enclave.rootfs
    else:
        return None
    return found if _is_intermediate(found) else None


_INTERMEDIATES = (Rootfs, Measurement, Image)


def _is_intermediate(node: Any) -> bool:
    return isinstance(stage_of(node), _INTERMEDIATES)


def is_special(node: Any) -> bool:
    """Tell whether more is to be done for a node than its stage does."""
    executor = node.get_executor()
    added = executor is None or executor.pre_actions or executor.post_actions
    return bool(added or node.side_effects or node.side_effect or node.always_build)


def _declared(node: Any) -> Iterator[Any]:
    for parts in (node.sources, node.depends, node.prerequisites):
        yield from parts or ()


def _parts(node: Any) -> Iterator[Any]:
    """Yield what a node is made of, as far as that can be known before."""
    yield from _declared(node)
    if isinstance(node, InputNode):
        yield from node.made_by()
    elif isinstance(node, SCons.Node.FS.Dir):
        yield from _entries(node)
    elif node.has_explicit_builder() and not stage_of(node):
        yield from node.children()  # with what scanners find
    if node.side_effect:
        yield from node.sources


def _entries(directory: Any) -> list[Any]:
    """Return the nodes in a directory."""
    return [node for name, node in list(directory.entries.items()) if name not in (".", "..")]
