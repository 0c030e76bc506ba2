"""Packages run as tests: with arguments, environment and input, an expected status and output.

A test that passed runs again only when its package or its expectation changes. A test that
failed leaves no target, so that it runs in every build until it passes. The alias ``check`` runs
all tests, ``DIRECTORY/check`` those of a directory.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import SCons.Action
import SCons.Builder
import SCons.Errors
import SCons.Node
import SCons.Node.FS
import SCons.Subst
from SCons.Node import NodeList

from mystikos_tool.errors import UserError
from mystikos_tool.io import console
from mystikos_tool.scons import scons_internals
from mystikos_tool.scons.expectations import Expectation, Outcome
from mystikos_tool.scons.input_node import InputNode
from mystikos_tool.scons.running import not_started, process_environment, root_disks, run, started
from mystikos_tool.scons.stages import Test, mark, stage_of
from mystikos_tool.scons.variables import AUTO, REMOTE_EXECUTOR, TEST_PLATFORM, platform

ALIAS = "check"
COMSTR = "MYSTTESTCOMSTR"
SUFFIX = ".passed"

JUNIT = "MYST_TEST_JUNIT"

_EXPECTATION = "_MYST_EXPECTATION"
_SHOWN_LINES = 20
_NOTE = re.compile(r"^.*: mystikos: note: .*$", re.MULTILINE)


_outcomes: dict[Any, Outcome] = {}
_aliases: dict[str, Any] = {}


def described(env: Any, name: str, package: Any, expectation: Expectation) -> Any:
    """Describe a test; return its node: a file that is written when the test passes."""
    test = Test(expectation=expectation)
    known = env.fs.File(name + SUFFIX)
    earlier = stage_of(known)
    if known.sources == [package] and isinstance(earlier, Test) and earlier.expectation == expectation:
        return NodeList([known])  # the same call once more
    signature = _signature(env, expectation)
    caller, env = env, env.Override({_EXPECTATION: signature.replace("$", "$$")})
    nodes = _TEST(env, name + SUFFIX, [package])
    mark(nodes[0], test)
    if not _aliases:
        scons_internals.before_each_build(_outcomes.clear)
    env.NoCache(nodes)
    env.Depends(nodes, root_disks(package))
    report = _report(caller, nodes[0])
    # Whoever builds all that is in the directory runs no test; whoever cleans the package cleans its tests.
    env.Ignore(nodes[0].dir, nodes)
    env.Clean(package.read_node() if isinstance(package, InputNode) else package, [*nodes, *report])
    if report:
        env.Clean(nodes, report)
    for alias in _alias_names(nodes[0].dir):
        _add(env, alias, nodes[0])
    return nodes


def _signature(env: Any, expectation: Expectation) -> str:
    """Return what stands in signatures for how a test runs: what it needs of a farm, not which farm."""
    signature = expectation.signature() + (env["MYST_START"] if env["MYST_START"] != AUTO else "")
    needed = platform(env[TEST_PLATFORM])
    return signature + (json.dumps(needed, sort_keys=True) if needed else "")


@lru_cache(None)
def _alias_names(directory: Any) -> list[str]:
    """Return the aliases that run a test in a directory: for all tests, for it and for each above.

    In a variant directory these are also the source directories.
    """
    top = directory.fs.Top
    paths = dict.fromkeys(str(each.get_path(top)) for each in (directory, directory.srcnode()))
    below = [path.split("/") for path in paths if path != "." and not path.startswith(("/", ".."))]
    inner = ["/".join([*parts[: count + 1], ALIAS]) for parts in below for count in range(len(parts))]
    return list(dict.fromkeys([ALIAS, *inner]))


def _add(env: Any, name: str, node: Any) -> None:
    if name in _aliases:
        _aliases[name].add_source([node])
        return
    (_aliases[name],) = env.Alias(name, [node], _SUMMARY)
    env.AlwaysBuild(_aliases[name])


def _report(env: Any, node: Any) -> list[Any]:
    """Return the node of the report that a test goes into, if one is asked for."""
    if not env[JUNIT]:
        return []
    from mystikos_tool.scons import junit  # not needed by most builds

    report = env.File(env[JUNIT])
    junit.add(report, node, _outcomes)
    return [report]


def _run(target: list[Any], source: list[Any], env: Any) -> Any:
    node = target[0]
    name = str(node).removesuffix(SUFFIX)
    stage = stage_of(node)
    assert isinstance(stage, Test)  # noqa: S101
    started = time.monotonic()
    wrong = _differences(source[0], stage.expectation, env)
    _outcomes[node] = Outcome(time.monotonic() - started, tuple(wrong))
    if not wrong:
        Path(str(node)).write_text("passed\n")
        return None
    sys.stderr.write("".join(f"{name}: {line}\n" for line in wrong))
    failure = SCons.Errors.BuildError(node, f"the test {name} failed", status=1, exitstatus=2)
    if any(alias.get_state() == SCons.Node.pending and node in alias.sources for alias in _aliases.values()):
        # The other tests run too; the summary fails the build.
        scons_internals.add_failure(failure)
        return None
    return failure


def _shown(target: list[Any], source: list[Any], env: Any) -> str:
    if env.get(COMSTR) is not None:
        shown = str(env.subst(env[COMSTR], SCons.Subst.SUBST_RAW, target, source))
    else:
        shown = f"test {str(target[0]).removesuffix(SUFFIX)}"
        if env[REMOTE_EXECUTOR]:
            from mystikos_tool.scons import farm

            shown += f" on {farm.place(env)}"
    return console.shown(shown, sys.stdout)


_TEST = SCons.Builder.Builder(
    action=SCons.Action.Action(_run, _shown, varlist=[_EXPECTATION]),
    target_factory=SCons.Node.FS.File,
    source_factory=SCons.Node.FS.File,
)


def _differences(package: Any, expectation: Expectation, env: Any) -> list[str]:
    """Run a package, here or on a farm; return what is not as expected, a line each."""
    try:
        if env[REMOTE_EXECUTOR]:
            from mystikos_tool.scons import farm  # not needed where tests run here

            return farm.run(env, package, expectation, _compared)
        environment = process_environment(env, package) | dict(expectation.environment or {})
        with started(env, package, expectation.args) as command:
            done = run(
                command,
                env=environment,
                input=expectation.stdin.encode(errors="surrogateescape"),
                capture_output=True,
                timeout=expectation.timeout,
            )
    except (UserError, OSError) as error:
        return [str(not_started(package, error))]
    except subprocess.TimeoutExpired:
        return [f"did not end within {expectation.timeout:g} s"]
    return _compared(expectation, done.returncode, done.stdout, done.stderr)


def _compared(expectation: Expectation, status: int, *outputs: bytes) -> list[str]:
    """Return what of a status, stdout and stderr is not as expected, a line each."""
    wrong = []
    if status != expectation.status:
        wrong.append(f"ended with status {status}, not {expectation.status}")
    stdout, stderr = (output.decode(errors="backslashreplace") for output in outputs)
    wrong += _output_differences("stdout", stdout, expectation.stdout, expectation.stdout_pattern)
    if expectation.strict:
        wrong += [f"strict: {note}" for note in _NOTE.findall(stderr)]
    wrong += _output_differences("stderr", stderr, expectation.stderr, expectation.stderr_pattern)
    if wrong and expectation.stderr is None and expectation.stderr_pattern is None:
        wrong += [f"stderr: {line}" for line in stderr.splitlines()[:_SHOWN_LINES]]
    return wrong


def _output_differences(name: str, output: str, expected: str | None, pattern: str | None) -> Sequence[str]:
    if expected is not None and output != expected:
        lines = difflib.unified_diff(
            expected.splitlines(), output.splitlines(), "expected", name, lineterm=""
        )
        return list(lines)[: 2 * _SHOWN_LINES] or [f"{name} differs in line ends only"]
    if pattern is not None and not re.search(pattern, output, re.MULTILINE):
        return [f"{name} has nothing like {pattern!r}:", *output.splitlines()[:_SHOWN_LINES]]
    return []


def _summarise(target: list[Any], source: list[Any], env: Any) -> Any:
    tests = [node for node in target[0].sources if isinstance(stage_of(node), Test)]
    names = [str(node).removesuffix(SUFFIX) for node in tests if node in _outcomes and _outcomes[node].wrong]
    failed, unchanged = len(names), sum(node not in _outcomes for node in tests)
    line = f"{target[0]}: {len(tests) - failed} passed ({unchanged} of them unchanged), {failed} failed"
    console.write_line(line + "".join(f"\n  failed: {name}" for name in names), sys.stdout)
    return SCons.Errors.BuildError(target, f"{failed} failed", status=1, exitstatus=2) if failed else None


# Made once: SCons takes the code of the function apart.
_SUMMARY = SCons.Action.Action(_summarise, None)
