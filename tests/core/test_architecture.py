"""The layers of docs/design.md, held by reading every import, those inside of functions too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mystikos_tool

PACKAGE = Path(mystikos_tool.__file__).parent
ROOT = PACKAGE.name

# From the lowest to the highest; the two last stand beside each other.
LAYERS = (
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
    """Every module that a file imports, but for annotations only, and the line."""
    tree = ast.parse(path.read_text())
    for_annotations = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_annotations:
            continue
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


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_upwards(module: str) -> None:
    height = LAYERS.index(layer(module))
    for name, line in imported(MODULES[module]):
        target = own(name)
        if target is None:
            continue
        assert LAYERS.index(layer(target)) <= height, f"{MODULES[module]}:{line} imports {name}"
        assert (layer(module), layer(target)) not in BESIDE, f"{MODULES[module]}:{line} imports {name}"


def test_no_import_leads_back_to_where_it_came_from() -> None:
    graph = {
        module: {
            target for name, _ in imported(path) if (target := own(name)) is not None and target != module
        }
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of the cycle


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) != "scons"])
def test_the_core_knows_nothing_of_scons(module: str) -> None:
    assert not [name for name, _ in imported(MODULES[module]) if name.partition(".")[0] == "SCons"]


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) == "scons"])
def test_the_scons_layer_knows_no_format(module: str) -> None:
    assert not [name for name, _ in imported(MODULES[module]) if (own(name) or "").startswith("formats")]


def test_no_two_test_files_have_one_name() -> None:
    """Otherwise pytest collects only one of them."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert not [name for name in set(names) if names.count(name) > 1]
