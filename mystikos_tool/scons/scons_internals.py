"""The names of SCons that its documentation does not promise, each with the reason why it is needed.

Nothing else in this package uses a name of SCons that begins with an underscore, or reads what SCons
keeps for itself. The tests run with the oldest and the newest SCons that the project claims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import SCons.Action
import SCons.CacheDir
import SCons.Errors
import SCons.Executor
import SCons.Node
import SCons.Node.FS
import SCons.Node.Python
import SCons.SConsign
import SCons.Script.Main

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


def only_tells() -> bool:
    """Tell whether SCons only says what it would do, as under ``-n``."""
    return not SCons.Action.execute_actions


def was_only_told_of(node: Any) -> bool:
    """Tell whether SCons said that it would make a node: to what depends on it, it is another one."""
    return only_tells() and bool(node.get_state() == SCons.Node.executed)


def prints_actions() -> bool:
    """Tell whether SCons prints what it does, as it does not under ``-s``."""
    return bool(SCons.Action.print_actions)


def fills_cache() -> bool:
    """Tell whether SCons puts what is up to date into its cache too, with ``--cache-force``."""
    return bool(SCons.CacheDir.cache_force)


def add_failure(failure: SCons.Errors.BuildError) -> None:
    """Let ``GetBuildFailures`` return a failure that does not end the build.

    It returns SCons' own list, to which SCons adds only what ends the build, or a part of it.
    """
    SCons.Script.GetBuildFailures().append(failure)


def after_reading(work: Callable[[], None]) -> None:
    """Have something done when all SConscripts are read, before SCons prints its help.

    SCons then reads the command line again, for the options that they added, and lets nobody else know
    of that moment. An SConscript may have it read too, by ValidateOptions.
    """
    parser = SCons.Script.Main.OptionsParser
    parse = parser.parse_args

    def parse_args(*arguments: Any, **named: Any) -> Any:
        parsed = parse(*arguments, **named)
        if not SCons.Script.sconscript_reading:
            parser.parse_args = parse
            work()
        return parsed

    parser.parse_args = parse_args


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


class OneTargetExecutor(SCons.Executor.Executor):  # type: ignore[misc]
    """The executor of one target: what SCons gathers from many targets in lists is that one's own.

    SCons asks four times for each target even where nothing is to be done.
    """

    def get_all_children(self) -> Any:
        """Return the target's children."""
        return self.batches[0].targets[0].children()

    def get_all_prerequisites(self) -> Any:
        """Return the target's prerequisites."""
        return self.batches[0].targets[0].prerequisites or []

    def prepare(self) -> None:
        """Check that the sources are there, unless there is nothing to make of them."""
        if self.batches[0].targets[0].get_state() != SCons.Node.up_to_date:
            super().prepare()

    def get_action_targets(self) -> Any:
        """Return the target."""
        return self.batches[0].targets

    def get_action_side_effects(self) -> Any:
        """Return the target's side effects."""
        return self.batches[0].targets[0].side_effects


def describe(builder: Any, env: Any, target: Any, sources: list[Any]) -> None:
    """Give a node its builder, as a call of the builder does where the names are nodes already.

    A target that has a builder, or is a side effect, goes through the call, which tells the user
    what is wrong. The call makes half of the cost of reading an SConstruct with many packages.
    """
    if target.has_explicit_builder() or target.side_effect:
        builder(env, [target], sources)
        return
    target.cwd = env.fs.getcwd()
    target.builder_set(builder)
    target.env_set(env)
    target.add_source(sources)
    target.set_executor(OneTargetExecutor(builder.action, env, [], [target], sources))
    target.set_explicit(True)
