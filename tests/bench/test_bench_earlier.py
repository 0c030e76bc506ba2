"""An earlier version, out of the repository, that is measured in turn with this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import earlier, processes
from bench.projects import CHECKOUT
from mystikos_tool.errors import UserError

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@pytest.fixture(autouse=True)
def only_the_repositories_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git takes neither the repository that it runs the tests for nor its user's settings."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


def git(repository: Path, *arguments: str) -> str:
    command = ("git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, *paths: str) -> str:
    git(repository, "add", "--force", *paths)
    git(repository, "commit", "-q", "-m", "a version")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose first revision has a package of the tool's name, and whose second has none."""
    repository = tmp_path / "repository"
    (repository / "mystikos_tool").mkdir(parents=True)
    (repository / "mystikos_tool" / "__init__.py").write_text("NUMBER = 1\n")
    git(repository.parent, "init", "-q", str(repository))
    commit(repository, "mystikos_tool")
    git(repository, "rm", "-q", "-r", "mystikos_tool")
    (repository / "README").touch()
    commit(repository, "README")
    return repository


def refused(revision: str, repository: Path) -> str:
    with pytest.raises(UserError) as error, earlier.unpacked(revision, repository):
        pass
    return str(error.value)


@needs_git
def test_the_tool_of_a_revision_is_unpacked_and_goes_again(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD~1")
    with earlier.unpacked("HEAD~1", repository) as version:
        assert version is not None
        assert version.column == commit[:7]
        assert (version.checkout / "mystikos_tool" / "__init__.py").read_text() == "NUMBER = 1\n"
    assert not version.checkout.exists()


@needs_git
@pytest.mark.parametrize("revision", ["nosuch", "--all", "HEAD~9", "HEAD"])
def test_a_revision_that_has_no_tool_is_refused_in_one_line(repository: Path, revision: str) -> None:
    message = refused(revision, repository)
    assert message.startswith(f"--against {revision}: is no revision of the tool in {repository} (fatal: ")
    assert message.endswith("; name one of `git log`; `git fetch --unshallow` brings older ones")
    assert "\n" not in message


def test_without_its_repository_there_is_no_earlier_version(tmp_path: Path) -> None:
    assert refused("HEAD", tmp_path) == (
        f"--against HEAD: {tmp_path} is not a clone of the repository, which earlier versions are in; "
        "clone it and run the benchmark there"
    )


def test_without_git_there_is_no_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("HEAD", tmp_path) == (
        "--against HEAD: git, which has earlier versions, is not installed; install git"
    )


def test_python_has_to_take_the_earlier_version_for_the_tool(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(processes.FailedError, match="mystikos_tool"):
        earlier.Version("0123456", tmp_path / "empty").check()


@needs_git
def test_the_command_line_ends_with_the_line_that_says_why() -> None:
    command = [sys.executable, "-m", "bench", "--against", "no such revision"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: --against no such revision: ")
    assert done.stderr.count("\n") == 1


@needs_git
def test_the_earlier_versions_own_tool_is_measured_in_turn_with_this_one(tmp_path: Path) -> None:
    """As in a checkout: the benchmark is started in it, so that Python finds its tool there as well."""
    checkout, used = tmp_path / "checkout", tmp_path / "used"
    for name in ("bench", "mystikos_tool"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "-q", str(checkout))
    main = checkout / "mystikos_tool" / "__main__.py"
    text = main.read_text()
    main.write_text(f"open({str(used)!r}, 'a').write('.')\n{text}")
    column = commit(checkout, "mystikos_tool")[:7]
    main.write_text(text)
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "bench",
                "--quick",
                "--against",
                "HEAD",
                "--output",
                tmp_path / "results",
            ),
            *("--only", "hello from the command line", "--only", "1 app from nothing"),
        ],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "results" / "results.json").read_text())["figures"]
    values = {(figure["row"], figure["column"]): figure["values"] for figure in figures}
    assert len(values["hello from the command line", "mystikos"]) == 3
    assert len(values["hello from the command line", column]) == len(used.read_text()) == 3
    one, two = (values[f"1 app from nothing, -j{jobs}", "mystikos"] for jobs in (1, 2))
    assert values["1 app from nothing, -j2, of -j1", "mystikos"] == [two[0] / one[0]]
