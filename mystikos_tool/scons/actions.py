"""What the builders do: each action runs one stage of the core and prints one line of what it made."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import SCons.Action
import SCons.Errors
import SCons.Node.FS
import SCons.Subst

from mystikos_tool.errors import UserError
from mystikos_tool.scons.nodes import DigestedFile

# Part of every stage's signature: raised when the same inputs come to give other bytes.
REVISION = 1


class StageAction(SCons.Action._ActionAction):  # type: ignore[misc]
    """An action that runs the function of :mod:`work` called ``stage`` and prints the line that it returns.

    Its signature is its name and the variables in ``varlist``, not the code, as that of SCons'
    FunctionAction: the same stage is the same stage under every version of Python.
    """

    def __init__(self, stage: str, comstr: str, varlist: tuple[str, ...] = ()) -> None:
        super().__init__(varlist=varlist)
        self.name = stage.replace("_", " ")
        self.stage = stage
        self.comstr = comstr

    def __str__(self) -> str:
        return f"{self.stage}(target, source, env)"

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> str:
        """Return what stands for the action in signatures."""
        return f"mystikos {self.name} {REVISION}"

    def get_implicit_deps(self, target: Any, source: Any, env: Any, executor: Any = None) -> list[Any]:
        """Return nothing: whatever a stage needs is a source."""
        return []

    def strfunction(self, target: Any, source: Any, env: Any, executor: Any = None) -> str | None:
        """Return the line to print before: the user's, or what would be done under ``-n``."""
        comstr = env.get(self.comstr)
        if comstr is not None:
            return str(env.subst(comstr, SCons.Subst.SUBST_RAW, target, source))
        if SCons.Action.execute_actions:
            return None
        return " ".join([self.name, *map(str, source[:1]), "→", *map(str, target)])

    def execute(self, target: Any, source: Any, env: Any, executor: Any = None) -> Any:
        """Run the stage; the user's mistakes become SCons' build errors, bugs keep their traceback."""
        if executor:
            target, source = executor.get_all_targets(), executor.get_all_sources()
        try:
            from mystikos_tool.scons import work

            line = getattr(work, self.stage)(target, source, env)
            for node in target:
                _remember(node)
        except UserError as error:
            return self._failed(target, str(error))
        except Exception as error:  # a bug: SCons would drop the traceback
            traceback.print_exc()
            return self._failed(target, f"{type(error).__name__}: {error}")
        if env.get(self.comstr) is None and SCons.Action.print_actions:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        return None

    def _failed(self, target: Any, message: str) -> Any:
        top = SCons.Node.FS.get_default_fs().Top.get_abspath()
        message = message.replace(top + os.sep, "")  # as SCons shows paths
        return SCons.Errors.BuildError(node=target, errstr=message, status=2, exitstatus=2, action=self)


def _remember(node: Any) -> None:
    """Read a new file's digest here, where other stages can run meanwhile, not when SCons asks for it."""
    if isinstance(node, DigestedFile) and not hasattr(node.attributes, "myst_made_of"):
        node.clear_memoized_values()
        node.get_content_hash()
