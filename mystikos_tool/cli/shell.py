"""Completion for shells and the manual page, both from the table of verbs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mystikos_tool import __version__
from mystikos_tool.cli.verb import PROGRAM, Verb, put
from mystikos_tool.cli.verbs import VERBS

SHELLS = ("bash", "zsh", "fish")


class _Option(NamedTuple):
    """An option of a verb: its names, what it says of itself, and what it takes."""

    names: tuple[str, ...]
    help: str
    value: str | None
    choices: tuple[str, ...]


def declare_completion(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``completion``."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to read the script")


def run_completion(options: argparse.Namespace) -> None:
    """Print the script that completes command lines in a shell."""
    put(completion(options.shell, VERBS.values()))


def declare_manual(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``man``: none."""


def run_manual(options: argparse.Namespace) -> None:
    """Print the manual page."""
    put(manual(VERBS.values(), __version__))


def completion(shell: str, verbs: Iterable[Verb]) -> str:
    """Return the script that lets a shell, one of `SHELLS`, complete a command line."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](list(verbs))


def manual(verbs: Iterable[Verb], version: str) -> str:
    """Return the manual page in the man macros of troff."""
    lines = [
        f'.TH {_troff(PROGRAM).upper()} 1 "" "{_troff(f"{PROGRAM} {version}")}"',
        *(".SH NAME", f"{_troff(PROGRAM)} \\- package applications for Mystikos enclaves"),
        *(".SH SYNOPSIS", f".B {_troff(PROGRAM)}", ".I verb", "[\\fIoption\\fR ...] [\\fIargument\\fR ...]"),
        *(".SH DESCRIPTION", "Options may stand anywhere behind the verb; only those of run come before its"),
        "program.",
    ]
    for verb in verbs:
        lines += _manual_of(verb)
    lines += [
        *(".SH EXIT STATUS", "0 when the verb did its work, 2 for a mistake in what was given, which a line"),
        "on standard error tells, and 128 and its number for a signal. run has the status of its program.",
    ]
    return "\n".join(lines) + "\n"


def _manual_of(verb: Verb) -> Iterator[str]:
    yield f".SH {_troff(', '.join((verb.name, *verb.aliases)))}"
    yield _troff(verb.summary[0].upper() + verb.summary[1:] + ".")
    for action in _actions(verb):
        if not action.option_strings:
            yield from (".TP", f".I {_troff(_value(action))}", _troff(_help(action)))
    for option in _options(verb):
        names = ", ".join(f"\\fB{_troff(name)}\\fR" for name in option.names)
        value = f" \\fI{_troff(option.value)}\\fR" if option.value else ""
        yield from (".TP", names + value, _troff(option.help))
    yield from (".PP", "Example:", ".PP", ".RS", _troff(f"{PROGRAM} {verb.name} {verb.example}"), ".RE")


def _bash(verbs: Sequence[Verb]) -> str:
    names = " ".join(_names(verbs))
    options, values = [], []
    for verb in verbs:
        pattern = "|".join((verb.name, *verb.aliases))
        known = list(_options(verb))
        options.append(f"    {pattern}) options='{' '.join(n for option in known for n in option.names)}' ;;")
        values += [
            f"    {'|'.join(f'{own}:{name}' for own in (verb.name, *verb.aliases) for name in option.names)})"
            f" values='{' '.join(option.choices)}' ;;"
            for option in known
            if option.choices
        ]
    return "\n".join(
        [
            "_mystikos_tool() {",
            '    local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} options="" values=""',
            '    if [ "$COMP_CWORD" -eq 1 ]; then',
            f"        mapfile -t COMPREPLY < <(compgen -W '{names} --help --version' -- \"$word\")",
            "        return",
            "    fi",
            '    case "$verb" in',
            *options,
            "    esac",
            '    case "$verb:${COMP_WORDS[COMP_CWORD - 1]}" in',
            *values,
            "    esac",
            '    if [ -n "$values" ]; then',
            '        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")',
            "    elif [[ $word == -* ]]; then",
            '        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")',
            "    else",
            '        mapfile -t COMPREPLY < <(compgen -f -- "$word")',
            "    fi",
            "}",
            f"complete -o filenames -F _mystikos_tool {PROGRAM}",
            "",
        ]
    )


def _zsh(verbs: Sequence[Verb]) -> str:
    lines = [f"#compdef {PROGRAM}", "_mystikos_tool() {", "    local -a verbs options", "    verbs=("]
    for verb in verbs:
        lines += [f"        {_quoted(f'{name}:{verb.summary}')}" for name in (verb.name, *verb.aliases)]
    lines += ["    )", "    if (( CURRENT == 2 )); then", "        _describe verb verbs", "        return"]
    lines += ["    fi", '    case "$words[2]" in']
    for verb in verbs:
        shown = [_quoted(f"{name}:{option.help}") for option in _options(verb) for name in option.names]
        lines.append(f"        ({'|'.join((verb.name, *verb.aliases))}) options=({' '.join(shown)}) ;;")
    lines += ["    esac", '    if [[ "$PREFIX" == -* ]]; then', "        _describe option options"]
    lines += ["    else", "        _files", "    fi", "}", f"compdef _mystikos_tool {PROGRAM}", ""]
    return "\n".join(lines)


def _fish(verbs: Sequence[Verb]) -> str:
    lines = []
    for verb in verbs:
        first = f"complete -c {PROGRAM} -n __fish_use_subcommand -f"
        lines += [f"{first} -a {name} -d {_quoted(verb.summary)}" for name in (verb.name, *verb.aliases)]
        seen = _quoted(f"__fish_seen_subcommand_from {' '.join((verb.name, *verb.aliases))}")
        for option in _options(verb):
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
            )
            value = " -r" if option.value else ""
            choices = f" -f -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            lines.append(f"complete -c {PROGRAM} -n {seen} {names}{value}{choices} -d {_quoted(option.help)}")
    return "\n".join([*lines, ""])


def _names(verbs: Iterable[Verb]) -> list[str]:
    return [name for verb in verbs for name in (verb.name, *verb.aliases)]


def _options(verb: Verb) -> Iterator[_Option]:
    for action in _actions(verb):
        if action.option_strings:
            choices = tuple(map(str, action.choices or ()))
            value = None if action.nargs == 0 else _value(action)
            yield _Option(tuple(action.option_strings), _help(action), value, choices)


def _actions(verb: Verb) -> list[argparse.Action]:
    """Return what the verb's help names: argparse has no other way to its declarations."""
    return [action for action in verb.parser()._actions if action.help != argparse.SUPPRESS]


def _value(action: argparse.Action) -> str:
    name = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest)
    return str(name)


def _help(action: argparse.Action) -> str:
    return " ".join((action.help or "").split())


def _quoted(text: str) -> str:
    """Quote for all three shells: none of them takes a quote inside of single quotes alike."""
    return "'" + text.replace("'", "") + "'"


def _troff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
