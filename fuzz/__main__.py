"""Fuzz the parsers of the runtime that read a package before anything of it is trusted.

python -m fuzz [--seconds N] [--seed N] [--jobs N] [--coverage] [--required] [TARGET...]

At the end the two readers of configurations are held together (fuzz.differential), unless targets are named.

Needs clang with libFuzzer and its sanitizers; without them nothing is run, and that is said; with
--required it is a failure. --coverage prints how much of each C file the inputs run, and fails where it is
less than fuzz.targets.LEAST_COVERAGE of one of the READERS there. Inputs
that reach new code are kept in build/fuzz, where the next run goes on from them. With --seed a clean
checkout tries the same inputs in the same order, so that a gate fails for a change and not by chance.
Ends with status 1 when a target was made to fail, after naming the input and how to give it to the
target again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import differential
from fuzz.targets import BUILD, COMPILER, CORPUS, HERE, LEAST_COVERAGE, READERS, RUNTIME, TARGETS, Target

SANITIZERS = ("-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
NEEDS = (
    "needs clang with libFuzzer (Debian and Ubuntu: apt-get install clang libclang-rt-dev; or set FUZZ_CC)"
)
_LLVM_PROFDATA, _LLVM_COV = "llvm-profdata", "llvm-cov"
_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)
_COVERAGE = re.compile(r"\bcov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """A run: its executions, the edges that it covered, and the end of the log where it failed."""

    target: Target
    executions: int
    coverage: int
    finding: str


def main() -> int:
    """Compile the targets, run each for its seconds, print a line for each."""
    parser = _parser()
    arguments = parser.parse_args()
    unknown = set(arguments.target) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"there is no target {min(unknown)}")
    chosen = [target for target in TARGETS if not arguments.target or target.name in arguments.target]
    if not _has_fuzzer():
        sys.stdout.write(f"fuzz: skipped: {NEEDS}\n")
        return int(arguments.required)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(lambda target: _fuzz(target, arguments.seconds, arguments.seed), chosen))
    for outcome in outcomes:
        sys.stdout.write(
            f"fuzz: {outcome.target.name}: {arguments.seconds} s, {outcome.executions} executions, "
            f"{outcome.coverage} edges: {'FAILED' if outcome.finding else 'nothing found'}\n{outcome.finding}"
        )
    total = sum(outcome.executions for outcome in outcomes)
    sys.stdout.write(f"fuzz: {total} executions in {arguments.seconds * len(chosen)} s in all\n")
    poor = _print_coverage(chosen) if arguments.coverage else []
    if poor and not arguments.target:
        sys.stdout.write(f"fuzz: FAILED: less than {LEAST_COVERAGE:g} % are run of {', '.join(poor)}\n")
        return 1
    differ = not arguments.target and differential.run(arguments.seconds, arguments.seed)
    return int(differ or any(outcome.finding for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each target; 20 when not given")
    parser.add_argument(
        "--seed", type=int, help="of the random choices; another one in each run when not given"
    )
    parser.add_argument("--coverage", action="store_true", help="print the lines of each file that are run")
    parser.add_argument("--required", action="store_true", help="fail where the fuzzer is missing")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="targets at once")
    parser.add_argument(
        "target",
        nargs="*",
        metavar="TARGET",
        help="all when none is named: " + " ".join(target.name for target in TARGETS),
    )
    return parser


def _has_fuzzer() -> bool:
    if not shutil.which(COMPILER[0]):
        return False
    program = b"#include <stdint.h>\n#include <stddef.h>\n" + (
        b"int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return data && size > 1u << 30; }\n"
    )
    command = [*COMPILER, *SANITIZERS, "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=program, capture_output=True, check=False).returncode == 0


def _compile(target: Target) -> Path:
    program = BUILD / target.name / "fuzzer"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*COMPILER, *SANITIZERS, *target.arguments, "-o", str(program)], check=True)
    return program


def _fuzz(target: Target, seconds: int, seed: int | None) -> Outcome:
    program = _compile(target)
    grown = program.with_name("corpus")
    grown.mkdir(exist_ok=True)
    command = [
        *("nice", "-n", "19"),
        str(program),
        f"-max_total_time={seconds}",
        f"-max_len={target.max_size}",
        f"-artifact_prefix={program.parent}/",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        *([] if seed is None else [f"-seed={seed}"]),
        *([f"-dict={HERE / target.dictionary}"] if target.dictionary else []),
        *(str(directory) for directory in (grown, CORPUS / target.name)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    log = done.stderr
    program.with_name("log").write_text(log)
    statistics = dict(_STATISTIC.findall(log))
    coverage = [int(number) for number in _COVERAGE.findall(log)]
    finding = ""
    if done.returncode != 0:
        finding = f"{log[-4000:]}\nTo see it again: {program} INPUT, with the INPUT that is named above.\n"
    executions = int(statistics.get("number_of_executed_units", 0))
    return Outcome(target, executions, coverage[-1] if coverage else 0, finding)


def _print_coverage(targets: list[Target]) -> list[str]:
    """Run every input of every target once, without a fuzzer, and print the lines that are run.

    Return the readers of which it is not enough.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        programs = list(pool.map(_covered, targets))
    profiles = [str(program.with_name("profile")) for program in programs]
    merged = BUILD / "profile"
    subprocess.run([_LLVM_PROFDATA, "merge", "-sparse", *profiles, "-o", str(merged)], check=True)
    objects = [argument for program in programs[1:] for argument in ("-object", str(program))]
    command = [_LLVM_COV, "export", "-summary-only", f"-instr-profile={merged}", str(programs[0]), *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    files = {Path(file["filename"]): file["summary"]["lines"] for file in _files(done.stdout)}
    for path in sorted(RUNTIME.glob("*/*.c")):
        lines, name = files.get(path), path.relative_to(RUNTIME)
        told = f"{lines['percent']:.1f} % of {lines['count']} lines" if lines else "0.0 %, in no target"
        sys.stdout.write(f"fuzz: {name}: {told}\n")
    percents = {path: float(lines["percent"]) for path, lines in files.items()}
    return [reader for reader in READERS if percents.get(RUNTIME / reader, 0.0) < LEAST_COVERAGE]


def _files(exported: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads(exported)["data"][0]["files"]
    return files


def _covered(target: Target) -> Path:
    program = BUILD / target.name / "covered"
    program.parent.mkdir(parents=True, exist_ok=True)
    options = ("-fprofile-instr-generate", "-fcoverage-mapping", str(HERE / "replay.c"))
    subprocess.run([*COMPILER, *options, *target.arguments, "-o", str(program)], check=True)
    grown = program.with_name("corpus")
    inputs = [*target.corpus, *(sorted(grown.iterdir()) if grown.is_dir() else [])]
    environment = {**os.environ, "LLVM_PROFILE_FILE": str(program.with_name("profile"))}
    subprocess.run([program, *inputs], env=environment, stderr=subprocess.DEVNULL, check=False)
    return program


if __name__ == "__main__":
    sys.exit(main())
