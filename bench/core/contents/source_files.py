"""The source files of a plug-in: its own, and every file of the user that these import, directly or not.

Installed packages, Python's own library and Lethe's packages are left out: keys name them by their versions.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.core import digest

INSTALLED = {"site-packages", "dist-packages"}
LETHE = ("bench", "methods", "metrics")
COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)


def of_modules(names: Iterable[str]) -> str:
    """Digest of the source of the modules called `names`, and of the files of the user that they import."""
    return digest.of_json(sorted(map(_content, closure(names).values())))


def closure(names: Iterable[str]) -> dict[str, Path]:
    """Name -> file of the modules called `names`, and of all modules of the user that they import.

    An import counts wherever it stands, also in a function that has not run yet. Of an installed package, only modules
    of the package itself are followed. A module is found by the values that its importer has, and by the import
    statements in its source. Raises ValueError if one of `names` has no file, as a notebook has none.
    """
    roots = [sys.modules[name] for name in dict.fromkeys(names)]
    if apart := [root.__name__ for root in roots if _file(root) is None]:
        raise ValueError(
            f"the module {apart[0]!r} has no source file, so no cache key can contain its code; save the code in a "
            "file and load it with --plugin FILE, or RunConfig(plugins=(FILE,))"
        )
    packages = {root.__name__.partition(".")[0] for root in roots if root.__spec__ and root.__spec__.parent}
    found: dict[str, Path] = {}
    new: list[Module] = [(root.__name__, file, root) for root in roots if (file := _file(root))]
    while new:
        name, file, module = new.pop()
        if file in found.values():
            continue
        found[name] = file
        if file.suffix == ".py":
            near = [*_in_values(module), *_in_source(name, file, module)]
            new += [one for one in near if of_user(one[1]) or one[0].partition(".")[0] in packages]
    return found


def inherited(*classes: type) -> Iterator[str]:
    """The modules of the user that define classes, or classes that these inherit from, under whatever name."""
    for one in dict.fromkeys(base for each in classes for base in each.__mro__):
        module = sys.modules.get(one.__module__)
        if module and (file := _file(module)) and of_user(file):
            yield one.__module__


def imported(names: Iterable[str]) -> set[str]:
    """The loaded modules that the modules in the closure of `names` import, whoever they belong to."""
    found = set[str]()
    for name, file in closure(names).items():
        module = sys.modules.get(name)
        near = [*_in_values(module), *(_in_source(name, file, module) if file.suffix == ".py" else ())]
        found |= {one for one, _, loaded in near if loaded}
    return found


Module = tuple[str, Path, types.ModuleType | None]  # name, file, and the module if it is loaded


def _in_values(module: types.ModuleType | None) -> Iterator[Module]:
    """The modules among the values of a module, and those that define its classes and functions."""
    for value in list(vars(module).values()) if module else ():
        one = value if isinstance(value, types.ModuleType) else sys.modules.get(_home(value))
        if one and (file := _file(one)):
            yield one.__name__, file, one


def _home(value: object) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def _in_source(name: str, file: Path, module: types.ModuleType | None) -> Iterator[Module]:
    """The modules that the import statements of a file name, whether they are loaded or not."""
    package = (getattr(module, "__package__", None) or "") if module else name.rpartition(".")[0]
    folders = [file.parent, *map(Path, sys.path)]
    for one in _imported(file, package):
        loaded = sys.modules.get(one)
        if loaded is not None:
            if there := _file(loaded):
                yield one, there, loaded
        elif there := _find(one, folders):
            yield one, there, None


@functools.cache
def _imports(text: str, package: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                found += [".".join(parts[: i + 1]) for i in range(len(parts))]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            parts = base.split(".") if base else []
            found += [".".join(parts[: i + 1]) for i in range(len(parts))]
            found += [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found += [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return tuple(dict.fromkeys(found))


def _imported(file: Path, package: str) -> tuple[str, ...]:
    try:
        return _imports(_text(file), package)
    except SyntaxError:  # the import fails as well, wherever it stands
        return ()


def _find(name: str, folders: Iterable[Path]) -> Path | None:
    """The file of a module that is not loaded: in its package if this is loaded, else in the first folder with it."""
    above, _, last = name.rpartition(".")
    package = sys.modules.get(above)
    places, base = (folders, name.replace(".", os.sep)) if package is None else (getattr(package, "__path__", ()), last)
    for place in places:
        stem = os.path.join(place, base)
        for file in (os.path.join(stem, "__init__.py"), f"{stem}.py", *(stem + suffix for suffix in COMPILED)):
            if os.path.isfile(file):
                return Path(file).resolve()
    return None


def _file(module: types.ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return _resolved(file) if isinstance(file, str) and os.path.isfile(file) else None


@functools.cache  # a closure asks for the same files of installed packages thousands of times
def _resolved(file: str) -> Path:
    return Path(file).resolve()


@functools.cache
def of_user(file: Path) -> bool:
    """Whether a file belongs neither to Python, nor to an installed package, nor to Lethe."""
    return INSTALLED.isdisjoint(file.parts) and not any(file.is_relative_to(home) for home in _homes())


@functools.cache
def _homes() -> tuple[Path, ...]:
    library = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    lethe = {file.parent for name in LETHE if name in sys.modules and (file := _file(sys.modules[name]))}
    return (*library, *lethe)


def _content(file: Path) -> str:
    return _text(file) if file.suffix == ".py" else digest.of_file(file)


_as_run: dict[Path, str] = {}  # source file of a plug-in that this process runs -> its text when it was run


def remember(file: Path) -> None:
    """Let keys contain a file as it is now: this process runs this text, even if the file changes later."""
    if file.suffix == ".py":
        _as_run[file] = _read(file)


def forget(files: Iterable[Path]) -> None:
    """Let keys contain files as they are on the disk."""
    for file in files:
        _as_run.pop(file, None)


def has_changed(file: Path) -> bool:
    """Whether keys contain another text of a file than the file has now."""
    return file in _as_run and _as_run[file] != _read(file)


def _text(file: Path) -> str:
    return _as_run[file] if file in _as_run else _read(file)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="surrogateescape")
