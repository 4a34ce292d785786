"""Which code had which version: `stages.lock`, and `python tests/stages_lock.py` to write it anew.

For everything that has a declared version the lock holds the version and a digest of the code that computes it: of the
modules that `bench.cells.artifact` lists, and of the modules of this project that these import. Comments, docstrings,
import lines and layout are not part of the digest.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # this checkout's code, where the file is run as a script

from bench.cells.artifact import ARTIFACTS  # noqa: E402
from bench.core import digest  # noqa: E402
from methods import METHODS  # noqa: E402
from metrics import METRICS, OF_CAPTIONS  # noqa: E402

LOCK = ROOT / "stages.lock"
PACKAGES = ("bench", "methods", "metrics")
JUDGING = "bench.worlds."  # modules in it may declare a VERSION, which stands in the digest of the judges

Found = dict[str, Any]


def paths(root: Path = ROOT) -> dict[str, Path]:
    """Module -> its file, of the whole project."""
    found = {}
    for file in (file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, text: str, is_package: bool, known: Iterable[str]) -> set[str]:
    """Modules of the project that a module imports anywhere in it, but for its type checker alone."""
    found, package = set[str](), name if is_package else name.rpartition(".")[0]
    for node in _running(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found & set(known) - {name}


def _running(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running(child)


@cache
def _digest_of(text: str) -> str:
    return digest.of_code(text)[:16]


@cache
def _imported(name: str, text: str, is_package: bool) -> frozenset[str]:
    return frozenset(imported(name, text, is_package, _known()))


@cache
def _known() -> frozenset[str]:
    return frozenset(paths())


class Code:
    """The project's source as it stands, or as `changed` has it.

    Args:
        changed: module -> text in place of its file's.
    """

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        self._files, self._changed = paths(), dict(changed or {})
        self.text, self.digest, self.imports = cache(self._text), cache(self._digest), cache(self._imports)

    def _text(self, name: str) -> str:
        return self._changed.get(name) or self._files[name].read_text()

    def _digest(self, name: str) -> str:
        return _digest_of(self.text(name))

    def _imports(self, name: str) -> frozenset[str]:
        is_package = self._files[name].name == "__init__.py"
        return _imported(name, self.text(name), is_package)

    def closure(self, roots: Iterable[str], within: str = "") -> tuple[str, ...]:
        """`roots` and every module that they import, directly or not, of those whose names begin `within`."""
        found, new = set[str](), set(roots)
        while new:
            found |= new
            new = {other for name in new for other in self.imports(name) if other.startswith(within)} - found
        return tuple(sorted(found))


def computed_by(artifact: type) -> tuple[str, ...]:
    """The module of an artifact's class, or of classes that it is made of."""
    return (artifact.__module__,)


def versions() -> dict[str, tuple[Any, tuple[str, ...], str]]:
    """Everything that has a declared version -> the version, its modules, the package to follow imports in."""
    import_module("bench.cells.artifacts")  # defines every artifact
    found: dict[str, tuple[Any, tuple[str, ...], str]] = {
        f"stage {name}": (artifact.version, computed_by(artifact), "") for name, artifact in ARTIFACTS.items()
    }
    for name in (*METHODS.names(), "oracle"):
        method = METHODS.get(name)
        if method.__module__ not in paths():  # a plug-in
            continue
        found[f"method {name}"] = method.version, (method.__module__,), "methods"
    for name in (*METRICS.names(), *OF_CAPTIONS):
        metric = METRICS.get(name)
        if metric.compute.__module__ not in paths():
            continue
        found[f"metric {name}"] = metric.version, (metric.compute.__module__,), "metrics"
    for name, file in paths().items():
        if name.startswith(JUDGING) and "\nVERSION = " in file.read_text():
            found[f"judging {name.removeprefix(JUDGING)}"] = import_module(name).VERSION, (name,), JUDGING
    return found


def computed(code: Code | None = None) -> Found:
    """The lock as the code is now."""
    code, stages, names = code or Code(), {}, set[str]()
    for what, (version, roots, within) in versions().items():
        closure = code.closure(roots, within)
        names |= set(closure)
        content = digest.of_json({name: code.digest(name) for name in closure})[:16]
        stages[what] = {"version": version, "code": content, "modules": list(closure)}
    return {"stages": stages, "modules": {name: code.digest(name) for name in sorted(names)}}


def complaints(locked: Found, now: Found) -> list[str]:
    """What differs between the lock and the code, and what to do about it: a line for each thing with a version."""
    lines = []
    for what in sorted({**locked["stages"], **now["stages"]}):
        old, new = locked["stages"].get(what), now["stages"].get(what)
        if old is None or new is None:
            lines.append(f"{what}: {'new' if old is None else 'gone'}; lock it: python tests/stages_lock.py")
        elif old["version"] != new["version"]:
            lines.append(
                f"{what}: version {new['version']!r}, locked {old['version']!r}; lock it: python tests/stages_lock.py"
            )
        elif old["code"] != new["code"]:
            every = {*old["modules"], *new["modules"]}
            moved = sorted(m for m in every if locked["modules"].get(m) != now["modules"].get(m))
            moved = moved or sorted({*old["modules"]} ^ {*new["modules"]})
            lines.append(
                f"{what}: {', '.join(moved)} changed since version {old['version']!r} was locked. "
                "The numbers change: raise its version. They don't, as tests/cells/test_golden.py says: "
                "python tests/stages_lock.py"
            )
    return lines


def read() -> Found:
    """The committed lock."""
    found: Found = json.loads(LOCK.read_text())
    return found


def main() -> int:
    """Write the lock, and say what it changes."""
    now = computed()
    for line in complaints(read(), now) if LOCK.exists() else []:
        print(line.partition(";")[0].partition(". ")[0])
    LOCK.write_text(json.dumps(now, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
