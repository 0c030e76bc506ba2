"""What the builders do: each action runs one stage of the core and prints one line of what it made."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import SCons.Builder
import SCons.Errors
import SCons.Node.FS
import SCons.Subst

from mystikos_tool.errors import UserError, failed_disk, not_installed, too_many_files
from mystikos_tool.io import console
from mystikos_tool.scons import blame, leftovers, scons_internals
from mystikos_tool.scons.stages import call_of, stage_of

# Part of every stage's signature: raised when the same inputs come to give other bytes.
REVISION = 1

# What each stage does, as it is said under ``-n``. The stage's name is that of its builder, of the
# function in work.py and of the variable that replaces its line.
_VERBS = {
    "rootfs": "pack",
    "disk": "make disk",
    "publickey": "write public key",
    "measure": "measure",
    "sign": "sign",
    "digest": "state",
    "attach": "attach",
    "package": "package",
    "identity": "identify",
    "check": "check",
    "report": "show",
    "policy": "write policy of",
    "sbom": "list what is in",
    "provenance": "state what made",
    "key": "make key",
    "runtime": "compile",
}


class StageAction(scons_internals.ActionBase):  # type: ignore[misc]
    """An action that runs the function of :mod:`work` called ``stage`` and prints the line that it returns.

    Its signature is its name and the detail of the target's stage, not the code, as that of SCons'
    FunctionAction: the same stage is the same stage under every version of Python.
    """

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self.comstr = f"MYST{stage.upper()}COMSTR"

    def __str__(self) -> str:
        return f"{self.stage}(target, source, env)"

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> str:
        """Return what stands for the action in signatures."""
        stage = stage_of(target[0])
        return f"mystikos {self.stage} {REVISION} {stage.signature_detail() if stage else ''}"

    def get_contents(self, target: Any, source: Any, env: Any) -> bytes:
        """Return what stands for the action and its variables in signatures; it has no variables."""
        return self.get_presig(target, source, env).encode()

    def get_implicit_deps(self, target: Any, source: Any, env: Any, executor: Any = None) -> list[Any]:
        """Return nothing: whatever a stage needs is a source."""
        return []

    def strfunction(self, target: Any, source: Any, env: Any, executor: Any = None) -> str | None:
        """Return the line to print before: the user's, or what would be done under ``-n``."""
        comstr = env.get(self.comstr)
        if comstr is not None:
            return console.shown(str(env.subst(comstr, SCons.Subst.SUBST_RAW, target, source)), sys.stdout)
        if not scons_internals.only_tells():
            return None
        words = [_VERBS[self.stage], *map(str, source[:1]), "→", *map(str, target)]
        return console.shown(" ".join(words), sys.stdout)

    def execute(self, target: Any, source: Any, env: Any, executor: Any = None) -> Any:
        """Run the stage; the user's mistakes become SCons' build errors, bugs keep their traceback."""
        if executor:
            target, source = executor.get_all_targets(), executor.get_all_sources()
        try:
            from mystikos_tool.scons import work

            leftovers.sweep(target[0])
            line = work.STAGES[self.stage](target[0], source, env)
        except UserError as error:
            return self._failed(target, str(too_many_files(error) or error))
        except Exception as error:
            told = too_many_files(error) or not_installed(error) or failed_disk(error)
            if not told:  # a bug: SCons would drop the traceback
                traceback.print_exc()
            return self._failed(target, str(told or f"{type(error).__name__}: {error}"))
        if env.get(self.comstr) is None and scons_internals.prints_actions():
            console.write_line(line, sys.stdout)
        return None

    def _failed(self, target: Any, message: str) -> Any:
        message = blame.named(message, call_of(target[0]))
        return SCons.Errors.BuildError(node=target, errstr=message, status=2, exitstatus=2, action=self)


def stage_builder(stage: str) -> Any:
    """Return the builder whose action runs a stage."""
    return SCons.Builder.Builder(
        action=StageAction(stage),
        target_factory=SCons.Node.FS.File,
        source_factory=SCons.Node.FS.Entry,
    )
