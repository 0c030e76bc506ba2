"""Completion and the manual page, from the one table of verbs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli_support import Run

from mystikos_tool.cli import NAMES, VERBS
from mystikos_tool.cli.shell import SHELLS


def options_of(verb: str) -> set[str]:
    """What the verb's own help says it takes."""
    words = VERBS[verb].parser().format_help().replace(",", " ").replace("[", " ").split()
    return {word for word in words if word.startswith("--") and word[2:].replace("-", "").isalpha()}


def completed(script: str, *words: str) -> set[str]:
    """What bash offers for the last one of these words."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _mystikos_tool\n"
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_completes_verbs_options_values_and_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = run("completion", "bash").out
    (tmp_path / "hello").touch()
    monkeypatch.chdir(tmp_path)
    assert completed(script, "mystikos-tool", "") == {*NAMES, "--help", "--version"}
    assert completed(script, "mystikos-tool", "pack") == {"package-sgx", "package"}
    assert completed(script, "mystikos-tool", "sign", "--out") == {"--outdir"}
    assert completed(script, "mystikos-tool", "mkcpio", "--modes", "") == {"canonical", "preserve"}
    assert completed(script, "mystikos-tool", "completion", "bash", "--modes", "h") == {"hello"}
    assert completed(script, "mystikos-tool", "verify", "hel") == {"hello"}


@pytest.mark.parametrize("verb", VERBS)
def test_bash_completes_every_option_of_a_verb(run: Run, verb: str) -> None:
    offered = completed(run("completion", "bash").out, "mystikos-tool", verb, "--")
    assert offered
    assert offered <= options_of(verb)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_the_shell_reads(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.status == 0
    assert all(name in result.out for name in NAMES)
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([shell, "-n"], input=result.out, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manual_page_has_every_verb_and_option(run: Run) -> None:
    page = run("man").out
    assert page.startswith(".TH MYSTIKOS\\-TOOL 1 ")
    plain = page.replace("\\-", "-")
    for verb in VERBS.values():
        assert f"\n.SH {', '.join((verb.name, *verb.aliases))}\n" in plain
        part = plain.split(f"\n.SH {verb.name}", 1)[1].split("\n.SH ")[0]
        assert "\\fB--help\\fR" in part
        assert f"mystikos-tool {verb.name} {verb.example}" in part.replace("\\(dq", '"')
