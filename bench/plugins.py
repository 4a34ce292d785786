"""`--plugin FILE`: files of the user's own that register methods, metrics, worlds or suites."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import digest
from bench.registry import DuplicateName, Registry
from bench.suites import SUITES, Suite
from bench.worlds import WORLDS, World
from methods import METHODS, Method
from metrics import METRICS, Metric

REGISTRIES: tuple[tuple[Registry[Any], type], ...] = (
    (METHODS, Method),
    (METRICS, Metric),
    (WORLDS, World),
    (SUITES, Suite),
)
_loaded: set[Path] = set()  # of this process; a worker loads its own


class PluginError(ValueError):
    """A plugin file that can't be used; the message says why, and where in it."""


def load(files: Sequence[Path]) -> None:
    """Run each file once in this process; what it registers stays registered.

    A file becomes a module of its own, named after the file and the folder it lies in: its source is digested like a
    built-in method's, and two files of one name don't meet. Raises PluginError for a file that is not there, breaks,
    registers nothing, takes a name that is taken, or registers what is no method, metric, world or suite. After an
    error the registries may hold part of what the file had to say.
    """
    for file in map(Path.resolve, files):
        if file not in _loaded:
            _load(file)
            _loaded.add(file)


@contextmanager
def temporarily() -> Iterator[None]:
    """Undo, at the end of a `with` block, whatever the block loaded or registered."""
    loaded = set(_loaded)
    with ExitStack() as stack:
        for registry, _ in REGISTRIES:
            stack.enter_context(registry.temporarily())
        try:
            yield
        finally:
            _loaded.clear()
            _loaded.update(loaded)


def _load(file: Path) -> None:
    if file.suffix != ".py" or not file.is_file():
        raise PluginError(f"plugin {file}: " + ("no such file" if file.suffix == ".py" else "not a python file (.py)"))
    before = {registry.noun: registry.names() for registry, _ in REGISTRIES}
    name = f"lethe_plugin_{file.stem.replace('.', '_')}_{digest.of_json(str(file))[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
        new = [(r, kind, n) for r, kind in REGISTRIES for n in r.names() if n not in before[r.noun]]
        for registry, kind, entry in new:
            _check(registry.noun, kind, entry, registry.get(entry))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        hint = "; choose another name" if isinstance(error, DuplicateName) else ""
        reason = str(error) if isinstance(error, (PluginError, DuplicateName)) else f"{type(error).__name__}: {error}"
        raise PluginError(f"plugin {file}{_line(error, file)}: {reason}{hint}") from error
    if not new:
        del sys.modules[name]
        raise PluginError(f'plugin {file}: registers nothing; decorate a method with @METHODS.register("name")')


def _check(noun: str, kind: type, name: str, found: Any) -> None:
    if not (isinstance(found, type) and issubclass(found, kind) if kind is Method else isinstance(found, kind)):
        raise PluginError(f"{noun} {name!r} is no {kind.__name__} but {found!r}")
    if kind is Method and (missing := [a for a in ("about", "source", "fidelity") if not getattr(found, a, "")]):
        raise PluginError(f"method {name!r} does not say its {', '.join(missing)}")


def _line(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""
