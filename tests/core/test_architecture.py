"""The layers of docs/design.md, held by reading every import, in functions and for types too, and of C."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import mystikos_tool

PACKAGE = Path(mystikos_tool.__file__).parent
ROOT = PACKAGE.name

# From the lowest to the highest; the two last stand beside each other.
LAYERS = (
    "printable",
    "errors",
    "io",
    "formats",
    "config",
    "runtime",
    "root",
    "cache",
    "enclave",
    "signing",
    "packaging",
    "pipeline",
    "proof",
    "explain",
    "library",
    "",
    "cli",
    "scons",
)
BESIDE = {("cli", "scons"), ("scons", "cli")}


def modules() -> dict[str, Path]:
    """Every module of the package by its name without the package's, its own being empty."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    names.pop("__main__")
    return names


MODULES = modules()


@cache
def imported(path: Path) -> tuple[tuple[str, int], ...]:
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports and the line; a cycle of types is one, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix(ROOT + ".") in MODULES
                yield (whole if is_module else str(node.module)), node.lineno


def own(name: str) -> str | None:
    """The name without the package's, None for what is another's."""
    if name == ROOT:
        return ""
    return name.removeprefix(ROOT + ".") if name.startswith(ROOT + ".") else None


def layer(module: str) -> str:
    return module.partition(".")[0]


def test_every_subpackage_has_its_layer() -> None:
    assert {layer(module) for module in MODULES} == set(LAYERS)


def test_nothing_imports_upwards() -> None:
    assert not [
        f"{path}:{line} imports {name}"
        for module, path in MODULES.items()
        for name, line in imported(path)
        if (target := own(name)) is not None
        and (
            LAYERS.index(layer(target)) > LAYERS.index(layer(module))
            or (layer(module), layer(target)) in BESIDE
        )
    ]


def test_no_import_leads_back_to_where_it_came_from() -> None:
    graph = {
        module: {
            target for name, _ in imported(path) if (target := own(name)) is not None and target != module
        }
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of the cycle


def imports(of_scons: bool) -> list[tuple[str, str]]:
    """What the modules of the SCons layer import, or those of all others: both their names."""
    return [
        (module, name)
        for module, path in MODULES.items()
        if (layer(module) == "scons") == of_scons
        for name, _ in imported(path)
    ]


def test_the_core_knows_nothing_of_scons() -> None:
    assert not [each for each in imports(of_scons=False) if each[1].partition(".")[0] == "SCons"]


def test_the_scons_layer_knows_no_format() -> None:
    assert not [each for each in imports(of_scons=True) if (own(each[1]) or "").startswith("formats")]


def test_no_two_test_files_have_one_name() -> None:
    """Otherwise pytest collects only one of them."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert not [name for name in set(names) if names.count(name) > 1]


def test_no_part_of_the_runtime_includes_what_includes_it() -> None:
    graph: dict[Path, set[Path]] = {}
    for path in (PACKAGE / "runtime").rglob("*.[ch]"):
        included = re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)
        parts = {(path.parent / name).resolve().with_suffix("") for name in included}
        graph.setdefault(path.with_suffix(""), set()).update(parts - {path.with_suffix("")})
    assert len(graph) > 50
    TopologicalSorter(graph).prepare()  # raises CycleError with the parts of the cycle
