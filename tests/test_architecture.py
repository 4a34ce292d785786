"""Packages import only packages below them, and modules stay small."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [p for top in ("bench", "methods", "metrics") for p in sorted((ROOT / top).rglob("*.py"))]
FOLDERS = sorted({path.parent for path in FILES if path.is_relative_to(ROOT / "bench")} - {ROOT / "bench"})

# The order of the packages, lowest first. A package may import those on lower floors, and none on its own floor.
FLOORS = (
    {"bench.core"},
    {"bench.backbones", "metrics"},
    {"bench.training", "bench.worlds"},
    {"bench.suites", "methods"},
    {"bench.plan", "bench.board"},
    {"bench.cells"},
    {"bench.engines"},
    {"bench.report"},
    {"bench.commands"},
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
METHODS_SEE = {
    "bench.core.digest",
    "bench.core.guidance",
    "bench.core.overrides",
    "bench.core.registry",
    "bench.training.forget_set",
    "bench.training.harness",
    "bench.training.method",
}
METRICS_SEE = {"bench.core.registry", "bench.core.score"}
MOST_MODULES = 14  # in one package of bench
MOST_LINES = 350  # in one module


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node`, functions included, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from executed(other)
        else:
            yield child
            yield from executed(child)


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, at once or when one of its functions is called."""
    name, found = module_name(path), set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            named = {f"{base}.{alias.name}" for alias in node.names}
            # `from package import module` says nothing of the package itself
            found |= named if named <= MODULES.keys() else {base, *named}
    return {m for m in found if m in MODULES and m != name}


GRAPH = {name: imports(path) for name, path in MODULES.items()}


def package_of(module: str) -> str:
    """The package of `FLOORS` that a module belongs to."""
    return ".".join(module.split(".")[: 2 if module.startswith("bench.") else 1])


def test_every_package_has_its_place_in_the_order() -> None:
    assert {package_of(name) for name in MODULES} - {"bench"} == set(FLOOR)


def test_packages_import_only_packages_below_them() -> None:
    against = {
        (name, seen)
        for name, imported in GRAPH.items()
        for seen in imported
        if package_of(name) != package_of(seen) and FLOOR[package_of(seen)] >= FLOOR[package_of(name)]
    }
    assert not against


def test_no_module_imports_itself_by_way_of_others() -> None:
    # a package's __init__ re-exports its base, which is no cycle
    graph = {name: {m for m in imported if not name.startswith(f"{m}.")} for name, imported in GRAPH.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)  # raises CycleError


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_packages_are_small_and_say_what_they_are_for(folder: Path) -> None:
    modules = {path.name for path in folder.glob("*.py")}
    assert len(modules - {"__init__.py"}) <= MOST_MODULES
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_methods_import_only_their_interface() -> None:
    seen = {m for name in GRAPH if package_of(name) == "methods" for m in GRAPH[name] if package_of(m) != "methods"}
    assert seen <= METHODS_SEE


def test_metrics_import_only_the_registry_and_scores() -> None:
    seen = {m for name in GRAPH if package_of(name) == "metrics" for m in GRAPH[name] if package_of(m) != "metrics"}
    assert seen <= METRICS_SEE


def test_bench_names_no_method_and_no_metric() -> None:
    seen = {m for name in GRAPH if name.startswith("bench") for m in GRAPH[name] if not m.startswith("bench")}
    assert seen <= {"methods", "methods.base", "metrics", "metrics.base"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_module_turns_gradients_off_for_all_others(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = [n.func.attr for n in calls if isinstance(n.func, ast.Attribute)]
    assert "set_grad_enabled" not in names
