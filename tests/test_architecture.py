"""The rooms keep to themselves: who may import whom, and no circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [p for room in ("bench", "methods", "metrics") for p in sorted((ROOT / room).rglob("*.py"))]
INTERFACE = {
    "bench.core.guidance",
    "bench.training.harness",
    "bench.core.registry",
    "bench.training.loop",
}  # what a method sees of the machine


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports when it is imported itself."""
    name, found = module_name(path), set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {m for m in found if m in MODULES and m != name}


def test_methods_see_only_their_interface() -> None:
    for name, path in MODULES.items():
        if name.startswith("methods"):
            seen = {m for m in imports(path) if not m.startswith("methods")}
            assert seen <= INTERFACE | {"bench"}, name


def test_metrics_see_neither_methods_nor_the_machine() -> None:
    for name, path in MODULES.items():
        if name.startswith("metrics"):
            seen = {m for m in imports(path) if not m.startswith("metrics")}
            assert seen <= {"bench", "bench.core.registry"}, name


def test_the_machine_names_no_method_and_no_metric() -> None:
    for name, path in MODULES.items():
        if name.startswith("bench"):
            seen = {m for m in imports(path) if m.split(".")[0] in ("methods", "metrics")}
            assert seen <= {"methods", "methods.base", "metrics", "metrics.base"}, name


def test_imports_go_one_way() -> None:
    # a package's __init__ re-exports its base, which is no circle between rooms
    graph = {name: {m for m in imports(path) if not name.startswith(f"{m}.")} for name, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_nobody_turns_gradients_off_for_everyone(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = [n.func.attr for n in calls if isinstance(n.func, ast.Attribute)]
    assert "set_grad_enabled" not in names
