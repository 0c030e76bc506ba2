"""The names of SCons that its documentation does not promise, each with the reason why it is needed.

Nothing else in this package uses a name of SCons that begins with an underscore, or reads what SCons
keeps for itself. The tests run with the oldest and the newest SCons that the project claims.
"""

from __future__ import annotations

import os
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import SCons.Action
import SCons.CacheDir
import SCons.dblite
import SCons.Errors
import SCons.Executor
import SCons.Node
import SCons.Node.FS
import SCons.Node.Python
import SCons.SConf
import SCons.SConsign
import SCons.Script.Main
import SCons.Taskmaster.Job
import SCons.Tool.install
import SCons.Util
import SCons.Warnings

# SCons has no documented class for an action whose signature is something else than its code.
# Its FunctionAction takes the code of a function apart, for each of a thousand packages.
ActionBase = SCons.Action._ActionAction

# The number by which a node says that get_csig() is compared with the database, whatever the
# environment's Decider. Only Value nodes say so by themselves.
BY_SIGNATURE: int = SCons.Node.Python.Value("").changed_since_last_build

# The signature of what was_only_told_of.
NOT_MADE = "not made"


def database_name() -> str:
    """Return the name of SCons' signature database, beside which the tool keeps its own."""
    return str(SCons.SConsign.DB_Name or ".sconsign")


def database_files() -> list[str]:
    """Return the files of the signature database: paths below the top, or a name in every directory."""
    if SCons.SConsign.ForDirectory is SCons.SConsign.DirFile:
        return [str(SCons.SConsign.current_sconsign_filename())]
    # SCons writes the second and renames it; a database of another module may have no suffix.
    return [f"./{database_name()}{suffix}" for suffix in (".dblite", ".tmp", "")]


def configure_files() -> list[str]:
    """Return the paths of what ``Configure`` keeps: its directory, and the logs of this build."""
    top = SCons.Node.FS.get_default_fs().Top
    logs = [str(log.get_abspath()) for log in SCons.SConf._ac_config_logs]
    return [f"{top.get_abspath()}/.sconf_temp", *logs]


def cache_of(node: Any) -> str | None:
    """Return the directory of the cache that a node's environment uses; None for none, or one elsewhere."""
    path = cache_dir(node).path
    return str(node.fs.Top.Dir(str(path)).get_abspath()) if path and "://" not in str(path) else None


def cache_given(env: Any) -> Any:
    """Return what an environment's CacheDir was called with; None without one. SCons tells only the cache."""
    return getattr(env, "_CacheDir_path", None)


_caches: dict[int, Any] = {}


def cache_dir(node: Any) -> Any:
    """Return the CacheDir that a node's environment uses; it stays the same once all SConscripts are read."""
    env = node.get_env()
    if reads_sconscripts():
        return env.get_CacheDir()
    if id(env) not in _caches:  # SCons compares environments by all that is in them
        _caches[id(env)] = env, env.get_CacheDir()
    return _caches[id(env)][1]


def stored_targets(directory: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the signature database knows as a target below a directory: its path there, the entry.

    What was a target once stays one, whatever became of its builder.
    """
    top = str(directory.get_tpath())
    for path in _stored_directories(directory):
        below = os.path.relpath(path, top)
        try:
            folder = directory.Dir(below)
        except TypeError:  # a file by now
            continue
        for name, entry in list(folder.sconsign().entries.items()):
            if getattr(entry.binfo, "bact", ""):
                yield os.path.normpath(f"{below}/{name}"), entry


def stored_entries(directory: Any) -> bytes | None:
    """Return what the signature database holds of a directory, as it is stored; None where nobody can tell.

    SCons' own module has all of it in memory, also when SCons has written it.
    """
    name = os.path.normcase(directory.get_tpath())
    if SCons.SConsign.ForDirectory is SCons.SConsign.DirFile or SCons.SConsign.DB_Module is not SCons.dblite:
        return None
    database, _ = SCons.SConsign.Get_DataBase(directory)
    return bytes(database[name]) if name in database else None


def stored_target(file: Any) -> Any:
    """Return the entry of a file that the signature database knows as a target; None for another."""
    entry = file.dir.sconsign().entries.get(file.name)
    return entry if entry and getattr(entry.binfo, "bact", "") else None


def own_databases(directory: Any) -> Iterator[str]:
    """Yield the paths of directories below one that have their own database, as with SConsignFile(None)."""
    if SCons.SConsign.ForDirectory is SCons.SConsign.DirFile:
        top, name = directory.get_abspath(), str(SCons.SConsign.current_sconsign_filename())
        yield from (os.path.relpath(path, top) for path, _, files in os.walk(top) if name in files)


def _stored_directories(directory: Any) -> Iterator[str]:
    """Yield the directories below one that have entries in the signature database, as it names them.

    A repository has its own, or none.
    """
    top = str(directory.get_tpath())
    if SCons.SConsign.ForDirectory is SCons.SConsign.DirFile:
        yield from (os.path.normpath(f"{top}/{path}") for path in own_databases(directory))
        return
    database, _ = SCons.SConsign.Get_DataBase(directory)
    is_in_repository = not top.startswith("/") and not directory.is_under(directory.fs.Top)
    if not (is_in_repository and database is SCons.SConsign.DataBase.get(directory.fs.Top)):
        yield from paths_below(_stored_names(database), top)


_names: dict[int, list[str]] = {}


def _stored_names(database: Any) -> list[str]:
    """Return the directories of a database, sorted; SCons writes it when all targets are made."""
    number = id(database)
    if number not in _names:
        # A database of another module than SCons' own has bytes for keys, and may be no dictionary.
        keys = list(database.keys())
        _names[number] = sorted(key.decode() if isinstance(key, bytes) else key for key in keys)
    return _names[number]


def paths_below(paths: list[str], top: str) -> Iterator[str]:
    """Yield those of sorted paths that are, or lie below, a directory; "." is above every relative path."""
    if top == ".":
        yield from (path for path in paths if not path.startswith("/"))
        return
    start = bisect_left(paths, top)
    if start < len(paths) and paths[start] == top:
        yield top
    for index in range(bisect_left(paths, f"{top}/"), len(paths)):
        if not paths[index].startswith(f"{top}/"):
            return
        yield paths[index]


def is_installed(node: Any) -> bool:
    """Tell whether a node is a copy that Install makes."""
    return node.has_explicit_builder() and node.builder is SCons.Tool.install.BaseInstallBuilder


_made_anyway: set[Any] = set()
_nullified: list[Any] = []


def make_anyway(node: Any) -> None:
    """Let SCons make a node although it finds it up to date, also where it has found so already."""
    if not node.always_build:
        _made_anyway.add(node)
    node.set_always_build()
    if node.get_state() == SCons.Node.up_to_date:
        node.set_state(SCons.Node.no_state)


def forget_earlier_build() -> None:
    """Forget what was asked for and found out for an earlier build of an interactive session."""
    for node in _made_anyway:
        node.set_always_build(0)
    _made_anyway.clear()
    for executor in _nullified:
        executor._do_execute = executor._execute_str = 1
    _nullified.clear()
    _names.clear()


def action_signature(node: Any) -> str:
    """Return the signature of the action that makes a node, be it known for a directory by then or not."""
    executor = node.get_executor()
    if executor is None:  # SCons drops the actions of a file that it has made
        return str(node.get_stored_info().binfo.bactsig)
    known = (executor.get_all_targets(), executor.get_all_sources(), executor.get_build_env())
    actions = _without_mkdir(executor.get_action_list())
    return str(SCons.Util.hash_signature(b"".join(bytes(action.get_contents(*known)) for action in actions)))


def _without_mkdir(actions: list[Any]) -> list[Any]:
    """Return actions but for that of making an empty directory, which SCons adds to those of a directory."""
    added = SCons.Node.FS.get_MkdirBuilder().action
    return [action for action in actions if action is not added]


def make_now(node: Any) -> None:
    """Make a node whose turn has passed, as SCons makes one whose turn it is."""
    node.set_state(SCons.Node.executing)
    node.prepare()
    node.build()
    node.set_state(SCons.Node.executed)
    node.built()
    node.visited()


def was_made_now(node: Any) -> bool:
    """Tell whether SCons has made a node in this build."""
    return bool(node.get_state() == SCons.Node.executed)


def is_done(node: Any) -> bool:
    """Tell whether SCons has made a node in this build, or found it up to date."""
    return node.get_state() in (SCons.Node.executed, SCons.Node.up_to_date)


def pass_over(node: Any) -> None:
    """Let a node be up to date without a task of its own.

    What waits for it already has to wait for something else that gets a task: that lets it go on.
    """
    for parent in node.waiting_parents:
        parent.ref_count -= 1
    node.waiting_parents = set()
    node.set_state(SCons.Node.up_to_date)


def only_tells() -> bool:
    """Tell whether SCons only says what it would do, as under ``-n``."""
    return not SCons.Action.execute_actions


def begin_to_ask(cache: Any) -> None:
    """Let a cache on a server open its connection, in a build that makes what it does not find there."""
    if not only_tells() and not SCons.Script.GetOption("question") and hasattr(cache, "begin"):
        cache.begin()


def was_only_told_of(node: Any) -> bool:
    """Tell whether SCons said that it would make a node: to what depends on it, it is another one."""
    return only_tells() and bool(node.get_state() == SCons.Node.executed)


def prints_actions() -> bool:
    """Tell whether SCons prints what it does, as it does not under ``-s``."""
    return bool(SCons.Action.print_actions)


def fills_cache() -> bool:
    """Tell whether SCons puts what is up to date into its cache too, with ``--cache-force``."""
    return bool(SCons.CacheDir.cache_force)


def reads_sconscripts() -> bool:
    """Tell whether SCons is reading SConscripts, and does not build yet."""
    return bool(SCons.Script.sconscript_reading)


def build_targets() -> list[Any] | None:
    """Return the nodes that SCons was asked for; None where it chooses them by the directory it runs in.

    SCons keeps the list to itself. In an interactive session it is another one for every command.
    """
    options = SCons.Script.Main.OptionsParser.values
    if options.climb_up or options.interactive or options.clean:
        return None
    filesystem = SCons.Node.FS.get_default_fs()
    names = list(SCons.Script.BUILD_TARGETS or SCons.Script.DEFAULT_TARGETS or [filesystem.Dir(".")])
    return [_named(name, filesystem) for name in names]


def _named(name: Any, filesystem: Any) -> Any:
    if isinstance(name, SCons.Node.Node):
        return name
    found = (lookup(name, curdir=str(filesystem.Top)) for lookup in SCons.Node.arg2nodes_lookups)
    return next((node for node in found if node is not None), None) or filesystem.Entry(name)


def add_failure(failure: SCons.Errors.BuildError) -> None:
    """Let ``GetBuildFailures`` return a failure that does not end the build.

    It returns SCons' own list, to which SCons adds only what ends the build, or a part of it.
    """
    SCons.Script.GetBuildFailures().append(failure)


_after_reading: list[Callable[[], None]] = []
_before_builds: list[Callable[[], None]] = []


def before_each_build(work: Callable[[], None]) -> None:
    """Have something done when all SConscripts are read, and before each build of an interactive session."""
    _before_builds.append(work)
    after_reading(work)


def after_reading(work: Callable[[], None]) -> None:
    """Have something done when all SConscripts are read, before SCons prints its help.

    SCons then reads the command line again, for the options that they added, and lets nobody else know
    of that moment. An SConscript may have it read too, by ValidateOptions. In an interactive session it
    reads every command that builds in the same way.
    """
    _after_reading.append(work)
    if len(_after_reading) > 1:
        return
    parser = SCons.Script.Main.OptionsParser
    parse = parser.parse_args

    def parse_args(*arguments: Any, **named: Any) -> Any:
        parsed = parse(*arguments, **named)
        if not SCons.Script.sconscript_reading:
            is_session = parser.values.interactive
            parser.parse_args = parse_command if is_session else parse
            for each in _after_reading:
                if not (is_session and each in _before_builds):  # nothing is built yet
                    each()
        return parsed

    def parse_command(*arguments: Any, **named: Any) -> Any:
        parsed = parse(*arguments, **named)
        for each in _before_builds:
            each()
        return parsed

    parser.parse_args = parse_args


def tell_of_mismatches(told: Callable[[str], Exception]) -> None:
    """Have a file where a directory is described, or the reverse, told as the user's mistake.

    ``told`` returns what is raised for what SCons says. SCons raises a TypeError, as for an error in Python,
    so that it ends with a stack trace; it knows nothing of builders that an earlier SConstruct had.
    """
    checker = SCons.Node.FS.diskcheck_match
    if checker.func is not SCons.Node.FS.do_diskcheck_match:  # told already, or --diskcheck=none
        return

    def check(node: Any, is_other: Callable[[], bool], errorfmt: str) -> None:
        try:
            SCons.Node.FS.do_diskcheck_match(node, is_other, errorfmt)
        except TypeError as error:
            raise told(str(error)) from None

    checker.func = check


def writes_ninja_file() -> bool:
    """Tell whether SCons' ninja tool has replaced what builds targets; it knows the actions of SCons alone.

    Its name was another one in SCons 4.5. With ``--disable-ninja`` it replaces nothing.
    """
    tools = (sys.modules.get(f"SCons.Tool.{name}") for name in ("ninja_tool", "ninja"))
    return any(getattr(tool, "NINJA_STATE", None) for tool in tools)


class _AtEndOfBuild:
    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work

    def write(self, sync: int = 1) -> None:
        """Do the work, once; SCons goes through its list meanwhile, which has to stay as it is."""
        work, self._work = self._work, None
        if work:
            work()


def at_end_of_build(work: Callable[[], None]) -> None:
    """Have something done when all targets are made, or the build has failed.

    SCons then writes what is in this list, and lets nobody else know of the end. Later, when the
    interpreter ends, Python 3.12 starts no threads any more.
    """
    SCons.SConsign.sig_files.append(_AtEndOfBuild(work))


_at_interrupt: list[Callable[[], None]] = []
_interrupted = threading.Event()


def at_interrupt(work: Callable[[], None]) -> None:
    """Have something done, in a thread of its own, when a signal ends the build.

    What waits in a task would not notice: SCons lets every task that it has begun come to its end.
    """
    if not _at_interrupt:
        state = SCons.Taskmaster.Job.InterruptState
        remember = state.set

        def interrupted(self: Any) -> None:  # called in the handler of the signal
            remember(self)
            _interrupted.set()

        state.set = interrupted
        threading.Thread(target=_wait_for_interrupt, daemon=True).start()
    _at_interrupt.append(work)


def _wait_for_interrupt() -> None:
    _interrupted.wait()
    for work in _at_interrupt:
        work()


@contextmanager
def warnings_to(show: Callable[[Any], None]) -> Iterator[None]:
    """Have SCons' own warnings shown by a function. Its own would name a line of this tool's as the place."""
    before, SCons.Warnings._warningOut = SCons.Warnings._warningOut, show
    try:
        yield
    finally:
        SCons.Warnings._warningOut = before


def scanned(node: Any, implicit: list[Any]) -> None:
    """Set what a node depends on without its builder saying so; SCons' scanners set it so too."""
    node.implicit = implicit
    node.implicit_set = set(implicit)
    node._children_reset()


def programs_of_added_actions(node: Any) -> list[Any]:
    """Return the programs that AddPreAction and AddPostAction made a node depend on."""
    executor = node.get_executor()
    added = executor.pre_actions or executor.post_actions
    return list(executor.get_implicit_deps()) if added else []


def is_changed_before(node: Any) -> bool:
    """Tell whether AddPreAction has added an action, which may change what a node is made of."""
    return bool(node.get_executor().pre_actions)


def is_changed_afterwards(node: Any) -> bool:
    """Tell whether AddPostAction has added an action, which may change what a node's own action made."""
    return bool(node.get_executor().post_actions)


_Context = Callable[[list[Any]], AbstractContextManager[None]]
_Work = Callable[[list[Any]], None]


def made_within(node: Any, context: _Context, found_by: Callable[[Any], str], before: _Work) -> None:
    """Have what makes a node run in a context, which is given all that it makes; but not under ``-n``.

    Caches find a file by what ``found_by`` returns of it, too, unless that is empty. ``before`` is called
    with what is made before SCons prepares that: removes it, and makes the directories that it lies in.
    """
    executor = node.get_executor()
    if type(executor) is SCons.Executor.Executor:
        executor.__class__ = _executor_within(context, found_by, before)


@lru_cache(None)
def _executor_within(context: _Context, found_by: Callable[[Any], str], before: _Work) -> type[Any]:
    class Within(SCons.Executor.Executor):  # type: ignore[misc]
        __slots__ = ()

        def prepare(self) -> None:
            """Look whether all sources are there; what is made of them may be in a cache."""
            super().prepare()
            targets = self.get_all_targets()
            is_made_now = self._do_execute and targets[0].get_state() == SCons.Node.executing
            if is_made_now and not only_tells():
                # SCons would make a directory at the place of what was one when the build began.
                self.set_action_list(_without_mkdir(self.action_list))
                before(targets)
            for target in targets:
                is_file = isinstance(target, SCons.Node.FS.File) and not hasattr(target, "cachesig")
                if is_file and cache_dir(target).is_enabled() and (words := found_by(target)):
                    signatures = [target.get_cachedir_bsig(), words]
                    target.cachesig = SCons.Util.hash_collect(signatures)

        def nullify(self) -> None:
            """Have nothing done in this build: SCons has let a directory be made before its turn."""
            super().nullify()
            _nullified.append(self)

        def __call__(self, target: Any, **named: Any) -> Any:
            # SCons calls again what it has let make a directory before its turn, to have nothing done.
            if only_tells() or not self._do_execute:
                return super().__call__(target, **named)
            with context(self.get_all_targets()):
                return super().__call__(target, **named)

    return Within


class OneTargetExecutor(SCons.Executor.Executor):  # type: ignore[misc]
    """The executor of one target: what SCons gathers from many targets in lists is that one's own.

    SCons asks four times for each target even where nothing is to be done.
    """

    def get_all_children(self) -> Any:
        """Return the target's children."""
        return self.batches[0].targets[0].children()

    def get_all_prerequisites(self) -> Any:
        """Return the target's prerequisites."""
        return self.batches[0].targets[0].made_before()

    def prepare(self) -> None:
        """Check that the sources are there, unless there is nothing to make of them."""
        target = self.batches[0].targets[0]
        if target.is_there():
            return
        try:
            super().prepare()
        except SCons.Errors.StopError as error:
            raise SCons.Errors.StopError(target.named(str(error))) from error

    def get_action_targets(self) -> Any:
        """Return the target."""
        return self.batches[0].targets

    def get_contents(self) -> Any:
        """Return what stands for the actions in signatures."""
        if self.pre_actions or self.post_actions:
            return super().get_contents()
        batch = self.batches[0]
        return self.action_list[0].get_contents(batch.targets, batch.sources, self.env)

    def get_action_side_effects(self) -> Any:
        """Return the target's side effects."""
        return self.batches[0].targets[0].side_effects


class NothingToMake(SCons.Executor.Null):  # type: ignore[misc]
    """The executor of a node that nothing makes, but that others may have to be made for.

    When one of them has failed already, SCons calls what the executor names failed. Without a name the
    node stays pending, and a second target that is made of it ends the build with an internal error.
    """

    def get_action_targets(self) -> Any:
        """Return the node."""
        return self.batches[0].targets


class _NewFile(SCons.Node.FS.File):  # type: ignore[misc]
    """A file node while it is made: SCons asks for what no new node has by four exceptions."""

    __slots__ = ()

    def _morph(self) -> None:
        nothing = {"_local": False, "released_target_info": False, "is_explicit": False, "builder": None}
        for name, value in nothing.items():
            setattr(self, name, value)
        super()._morph()

    def diskcheck_match(self) -> None:
        """Raise TypeError for a directory, unless the user lets SCons look for none."""
        if self.name in _folders_in(self.dir.get_abspath()):
            super().diskcheck_match()


@lru_cache(None)
def _folders_in(path: str) -> frozenset[str]:
    """Return the names of the directories in one."""
    try:
        with os.scandir(path) as entries:
            return frozenset(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return frozenset()  # nothing is there yet, or making a target says what is wrong


def file_node(filesystem: Any, name: str) -> Any:
    """Return the node of a file, as ``filesystem.File(name)`` does at twice the cost."""
    place, slash, base = name.rpartition("/")
    if base in ("", ".", "..") or (slash and not place.strip("/")) or base.startswith("#"):
        return filesystem.File(name)
    current = filesystem.getcwd()
    directory = directory_node(current, place) if slash else current
    node = directory.entries.get(base)
    if node is None:
        node = directory.root._lookup_abs(f"{directory.get_labspath()}/{base}", _NewFile)
        node.__class__ = SCons.Node.FS.File
    else:
        node.must_be_same(SCons.Node.FS.File)
    return node


@lru_cache(None)
def directory_node(above: Any, name: str) -> Any:
    """Return the node of a directory that is named from another one."""
    return above.fs.Dir(name, above)


def describe(builder: Any, env: Any, target: Any, sources: list[Any]) -> None:
    """Give a node its builder, as a call of the builder does where the names are nodes already.

    A target that has a builder, or is a side effect, goes through the call, which tells the user
    what is wrong. The call makes half of the cost of reading an SConstruct with many packages.
    """
    if target.has_explicit_builder() or target.side_effect:
        builder(env, [target], sources)
        return
    target.cwd = env.fs.getcwd()
    target.builder = builder
    target.env_set(env)
    target.set_executor(OneTargetExecutor(builder.action, env, [], [target], sources))
    target.add_source(sources)
    target.set_explicit(True)
